//! The line discipline: whatever is typed, printed, set and flushed, its queues keep to their bounds and their counts are right.

use super::input::Input;
use crate::abi::termios::Termios;
use crate::fs::tty::ldisc::{LineDiscipline, Settings};
use zerocopy::FromZeros;

/// Steps of one input at the most.
const STEPS: usize = 48;

/// Goes through a terminal's life.
pub fn discipline(data: &[u8]) {
    let mut input = Input::new(data);
    let mut discipline = LineDiscipline::default();
    for _ in 0..STEPS {
        if input.is_empty() {
            return;
        }
        step(&mut discipline, &mut input);
        discipline.check();
    }
}

fn step(discipline: &mut LineDiscipline, input: &mut Input<'_>) {
    match input.byte() % 12 {
        0..4 => {
            let length = usize::from(input.byte()) % 32;
            let bytes = input.bytes(length);
            let (taken, _) = discipline.receive(bytes);
            assert!(taken <= bytes.len(), "no more is taken than was typed");
        }
        // Much at once: a line that is full, echo that is long.
        4 => drop(discipline.receive(&vec![input.byte(); 8 << (input.below(64).saturating_sub(54))])),
        5 => {
            let length = usize::from(input.byte()) << input.below(64).saturating_sub(56);
            let bytes = vec![input.byte(); length];
            let room = discipline.output_room();
            let taken = discipline.write(&bytes);
            assert!(taken <= bytes.len() && discipline.output_room() <= room, "output takes room");
        }
        6 => {
            let (readable, limit) = (discipline.readable_bytes(), usize::from(input.byte()));
            let bytes = discipline.read(limit);
            assert!(bytes.len() <= limit && bytes.len() <= readable, "no more is read than there is");
            assert_eq!(discipline.readable_bytes(), readable - bytes.len(), "what is read is gone");
        }
        7 => {
            let (length, limit) = (discipline.output_len(), usize::from(input.byte()) * 16);
            let bytes = discipline.take_output(limit);
            assert!(bytes.len() <= limit && bytes.len() <= length, "no more is taken than there is");
        }
        8 => {
            let mut termios = discipline.settings().to_abi().termios;
            for _ in 0..input.below(4) {
                change(&mut termios, input);
            }
            let _ = discipline.change_settings(Settings::from_abi(termios, None));
        }
        9 => _ = discipline.flush_input(),
        10 => _ = discipline.flush_output(),
        _ => match input.byte() % 4 {
            0 => _ = discipline.stop_by_program(),
            1 => _ = discipline.start_by_program(),
            2 => discipline.send_character(u32::from(input.byte() % 19)),
            _ => discipline.discard_output(),
        },
    }
}

/// Changes a flag or a special character.
fn change(termios: &mut Termios, input: &mut Input<'_>) {
    let mut mask = Termios::new_zeroed();
    let bit = 1 << input.below(16);
    match input.byte() % 5 {
        0 => mask.c_iflag = bit,
        1 => mask.c_oflag = bit,
        2 | 3 => mask.c_lflag = bit,
        _ => {
            let at = usize::from(input.byte()) % termios.c_cc.len();
            termios.c_cc[at] = input.byte();
        }
    }
    termios.c_iflag ^= mask.c_iflag;
    termios.c_oflag ^= mask.c_oflag;
    termios.c_lflag ^= mask.c_lflag;
}
