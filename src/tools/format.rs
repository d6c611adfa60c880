//! Numbers, times and strange text for people.

use std::time::Duration;

/// A size in at most five characters: `512`, `1.5K`, `234M`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let whole = bytes >> shift;
    if whole >= 10 {
        return format!("{whole}{unit}");
    }
    // Tenths, rounded down.
    let tenths = (bytes >> (shift - 10)) * 10 / 1024;
    format!("{}.{}{unit}", tenths / 10, tenths % 10)
}

/// CPU time: `0.012s`, `75.3s`, `2h05m`.
pub(crate) fn cpu(nanoseconds: u64) -> String {
    let span = Duration::from_nanos(nanoseconds);
    match span.as_secs() {
        0..10 => format!("{:.3}s", span.as_secs_f64()),
        10..600 => format!("{:.1}s", span.as_secs_f64()),
        _ => age(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// How long something has been there: `7s`, `3m12s`, `2h05m`, `4d06h`.
pub(crate) fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if days > 0 {
        format!("{days}d{:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// Text of a program's making, which must not move the cursor or change colours.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// JSON on lines of its own, as harmless as [`harmless`] text: strings are the only place for the characters in question.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    for c in format!("{value:#}\n").chars() {
        match c {
            '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes =
            [(0, "0"), (1023, "1023"), (1536, "1.5K"), (10 << 10, "10K"), (1023 << 10, "1023K"), (1 << 40, "1.0T")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert!(size(u64::MAX).ends_with('T'));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(cpu(12_345_678), "0.012s");
        assert_eq!(cpu(75_300_000_000), "75.3s");
        assert_eq!(cpu(u64::MAX), "213503d23h");
        let ages = [(999, "0s"), (192_000, "3m12s"), (7_500_000, "2h05m"), (368_000_000, "4d06h")];
        for (milliseconds, text) in ages {
            assert_eq!(age(milliseconds), text);
        }
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(harmless("a\u{1b}[2J\n\u{9b}é"), "a\\u{1b}[2J\\n\\u{9b}é");
        let value = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{7f}" });
        let text = json(&value);
        assert!(!text.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
