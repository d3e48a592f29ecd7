//! Follows the gateway's events and tells them in plain words.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farmgate_protocol::{dut::DutState, event::Event};
use serde_json::Value;

use super::{DemoError, say};

/// The longest event that is read.
const MAX_EVENT: usize = 1 << 20;

/// The narrator.
pub struct Story {
    began: Instant,
    events: reqwest::Response,
    buffer: Vec<u8>,
    console: PathBuf,
    /// What was told last, so that a client that asks twice is told of once.
    last: String,
    /// The boots of the training are told in one line each.
    brief: bool,
}

impl Story {
    /// Begins to listen; nothing that happens from now on is missed.
    pub async fn listen(gateway: &str, state_dir: &Path) -> Result<Self, DemoError> {
        let url = format!("{gateway}/api/v1/events?since=0");
        let events = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status);
        Ok(Self {
            began: Instant::now(),
            events: events.map_err(|e| DemoError::Events(e.to_string()))?,
            buffer: Vec::new(),
            console: state_dir.join("vpdu/outlet-1/console.log"),
            last: String::new(),
            brief: false,
        })
    }

    /// A heading.
    pub fn chapter(&self, text: &str) {
        say(&format!("\n== {text}"));
    }

    /// A line with the time and a word in front.
    pub fn note(&mut self, word: &str, text: &str) {
        if self.last != text {
            say(&format!("{:>6.1} s  {word:<12} {text}", self.began.elapsed().as_secs_f64()));
            text.clone_into(&mut self.last);
        }
    }

    /// Tells what happens until the machine is in that state.
    pub async fn follow_until(
        &mut self,
        state: DutState,
        patience: Duration,
        what: &str,
    ) -> Result<(), DemoError> {
        let told = async {
            loop {
                let event = self.next().await?;
                self.tell(&event);
                let now =
                    event.details.get("state").and_then(Value::as_str).filter(|_| event.kind == "state");
                if now == Some(state.as_str()) {
                    return Ok(());
                }
                if now == Some(DutState::Borked.as_str()) {
                    return Err(None);
                }
            }
        };
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(())) => {
                self.brief = true;
                Ok(())
            }
            Ok(Err(Some(error))) => Err(error),
            Ok(Err(None)) => Err(self.stuck(format!("The machine has not {what}: see above."))),
            Err(_) => Err(self.stuck(format!("The machine has not {what} within {} s.", patience.as_secs()))),
        }
    }

    fn stuck(&self, what: String) -> DemoError {
        let text = std::fs::read(&self.console)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        DemoError::Stuck { what, console: self.console.clone(), end }
    }

    /// The next event of the stream (server-sent events).
    async fn next(&mut self) -> Result<Event, Option<DemoError>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data:")
                    && let Ok(event) = serde_json::from_slice(data.trim_ascii())
                {
                    return Ok(event);
                }
            }
            let broken = |text: String| Some(DemoError::Events(text));
            match self.events.chunk().await {
                Ok(Some(piece)) if self.buffer.len() < MAX_EVENT => self.buffer.extend_from_slice(&piece),
                Ok(Some(_)) => return Err(broken("an event is too long".to_owned())),
                Ok(None) => return Err(broken("it closed the connection".to_owned())),
                Err(error) => return Err(broken(error.to_string())),
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        let stage = event.details.get("stage").and_then(Value::as_str).unwrap_or_default();
        match event.kind.as_str() {
            "port" => self.note("power", &event.text),
            "boot" if !self.brief => self.tell_boot(stage, &event.text),
            "registered" if !self.brief => self.tell_hardware(event),
            "training" => self.note("training", event.text.trim_start_matches("training: ")),
            "state" => self.note("state", &event.text),
            "farm-file" | "unfit" | "check" => self.note(&event.kind, &event.text),
            _ => {}
        }
    }

    fn tell_boot(&mut self, stage: &str, text: &str) {
        let word = match stage {
            "dhcp" | "dhcp-ack" | "os-dhcp" => "DHCP",
            "tftp" | "tftp-done" => "TFTP",
            "script" => "iPXE",
            "kernel" | "kernel-done" | "initrd" | "initrd-done" => "HTTP",
            _ => "boot",
        };
        self.note(word, &format!("the machine {text}"));
    }

    fn tell_hardware(&mut self, event: &Event) {
        self.note("registered", &event.text);
        let Some(said) = event.details.get("registration") else { return };
        let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let hardware = &said["hardware"];
        let tags: Vec<String> = said["tags"].as_array().into_iter().flatten().map(word).collect();
        for (name, value) in [
            ("kind", word(&said["base_name"])),
            ("processor", format!("{} x {}", hardware["cpu_cores"], word(&hardware["cpu_model"]))),
            ("memory", format!("{} MiB", hardware["memory_mib"])),
            ("firmware", word(&hardware["firmware"])),
            ("console", word(&said["local_tty_device"])),
            ("tags", tags.join(", ")),
        ] {
            say(&format!("{:>9}  {:<12} {name}: {value}", "", ""));
        }
    }
}
