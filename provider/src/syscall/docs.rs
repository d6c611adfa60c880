//! The published compatibility list, `docs/syscalls.md`, generated from the table.

use super::names;
use super::table::{self, Support};
use std::fmt::Write;

/// The page's text.
pub fn page() -> String {
    let lines: Vec<_> = names::all().map(|(number, name)| (number, name, line(number))).collect();
    let count = |wanted: &str| lines.iter().filter(|(_, _, (state, _))| *state == wanted).count();
    let mut page = format!(
        "# System calls\n\n\
         <!-- Generated from the table of the provider; `UPDATE_DOCS=1 cargo test -p provider docs` rewrites it. -->\n\n\
         Of the {} system calls of x86-64 Linux, {} are served as Linux does, {} with the limits that the table names, and {} are not: \
         these return `ENOSYS` and are counted (`-v` shows them at exit).\n\n\
         | number | call | support | limits |\n|---:|---|---|---|\n",
        lines.len(),
        count(FULL),
        count(PARTIAL),
        count(NONE),
    );
    for (number, name, (state, limits)) in &lines {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {number} | `{name}` | {state} | {limits} |");
    }
    page
}

const FULL: &str = "full";
const PARTIAL: &str = "partial";
const NONE: &str = "no";

fn line(number: usize) -> (&'static str, &'static str) {
    match u64::try_from(number).ok().and_then(table::find).map(|syscall| syscall.support) {
        Some(Support::Full) => (FULL, ""),
        Some(Support::Partial(limits)) => (PARTIAL, limits),
        None => (NONE, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_published_page_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/syscalls.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, page()).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == page(), "docs/syscalls.md is out of date: run UPDATE_DOCS=1 cargo test -p provider docs");
    }

    #[test]
    fn the_table_is_sorted_and_every_line_has_a_name_linux_knows() {
        let source = include_str!("table.rs");
        let lines = source.lines().filter_map(|line| line.trim().strip_prefix("__NR_"));
        let listed: Vec<_> = lines.filter_map(|line| line.split_once(" => ")).map(|(name, _)| name).collect();
        let sorted: Vec<_> = names::all().map(|(_, name)| name).filter(|name| listed.contains(name)).collect();
        assert_eq!(listed, sorted);
    }
}
