//! Where a run is shown: the DUT's console byte for byte on standard output, everything else on standard error, in
//! the order in which it came. It owns both outputs. A reader that stops (`| less`) blocks only the queue here: the
//! caller writes it with [`Screen::drain`], which may be given up at any await and taken up again without loss.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal},
};

use farmgate_protocol::{JobStatus, console::Severity};
use rustix::fs::fstat;
use tokio::io::{AsyncWrite, AsyncWriteExt, Stderr, Stdout};

use crate::{
    session::{Note, Origin, Output},
    terminal::{self, Colour, printable, wants_colour},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Out,
    Error,
}

/// How things are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Colour on standard error.
    pub colour: bool,
    /// Both outputs end up in the same place: a note must not stand in the middle of a console line.
    pub shared: bool,
    /// The terminal is raw: a line needs `\r\n`.
    pub raw: bool,
    /// Notes of the gateway are not shown.
    pub quiet: bool,
    /// Standard error is a terminal: a line can be written over.
    pub live: bool,
}

/// The two outputs.
#[derive(Debug)]
pub struct Screen<O, E> {
    out: O,
    error: E,
    style: Style,
    queue: VecDeque<(Place, Vec<u8>)>,
    written: usize,
    /// The console stands in the middle of a line on standard output.
    out_line_open: bool,
    /// The same where both outputs meet; a note there ends the line.
    shared_line_open: bool,
    /// A line stands there that the next one replaces.
    live_shown: bool,
}

impl Screen<Stdout, Stderr> {
    /// The outputs of this process.
    pub fn of_process(quiet: bool) -> Self {
        let (out, error) = (io::stdout(), io::stderr());
        let same = match (fstat(&out), fstat(&error)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        };
        let shared = same || (out.is_terminal() && error.is_terminal());
        let style =
            Style { colour: wants_colour(&error), shared, raw: false, quiet, live: error.is_terminal() };
        Self::new(tokio::io::stdout(), tokio::io::stderr(), style)
    }

    /// From now on the terminal is raw, or no longer.
    pub fn set_raw(&mut self, raw: bool) {
        self.style.raw = raw && self.style.live;
    }
}

impl<O: AsyncWrite + Unpin, E: AsyncWrite + Unpin> Screen<O, E> {
    /// Over any two outputs.
    pub fn new(out: O, error: E, style: Style) -> Self {
        let queue = VecDeque::new();
        Self {
            out,
            error,
            style,
            queue,
            written: 0,
            out_line_open: false,
            shared_line_open: false,
            live_shown: false,
        }
    }

    /// How things are written.
    pub const fn style(&self) -> Style {
        self.style
    }

    /// Queues what a session gave out.
    pub fn show(&mut self, output: Output) {
        match output {
            Output::Console(bytes) => {
                if let Some(&last) = bytes.last() {
                    self.clear_live_line();
                    self.out_line_open = last != b'\n';
                    self.shared_line_open = self.out_line_open;
                    self.queue.push_back((Place::Out, bytes));
                }
            }
            Output::Note(note) => self.note(&note),
        }
    }

    /// Queues a note, unless it is the gateway's and the person wants quiet.
    pub fn note(&mut self, note: &Note) {
        if self.style.quiet && (note.origin == Origin::Gateway || note.severity < Severity::Warn) {
            return;
        }
        let prefix = match note.origin {
            Origin::Gateway => "[gateway] ",
            Origin::Client => "[executorctl] ",
        };
        let colour = match (note.highlight, note.severity) {
            (true, _) => Colour::Highlight,
            (false, Severity::Error) => Colour::Red,
            (false, Severity::Warn) => Colour::Yellow,
            (false, Severity::Info | Severity::Debug) => Colour::Dim,
        };
        let text = printable(note.text.trim_end());
        let lines = text.lines().map(|line| colour.paint(self.style.colour, &format!("{prefix}{line}")));
        let lines: Vec<String> = lines.collect();
        self.error_text(&lines.join("\n"));
    }

    /// Queues a line that the next one replaces, and that vanishes before anything else is shown. Only for terminals,
    /// and never beside an open line of the console.
    pub fn live_line(&mut self, text: &str) {
        if !self.style.live || self.style.quiet || (self.style.shared && self.shared_line_open) {
            return;
        }
        let text = printable(text).lines().collect::<Vec<_>>().join(" ");
        // A line that wraps could not be taken away again.
        let columns = terminal::error_columns().unwrap_or(80);
        let cut: String = text.chars().take(columns.saturating_sub(1)).collect();
        let text = Colour::Dim.paint(self.style.colour, &cut);
        self.queue.push_back((Place::Error, format!("\r\x1b[K{text}").into_bytes()));
        self.live_shown = true;
    }

    /// Takes the line away that was to be replaced.
    pub fn clear_live_line(&mut self) {
        if std::mem::take(&mut self.live_shown) {
            self.queue.push_back((Place::Error, b"\r\x1b[K".to_vec()));
        }
    }

    /// Queues text for standard error; a last line end is added where it lacks.
    pub fn error_text(&mut self, text: &str) {
        self.clear_live_line();
        let end = if self.style.raw { "\r\n" } else { "\n" };
        let mut bytes = Vec::with_capacity(text.len() + 8);
        if self.style.shared && std::mem::take(&mut self.shared_line_open) {
            bytes.extend_from_slice(end.as_bytes());
        }
        for line in text.lines() {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(end.as_bytes());
        }
        if !bytes.is_empty() {
            self.queue.push_back((Place::Error, bytes));
        }
    }

    /// Queues the verdict's word, on a line of its own.
    pub fn verdict(&mut self, status: JobStatus) {
        self.word(status.as_str());
    }

    /// Queues the last word, on a line of its own.
    pub fn word(&mut self, word: &str) {
        self.clear_live_line();
        let start =
            if std::mem::take(&mut self.out_line_open) && (!self.style.shared || self.shared_line_open) {
                "\n"
            } else {
                ""
            };
        self.shared_line_open = false;
        self.queue.push_back((Place::Out, format!("{start}{word}\n").into_bytes()));
    }

    /// Whether there is something to write.
    pub fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes everything that is queued. Safe to be given up at any time.
    ///
    /// # Errors
    /// Standard output is closed. Standard error may be: then nobody wants to read it.
    pub async fn drain(&mut self) -> io::Result<()> {
        while let Some((place, bytes)) = self.queue.front() {
            let result = match place {
                Place::Out => write_on(&mut self.out, bytes, &mut self.written).await,
                Place::Error => write_on(&mut self.error, bytes, &mut self.written).await,
            };
            if *place == Place::Out {
                result?;
            }
            self.queue.pop_front();
            self.written = 0;
        }
        Ok(())
    }
}

async fn write_on(
    output: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    written: &mut usize,
) -> io::Result<()> {
    while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => *written += count,
        }
    }
    output.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(style: Style, outputs: Vec<Output>, verdict: bool) -> (String, String) {
        let mut screen = Screen::new(Vec::new(), Vec::new(), style);
        for output in outputs {
            screen.show(output);
        }
        if verdict {
            screen.verdict(JobStatus::Pass);
        }
        screen.drain().await.unwrap();
        assert!(!screen.is_pending());
        (String::from_utf8(screen.out).unwrap(), String::from_utf8(screen.error).unwrap())
    }

    fn console(text: &str) -> Output {
        Output::Console(text.as_bytes().to_vec())
    }

    fn gateway(text: &str) -> Output {
        Output::Note(Note {
            origin: Origin::Gateway,
            severity: Severity::Info,
            highlight: false,
            text: text.to_owned(),
        })
    }

    #[tokio::test]
    async fn standard_output_is_the_console_and_the_verdict() {
        let outputs = vec![console("a"), gateway("note\nmore\r\n"), console("b\r\n\x1b[0mc")];
        let (out, error) = shown(Style::default(), outputs, true).await;
        assert_eq!(out, "ab\r\n\x1b[0mc\nPASS\n");
        assert_eq!(error, "[gateway] note\n[gateway] more\n");
    }

    #[tokio::test]
    async fn a_note_in_a_shared_place_begins_its_own_line() {
        let outputs = vec![console("a"), gateway("x"), gateway("y"), console("b\n"), gateway("z")];
        let (out, error) = shown(Style { shared: true, raw: true, ..Style::default() }, outputs, true).await;
        assert_eq!(out, "ab\nPASS\n");
        assert_eq!(error, "\r\n[gateway] x\r\n[gateway] y\r\n[gateway] z\r\n");
    }

    #[tokio::test]
    async fn a_live_line_vanishes_before_anything_else_and_never_cuts_the_console() {
        let style = Style { shared: true, live: true, ..Style::default() };
        let mut screen = Screen::new(Vec::new(), Vec::new(), style);
        screen.live_line("one");
        screen.live_line("two\nlines");
        screen.show(console("login: "));
        screen.live_line("not beside an open line");
        screen.show(gateway("note"));
        screen.live_line("three");
        screen.verdict(JobStatus::Pass);
        screen.drain().await.unwrap();
        let error = String::from_utf8(screen.error).unwrap();
        let expected = "\r\x1b[Kone\r\x1b[Ktwo lines\r\x1b[K\n[gateway] note\n\r\x1b[Kthree\r\x1b[K";
        assert_eq!(error, expected);
    }

    #[tokio::test]
    async fn quiet_hides_the_gateway_and_not_our_errors() {
        let ours = Output::Note(Note::client(Severity::Error, "broken"));
        let hint = Output::Note(Note::client(Severity::Info, "hint"));
        let (_, error) =
            shown(Style { quiet: true, ..Style::default() }, vec![gateway("x"), hint, ours], false).await;
        assert_eq!(error, "[executorctl] broken\n");
    }
}
