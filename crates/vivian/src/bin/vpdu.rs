//! The virtual PDU.

use std::process::ExitCode;

use clap::Parser as _;
use farmgate_vivian::{guard, init_log, vpdu};

fn main() -> ExitCode {
    if let Some(code) = guard::dispatch() {
        return code;
    }
    let options = vpdu::options::Options::parse();
    init_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("vpdu: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(vpdu::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("vpdu: {e}");
            ExitCode::FAILURE
        }
    }
}
