//! `picovisor top`: what it shows, and that the terminal is as before on every way out.

use crate::control::{Running, succeed};
use crate::harness::{Command, need_kvm, picovisor};
use crate::terminal::Screen;
use rustix::process::Signal;

/// The cursor is back, and the screen that was there before.
const LEFT: &str = "\x1b[?25h\x1b[?1049l";

/// The first lines of the pages that were drawn so far.
fn summaries(screen: &Screen) -> Vec<String> {
    let text = screen.text();
    let pages = text.split("\x1b[H").skip(1);
    pages.filter_map(|page| page.split_once("\x1b[K")).map(|(line, _)| line.to_owned()).collect()
}

fn start() -> Screen {
    let mut screen = Screen::start(false, &[picovisor().to_str().unwrap(), "top", "--interval", "0.1"]);
    // The alternate screen, and a page on it.
    screen.wait_for("\x1b[?1049h");
    screen.wait_for("by CPU; keys: c m t s, q");
    screen.wait_for("SANDBOX");
    assert!(!screen.is_as_before(), "keys are taken at once meanwhile");
    screen
}

#[test]
fn top_obeys_keys_and_fits_any_window() {
    need_kvm!();
    let _sandbox = Running::start("compute", 1);
    let mut screen = start();
    screen.type_in("m");
    screen.wait_for("by memory");
    screen.resize(5, 20);
    while summaries(&screen).last().is_none_or(|line| line.chars().count() != 20) {
        screen.wait_for("\x1b[J");
    }
    screen.resize(33, 101);
    screen.type_in("s");
    screen.wait_for("by sandbox");
    screen.type_in("q");
    screen.wait_for(LEFT);
    assert_eq!(screen.finish().1, Some(0));
}

#[test]
fn top_leaves_the_terminal_as_it_was_when_a_signal_ends_it() {
    need_kvm!();
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let mut screen = start();
        screen.send(signal);
        screen.wait_for(LEFT);
        assert_eq!(screen.finish().1, Some(status));
    }
}

#[test]
fn top_prints_one_page_without_a_terminal() {
    need_kvm!();
    let sandbox = Running::start("compute", 1);
    let text = succeed(&["top", "--once", "--interval", "0.2"]);
    let row = text.lines().find(|line| line.starts_with(&sandbox.name) && line.contains("waiter"));
    let busy = row.and_then(|row| row.split_whitespace().nth(4)).and_then(|cell| cell.parse::<f64>().ok());
    assert!(busy.is_some_and(|busy| busy > 0.0), "{text}");
    let refused = Command::picovisor().arg("top").run();
    assert_eq!(refused.status, 125);
    assert!(refused.errors().contains("needs a terminal"), "{refused:?}");
}
