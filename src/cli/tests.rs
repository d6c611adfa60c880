//! What command lines mean and how wrong ones are refused.

use super::*;

fn run(arguments: &[&str]) -> Result<Box<RunOptions>, String> {
    let arguments: Vec<OsString> = ["picovisor", "run"].iter().chain(arguments).map(OsString::from).collect();
    match parse(&arguments) {
        Ok(Cli { command: Command::Run(RunCommand::Run(options)) }) => Ok(options),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(one_line(&error)),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_program_ends_the_options() {
    for arguments in [&["ls", "-l", "--memory", "x"][..], &["--", "ls", "-l", "--memory", "x"]] {
        let options = run(arguments).unwrap();
        assert_eq!(options.program(), "ls");
        assert_eq!(options.args(), ["-l", "--memory", "x"]);
        assert_eq!(options.limits.memory, None);
    }
    assert_eq!(run(&["--", "ls", "--", "x"]).unwrap().args(), ["--", "x"]);
    assert_eq!(run(&["--", "-odd", "x"]).unwrap().program(), "-odd");
}

#[test]
fn options_before_the_program_are_ours() {
    let options = run(&["-m", "1G", "--pids=7", "-e", "A=b", "-w", "/x", "--strace=json", "-v", "ls"]).unwrap();
    assert_eq!(options.limits.memory, Some(1 << 30));
    assert_eq!(options.limits.pids, 7);
    assert_eq!(options.identity.env, [EnvSpec::Set("A".into(), "b".into())]);
    assert_eq!(options.files.workdir, Some("/x".into()));
    assert_eq!(options.watching.strace, Some(TraceChoice::Json));
    assert!(options.watching.verbose);
    assert_eq!(run(&["--strace", "ls"]).unwrap().watching.strace, Some(TraceChoice::Text));
}

#[test]
fn binds_keep_their_order() {
    let options = run(&["--rw", "/a", "--bind", "/b:/c:ro", "--rw", "/d", "--volume", "/e:/f", "ls"]).unwrap();
    let sources: Vec<_> = options.binds.iter().map(|bind| bind.source.to_str().unwrap()).collect();
    assert_eq!(sources, ["/a", "/b", "/d", "/e"]);
    assert_eq!(options.binds.iter().map(|bind| bind.writable).collect::<Vec<_>>(), [true, false, true, true]);
}

#[test]
fn mistakes_are_one_clear_line() {
    let lines = [
        (
            &["--memory", "12Q", "ls"][..],
            "invalid value '12Q' for '--memory <SIZE>': use a number and K, M, G or T, such as 512M or 2G; see --help",
        ),
        (&["--timeout", "0", "ls"], "invalid value '0' for '--timeout <TIME>': must be more than 0; see --help"),
        (&["--cpus", "0", "ls"], "invalid value '0' for '--cpus <N>': 0 is not in 1..=4096; see --help"),
        (
            &["--memroy", "1G", "ls"],
            "unexpected argument '--memroy' found (a similar argument exists: '--memory'); see --help",
        ),
        (&["-Z", "ls"], "unexpected argument '-Z' found (to pass '-Z' as a value, use '-- -Z'); see --help"),
        (&[], "the following required arguments were not provided: <PROGRAM [ARGS]>...; see --help"),
        (
            &["--no-jail", "--require-jail", "ls"],
            "the argument '--no-jail' cannot be used with '--require-jail'; see --help",
        ),
        (&["-o", "f", "ls"], "the following required arguments were not provided: --strace[=<FORMAT>]; see --help"),
        (&["--root"], "a value is required for '--root <DIR>' but none was supplied; see --help"),
        (
            &["--memory", "1G", "--memory", "2G", "ls"],
            "the argument '--memory <SIZE>' cannot be used multiple times; see --help",
        ),
    ];
    for (arguments, line) in lines {
        assert_eq!(run(arguments).unwrap_err(), line, "{arguments:?}");
    }
}
