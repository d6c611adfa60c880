//! Every call of the table with arguments that no program would pass: nothing may panic, hang, or take a lock out of order,
//! and the trace must be able to show it.

use super::{table, trace};
use crate::config::{Trace, TraceFormat};
use crate::kernel::Kernel;
use crate::signal::send::{Target, send};
use crate::signal::{SigInfo, Signal};
use crate::syscall::trace::Tracer;
use crate::testing::{Fixture, config, fixture_over};
use linux_raw_sys::general::{__NR_exit, __NR_exit_group, __NR_sync, __NR_syncfs};
use proptest::prelude::*;
use std::sync::Arc;
use vmm::memory::GuestMemory;

/// Ends the task, or makes the host write all it has.
const LEFT_OUT: [u32; 4] = [__NR_exit, __NR_exit_group, __NR_sync, __NR_syncfs];

/// Where arguments may point: a page that exists, with a page behind it that does not.
struct Places {
    page: u64,
}

fn traced(format: TraceFormat) -> (Fixture, Places) {
    let mut config = config();
    let empty = std::env::temp_dir();
    config.view.root = Some(empty);
    let memory = GuestMemory::detached(config.limits.memory).unwrap();
    let tracer = Tracer::open(&Trace { format, output: Some("/dev/null".into()) }).unwrap();
    let kernel = Kernel::with_threads(config, memory, Arc::default(), Some(tracer));
    let mut fixture = fixture_over(kernel);
    let pages = fixture.allocate(2 << 12);
    fixture.returned(linux_raw_sys::general::__NR_munmap, &[pages.0 + 4096, 4096]).unwrap();
    // A name and a number, so that some calls get past their first line.
    fixture.current().mm().write(pages, b"/proc/self/stat\0").unwrap();
    (fixture, Places { page: pages.0 })
}

fn argument() -> impl Strategy<Value = (u8, u64)> {
    (0u8..12, any::<u64>())
}

impl Places {
    fn value(&self, (kind, random): (u8, u64)) -> u64 {
        match kind {
            0 => 0,
            1 => random % 16,
            2 => u64::MAX - random % 16,
            3 => self.page,
            4 => self.page + 4096 - random % 64,
            5 => self.page + random % 4096,
            6 => 1 << (random % 64),
            7 => 0x7fff_ffff_f000 - random % 8192,
            8 => 0xffff_ffff_8000_0000 | random,
            9 => u64::from(u32::MAX) << (random % 32),
            // AT_FDCWD
            10 => 100u64.wrapping_neg(),
            _ => random,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_argument_of_a_call_panics_or_hangs(
        calls in prop::collection::vec((any::<prop::sample::Index>(), prop::array::uniform6(argument())), 1..120),
        json in any::<bool>(),
    ) {
        let (mut fixture, places) = traced(if json { TraceFormat::Json } else { TraceFormat::Text });
        // Every sleep ends at once: the task is about to be killed.
        send(&fixture.task, Target::Process, SigInfo::kernel(Signal::SIGKILL)).unwrap();
        let served: Vec<u32> = (0u32..)
            .take(table::TABLE.len())
            .filter(|number| table::find(u64::from(*number)).is_some() && !LEFT_OUT.contains(number))
            .collect();
        for (number, args) in calls {
            let number = served[number.index(served.len())];
            let args = args.map(|arg| places.value(arg));
            let mut task = fixture.current();
            let _ = trace::dispatch(&mut task, u64::from(number), &args);
            fixture.registers = task.frame.registers;
        }
    }
}
