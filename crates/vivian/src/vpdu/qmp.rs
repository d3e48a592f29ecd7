//! QEMU's control protocol, as far as this crate needs it: is QEMU ready, and what is on the screen.
//!
//! Blocking, with a bound on every wait. The socket is reached through its folder's descriptor, because its full path
//! may be longer than a socket's address can be.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::arguments::QMP;

/// How long QEMU may take for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read. The greeting has about 200.
const ANSWER_LIMIT: u64 = 1 << 20;

/// A conversation with a QEMU. It speaks with one client at a time; the next waits until this is dropped.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the QEMU that runs in this outlet's folder and waits for its readiness.
    ///
    /// # Errors
    /// No QEMU listens there, or it does not answer.
    pub fn connect(folder: &Path) -> io::Result<Self> {
        let folder = File::open(folder)?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{QMP}", folder.as_raw_fd()))?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.read()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// QEMU refuses it (with its words) or does not answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let line = json!({"execute": command, "arguments": arguments}).to_string();
        self.reader.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                let said = error.get("desc").and_then(Value::as_str).unwrap_or("no reason");
                return Err(io::Error::other(format!("QEMU refused {command}: {said}")));
            }
            // Events come in between.
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.reader.by_ref().take(ANSWER_LIMIT).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU closed its control socket"));
        }
        serde_json::from_str(&line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

/// A picture file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// Needs QEMU 7.1.
    Png,
    /// Any QEMU.
    Ppm,
}

/// Puts what the machine of that outlet folder shows on its screen into a file.
///
/// # Errors
/// No QEMU runs there, it refuses, or the file cannot be written.
pub fn screenshot(folder: &Path, into: &Path, picture: Picture) -> io::Result<()> {
    let format = match picture {
        Picture::Png => "png",
        Picture::Ppm => "ppm",
    };
    // QEMU writes into its own folder: its user may have no right to write where the person wants the file.
    let name = format!("screenshot-{}.{format}", std::process::id());
    let taken = folder.join(&name);
    let result = Qmp::connect(folder)
        .and_then(|mut qmp| qmp.execute("screendump", json!({"filename": name, "format": format})))
        .and_then(|_| std::fs::copy(&taken, into).map(|_| ()));
    // Nothing to remove when QEMU refused.
    let _ = std::fs::remove_file(&taken);
    result
}
