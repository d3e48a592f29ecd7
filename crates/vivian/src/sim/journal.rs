//! What happened to the simulated outlets and machines, one JSON object a line: each switch command and what came of
//! it, each real transition, and how far each boot came. A test compares it with what a gateway says.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use farmgate_protocol::Timestamp;
use serde_json::{Map, Value};

/// The open file.
#[derive(Debug)]
pub struct Journal(Mutex<File>);

impl Journal {
    /// A new journal in place of an old one.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::create(path)?)))
    }

    /// One line: `{"t": microseconds since 1970, "dut": N, "event": WORD, ...}`. It is in the file when this returns.
    pub fn note(&self, dut: u32, event: &str, more: &[(&str, Value)]) {
        let mut line = Map::new();
        line.insert("t".to_owned(), Timestamp::now().as_micros().into());
        line.insert("dut".to_owned(), dut.into());
        line.insert("event".to_owned(), event.into());
        line.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let text = format!("{}\n", Value::Object(line));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::error!(%error, "the journal cannot be written");
        }
    }
}
