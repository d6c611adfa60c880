//! What fuzzers try on the machine's side: a function for each target, which takes any bytes and panics if something is wrong.
//!
//! `tests/fuzz` drives them by coverage, ordinary tests by the corpora and a few thousand inputs more. They are in no other build.

#[path = "../../../tests/fuzz/common/input.rs"]
pub(crate) mod input;
#[cfg(test)]
#[path = "../../../tests/fuzz/common/replay.rs"]
mod replay;
mod tables;

pub use crate::kvm::fuzzing::page;
pub use tables::tables;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn page_tables() {
        replay("tables", 3000, super::tables);
    }

    #[test]
    fn pages_of_threads() {
        replay("page", 20_000, super::page);
    }
}
