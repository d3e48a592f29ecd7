//! What a farm shall be like.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::FarmError;

/// A service of the farm that the host reaches through a forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The gateway's REST API and job submission.
    Executor,
    /// SALAD's REST API.
    Salad,
    /// SALAD's port for consoles over TCP.
    Console,
    /// The virtual PDU.
    Vpdu,
}

impl Service {
    /// All of them, in the order in which their listeners are handed over.
    pub const ALL: [Self; 4] = [Self::Executor, Self::Salad, Self::Console, Self::Vpdu];

    /// The TCP port inside the farm.
    pub const fn inside(self) -> u16 {
        match self {
            Self::Executor => 80,
            Self::Salad => 8005,
            Self::Console => 8100,
            Self::Vpdu => farmgate_protocol::vpdu::DEFAULT_PORT,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Executor => "executor",
            Self::Salad => "salad",
            Self::Console => "console",
            Self::Vpdu => "vpdu",
        })
    }
}

/// The TCP ports on the host's 127.0.0.1; 0 asks for any free one. Also the content of `ports.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// To the executor.
    pub executor: u16,
    /// To SALAD's REST API.
    pub salad: u16,
    /// To SALAD's console port.
    pub console: u16,
    /// To the vPDU.
    pub vpdu: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { executor: 8000, salad: 8005, console: 8100, vpdu: farmgate_protocol::vpdu::DEFAULT_PORT }
    }
}

impl Ports {
    /// Any free ports.
    pub const fn ephemeral() -> Self {
        Self { executor: 0, salad: 0, console: 0, vpdu: 0 }
    }

    /// The port of a service.
    pub const fn get(&self, service: Service) -> u16 {
        match service {
            Service::Executor => self.executor,
            Service::Salad => self.salad,
            Service::Console => self.console,
            Service::Vpdu => self.vpdu,
        }
    }

    /// Changes the port of a service.
    pub const fn set(&mut self, service: Service, port: u16) {
        match service {
            Service::Executor => self.executor = port,
            Service::Salad => self.salad = port,
            Service::Console => self.console = port,
            Service::Vpdu => self.vpdu = port,
        }
    }
}

/// Reads `SERVICE=PORT`.
///
/// # Errors
/// In words, with what would be right.
pub fn parse_port(text: &str) -> Result<(Service, u16), String> {
    let help = || format!("{text:?}: write SERVICE=PORT, the service one of executor, salad, console, vpdu");
    let (service, port) = text.split_once('=').ok_or_else(help)?;
    let service = <Service as ValueEnum>::from_str(service, false).map_err(|_| help())?;
    Ok((service, u16::from_str(port).map_err(|_| help())?))
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// In words.
pub fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?}: write NAME=VALUE")),
    }
}

/// A farm to be started.
#[derive(Debug, Clone)]
pub struct FarmOptions {
    /// Where it keeps its files; made if absent.
    pub state_dir: PathBuf,
    /// Where the host reaches it.
    pub ports: Ports,
    /// Boots in the training of a new DUT, all of which must succeed; none: the gateway's default.
    pub boot_count: Option<u32>,
    /// More environment of the gateway, stronger than what the farm sets itself.
    pub env: Vec<(String, String)>,
    /// The folder with the DUTs' `vmlinuz` and `initramfs.img`.
    pub images: PathBuf,
    /// The folder with `vivian`, `vpdu` and `farmgate`.
    pub bin_dir: PathBuf,
    /// More arguments of the vPDU, like `--memory 1024` or `--outlet-fault 3=noboot`.
    pub vpdu_arguments: Vec<String>,
    /// False: only the network and the vPDU.
    pub gateway: bool,
    /// A way out to the internet.
    pub uplink: bool,
}

impl FarmOptions {
    /// A farm with free ports that ends with its starter, as tests and demonstrations want it. The programs are
    /// looked for beside the running one, and one folder up, where Cargo puts them for tests.
    pub fn new(state_dir: &Path, images: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            ports: Ports::ephemeral(),
            boot_count: None,
            env: Vec::new(),
            images: images.to_owned(),
            bin_dir: default_bin_dir(),
            vpdu_arguments: Vec::new(),
            gateway: true,
            uplink: true,
        }
    }

    /// The path of one of our programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// The kernel that unknown DUTs boot.
    pub fn kernel(&self) -> PathBuf {
        self.images.join("vmlinuz")
    }

    /// The initramfs that unknown DUTs boot.
    pub fn initramfs(&self) -> PathBuf {
        self.images.join("initramfs.img")
    }

    /// Is everything there that the farm will need?
    ///
    /// # Errors
    /// What is missing, with the remedy.
    pub fn check_files(&self) -> Result<(), FarmError> {
        let programs: &[&str] =
            if self.gateway { &["vivian", "vpdu", "farmgate"] } else { &["vivian", "vpdu"] };
        if let Some(path) = programs.iter().map(|name| self.program(name)).find(|path| !path.is_file()) {
            return Err(FarmError::NoProgram(path));
        }
        match [self.kernel(), self.initramfs()].into_iter().find(|path| !path.is_file()) {
            Some(path) if self.gateway => Err(FarmError::NoImages(path)),
            _ => Ok(()),
        }
    }
}

/// The folder of the running program, or the one above where only that has the programs.
pub fn default_bin_dir() -> PathBuf {
    let own =
        std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    match own.parent() {
        Some(above) if !own.join("vpdu").is_file() && above.join("vpdu").is_file() => above.to_owned(),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_named_by_its_service() {
        assert_eq!(parse_port("executor=18000"), Ok((Service::Executor, 18000)));
        assert_eq!(parse_port("vpdu=0"), Ok((Service::Vpdu, 0)));
        for text in ["8000", "8000:80", "ssh=22", "vpdu=65536", "vpdu="] {
            assert!(parse_port(text).unwrap_err().contains("executor, salad, console, vpdu"), "{text}");
        }
    }

    #[test]
    fn the_file_of_ports_names_the_services() {
        let json = serde_json::to_string(&Ports::default()).unwrap();
        assert_eq!(json, r#"{"executor":8000,"salad":8005,"console":8100,"vpdu":9191}"#);
    }

    #[test]
    fn a_missing_image_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["vivian", "vpdu", "farmgate"] {
            std::fs::write(folder.path().join(program), "").unwrap();
        }
        let mut options = FarmOptions::new(folder.path(), folder.path());
        options.bin_dir = folder.path().to_owned();
        std::fs::write(options.kernel(), "").unwrap();
        let e = options.check_files().unwrap_err().to_string();
        assert!(e.contains("initramfs.img") && e.contains("make images"), "{e}");
        options.gateway = false;
        options.check_files().unwrap();
        options.bin_dir = folder.path().join("elsewhere");
        let e = options.check_files().unwrap_err().to_string();
        assert!(e.contains("elsewhere/vivian") && e.contains("--bin-dir"), "{e}");
    }
}
