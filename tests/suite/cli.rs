//! The command line: help, completions, check, options and what they change.

use crate::harness::{Command, Link, Outcome, need_kvm, picovisor, program, scratch, tool};

fn picovisor_with(args: &[&str]) -> Outcome {
    Command::picovisor().args(args).run()
}

/// Runs a shell script with busybox's shell in a sandbox and returns what it printed.
#[track_caller]
fn shell(options: &[&str], script: &str) -> String {
    let outcome = Command::picovisor().arg("run").args(options).args(["--", "/bin/busybox", "sh", "-c", script]).run();
    assert_eq!(outcome.status, 0, "{options:?}: {outcome:?}");
    outcome.text()
}

/// Runs one of busybox's commands in a sandbox and returns what it printed.
#[track_caller]
fn busybox(options: &[&str], args: &[&str]) -> String {
    let outcome = Command::picovisor().arg("run").args(options).args(["--", "/bin/busybox"]).args(args).run();
    assert_eq!(outcome.status, 0, "{options:?} {args:?}: {outcome:?}");
    outcome.text()
}

#[test]
fn help_names_every_option_and_teaches() {
    let help = picovisor_with(&["run", "--help"]);
    assert_eq!((help.status, help.errors().as_str()), (0, ""));
    let options = [
        "--root",
        "--bind",
        "--rw",
        "--hide",
        "--upper",
        "--net",
        "--memory",
        "--cpus",
        "--pids",
        "--files",
        "--timeout",
        "--env",
        "--env-file",
        "--clearenv",
        "--user",
        "--workdir",
        "--hostname",
        "--name",
        "--tty",
        "--verbose",
        "--strace",
        "--no-jail",
        "--require-jail",
        "--integrity",
        "--no-patch",
        "Examples:",
        "Exit status:",
    ];
    for option in options {
        assert!(help.text().contains(option), "{option} is not in the help");
    }
    let short = picovisor_with(&["run", "-h"]).text();
    assert!(short.lines().count() < help.text().lines().count());
    assert!(picovisor_with(&["--help"]).text().contains("picovisor check"));
    let version = picovisor_with(&["--version"]).text();
    assert_eq!(version, format!("picovisor {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(picovisor_with(&[]).status, 125);
}

#[test]
fn completions_are_valid_scripts() {
    for name in ["bash", "zsh", "fish"] {
        let outcome = picovisor_with(&["completions", name]);
        assert_eq!(outcome.status, 0);
        assert!(outcome.text().contains("picovisor") && outcome.text().contains("strace-output"), "{name}");
    }
    let script = picovisor_with(&["completions", "bash"]).out;
    let folder = scratch();
    let path = folder.path().join("completion.bash");
    std::fs::write(&path, script).unwrap();
    let checked = Command::new(tool("bash")).arg("-n").arg(&path).run();
    assert_eq!(checked.status, 0, "{checked:?}");
    assert_eq!(picovisor_with(&["completions", "tcsh"]).status, 125);
}

#[test]
fn check_describes_the_machine() {
    need_kvm!();
    let text = picovisor_with(&["check"]);
    assert_eq!(text.status, 0, "{text:?}");
    for word in
        ["trap method", "page tables", "virtual CPUs", "KVM_CAP_SYNC_REGS", "Hidden", ".ssh", "can run sandboxes"]
    {
        assert!(text.text().contains(word), "{word} is not in:\n{}", text.text());
    }
    let json = picovisor_with(&["check", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.out).expect("one JSON value");
    assert_eq!(value["usable"], true);
    assert!(value["max_vcpus"].as_u64().is_some_and(|count| count > 0));
    assert!(value["capabilities"].as_array().is_some_and(|list| list.len() > 5));
}

#[test]
fn the_environment_is_built_from_caller_files_and_options() {
    need_kvm!();
    let folder = scratch();
    let file = folder.path().join("env");
    std::fs::write(&file, "# comment\nA=file\nB=file\nCALLER\n").unwrap();
    let env = |options: &[&str]| {
        let command = Command::picovisor().env("CALLER", "c").env("A", "caller").arg("run").args(options);
        let mut lines: Vec<_> =
            command.args(["--", "/bin/busybox", "env"]).run().text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(env(&[]).contains(&"CALLER=c".to_owned()));
    assert_eq!(env(&["--clearenv"]), Vec::<String>::new());
    let file = file.to_str().unwrap();
    assert_eq!(env(&["--clearenv", "--env-file", file]), ["A=file", "B=file", "CALLER=c"]);
    assert_eq!(
        env(&["--clearenv", "--env-file", file, "-e", "A=option", "--env", "E="]),
        ["A=option", "B=file", "CALLER=c", "E="]
    );
    assert_eq!(env(&["--clearenv", "-e", "CALLER", "-e", "MISSING"]), ["CALLER=c"]);
}

#[test]
fn identity_and_place() {
    need_kvm!();
    assert_eq!(busybox(&["--user", "1234:567"], &["id", "-u"]), "1234\n");
    assert_eq!(busybox(&["--user", "1234:567"], &["id", "-g"]), "567\n");
    assert_eq!(busybox(&["-u", "daemon"], &["id", "-un"]), "daemon\n");
    assert_eq!(busybox(&["--hostname", "box"], &["hostname"]), "box\n");
    assert_eq!(busybox(&["-w", "/usr"], &["pwd"]), "/usr\n");
    assert_eq!(busybox(&["--chdir", "/"], &["pwd"]), "/\n");
    let folder = scratch();
    let here = Command::picovisor().folder(folder.path()).args(["run", "/bin/busybox", "pwd"]).run();
    assert_eq!(here.text().trim_end(), folder.path().to_str().unwrap());
}

#[test]
fn limits_are_what_the_program_sees() {
    need_kvm!();
    assert_eq!(shell(&["--files", "100"], "ulimit -n"), "100\n");
    assert_eq!(shell(&[], "ulimit -n"), "65536\n");
    assert_eq!(busybox(&["--cpus", "1"], &["nproc"]), "1\n");
    let memory = busybox(&["--memory", "512M"], &["grep", "MemTotal", "/proc/meminfo"]);
    assert_eq!(memory.split_whitespace().nth(1), Some("524288"), "{memory}");
    let outcome = picovisor_with(&["run", "--cpus", "4000", "true"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.errors().starts_with("picovisor: --cpus 4000: only "), "{}", outcome.errors());
}

#[test]
fn the_root_can_be_another_folder() {
    need_kvm!();
    let root = scratch();
    std::fs::create_dir_all(root.path().join("bin")).unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    std::fs::copy(tool("busybox"), root.path().join("bin/busybox")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), "inner:x:77:88::/:/bin/sh\n").unwrap();
    let root = root.path().to_str().unwrap();
    assert_eq!(busybox(&["--root", root, "-w", "/"], &["cat", "/etc/passwd"]), "inner:x:77:88::/:/bin/sh\n");
    assert_eq!(busybox(&["--root", root, "-w", "/", "-u", "inner"], &["id", "-g"]), "88\n");
    let outcome = picovisor_with(&["run", "--root", root, "/usr/bin/env"]);
    assert_eq!(outcome.status, 127, "{outcome:?}");
}

#[test]
fn strace_prints_calls() {
    need_kvm!();
    let folder = scratch();
    let trace = folder.path().join("trace");
    let run = |option: &str| {
        let command = Command::picovisor().args(["run", option, "-o"]).arg(&trace);
        let outcome = command.args(["--", "/bin/busybox", "cat", "/etc/hostname"]).run();
        assert_eq!(outcome.status, 0, "{outcome:?}");
        std::fs::read_to_string(&trace).unwrap()
    };
    let text = run("--strace");
    assert!(text.lines().any(|line| line.contains("open") && line.contains("\"/etc/hostname\"")), "{text}");
    assert!(text.contains("exit_group(0)"), "{text}");
    let mut calls = Vec::new();
    for line in run("--strace=json").lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object(), "{line}");
        calls.push(line.to_owned());
    }
    assert!(calls.iter().any(|line| line.contains("/etc/hostname")));
    let outcome = Command::picovisor().args(["run", "--strace", "/bin/busybox", "echo", "hi"]).run();
    assert_eq!(outcome.text(), "hi\n");
    assert!(outcome.errors().contains("write(1"), "{}", outcome.errors());
}

#[test]
fn verbose_reports_what_is_missing() {
    need_kvm!();
    let quiet = Command::new(program("unknown.c", Link::Static)).sandboxed(&[]).run();
    assert_eq!(quiet.errors(), "");
    let outcome = Command::new(program("unknown.c", Link::Static)).sandboxed(&["-v".as_ref()]).run();
    assert_eq!(outcome.status, 0);
    for word in ["not supported: system call 1000, 2 times", "memory held", "traps: "] {
        assert!(outcome.errors().contains(word), "{word} is not in:\n{}", outcome.errors());
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let script = format!("{} run --help | true", picovisor().display());
    let outcome = Command::new("/bin/sh").args(["-c", &script]).run();
    assert_eq!((outcome.status, outcome.errors().as_str()), (0, ""));
}

#[test]
fn a_wrong_log_filter_is_refused() {
    let outcome = Command::picovisor().env("PICOVISOR_LOG", "=/=").args(["run", "true"]).run();
    assert_eq!(outcome.status, 125);
    assert!(outcome.errors().starts_with("picovisor: PICOVISOR_LOG: "), "{}", outcome.errors());
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    need_kvm!();
    // The Rust runtime puts /dev/null in their places before main; the program must not find that.
    let script = |launcher: &str| format!("exec {launcher} /bin/busybox cat <&- 2>&-");
    let outcome = |launcher: &str| {
        let outcome = Command::new("/bin/sh").args(["-c", &script(launcher)]).run();
        (outcome.status, outcome.text())
    };
    let native = outcome("");
    assert_eq!(native, (1, String::new()));
    assert_eq!(outcome(&format!("{} run", picovisor().display())), native);
}
