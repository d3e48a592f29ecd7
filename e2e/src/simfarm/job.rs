//! Jobs for simulated machines.

use std::{io, net::SocketAddr};

use farmgate_vivian::sim::mac;
use serde_json::{Value, json};

use super::{SimFarm, http};

/// A job for one machine.
#[derive(Debug, Clone)]
pub struct SimJob {
    /// Number of the machine.
    pub dut: u32,
    /// What the machine does, like `pass` or `reboot:2`.
    pub play: String,
    /// Chooses its words and pauses.
    pub seed: u64,
    /// Name of the job's file, and of the job for the machine: its own for each run.
    pub name: String,
    /// More words of the kernel command line.
    pub more: String,
    /// How its artifacts are served: `ok`, `half`, ...
    pub served: String,
    /// More lines of `timeouts`, in YAML's flow style.
    pub timeouts: Vec<String>,
}

impl SimJob {
    /// One that nothing is wrong with.
    pub fn new(dut: u32, play: &str, seed: u64, name: &str) -> Self {
        let (play, name) = (play.to_owned(), name.to_owned());
        Self { dut, play, seed, name, more: String::new(), served: "ok".to_owned(), timeouts: Vec::new() }
    }

    /// The same with another line of `timeouts`.
    #[must_use]
    pub fn timeout(mut self, line: &str) -> Self {
        self.timeouts.push(line.to_owned());
        self
    }

    /// Its text.
    pub fn text(&self, artifacts: &str) -> String {
        let Self { dut, play, seed, name, more, served, timeouts } = self;
        let mac = mac(*dut);
        let given = |name: &str| timeouts.iter().any(|line| line.starts_with(name));
        let mut lines: Vec<String> = timeouts.clone();
        for (name, default) in [
            ("overall", "overall: {minutes: 20}"),
            ("boot_cycle", "boot_cycle: {minutes: 10, retries: 5}"),
            ("console_activity", "console_activity: {minutes: 3}"),
            ("watchdogs", "watchdogs: {sim: {seconds: 30}}"),
        ] {
            if !given(name) {
                lines.push(default.to_owned());
            }
        }
        let timeouts = lines.join("\n  ");
        format!(
            "version: 1\ntarget: {{id: \"{mac}\"}}\ntimeouts:\n  {timeouts}\nconsole_patterns:\n  \
             session_end: {{regex: \"It's now safe to turn off your computer\"}}\n  \
             session_reboot: {{regex: 'sim: please reboot'}}\n  \
             job_success: {{regex: 'Execution is over, pipeline status: 0'}}\n  \
             job_warn: {{regex: 'ring .* timeout'}}\n  \
             machine_unfit_for_service: {{regex: 'sim: unfit for service'}}\n  \
             watchdogs:\n    sim: {{start: {{regex: 'sim: watchdog start'}}, reset: {{regex: 'sim: watchdog reset'}}, stop: {{regex: 'sim: watchdog stop'}}}}\n\
             deployment:\n  start:\n    \
             kernel: {{url: \"{artifacts}/artifact/{served}/kernel-{dut}\", cmdline: [\"sim={play}\", \"sim.seed={seed}\", \"sim.job={name}\", \"{more}\"]}}\n    \
             initramfs: {{url: \"{artifacts}/artifact/{served}/initrd-{dut}\"}}\n"
        )
    }
}

/// A submission that was not accepted, or whose answer never came.
#[derive(Debug)]
pub enum NotAccepted {
    /// The gateway said no.
    Refused(u16, String),
    /// The connection broke.
    Lost(io::Error),
}

/// Submits a job; its number, and the connection with its console.
///
/// # Errors
/// See [`NotAccepted`].
pub fn submit(
    api: SocketAddr,
    name: &str,
    text: &str,
    metadata: &Value,
) -> Result<(u64, std::net::TcpStream), NotAccepted> {
    let boundary = "----simulated-farm";
    let part = |head: &str, body: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n")
    };
    let metadata = metadata.to_string();
    let mut body = part("name=\"metadata\"\r\nContent-Type: application/json", &metadata);
    body.push_str(&part(
        &format!("name=\"job\"; filename=\"{name}\"\r\nContent-Type: application/x-yaml"),
        text,
    ));
    body.push_str(&format!("--{boundary}--\r\n"));
    let kind = format!("multipart/form-data; boundary={boundary}");
    let headers = [
        ("Content-Type", kind.as_str()),
        ("Connection", "Upgrade"),
        ("Upgrade", "ci-tron-console"),
        ("Farmgate-Resume", "yes"),
    ];
    let sent = http::request(api, "POST", "/api/v1/jobs", &headers, body.as_bytes());
    let (answer, stream) = sent.map_err(NotAccepted::Lost)?;
    match answer.header("farmgate-run").and_then(|n| n.parse().ok()) {
        Some(run) if answer.status == 101 => Ok((run, stream)),
        _ => Err(NotAccepted::Refused(answer.status, String::from_utf8_lossy(&answer.body).into_owned())),
    }
}

impl SimFarm {
    /// Submits a job that waits for its machine and needs no client.
    ///
    /// # Panics
    /// It is not accepted.
    pub fn submit(&self, job: &SimJob) -> u64 {
        let metadata = json!({"version": 1, "wait": true, "detach": true});
        match submit(self.api(), &job.name, &job.text(&self.artifacts()), &metadata) {
            Ok((run, _)) => run,
            Err(error) => panic!("{} is not accepted: {error:?}", job.name),
        }
    }
}
