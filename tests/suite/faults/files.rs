//! Files, memory, processes, threads, pipes and time.

use super::stage::Stage;
use super::{Run, Scene};
use crate::harness::{Link, picovisor, program};
use faults::Plan;

pub(super) struct Files;

impl Scene for Files {
    fn name(&self) -> &'static str {
        "files and processes"
    }

    fn output(&self) -> String {
        "files\nmemory\ntables\nprocesses\nthreads\ntime\ndone\n".to_owned()
    }

    fn run(&self, plan: Option<Plan>) -> Run {
        let stage = Stage::with_files();
        stage.trace(stage.run_in_folder(picovisor(), &["--no-serve"], &program("injected.c", Link::Static)), plan)
    }

    fn sample(&self) -> u64 {
        24
    }
}
