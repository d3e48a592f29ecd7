//! `vivian demo`: the whole story on one computer, told while it happens. A machine nobody knows is switched on, boots
//! over the network, registers itself, is wired to its outlet in the farm file, qualifies, and runs a job. Everything
//! is done with the programs that a person would use; the farm is a fresh one of its own, and is gone afterwards.

mod farm_file;
mod plain;
mod story;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use farmgate_protocol::dut::DutState;

use crate::farm::{
    Farm, FarmError,
    options::{FarmOptions, default_bin_dir},
    record,
};
use plain::PlainText;
use story::Story;
use tokio::io::AsyncReadExt as _;

/// Boots of the demo's training.
const TRAINING_BOOTS: u32 = 2;
/// How long each part may take on a slow computer without KVM.
const PATIENCE: Duration = Duration::from_secs(240);
/// The machine of outlet 1.
const MACHINE: &str = "52:54:00:11:22:01";
/// The job that it runs at the end.
const JOB: &str = include_str!("../../../jobs/examples/hello.yml");

/// Why the story did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The farm did not come up, or not down.
    #[error(transparent)]
    Farm(#[from] FarmError),
    /// A file of the demo.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program of ours cannot be started.
    #[error("cannot run {program}: {source}")]
    Program {
        /// Which.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The gateway's events ended.
    #[error("the gateway does not tell what happens any more: {0}")]
    Events(String),
    /// Something did not happen in time, or not as it should.
    #[error("{what}\nThe end of the machine's console ({console}):\n{end}")]
    Stuck {
        /// What was waited for.
        what: String,
        /// File of the console.
        console: PathBuf,
        /// Its last lines.
        end: String,
    },
}

/// Tells the story; true if the job passed.
///
/// # Errors
/// Where it broke off. The farm is stopped in any case.
pub fn run(images: &Path, state_dir: &Path) -> Result<bool, DemoError> {
    // One provider for every TLS user of the process; a second install is the only error there is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| DemoError::Program { program: "the event reader".to_owned(), source })?;
    runtime.block_on(async {
        tokio::select! {
            passed = tell(images, state_dir) => passed,
            // Dropping the story drops the farm, which ends it.
            _ = tokio::signal::ctrl_c() => {
                say("Interrupted: everything is stopped.");
                Ok(false)
            }
        }
    })
}

fn say(line: &str) {
    // A reader that left does not stop the demo: the clean-up matters more.
    let _ = writeln!(io::stdout(), "{line}");
}

async fn tell(images: &Path, state_dir: &Path) -> Result<bool, DemoError> {
    // Not of a demo that runs at this moment.
    record::reset(state_dir)?;
    let options = FarmOptions { boot_count: Some(TRAINING_BOOTS), ..FarmOptions::new(state_dir, images) };
    say("A virtual farm: gateway, virtual PDU and virtual machines, in a network of their own.");
    let farm = Farm::start(&options, &mut |line| say(&format!("  ({line})")))?;
    let result = story(&farm).await;
    say("\nStopping the farm...");
    farm.stop()?;
    if result.is_ok() {
        record::reset(state_dir)?;
    }
    let passed = result?;
    say(if passed {
        "Done: everything is stopped and cleaned up. `make vivian` brings up a farm that stays."
    } else {
        "Everything is stopped. The job did not pass: its output is above."
    });
    Ok(passed)
}

async fn story(farm: &Farm) -> Result<bool, DemoError> {
    let gateway = format!("http://localhost:{}", farm.ports().executor);
    let mut story = Story::listen(&gateway, farm.state_dir()).await?;

    story.chapter("A machine that nobody knows is switched on");
    let port = farm.ports().vpdu.to_string();
    run_program("vpductl", &["--port", &port, "--outlet", "1", "--on"]).await?;
    story.follow_until(DutState::WaitForConfig, PATIENCE, "registered itself").await?;

    story.chapter("A person wires it up: which outlet is it on?");
    let path = farm.state_dir().join("permanent/mars_db.yaml");
    let text =
        std::fs::read_to_string(&path).map_err(|source| DemoError::File { path: path.clone(), source })?;
    let settings = [("pdu", "VPDU"), ("pdu_port_id", "1"), ("pdu_off_delay", "1")];
    let wired = farm_file::set(&text, MACHINE, &settings);
    std::fs::write(&path, wired).map_err(|source| DemoError::File { path: path.clone(), source })?;
    story.note("mars_db.yaml", "pdu: VPDU, pdu_port_id: 1, pdu_off_delay: 1");

    story.chapter(&format!("Training: it registers once more, then boots {TRAINING_BOOTS} times in a row"));
    story.follow_until(DutState::Idle, PATIENCE, "qualified").await?;

    story.chapter("A job");
    let job = farm.state_dir().join("tmp/hello.yml");
    std::fs::write(&job, JOB).map_err(|source| DemoError::File { path: job.clone(), source })?;
    let job = job.display().to_string();
    let status =
        run_program("executorctl", &["-e", &gateway, "run", "-t", "virtio:family:VIRTIO", &job]).await?;
    Ok(status.success())
}

/// Runs one of our programs as a person would, showing the command. What it prints comes without the escape sequences
/// of the firmware.
async fn run_program(program: &str, arguments: &[&str]) -> Result<ExitStatus, DemoError> {
    say(&format!("$ {program} {}", arguments.join(" ")));
    let failed = |source| DemoError::Program { program: program.to_owned(), source };
    let mut command = tokio::process::Command::new(default_bin_dir().join(program));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut said) = child.stdout.take() {
        let (mut buffer, mut plain) = (vec![0; 8192], PlainText::default());
        loop {
            let n = said.read(&mut buffer).await.map_err(failed)?;
            if n == 0 {
                break;
            }
            let mut out = io::stdout().lock();
            // A reader that left does not stop the demo: the clean-up matters more.
            let _ = out.write_all(&plain.filter(&buffer[..n])).and_then(|()| out.flush());
        }
    }
    child.wait().await.map_err(failed)
}
