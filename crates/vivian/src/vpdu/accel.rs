//! KVM or TCG. A `/dev/kvm` that opens proves nothing: on nested or restricted hosts guests hang in their first
//! instructions. So a small guest has to get through a whole kernel start first; whether it did is remembered for
//! this boot of the computer.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    arguments::{Accel, kvm_probe},
    guarded::Guarded,
    options::{Acceleration, Plan, QEMU},
};

/// How long the guest may take from power to its kernel's last word.
const PROBE_TIME: Duration = Duration::from_secs(8);

/// How often its words are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The bytes of its words that are looked at; a kernel start has about 30 KB.
const LOG_LIMIT: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    boot_id: String,
    kernel: PathBuf,
    works: bool,
    why: String,
}

/// Chooses, and logs what was chosen and why. With `auto` a first choice on a computer takes a few seconds.
pub async fn choose(plan: &Plan) -> Accel {
    let (accel, why) = match plan.options.accel {
        Acceleration::Tcg => (Accel::Tcg, "asked for".to_owned()),
        Acceleration::Kvm => (Accel::Kvm, "asked for, unproven".to_owned()),
        Acceleration::Auto => prove(plan, plan.options.kernel_for_probe.as_deref()).await,
    };
    tracing::info!(?accel, why, "what executes the guests");
    accel
}

async fn prove(plan: &Plan, kernel: Option<&Path>) -> (Accel, String) {
    if let Err(e) = File::options().read(true).write(true).open("/dev/kvm") {
        let remedy = match e.kind() {
            io::ErrorKind::PermissionDenied => "; add yourself to the group kvm for faster machines",
            _ => "",
        };
        return (Accel::Tcg, format!("/dev/kvm cannot be opened: {e}{remedy}"));
    }
    let Some(kernel) = kernel else {
        return (
            Accel::Tcg,
            "there is no kernel to prove that KVM works; name one with --kernel-for-probe".to_owned(),
        );
    };
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let memory = memory(&plan.state_dir);
    let known = fs::read(&memory).ok().and_then(|json| serde_json::from_slice::<Verdict>(&json).ok());
    let verdict = match known {
        Some(known) if known.boot_id == boot_id && known.kernel == kernel => known,
        _ => {
            let proof = probe(plan, kernel).await;
            let works = proof.is_ok();
            let why = proof.unwrap_or_else(|why| why);
            let verdict = Verdict { boot_id, kernel: kernel.to_owned(), works, why };
            if let Err(e) = remember(&memory, &verdict) {
                tracing::warn!(error = %e, path = %memory.display(), "the KVM probe's result cannot be kept");
            }
            verdict
        }
    };
    (if verdict.works { Accel::Kvm } else { Accel::Tcg }, verdict.why)
}

/// The verdict is about the computer, not about one farm: fresh farms share it where the user has a cache.
fn memory(state_dir: &Path) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").filter(|home| home.is_dir()).map(|home| home.join(".cache")))
        .map(|cache| cache.join("farmgate"))
        .filter(|folder| fs::create_dir_all(folder).is_ok())
        .unwrap_or_else(|| state_dir.to_owned())
        .join("kvm-probe.json")
}

fn remember(memory: &Path, verdict: &Verdict) -> io::Result<()> {
    // Renamed into place: two farms may start at once.
    let partial = memory.with_extension(std::process::id().to_string());
    fs::write(&partial, serde_json::to_vec(verdict)?)?;
    fs::rename(partial, memory)
}

/// Ok: why KVM works. Err: why it does not.
async fn probe(plan: &Plan, kernel: &Path) -> Result<String, String> {
    let console = plan.state_dir.join("kvm-probe.console.log");
    let _ = fs::remove_file(&console);
    let log = File::create(plan.state_dir.join("kvm-probe.log")).map_err(|e| format!("no probe: {e}"))?;
    let arguments: Vec<_> = kvm_probe(kernel, &console).into_iter().map(Into::into).collect();
    let begun = Instant::now();
    let mut guest = Guarded::spawn(&plan.guard, QEMU.as_ref(), &arguments, &plan.state_dir, log)
        .await
        .map_err(|e| format!("the KVM probe could not be started: {e}"))?;
    let mut ended = false;
    let reached = loop {
        let reached = stage(&said(&console));
        if reached == Stage::Through || ended || begun.elapsed() >= PROBE_TIME {
            break reached;
        }
        tokio::select! {
            _ = guest.gone() => ended = true,
            () = tokio::time::sleep(LOOK) => {}
        }
    };
    if let Err(e) = guest.kill().await {
        tracing::warn!(error = %e, "the guest of the KVM probe");
    }
    let seconds = begun.elapsed().as_secs_f32();
    match reached {
        Stage::Through => Ok(format!("a guest ran through its kernel's start in {seconds:.1} s")),
        Stage::Kernel => {
            Err(format!("a guest with KVM got stuck in its kernel's start (looked for {seconds:.1} s)"))
        }
        Stage::Silent if ended => Err("QEMU with KVM ended at once, see kvm-probe.log".to_owned()),
        Stage::Silent => {
            Err(format!("/dev/kvm is there, but a guest hangs before its first word ({seconds:.1} s)"))
        }
    }
}

fn said(console: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(console) {
        // A log that cannot be read to its end is looked at as far as it goes.
        let _ = file.take(LOG_LIMIT).read_to_end(&mut bytes);
    }
    bytes
}

/// How far a guest came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Silent,
    Kernel,
    Through,
}

fn stage(console: &[u8]) -> Stage {
    let text = String::from_utf8_lossy(console);
    if !text.contains("Linux version") {
        Stage::Silent
    } else if text.contains("Kernel panic") || text.contains("Run /init") {
        Stage::Through
    } else {
        Stage::Kernel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_came_to_its_end_proves_kvm() {
        for (console, reached) in [
            (&b""[..], Stage::Silent),
            (b"SeaBIOS (version 1.16.2)\r\nKernel panic", Stage::Silent),
            (b"\xff\xfe[    0.000000] Linux version 6.1.0\r\n", Stage::Kernel),
            (
                b"[    0.000000] Linux version 6.1.0\r\n[    1.9] Kernel panic - not syncing: VFS",
                Stage::Through,
            ),
            (b"[    0.000000] Linux version 6.1.0\r\n[    1.9] Run /init as init process", Stage::Through),
        ] {
            assert_eq!(stage(console), reached, "{:?}", String::from_utf8_lossy(console));
        }
    }
}
