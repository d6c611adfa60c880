//! The command line of Picovisor: parses it, makes a host and a provider from it, and turns the result into an exit status.
//!
//! This is the one place that names both a concrete host ([`vmm`]) and a concrete provider ([`provider`]).

// A sandbox's types refer to each other in long circles (kernel, tasks, files, sockets); the compiler follows them to the end when it
// asks whether a thread may be handed one.
#![recursion_limit = "256"]
#![forbid(unsafe_code)]

mod check;
mod cli;
mod control;
mod crash;
mod environment;
mod failure;
mod identity;
mod jail;
mod logging;
mod report;
mod run;
mod serve;
mod settings;
mod signing;
mod terminal;
mod tools;

use clap::CommandFactory;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use cli::{Cli, Command, RunCommand};
use failure::{Failure, OURS};
use run::Beginning;
use serve::client::HandOver;
use vmm::inherited::Others;

/// Memory that runs out is the end of the monitor, in one line.
#[global_allocator]
static ALLOCATOR: vmm::allocator::Allocator =
    vmm::allocator::Allocator::new("picovisor: the host is out of memory\n", 125);

fn main() -> ExitCode {
    exit_on_panic();
    crash::report_bug_checks();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if terminal::keep_if_asked(&arguments) {
        return ExitCode::SUCCESS;
    }
    if let Some(status) = serve::spare::run_if_asked(&arguments) {
        return status;
    }
    let logging = logging::start();
    let is_run = arguments.get(1).is_some_and(|command| command == "run");
    if is_run {
        match serve::client::hand_over(&arguments) {
            HandOver::Done(result) => return end(result),
            HandOver::Direct(why) => report::note_direct(why),
        }
    }
    // Almost every command line that begins so is a good one; if not, a machine was made for nothing.
    let beginning = is_run.then(|| Beginning::new(Others::take()));
    let result = match cli::parse(&arguments) {
        Ok(cli) => logging.and_then(|()| execute(cli, beginning)),
        Err(error) => usage(&error),
    };
    end(result)
}

/// The exit status of a command, which explains what went wrong.
fn end(result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.status())
        }
    }
}

/// A panic is a bug of ours, on whatever thread, or the standard library's way to say that the host has no memory. It ends the monitor, and the sandbox with it, instead of leaving it half alive.
fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        terminal::restore_after_panic();
        if let Some(why) = crash::exhaustion(panic) {
            complain(&why);
            std::process::exit(OURS.into());
        }
        report(panic);
        let kept = crash::keep_panic(panic);
        complain(&format_args!(
            "internal error: this is a bug of picovisor's; please report what is printed above{kept}"
        ));
        std::process::exit(OURS.into());
    }));
}

fn execute(cli: Cli, beginning: Option<Result<Beginning, Failure>>) -> Result<u8, Failure> {
    match cli.command {
        Command::Run(RunCommand::Run(options)) => {
            run::run(&options, beginning.unwrap_or_else(|| Beginning::new(Others::take())))
        }
        Command::Ps(options) => tools::ps::ps(&options),
        Command::Kill(options) => tools::act::kill(&options),
        Command::Suspend(options) => tools::act::suspend(&options),
        Command::Resume(options) => tools::act::resume(&options),
        Command::Compress(options) => tools::act::compress(&options),
        Command::Wait(options) => tools::act::wait(&options),
        Command::Stack(options) => tools::stack::stack(&options),
        Command::Stats(options) => tools::stats::stats(&options),
        Command::Top(options) => tools::top::top(&options),
        Command::Exec(options) => tools::exec::exec(&options),
        Command::Inspect(options) => tools::inspect::inspect(&options),
        Command::Check(options) => check::check(&options),
        Command::Serve(options) => serve::server::serve(&options),
        Command::Provider(command) => signing::execute(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "picovisor", &mut script);
            print(&script).map(|()| 0)
        }
    }
}

/// Prints the help or the version that was asked for, or explains what is wrong with the command line.
fn usage(error: &clap::Error) -> Result<u8, Failure> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            // clap knows whether standard output takes colours; a reader that left early is no failure.
            let _ = error.print();
            Ok(0)
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Ok(OURS)
        }
        _ => Err(Failure::ours(cli::one_line(error))),
    }
}

/// Writes to standard output. A reader that left early is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::ours(format_args!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error; when even that fails there is nobody left to tell.
fn complain(message: &impl std::fmt::Display) {
    // One write, so that the line stays whole among those of others.
    let _ = std::io::stderr().write_all(format!("picovisor: {message}\n").as_bytes());
}
