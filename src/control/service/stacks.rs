//! User stacks, as `stack` prints them.

use provider::ProcessView;
use vmm::pico::walk::{Found, Place, StackFrame};
use vmm::pico::{Stopped, ThreadStack as HostStack};

use super::{Monitor, no_process};
use crate::control::messages::{Frame, ProcessStacks, ThreadStack};

impl Monitor {
    /// Walks the stacks of one process, or of all.
    pub(super) fn stacks(&self, pid: Option<i32>) -> Result<Vec<ProcessStacks>, String> {
        let views = self.sandbox.processes();
        let wanted = |view: &&ProcessView| pid.is_none_or(|pid| view.pid == pid);
        let stacks: Vec<_> = views.iter().filter(wanted).filter_map(stacks_of).collect();
        match pid {
            Some(pid) if stacks.is_empty() => Err(no_process(pid)),
            _ => Ok(stacks),
        }
    }
}

/// The stacks of a process that has not ended.
fn stacks_of(view: &ProcessView) -> Option<ProcessStacks> {
    let process = view.process.as_ref()?;
    let threads = process.walk_stacks().iter().map(stack).collect();
    Some(ProcessStacks { pid: view.pid, name: text(&view.name), threads })
}

fn stack(stack: &HostStack) -> ThreadStack {
    let place = match stack.stopped {
        Stopped::Parked => "user",
        Stopped::InProvider => "provider",
        Stopped::Ended => "ended",
    };
    let frames = stack.frames.iter().map(frame).collect();
    ThreadStack { number: stack.number, name: text(&stack.name), place: place.to_owned(), frames }
}

fn frame(frame: &StackFrame) -> Frame {
    let found = match frame.found {
        Found::Registers => "registers",
        Found::UnwindTable => "unwind-table",
        Found::FramePointer => "frame-pointer",
    };
    let place = |place: &Place| (text(&place.name), place.offset);
    Frame {
        address: frame.address.0,
        found: found.to_owned(),
        module: frame.module.as_ref().map(place),
        symbol: frame.symbol.as_ref().map(place),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
