//! The rules that the code promises to keep, checked by reading it.

use crate::harness::repository;
use std::path::{Path, PathBuf};

/// Files of the repository below `folder`, with paths relative to the repository.
fn files(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&repository().join(folder), &mut found);
    let mut texts: Vec<_> = found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)))
        .filter_map(|path| {
            let name = path.strip_prefix(repository()).ok()?.to_str()?.to_owned();
            Some((name, std::fs::read_to_string(&path).ok()?))
        })
        .collect();
    texts.sort();
    assert!(!texts.is_empty(), "{folder} holds no {extensions:?}");
    texts
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().expect("a folder's entry has a type");
        if kind.is_dir() && name != "target" && name != ".git" {
            collect(&path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

/// Lines that hold any of `words`, as `file:line: text`.
fn lines_with(texts: &[(String, String)], words: &[&str]) -> Vec<String> {
    let mut hits = Vec::new();
    for (name, text) in texts {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                hits.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    hits
}

#[track_caller]
fn assert_none(what: &str, hits: &[String]) {
    assert!(hits.is_empty(), "{what}:\n{}", hits.join("\n"));
}

/// The part of a source before its tests.
fn without_tests(texts: Vec<(String, String)>) -> Vec<(String, String)> {
    let tests = |name: &str| name.contains("/tests") || name.ends_with("tests.rs") || name.contains("testing");
    let cut = |text: String| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    texts.into_iter().filter(|(name, _)| !tests(name)).map(|(name, text)| (name, cut(text))).collect()
}

#[test]
fn the_provider_is_safe_and_knows_no_kvm() {
    let sources = files("provider/src", &["rs"]);
    assert!(
        sources.iter().any(|(name, text)| name == "provider/src/lib.rs" && text.contains("#![forbid(unsafe_code)]"))
    );
    assert_none(
        "the provider names KVM",
        &lines_with(&sources, &["kvm_ioctls", "kvm_bindings", "kvm_run", "VcpuFd", "VmFd"]),
    );
    let manifest = std::fs::read_to_string(repository().join("provider/Cargo.toml")).unwrap();
    assert!(!manifest.contains("kvm") && !manifest.contains("vm-memory"), "the provider depends on KVM's crates");
}

#[test]
fn the_vmm_knows_no_linux_calls_and_no_personality() {
    let sources = without_tests(files("vmm/src", &["rs"]));
    assert_none("the vmm names system calls", &lines_with(&sources, &["__NR_", "linux_raw_sys"]));
    let manifest = std::fs::read_to_string(repository().join("vmm/Cargo.toml")).unwrap();
    assert!(!manifest.contains("provider") && !manifest.contains("linux-raw-sys"));
}

#[test]
fn kvm_is_named_in_one_folder() {
    let sources: Vec<_> =
        files("vmm/src", &["rs"]).into_iter().filter(|(name, _)| !name.starts_with("vmm/src/kvm/")).collect();
    assert_none(
        "KVM's types outside vmm/src/kvm",
        &lines_with(&sources, &["kvm_ioctls::", "kvm_bindings::", "kvm_run"]),
    );
}

#[test]
fn unsafe_code_is_in_vmm_and_guest_only() {
    let roots = ["src/main.rs", "provider/src/lib.rs"];
    for root in roots {
        let text = std::fs::read_to_string(repository().join(root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{root} does not forbid unsafe code");
    }
}

#[test]
fn files_are_short() {
    let folders = ["src", "vmm", "provider", "guest", "tests", "benches"];
    let long: Vec<_> = folders
        .iter()
        .filter(|folder| repository().join(folder).is_dir())
        .flat_map(|folder| files(folder, &["rs", "c", "S", "py"]))
        .filter(|(_, text)| text.lines().count() > 800)
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert_none("files above 800 lines", &long);
}

#[test]
fn modules_say_what_they_are() {
    let folders = ["src", "vmm/src", "provider/src", "guest/src", "tests/suite"];
    let silent: Vec<_> = folders
        .iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .filter(|(name, text)| !name.ends_with("tests.rs") && !text.starts_with("//!") && !text.starts_with("#!"))
        .map(|(name, _)| name)
        .collect();
    assert_none("sources without a //! line", &silent);
}

#[test]
fn nothing_points_outside_the_repository() {
    let mut texts = files(".", &["rs", "toml", "md", "c", "h", "S", "py", "sh", "ld"]);
    texts.retain(|(name, _)| name != "tests/suite/tidy.rs");
    assert_none("paths of a workplace", &lines_with(&texts, &["../shared", "/work/", "/tmp/brief"]));
}

#[test]
fn no_stubs() {
    let mut texts = without_tests(
        ["src", "vmm/src", "provider/src", "guest/src"].iter().flat_map(|folder| files(folder, &["rs"])).collect(),
    );
    texts.retain(|(name, _)| name != "tests/suite/tidy.rs");
    assert_none("stubs", &lines_with(&texts, &["todo!(", "unimplemented!(", "#[ignore"]));
}

#[test]
fn tests_do_not_sleep() {
    let mut texts = files("tests", &["rs"]);
    for folder in ["src", "vmm", "provider", "guest"] {
        texts.extend(files(folder, &["rs"]));
    }
    texts.retain(|(name, _)| name != "tests/suite/tidy.rs");
    let hits: Vec<_> = lines_with(&texts, &["thread::sleep"]);
    assert_none("sleeping", &hits);
}

#[test]
fn every_guest_program_is_used() {
    let suite: String = files("tests/suite", &["rs"]).into_iter().map(|(_, text)| text).collect();
    let emulated: String = files("tests/hwkvm", &["py"]).into_iter().map(|(_, text)| text).collect();
    let used = |name: &str| {
        let stem = name.trim_end_matches(".c");
        crate::programs::SOURCES.contains(&name)
            || suite.contains(&format!("\"{name}\""))
            || emulated.contains(&format!("\"{stem}\""))
    };
    let unused: Vec<_> = files("tests/programs", &["c", "S"])
        .into_iter()
        .map(|(name, _)| name["tests/programs/".len()..].to_owned())
        .filter(|name| !used(name))
        .collect();
    assert_none("programs that no test runs", &unused);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut documents = vec!["README.md".to_owned()];
    documents.extend(std::fs::read_dir(repository().join("docs")).into_iter().flatten().flatten().filter_map(
        |entry| {
            let name = entry.file_name().into_string().ok()?;
            name.ends_with(".md").then(|| format!("docs/{name}"))
        },
    ));
    for document in documents {
        let path = repository().join(&document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || file.contains("://");
            if !outside && !path.parent().is_some_and(|folder| folder.join(file).exists()) {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert_none("broken links", &broken);
}
