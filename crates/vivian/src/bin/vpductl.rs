//! Remote control of the virtual PDU.

use std::process::ExitCode;

use clap::Parser as _;
use farmgate_vivian::vpductl;

fn main() -> ExitCode {
    match vpductl::run(&vpductl::Options::parse(), &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("vpductl: {e}");
            ExitCode::FAILURE
        }
    }
}
