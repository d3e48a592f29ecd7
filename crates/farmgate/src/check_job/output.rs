//! What was found, as text for a person and as JSON for a program.

use std::io::{self, IsTerminal, Write};

use farmgate_job::Problem;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Format, resolved::Resolved};

/// Everything that is to be said.
pub struct Outcome {
    /// Name of the job's file.
    pub file: String,
    /// Why the job would be refused.
    pub errors: Vec<Message>,
    /// What is allowed, but hardly meant.
    pub warnings: Vec<Message>,
    /// How the check was made.
    pub notes: Vec<String>,
    /// What the job was rendered against.
    pub machine: Option<Machine>,
    /// What the job comes to, if that was asked for and can be told.
    pub resolved: Option<Resolved>,
}

/// A machine that a job was rendered against.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Its id.
    pub id: String,
    /// Its full name.
    pub full_name: String,
    /// No farm has it.
    pub made_up: bool,
}

/// One thing that is wrong, or hardly meant.
#[derive(Debug, Serialize)]
pub struct Message {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    /// Where the loop begins that made it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    loop_line: Option<usize>,
    message: String,
    help: Option<String>,
    snippet: Option<String>,
    unsupported: bool,
    /// As a person reads it.
    #[serde(skip)]
    text: String,
}

impl Message {
    /// What the reader says is wrong.
    pub fn error(problem: &Problem) -> Self {
        Self {
            file: problem.file.clone(),
            line: problem.place.map(|p| p.line),
            column: problem.place.map(|p| p.column),
            loop_line: problem.loop_line,
            message: problem.message.clone(),
            help: problem.help.clone(),
            snippet: problem.snippet.clone(),
            unsupported: problem.unsupported,
            text: problem.to_string(),
        }
    }

    /// What the reader warns of. Its text says so, where compilers do.
    pub fn warning(problem: &Problem) -> Self {
        let mut shown = problem.clone();
        shown.message = format!("warning: {}", problem.message);
        Self { text: shown.to_string(), ..Self::error(problem) }
    }

    /// What is wrong before the reader has a say.
    pub fn own(file: &str, place: Option<(usize, usize)>, message: String, help: Option<&str>) -> Self {
        let (line, column) = place.unzip();
        let at = place.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        let mut text = format!("{file}{at}: {message}");
        if let Some(help) = help {
            text.push_str(&format!("\n   help: {help}"));
        }
        let (file, help) = (file.to_owned(), help.map(str::to_owned));
        Self { file, line, column, loop_line: None, message, help, snippet: None, unsupported: false, text }
    }
}

impl Outcome {
    /// Nothing to say yet.
    pub fn of(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            errors: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            machine: None,
            resolved: None,
        }
    }

    /// 0 fine, 1 warnings and `strict`, 2 errors.
    pub fn exit_code(&self, strict: bool) -> u8 {
        match (self.errors.is_empty(), self.warnings.is_empty()) {
            (false, _) => 2,
            (true, false) if strict => 1,
            (true, _) => 0,
        }
    }

    /// Writes it to standard output; for a person the notes go to standard error.
    ///
    /// # Errors
    /// The output cannot be written. That a reader went away is none.
    pub fn write(&self, format: Format, code: u8) -> io::Result<()> {
        let text = match format {
            Format::Json => format!("{:#}\n", self.json(code)),
            Format::Human => {
                let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
                for note in &self.notes {
                    eprintln!("note: {}", visible(note));
                }
                self.human(colours && io::stdout().is_terminal())
            }
        };
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn json(&self, code: u8) -> Value {
        let mut all = json!({
            "file": self.file,
            "ok": code == 0,
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.notes,
            "machine": self.machine,
        });
        if let Some(resolved) = &self.resolved {
            all["resolved"] = resolved.json();
        }
        all
    }

    fn human(&self, colours: bool) -> String {
        let mut text = String::new();
        for (messages, colour) in [(&self.errors, "31"), (&self.warnings, "33")] {
            for message in messages {
                text.push_str(&coloured(&visible(&message.text), &message.message, colour, colours));
                text.push('\n');
            }
        }
        if let (Some(resolved), Some(machine)) = (&self.resolved, &self.machine) {
            text.push_str(&visible(&resolved.human(machine)));
        }
        text.push_str(&visible(&format!("{}: {}\n", self.file, self.count())));
        text
    }

    fn count(&self) -> String {
        let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        if !self.errors.is_empty() {
            let unsupported = self.errors.iter().filter(|e| e.unsupported).count();
            let kind =
                if unsupported > 0 { format!(" ({unsupported} not supported yet)") } else { String::new() };
            parts.push(format!("{}{kind}", many(self.errors.len(), "error")));
        }
        if !self.warnings.is_empty() {
            parts.push(many(self.warnings.len(), "warning"));
        }
        if parts.is_empty() { "fine".to_owned() } else { parts.join(", ") }
    }
}

/// The job's text is a stranger's: what it holds must not steer the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The message itself stands out; place and help do a little.
fn coloured(text: &str, message: &str, colour: &str, colours: bool) -> String {
    if !colours {
        return text.to_owned();
    }
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let shown = visible(message);
    let shown = shown.split('\n').next().unwrap_or_default();
    let cut = first.len().saturating_sub(shown.len());
    let (place, message) = first.split_at_checked(cut).unwrap_or(("", first));
    let mut all = format!("\x1b[1m{place}\x1b[0m\x1b[1;{colour}m{message}\x1b[0m");
    if !rest.is_empty() {
        let rest = rest.replace("\n   help:", "\n   \x1b[1mhelp:\x1b[0m");
        all.push('\n');
        all.push_str(&rest);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_no_letter() {
        let text = "a.yml:1:2: the job has no field `x`\n 1 | x: 1\n   | ^\n   help: did you mean `y`?";
        let shown = coloured(text, "the job has no field `x`", "31", true);
        assert!(shown.starts_with("\x1b[1ma.yml:1:2: \x1b[0m\x1b[1;31mthe job"), "{shown:?}");
        let mut plain = shown;
        for code in ["\x1b[1;31m", "\x1b[1m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, text);
    }

    #[test]
    fn what_a_job_says_cannot_steer_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }
}
