//! Boot scripts: what a boot loader is told to do, one module per boot loader.
//!
//! A script is generated for one client and one request. Whatever a person writes into a command line reaches the
//! kernel byte for byte, or the script says why not; it never becomes a command of the boot loader.

pub mod ipxe;
