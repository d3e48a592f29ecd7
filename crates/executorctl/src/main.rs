//! The client of a farm's gateway: submits jobs, shows their consoles, passes the keyboard on, and lists machines.
//!
//! It is equivalent to the client that existing gateways' users know: same command line, same wire traffic, same
//! exit codes. Each module holds one part; this file parses the command line and chooses.

mod args;
mod drive;
mod duts;
mod events;
mod gateway;
mod keyboard;
mod phases;
mod run;
mod screen;
mod session;
mod signals;
mod submit;
mod summary;
mod table;
mod terminal;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use farmgate_protocol::JobStatus;

use args::{Cli, Command, DutCommand};

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
    let result = match &cli.command {
        None | Some(Command::Dut { command: None }) => {
            let _ = Cli::command().print_help();
            return 0;
        }
        Some(Command::Run(args)) => return run::run(&cli.executor, args).await.exit_code(),
        Some(Command::Duts(args)) if args.watch => watch::watch(&cli.executor, args.format).await,
        Some(Command::Duts(args)) => duts::list(&cli.executor, args.format).await,
        Some(Command::Dut { command: Some(DutCommand::Info(args)) }) => duts::info(&cli.executor, args).await,
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("executorctl: {error}");
            error.exit_code()
        }
    }
}
