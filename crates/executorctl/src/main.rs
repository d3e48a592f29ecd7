//! The client of a farm's gateway: submits jobs, shows their consoles, comes back to them, passes the keyboard on, and
//! lists jobs and machines.
//!
//! It is equivalent to the client that existing gateways' users know: same command line, same wire traffic, same
//! exit codes. Each module holds one part; this file parses the command line and chooses.

mod args;
mod attach;
mod claim;
mod drive;
mod duts;
mod events;
mod failure;
mod gateway;
mod history;
mod jobs;
mod keyboard;
mod leave;
mod logs;
mod patience;
mod phases;
mod progress;
mod recover;
mod run;
mod screen;
mod session;
mod signals;
mod submit;
mod summary;
mod table;
mod terminal;
mod watch;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use farmgate_protocol::JobStatus;

use args::{Cli, Command, DutCommand, Shell};
use duts::Action;
use failure::Failure;

/// Exit code of everything that did not reach a machine. Not clap's 2, which is the verdict COMPLETE.
const NOT_STARTED: u8 = JobStatus::SetupFail.exit_code();

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(NOT_STARTED),
            };
        }
    };
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("executorctl: cannot start: {error}");
            return ExitCode::from(NOT_STARTED);
        }
    };
    let code = runtime.block_on(carry_out(cli));
    // Not by dropping it: that would wait for a write to a pipe that nobody reads.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn carry_out(cli: Cli) -> u8 {
    let url = &cli.executor;
    let result = match &cli.command {
        None | Some(Command::Dut { command: None }) => {
            let _ = Cli::command().print_help();
            Ok(())
        }
        Some(Command::Completions { shell }) => {
            completions(*shell);
            Ok(())
        }
        Some(Command::Run(args)) => return run::run(url, args).await,
        Some(Command::Attach(args)) => return followed(attach::attach(url, args).await),
        Some(Command::Jobs(args)) => jobs::list(url, args).await,
        Some(Command::Job(args)) => jobs::show(url, args).await,
        Some(Command::Logs(args)) => logs::logs(url, args).await,
        Some(Command::Why(args)) => jobs::why(url, args).await,
        Some(Command::Cancel(args)) => jobs::cancel(url, args).await,
        Some(Command::Duts(args)) if args.watch => watch::watch(url, args.format).await,
        Some(Command::Duts(args)) => duts::list(url, args.format).await,
        Some(Command::Dut { command: Some(command) }) => match command {
            DutCommand::Info(args) => duts::info(url, args).await,
            DutCommand::Retire { cancel, dut } => {
                duts::act(url, Action::Retire { cancel: *cancel }, dut).await
            }
            DutCommand::Activate(args) => duts::act(url, Action::Activate, args).await,
            DutCommand::QuickCheck(args) => duts::act(url, Action::QuickCheck, args).await,
            DutCommand::Console(args) => return followed(attach::console(url, args).await),
        },
    };
    match result {
        Err(error) if !error.is_closed_pipe() => {
            eprintln!("executorctl: {error}");
            error.exit_code()
        }
        _ => 0,
    }
}

/// The exit code of a command whose exit code is a verdict's.
fn followed(result: Result<u8, Failure>) -> u8 {
    result.unwrap_or_else(|error| {
        eprintln!("executorctl: {error}");
        // Not the failure's 1, which is the verdict WARN.
        NOT_STARTED
    })
}

fn completions(shell: Shell) {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Into memory first: the generator gives up with a panic where its output is closed.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "executorctl", &mut text);
    let _ = std::io::stdout().write_all(&text);
}
