//! `farmgate check`: everything that can be told about the settings and the farm file without starting anything.

use std::{process::ExitCode, sync::Arc};

use farmgate_mars::CheckContext;

use crate::settings::Settings;

/// What the farm file is checked against: the PDUs that the settings add, the drivers there are, the network.
pub fn farm_context(settings: &Settings) -> CheckContext {
    let extra = settings.executor_config.vpdu_endpoint.iter().map(|_| "VPDU".to_owned()).collect();
    CheckContext {
        extra_pdus: extra,
        pdu_check: Arc::new(|driver, config| {
            farmgate_pdu::make(driver, config).map(|_| ()).map_err(|error| error.to_string())
        }),
        private_network: Some((settings.private_address, settings.private_prefix)),
    }
}

/// Prints what is right, what is wrong and what to do; 0 fine, 2 errors.
pub fn check(settings: &Settings) -> ExitCode {
    let mut fine = true;
    println!("settings: fine (farm {:?})", settings.executor_config.farm_name);
    for warning in &settings.warnings {
        println!("warning: {warning}");
    }
    let path = &settings.farm_file;
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("farm file {}: does not exist; `farmgate serve` makes an empty one", path.display());
        }
        Err(error) => {
            println!("farm file {}: cannot be read: {error}", path.display());
            fine = false;
        }
        Ok(text) => match farmgate_mars::parse(&path.display().to_string(), &text, &farm_context(settings)) {
            Ok(parsed) => {
                for warning in &parsed.warnings {
                    println!("warning: {}", warning.render(&path.display().to_string()));
                }
                println!(
                    "farm file {}: fine ({} DUTs, {} PDUs)",
                    path.display(),
                    parsed.farm.duts.len(),
                    parsed.farm.pdus.len()
                );
            }
            Err(error) => {
                println!("{error}");
                fine = false;
            }
        },
    }
    if let Err(error) = settings.executor_config.check_templates() {
        println!("{error}");
        fine = false;
    }
    let boot = &settings.executor_config.boot_defaults;
    if !boot.has_kernel() {
        println!("warning: BOOTS_DEFAULT_KERNEL is not set: unknown machines cannot boot and register");
    }
    if let Some(path) = boot.missing_file() {
        println!("BOOTS_DEFAULT_KERNEL, BOOTS_DEFAULT_INITRD: {} does not exist", path.display());
        fine = false;
    }
    if settings.tftp && !settings.tftp_root.is_dir() {
        println!(
            "BOOTS_TFTP_ROOT: {} does not exist: install the package `ipxe`, or set it to a folder with iPXE binaries",
            settings.tftp_root.display()
        );
        fine = false;
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
