//! The command line of `simduts`.

use std::path::PathBuf;

use clap::Parser;

/// Simulated DUTs: virtual PDUs, and machines that boot over the network, speak on a console and run jobs, without
/// QEMU and without privileges.
///
/// Each machine has its own outlet. When that is on, the machine connects to the console port, fetches its script and
/// its files from the gateway, and does what the kernel command line says (`sim=pass`, ...).
#[derive(Debug, Clone, Parser)]
#[command(name = "simduts", version)]
pub struct Options {
    /// Machines
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub duts: u32,
    /// Outlets of each PDU; there are as many PDUs as it takes
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u8).range(1..))]
    pub outlets: u8,
    /// Where the gateway serves scripts
    #[arg(long, value_name = "HOST:PORT")]
    pub gateway: String,
    /// Where consoles connect to
    #[arg(long, value_name = "HOST:PORT")]
    pub console: String,
    /// Folder for journal.jsonl, sim.json (written when everything listens) and consoles/DUT/BOOT.log
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// A farm file that names all PDUs and machines, to be written if there is none
    #[arg(long, value_name = "FILE")]
    pub farm_file: Option<PathBuf>,
    /// The machines' off delay in the farm file, seconds
    #[arg(long, default_value_t = 0.2, value_name = "SECONDS")]
    pub off_delay: f64,
    /// The machines' learned firmware time in the farm file, seconds
    #[arg(long, value_name = "SECONDS")]
    pub firmware_boot_time: Option<f64>,
    /// The machines are not in service yet in the farm file: they are trained first
    #[arg(long)]
    pub untrained: bool,
    /// How long a firmware takes, milliseconds: from
    #[arg(long, default_value_t = 50, value_name = "MS")]
    pub firmware_from: u64,
    /// How long a firmware takes, milliseconds: to
    #[arg(long, default_value_t = 250, value_name = "MS")]
    pub firmware_to: u64,
    /// Seed of the firmwares' pace
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep no copies of what the machines print
    #[arg(long)]
    pub no_copies: bool,
    /// End when standard input does: whoever started this is gone then
    #[arg(long)]
    pub until_stdin_ends: bool,
}
