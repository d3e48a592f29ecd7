//! The virtual farm.

use std::process::ExitCode;

use farmgate_vivian::{farm, guard};

fn main() -> ExitCode {
    guard::dispatch().unwrap_or_else(farm::cli::main)
}
