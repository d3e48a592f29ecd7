//! The person's terminal: its raw mode, which is undone however the program ends, its size, its colours, and text
//! that is safe to show on it.
//!
//! The saved settings are global to the process because the panic hook needs them; [`RawMode`] is the only one
//! that sets them and at most one exists.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, Once, PoisonError},
};

use rustix::termios::{
    OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

/// Settings to go back to, while the terminal is raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal of standard input in raw mode: every key is one or more bytes, none has a meaning here.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes it raw. `None` where there is no terminal to type at: standard input is something else, or the program
    /// runs in the background of a shell.
    ///
    /// # Errors
    /// The terminal refuses its settings.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || in_background(stdin.as_fd()) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        HOOK.call_once(|| {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First, so that the report itself is readable.
                restore();
                report(panic);
            }));
        });
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let entered = Self(());
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(entered))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Undoes raw mode, once. What was typed for the DUT and not read is thrown away: a shell would execute it.
fn restore() {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(saved) = saved {
        let stdin = io::stdin();
        let _ = tcflush(&stdin, QueueSelector::IFlush);
        let _ = tcsetattr(&stdin, OptionalActions::Now, &saved);
    }
}

/// A background process that changes its terminal is stopped by the kernel. A terminal that is not the controlling
/// one has no foreground: it is ours.
fn in_background(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != rustix::process::getpgrp())
}

/// Columns and rows of the terminal on standard output, if it is one.
pub fn size() -> Option<(usize, usize)> {
    size_of(&io::stdout())
}

/// Columns of the terminal on standard error, if it is one.
pub fn error_columns() -> Option<usize> {
    size_of(&io::stderr()).map(|(columns, _)| columns)
}

fn size_of(output: &(impl IsTerminal + AsFd)) -> Option<(usize, usize)> {
    if !output.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(output).ok()?;
    // Some pseudo terminals say 0.
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Whether to use colour on this output: a terminal, and the person did not ask for none (`NO_COLOR`).
pub fn wants_colour(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The colours in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Beside the point.
    Dim,
    /// Good.
    Green,
    /// Going on, or worth a look.
    Yellow,
    /// Bad.
    Red,
    /// What decides a run.
    Highlight,
}

impl Colour {
    /// The text in this colour, or as it is.
    pub fn paint(self, colour: bool, text: &str) -> String {
        let code = match self {
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Highlight => "1;91",
        };
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text that may quote a DUT, without what a terminal would obey: escape sequences and control characters vanish,
/// line ends stay.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            // CSI: up to its final byte. Other sequences lose their escape, which is what makes them one.
            '\x1b' if rest.as_str().starts_with('[') => {
                rest.next();
                let _ = rest.find(|c| matches!(c, '@'..='~'));
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printable() {
        assert_eq!(printable("a\x1b[1;31mred\x1b[0m\r\n\tb\x07\x1b]0;title"), "ared\n b]0;title");
        assert_eq!(printable("end\x1b["), "end");
        assert_eq!(printable("\u{9b}31m"), "31m");
    }

    #[test]
    fn without_colour_the_text_is_as_it_was() {
        assert_eq!(Colour::Red.paint(false, "x"), "x");
        assert_eq!(Colour::Red.paint(true, "x"), "\x1b[31mx\x1b[0m");
    }
}
