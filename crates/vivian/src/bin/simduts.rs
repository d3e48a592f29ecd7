//! Simulated DUTs.

use std::process::ExitCode;

use clap::Parser as _;
use farmgate_vivian::{init_log, sim};

fn main() -> ExitCode {
    let options = sim::options::Options::parse();
    init_log();
    // One provider for every user of the process; a second install is the only error there is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("simduts: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(sim::run(options));
    // Standard input is read by a thread that only its end would end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
            eprintln!("simduts: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}
