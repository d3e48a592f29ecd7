//! The Python process that reads jobs in its own way.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A running `oracle.py`; it ends with this.
pub(crate) struct Oracle {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Oracle {
    /// `None`, and a word about it, where its Python is not installed; that is a failure in CI.
    pub(crate) fn start() -> Option<Self> {
        let python = root().join("var/python-oracle/bin/python");
        if !python.is_file() {
            let remedy = format!("{} is missing: `scripts/python-oracle` installs it", python.display());
            assert!(std::env::var_os("CI").is_none(), "{remedy}");
            eprintln!("skipped, the comparison with Jinja2 and PyYAML: {remedy}");
            return None;
        }
        let mut process = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat_oracle/oracle.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Some(Self { process, input, output })
    }

    /// One request; [`Self::receive`] must follow.
    pub(crate) fn send(&mut self, request: &Value) {
        let input = self.input.as_mut().expect("open until the end");
        writeln!(input, "{request}").expect("the oracle reads");
    }

    /// Its answer.
    pub(crate) fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the oracle answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the oracle ended: {e}: {line:?}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}
