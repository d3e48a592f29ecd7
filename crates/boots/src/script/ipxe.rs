//! Scripts for iPXE, down to the one of 2019 that Debian and QEMU ship.
//!
//! What of iPXE's shell shapes these scripts:
//!
//! - A line is cut at blanks into words. A word `&&`, `||` or `;` ends a command and a word that begins with `#` ends
//!   the line, wherever they stand; there are no quotes. A backslash at a line's end joins it to the next line.
//! - After that `${name}` is replaced in each word, and the word is not cut again. So free text goes through a
//!   setting: `set name:uristring` with everything that means something percent-encoded, then `${name:string}`.
//! - Replacing goes on until no `${...}` is left in the word, also in what was put in. A text that holds a whole
//!   `${...}` cannot pass in one word. Words are joined by one blank, so it can be cut at a blank within the
//!   braces; without one there is no way, and the client is told so.
//! - On UEFI the name of the kernel image stands before the command line, and Linux hands a lone word that it does not
//!   know to init as an argument. `BOOT_IMAGE=` is a name that it knows, from other boot loaders. Bytes above 127
//!   become Latin-1 there.
//! - A name without a scheme is relative to the script's own URL; one with a colon would be taken for a scheme, and
//!   a MAC address has colons, hence `kernel` and not `/boot/52:54:00:11:22:01/kernel`.
//! - On BIOS every loaded image that is not the kernel becomes part of the initrd, hence `imgfree` first.

use std::fmt::Write as _;

use crate::{BootPlan, ScriptRequest};

/// Tries of each file, two seconds apart: long enough for a gateway that is just restarting.
const TRIES: u32 = 30;
/// Times that a client without a plan asks again, five seconds apart.
const REFUSALS: u32 = 60;
/// The kernel image's name within iPXE.
const KERNEL: &str = "BOOT_IMAGE=kernel";
/// What tells the server again who asks.
const QUERY: &str = "platform=${platform}&buildarch=${buildarch}";
/// Linux on x86 keeps this many bytes of its command line (`COMMAND_LINE_SIZE` less the zero behind it).
const X86_CMDLINE: usize = 2047;

/// Why a plan cannot be put into a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A command line ends at its first zero byte.
    #[error("the kernel command line holds a zero byte; remove it")]
    Zero,
    /// The kernel would cut it without a word.
    #[error("the kernel command line has {length} bytes, this machine takes {limit}; shorten it")]
    TooLong {
        /// Bytes, with what the boot loader adds.
        length: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// iPXE would replace it by something else.
    #[error(
        "iPXE cannot hand over {0:?} in a kernel command line: it takes every ${{...}} for its own; write it otherwise"
    )]
    Expansion(String),
    /// The console id could be taken for a setting of iPXE.
    #[error("the console id {0:?} is not usable in an iPXE script: rename it without ${{")]
    ConsoleId(String),
}

/// The script that boots a plan.
///
/// # Errors
/// The plan's command line or console id cannot pass through iPXE.
pub fn boot_script(plan: &BootPlan, request: &ScriptRequest) -> Result<String, ScriptError> {
    let efi = request.platform.as_deref() == Some("efi");
    let has_initrd = !plan.initrds.is_empty();
    // UEFI: the kernel asks the boot loader for the file of this name. BIOS: it is put into memory without a name.
    let prefix = if efi && has_initrd { "initrd=initrd" } else { "" };
    check_length(plan, request, prefix, efi)?;
    if plan.console_id.contains("${") {
        return Err(ScriptError::ConsoleId(plan.console_id.clone()));
    }

    let mut script = Script::new();
    script.line("imgfree");
    script.text("console-id", &plan.console_id);
    script.line("echo SALAD.machine_id=${console-id:string}");
    let mut kernel = format!("kernel --name {KERNEL} kernel?{QUERY}");
    if !prefix.is_empty() {
        kernel.push(' ');
        kernel.push_str(prefix);
    }
    for (number, piece) in pieces(&plan.cmdline)?.into_iter().enumerate() {
        let name = format!("cmdline{number}");
        script.text(&name, piece);
        let _ = write!(kernel, " ${{{name}:string}}");
    }
    script.retried("kernel", &kernel);
    if has_initrd {
        script.retried("initrd", &format!("initrd --name initrd initrd?{QUERY}"));
    }
    script.line(&format!("boot {KERNEL} ||"));
    script.line("echo farmgate: the kernel did not start");
    script.line(":failed");
    script.line("echo farmgate: giving up, restarting the machine");
    script.line("sleep 5");
    // Not all builds can restart; leaving with an error lets the firmware decide.
    script.line("reboot || exit 1");
    Ok(script.0)
}

/// The script of a client that shall boot nothing now: it says why, and asks again for five minutes. After that the
/// firmware goes on with what comes next in its boot order.
pub fn refusal_script(reason: &str) -> String {
    // Only shown to people: no need to refuse what can be told in other characters.
    let shown: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    let mut script = Script::new();
    script.text("reason", &shown.replace("${", "$ {"));
    script.line("echo farmgate: ${reason:string}");
    script.line("isset ${refusals} || set refusals:int32 0");
    script.line(":again");
    script.line("inc refusals");
    script.line(&format!("iseq ${{refusals}} {REFUSALS} && goto end ||"));
    script.line("sleep 5");
    script.line(&format!("chain --replace --autofree boot.ipxe?{QUERY} ||"));
    script.line("goto again");
    script.line(":end");
    script.line("echo farmgate: nothing to boot, leaving network boot");
    script.line("exit 1");
    script.0
}

/// Lines of a script. Free text enters by [`Script::text`] only.
struct Script(String);

impl Script {
    fn new() -> Self {
        Self("#!ipxe\n".to_owned())
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Puts a text into a setting.
    fn text(&mut self, setting: &str, text: &str) {
        let _ = writeln!(self.0, "set {setting}:uristring {}", encode(text));
    }

    /// A command that may fail while the gateway restarts.
    fn retried(&mut self, what: &str, command: &str) {
        self.line("set tries:int32 0");
        self.line(&format!(":{what}"));
        self.line(&format!("{command} && goto {what}-loaded ||"));
        self.line("inc tries");
        self.line(&format!("iseq ${{tries}} {TRIES} && goto failed ||"));
        self.line(&format!("echo farmgate: no {what} yet, try ${{tries}} of {TRIES}"));
        self.line("sleep 2");
        self.line(&format!("goto {what}"));
        self.line(&format!(":{what}-loaded"));
    }
}

fn check_length(
    plan: &BootPlan,
    request: &ScriptRequest,
    prefix: &str,
    efi: bool,
) -> Result<(), ScriptError> {
    if plan.cmdline.contains('\0') {
        return Err(ScriptError::Zero);
    }
    let image_name = if efi { KERNEL.len() + 1 } else { 0 };
    let length = image_name + prefix.len() + usize::from(!prefix.is_empty()) + plan.cmdline.len();
    let x86 = matches!(request.buildarch.as_deref(), Some("x86_64" | "i386"));
    // No architecture's kernel takes more than 4 KB of it.
    let limit = if x86 { X86_CMDLINE } else { 4095 };
    if length > limit { Err(ScriptError::TooLong { length, limit }) } else { Ok(()) }
}

/// Cuts a command line at blanks so that no piece holds a whole `${...}`. Joined by one blank the pieces are the
/// command line again.
fn pieces(cmdline: &str) -> Result<Vec<&str>, ScriptError> {
    let mut pieces = Vec::new();
    let mut rest = cmdline;
    while let Some((start, end)) = expansion(rest) {
        let blank = rest[start..end].find(' ').map(|at| start + at);
        let blank = blank.ok_or_else(|| ScriptError::Expansion(rest[start..=end].to_owned()))?;
        pieces.push(&rest[..blank]);
        rest = &rest[blank + 1..];
    }
    if !rest.is_empty() || !pieces.is_empty() {
        pieces.push(rest);
    }
    Ok(pieces)
}

/// The first `${...}` as iPXE finds it: from the last `${` before the first `}` behind one, to that `}`.
fn expansion(text: &str) -> Option<(usize, usize)> {
    let first = text.find("${")?;
    let end = first + text[first..].find('}')?;
    Some((text[..end].rfind("${")?, end))
}

/// Percent-encodes all that means something to iPXE's shell or to its `uristring` settings. Single blanks between
/// words stay, so that a person can read the script.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let plain = match byte {
            // iPXE cuts at blanks and joins by one: only one between two other characters survives that.
            b' ' => at > 0 && bytes[at - 1] != b' ' && at + 1 < bytes.len(),
            _ => byte.is_ascii_alphanumeric() || b"-._=:,/@+".contains(byte),
        };
        if plain {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
