//! What this program prints.
//!
//! Owns standard output. Promises whole lines in one write each, and that no trouble with the console stops the
//! boot: a message that cannot be printed is lost, silently. Lines that the gateway reads stand bare; all others
//! begin with `[farmgate] `.

use std::{fs, io::Write};

/// How the kernel's messages on the console are filtered, as in syslog(2).
const PRINTK: &str = "/proc/sys/kernel/printk";

/// Prints a line for a program: exactly this, on a line of its own.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // The newline must be in the same write, or a line of the kernel may come between.
    let _ = out.write_all(format!("{text}\n").as_bytes());
    let _ = out.flush();
}

/// Prints a message for a person; one that has several lines keeps them.
pub fn say(text: &str) {
    for part in text.lines() {
        line(&format!("[farmgate] {part}"));
    }
}

/// Waits until the bytes left the serial port.
pub fn drain() {
    let _ = rustix::termios::tcdrain(std::io::stdout());
}

/// While this lives, the kernel prints only the worst on the console: its messages go past the tty and would cut
/// our lines in two. They stay in its log.
#[derive(Debug)]
pub struct KernelQuiet {
    before: Option<String>,
}

impl KernelQuiet {
    /// Begins the silence.
    pub fn begin() -> Self {
        let before = fs::read_to_string(PRINTK).ok();
        let _ = fs::write(PRINTK, "3");
        Self { before }
    }
}

impl Drop for KernelQuiet {
    fn drop(&mut self) {
        drain();
        if let Some(before) = &self.before {
            let _ = fs::write(PRINTK, before.trim());
        }
    }
}

/// Seconds since the kernel started.
pub fn uptime() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Both fit: a machine that runs for longer than 2^52 s is not a test machine.
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
