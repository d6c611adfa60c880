//! What fuzzers try on the provider: a function for each target, which takes any bytes and panics if something is wrong.
//!
//! `tests/fuzz` drives them by coverage, ordinary tests by the corpora and a few thousand inputs more. They are in no other build.

mod calls;
mod discipline;
mod image;
#[path = "../../../tests/fuzz/common/input.rs"]
mod input;
mod map;
#[cfg(test)]
#[path = "../../../tests/fuzz/common/replay.rs"]
mod replay;
mod walk;

pub use calls::calls;
pub use discipline::discipline;
pub use image::image;
pub use map::map;
pub use walk::walk;

/// A folder of the host's for sandboxes that are to show nothing of it. There is one for all; nobody writes to it.
fn empty_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join("picovisor-fuzzing-empty");
    std::fs::create_dir_all(&folder).expect("the temporary folder takes another one");
    folder
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn images() {
        replay("image", 3000, super::image);
    }

    #[test]
    fn memory_maps() {
        replay("map", 3000, super::map);
    }

    #[test]
    fn system_calls() {
        replay("calls", 3000, super::calls);
    }

    #[test]
    fn path_walks() {
        replay("walk", 20_000, super::walk);
    }

    #[test]
    fn line_disciplines() {
        replay("discipline", 20_000, super::discipline);
    }
}
