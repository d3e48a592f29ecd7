//! A QEMU machine behind an outlet: its folder, its tap, its guarded process.

use std::{
    ffi::OsString,
    fs::{self, File},
    future::pending,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{process::Command, time::Instant};

use super::{
    arguments::{self, Accel, CONSOLE_LOG, DISK, QMP, Spec, UEFI_VARS, VNC, Version},
    disk,
    firmware::{Firmware, Ovmf},
    guarded::Guarded,
    machine::{Machine, MachineError},
    options::{Plan, QEMU},
    qmp::Qmp,
};
use crate::outlet::Outlet;

/// How long QEMU may take until its control socket answers.
const READY_TIME: Duration = Duration::from_secs(20);

/// Bytes that the log of a console may have.
const LOG_LIMIT: u64 = 64 << 20;

/// How often its length is looked at.
const LOG_LOOK: Duration = Duration::from_secs(5);

/// What QEMU itself says, in the outlet's folder.
const QEMU_LOG: &str = "qemu.log";

/// Why QEMU cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not installed.
    #[error("{QEMU} is not installed: apt-get install qemu-system-x86 ipxe-qemu")]
    Missing,
    /// It does not run.
    #[error("cannot run {QEMU}: {0}")]
    Broken(#[source] io::Error),
    /// It says something else than its version.
    #[error("`{QEMU} --version` says {0:?}, which is no version")]
    Strange(String),
}

/// Finds out which QEMU is installed.
///
/// # Errors
/// None is, or it does not run.
pub async fn probe(qemu: &str) -> Result<Version, Unusable> {
    let said =
        Command::new(qemu).arg("--version").stdin(Stdio::null()).output().await.map_err(|e| {
            match e.kind() {
                io::ErrorKind::NotFound => Unusable::Missing,
                _ => Unusable::Broken(e),
            }
        })?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    parse_version(&text).ok_or(Unusable::Strange(text))
}

/// From a line like `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)`.
fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.split_once("version ")?.1.split(['.', ' ', '\n']).map(str::parse);
    Some(Version { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
}

/// The machine of one outlet.
#[derive(Debug)]
pub struct QemuMachine {
    plan: Arc<Plan>,
    outlet: Outlet,
    folder: PathBuf,
    accel: Accel,
    running: Option<Guarded>,
    /// It died and was reported.
    dead: bool,
}

impl QemuMachine {
    /// A machine without power.
    pub fn new(plan: Arc<Plan>, outlet: Outlet, accel: Accel) -> Self {
        let folder = plan.state_dir.join(outlet.folder());
        Self { plan, outlet, folder, accel, running: None, dead: false }
    }

    /// Makes the outlet's files. The disk and the UEFI variables stay from one ON to the next, as on a real machine.
    fn prepare(&self) -> Result<Option<Ovmf>, MachineError> {
        let at = |path: PathBuf| move |source| MachineError::Files { path, source };
        fs::create_dir_all(&self.folder).map_err(at(self.folder.clone()))?;
        let disk = self.folder.join(DISK);
        disk::create_if_absent(&disk, self.plan.options.disk_size).map_err(at(disk))?;
        for stale in [QMP, VNC] {
            remove_if_there(&self.folder.join(stale)).map_err(at(self.folder.join(stale)))?;
        }
        let console = self.folder.join(CONSOLE_LOG);
        if console.exists() {
            fs::rename(&console, self.folder.join("console.previous.log")).map_err(at(console))?;
        }
        if self.plan.firmware(self.outlet) == Firmware::Bios {
            return Ok(None);
        }
        let Some(ovmf) = Ovmf::find() else {
            return Err(MachineError::Refused {
                said: "the UEFI firmware OVMF is not installed".to_owned(),
                remedy: ": apt-get install ovmf",
            });
        };
        let vars = self.folder.join(UEFI_VARS);
        if !vars.exists() {
            fs::copy(&ovmf.vars, &vars).map_err(at(vars))?;
        }
        Ok(Some(ovmf))
    }

    async fn spec(&self) -> Result<Spec, MachineError> {
        let ovmf = self.prepare()?;
        let tap = match &self.plan.network {
            Some(network) => Some(network.plug(self.outlet).await?),
            None => None,
        };
        let options = &self.plan.options;
        Ok(Spec {
            outlet: self.outlet,
            version: self.plan.version,
            memory: options.memory,
            ovmf,
            nic: options.nic,
            tap,
            console: options.console_endpoint,
            accel: self.accel,
            display: options.display,
            fault: self.plan.fault(self.outlet),
        })
    }

    async fn launch(&mut self) -> Result<(), MachineError> {
        let spec = self.spec().await?;
        let arguments: Vec<OsString> = arguments::arguments(&spec).into_iter().map(Into::into).collect();
        let log_path = self.folder.join(QEMU_LOG);
        let log = File::create(&log_path)
            .map_err(|source| MachineError::Files { path: log_path.clone(), source })?;
        let mut guarded = Guarded::spawn(&self.plan.guard, QEMU.as_ref(), &arguments, &self.folder, log)
            .await
            .map_err(MachineError::Spawn)?;
        tracing::debug!(outlet = %self.outlet, pid = guarded.pid(), ?arguments, "QEMU started");
        let ready = tokio::select! {
            status = guarded.gone() => Err(refused(&log_path, status)),
            ready = answers(&self.folder) => ready,
        };
        if ready.is_err() {
            guarded.kill().await.map_err(MachineError::NotGone)?;
        }
        ready?;
        self.running = Some(guarded);
        Ok(())
    }

    async fn unplug(&self) {
        if let Some(network) = &self.plan.network
            && let Err(e) = network.unplug(self.outlet).await
        {
            tracing::warn!(outlet = %self.outlet, error = %e, "the tap interface stays");
        }
    }
}

impl Machine for QemuMachine {
    async fn start(&mut self) -> Result<(), MachineError> {
        self.dead = false;
        let started = self.launch().await;
        if started.is_err() {
            self.unplug().await;
        }
        started
    }

    async fn stop(&mut self) -> Result<(), MachineError> {
        if let Some(running) = &mut self.running {
            running.kill().await.map_err(MachineError::NotGone)?;
        }
        self.running = None;
        self.unplug().await;
        Ok(())
    }

    async fn died(&mut self) -> String {
        match &mut self.running {
            Some(running) if !self.dead => {
                let console = self.folder.join(CONSOLE_LOG);
                let status = tokio::select! {
                    status = running.gone() => status,
                    () = keep_short(&console) => pending().await,
                };
                self.dead = true;
                said(&self.folder.join(QEMU_LOG), status)
            }
            _ => pending().await,
        }
    }
}

/// Empties a log again and again when it has become too long: a guest may talk without end. QEMU appends, so it goes
/// on at the new end.
async fn keep_short(log: &Path) {
    loop {
        tokio::time::sleep(LOG_LOOK).await;
        if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            let emptied = File::options().write(true).open(log).and_then(|file| file.set_len(0));
            tracing::warn!(log = %log.display(), ?emptied, "the console's log was too long");
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Waits until QEMU answers on its control socket: then it has opened its disk, its tap and its firmware.
async fn answers(folder: &Path) -> Result<(), MachineError> {
    let begun = Instant::now();
    while begun.elapsed() < READY_TIME {
        let folder = folder.to_owned();
        if let Ok(Ok(_)) = tokio::task::spawn_blocking(move || Qmp::connect(&folder)).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(MachineError::NotReady(READY_TIME.as_secs()))
}

/// The last of QEMU's own words, with how it ended.
fn said(log: &Path, status: io::Result<ExitStatus>) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join(" / ");
    match (last.is_empty(), status) {
        (false, _) => last,
        (true, Ok(status)) => format!("{status}, without a word"),
        (true, Err(e)) => e.to_string(),
    }
}

fn refused(log: &Path, status: io::Result<ExitStatus>) -> MachineError {
    let said = said(log, status);
    let remedy = remedy_for(&said);
    MachineError::Refused { said, remedy }
}

/// What to do about the faults that people meet.
fn remedy_for(said: &str) -> &'static str {
    const KNOWN: [(&str, &str); 6] = [
        ("romfile", "; apt-get install ipxe-qemu"),
        ("vgabios", "; apt-get install seabios"),
        ("virtio-vga", "; apt-get install qemu-system-x86 with its recommended packages"),
        ("gtk", "; apt-get install qemu-system-gui, or use another --display"),
        ("Could not access KVM", "; use --accel tcg"),
        ("Cannot allocate memory", "; choose a smaller --memory"),
    ];
    KNOWN.iter().find(|(word, _)| said.contains(word)).map_or("", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_distributions_print() {
        for (text, major, minor) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", 7, 2),
            ("QEMU emulator version 10.1.0\n", 10, 1),
            ("QEMU emulator version 9.2 (v9.2)\n", 9, 2),
        ] {
            assert_eq!(parse_version(text), Some(Version { major, minor }), "{text}");
        }
        for text in ["", "version ", "QEMU emulator version x.y"] {
            assert_eq!(parse_version(text), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_qemu_is_named_with_its_package() {
        let e = probe("/no/such/qemu").await.unwrap_err().to_string();
        assert!(e.contains("apt-get install qemu-system-x86"), "{e}");
    }
}
