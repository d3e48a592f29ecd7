//! Reads the iPXE scripts that a gateway hands out, as far as a simulated firmware needs them: settings, what is
//! echoed first, the kernel with its command line, the initrd. Pure.

use std::collections::BTreeMap;

/// What a script boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootScript {
    /// What it says before it loads anything: the console's announcement.
    pub announcement: String,
    /// Where the kernel is, relative to the script.
    pub kernel: String,
    /// Where the initrd is, relative to the script.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Why a script boots nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBoot {
    /// It is none.
    #[error("the answer is no iPXE script: it does not begin with #!ipxe")]
    NoScript,
    /// It says why there is nothing to boot now.
    #[error("{0}")]
    Refused(String),
}

/// Reads a script.
///
/// # Errors
/// It boots nothing; what it says instead.
pub fn read(script: &str) -> Result<BootScript, NoBoot> {
    let mut lines = script.lines();
    if lines.next() != Some("#!ipxe") {
        return Err(NoBoot::NoScript);
    }
    let mut settings = Settings::default();
    let (mut announcement, mut kernel, mut initrd) = (None, None, None);
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().take_while(|w| !matches!(*w, "&&" | "||")).collect();
        match words.as_slice() {
            ["set", name, value @ ..] => settings.set(name, &value.join(" ")),
            ["echo", text @ ..] if announcement.is_none() => {
                announcement = Some(settings.fill(&text.join(" ")))
            }
            ["kernel", rest @ ..] => kernel = Some(image(rest, &settings)),
            ["initrd", rest @ ..] => initrd = Some(image(rest, &settings).0),
            _ => {}
        }
    }
    let announcement = announcement.unwrap_or_default();
    match kernel {
        Some((kernel, cmdline)) => Ok(BootScript { announcement, kernel, initrd, cmdline }),
        None => Err(NoBoot::Refused(announcement)),
    }
}

/// Where an image is and what follows: its command line.
fn image(words: &[&str], settings: &Settings) -> (String, String) {
    let mut words = words.iter();
    let mut url = words.next().copied().unwrap_or_default();
    if url == "--name" {
        url = words.nth(1).copied().unwrap_or_default();
    }
    let cmdline: Vec<String> = words.map(|word| settings.fill(word)).collect();
    (settings.fill(url), cmdline.join(" "))
}

#[derive(Default)]
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn set(&mut self, name: &str, value: &str) {
        let (name, kind) = name.split_once(':').unwrap_or((name, "string"));
        let value = if kind == "uristring" { decoded(value) } else { value.to_owned() };
        self.0.insert(name.to_owned(), value);
    }

    /// Replaces each `${name}` and `${name:type}`. What was put in is not looked at again.
    fn fill(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            out.push_str(before);
            let name = name.split(':').next().unwrap_or(name);
            let value = match name {
                "platform" => Some("pcbios"),
                "buildarch" => Some("x86_64"),
                other => self.0.get(other).map(String::as_str),
            };
            out.push_str(value.unwrap_or_default());
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}

/// Percent-decoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!ipxe\nimgfree\nset console-id:uristring box%201\necho SALAD.machine_id=${console-id:string}\n\
        set cmdline0:uristring a=1 b=%22x%20y%22\nset cmdline1:uristring %7b%7d&c\nset tries:int32 0\n:kernel\n\
        kernel --name BOOT_IMAGE=kernel kernel?platform=${platform}&buildarch=${buildarch} ${cmdline0:string} ${cmdline1:string} && goto kernel-loaded ||\n\
        echo farmgate: no kernel yet\n:kernel-loaded\n\
        initrd --name initrd initrd?platform=${platform} && goto initrd-loaded ||\nboot BOOT_IMAGE=kernel ||\n";

    #[test]
    fn a_script_says_what_to_load_and_with_which_command_line() {
        let script = read(SCRIPT).unwrap();
        assert_eq!(script.announcement, "SALAD.machine_id=box 1");
        assert_eq!(script.kernel, "kernel?platform=pcbios&buildarch=x86_64");
        assert_eq!(script.initrd.as_deref(), Some("initrd?platform=pcbios"));
        assert_eq!(script.cmdline, "a=1 b=\"x y\" {}&c");
    }

    #[test]
    fn a_script_without_a_kernel_says_why() {
        let refusal = "#!ipxe\nset reason:uristring no%20kernel\necho farmgate: ${reason:string}\nsleep 5\n";
        assert_eq!(read(refusal), Err(NoBoot::Refused("farmgate: no kernel".to_owned())));
        assert_eq!(read("<html>"), Err(NoBoot::NoScript));
        assert_eq!(read(""), Err(NoBoot::NoScript));
    }

    #[test]
    fn text_that_is_no_escape_stays_as_it_is() {
        for (text, plain) in [("100%", "100%"), ("%zz", "%zz"), ("%41", "A"), ("%4", "%4"), ("é%c3%a9", "éé")]
        {
            assert_eq!(decoded(text), plain, "{text}");
        }
    }
}
