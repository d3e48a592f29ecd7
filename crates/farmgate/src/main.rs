//! `farmgate`: the gateway of a farm of test machines, one program.
//!
//! `serve` is the gateway itself, `salad` its console process (started by `serve` when none runs), `check` tells
//! what is wrong with the settings and the farm file, `check-job` what is wrong with a job, `settings` prints every
//! setting with its meaning, `schema` what an editor needs to help with jobs or a program with the API, `token` makes
//! and revokes what lets people in, `pdu` tries a PDU.

mod api;
mod check;
mod check_job;
mod console_process;
mod pdu_command;
mod schema;
mod serve;
mod settings;
mod signals;
mod token;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "farmgate",
    version,
    about = "A bare-metal CI gateway: powers, boots, watches and shares test machines"
)]
struct Cli {
    /// Settings file (YAML). Environment variables win over it.
    #[arg(long, global = true, env = "FARMGATE_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve {
        /// Read PDUs and consoles, say what would be done, and switch nothing: for a first evening on a real shelf.
        /// Neither DHCP nor TFTP is served, the farm file is not written, and no job runs.
        #[arg(long)]
        observe: bool,
    },
    /// Run the console service alone. `serve` starts it by itself when none runs.
    Salad,
    /// Check the settings and the farm file, and say what is wrong where.
    Check,
    /// Check a job without running it: what is wrong where, and what it comes to.
    CheckJob(check_job::Args),
    /// Make, list and revoke the tokens that let people use the API from other hosts.
    #[command(subcommand)]
    Token(token::Command),
    /// Try and switch a PDU, without a running gateway.
    #[command(subcommand)]
    Pdu(pdu_command::Command),
    /// Print all settings with their meaning, as a settings file to start from.
    Settings,
    /// Print the JSON Schema of a format, for editors.
    Schema {
        /// Which.
        format: schema::Format,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("FARMGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // One line, or the few that show a place in a file, and nothing else: this is what a person reads.
            eprintln!("farmgate: {}", with_causes(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

/// What ends the program, whatever it is: `main` shows it.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn run(cli: Cli) -> Result<ExitCode, BoxError> {
    let file = cli.settings.as_deref();
    let load = || settings::Settings::load(file, &|name| std::env::var(name).ok());
    match cli.command {
        Command::Settings => print!("{}", settings::documentation()),
        Command::Schema { format } => schema::print(format)?,
        Command::CheckJob(args) => return check_job::run(&args, file),
        Command::Check => {
            let settings = load()?;
            return on_runtime(async { Ok(check::check(&settings)) });
        }
        Command::Token(command) => {
            let settings = load()?;
            on_runtime(token::run(command, &settings))?;
        }
        Command::Pdu(command) => {
            let settings = load().map_err(Into::into);
            return on_runtime(pdu_command::run(&command, settings));
        }
        Command::Serve { observe } => {
            let mut settings = load()?;
            if observe {
                settings.observe();
            }
            on_runtime(serve::serve(&settings))?;
        }
        Command::Salad => {
            let settings = load()?;
            on_runtime(console_process::run(&settings))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn on_runtime<T>(work: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    // One provider for every TLS user of the process; a second install is the only error there is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// An error and what it comes from, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
