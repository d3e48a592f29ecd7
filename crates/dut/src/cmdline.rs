//! The kernel command line: how it is cut into words, and what its words ask of this machine.
//!
//! This module owns the text of `/proc/cmdline` only. It promises never to refuse a boot: what it does not
//! understand becomes a [`Step::Unknown`] or a line in [`Orders::remarks`], and the caller decides what to say.

use farmgate_protocol::MacAddress;

/// The kernel keeps this many bytes of a command line on x86, the last one a zero.
const KERNEL_LIMIT: usize = 2047;

/// Every key that this program reads, with its meaning.
pub const KNOWN_KEYS: [(&str, &str); 5] = [
    ("farmgate.action", "register, check or none; several with commas"),
    ("farmgate.run", "a shell command; may be given several times"),
    ("farmgate.url", "the gateway, like http://10.42.0.1"),
    ("farmgate.poweroff", "no: stay on at the end"),
    ("farmgate.shell", "yes: with poweroff=no, a shell on the console"),
];

/// One word of the command line: `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What stands before the first equals sign.
    pub key: String,
    /// What stands after it, without its quotes.
    pub value: Option<String>,
}

/// Cuts a command line as the kernel does: blanks separate, double quotes hold blanks together, there is no
/// escape character. The flag says that the line ends inside quotes, which it does when it was cut off.
pub fn words(text: &str) -> (Vec<Word>, bool) {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    let mut open = false;
    while !rest.is_empty() {
        open = false;
        let end = rest
            .char_indices()
            .find(|&(_, c)| {
                open ^= c == '"';
                is_blank(c) && !open
            })
            .map_or(rest.len(), |(at, _)| at);
        let (word, after) = rest.split_at(end);
        words.push(split_word(word));
        rest = after.trim_start_matches(is_blank);
    }
    (words, open)
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\0'
}

/// Quotes may stand around the whole word or around its value.
fn split_word(word: &str) -> Word {
    let whole = unquote(word);
    match whole.split_once('=') {
        Some((key, value)) => Word { key: key.to_owned(), value: Some(unquote(value).to_owned()) },
        None => Word { key: whole.to_owned(), value: None },
    }
}

fn unquote(text: &str) -> &str {
    match text.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => text,
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell the gateway what this machine is.
    Register,
    /// Ask the gateway whether this machine still is what it registered as.
    Check,
    /// A shell command.
    Run(String),
    /// An action that this program does not have; it fails.
    Unknown(String),
}

/// All that the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// Name of this machine at the gateway's consoles, if it is not to be its MAC address.
    pub machine_id: Option<String>,
    /// The interface that the firmware booted from.
    pub boot_mac: Option<MacAddress>,
    /// What to do: first the actions, then the commands.
    pub steps: Vec<Step>,
    /// The gateway, if it is not to be the DHCP server.
    pub url: Option<String>,
    /// Switch off at the end.
    pub power_off: bool,
    /// Offer a shell at the end.
    pub shell: bool,
    /// What a person should know about the command line.
    pub remarks: Vec<String>,
}

impl Orders {
    /// Reads a command line.
    pub fn parse(text: &str) -> Self {
        let (words, cut) = words(text);
        let mut orders = Self {
            machine_id: None,
            boot_mac: None,
            steps: Vec::new(),
            url: None,
            power_off: true,
            shell: false,
            remarks: Vec::new(),
        };
        if cut || text.trim_end().len() >= KERNEL_LIMIT {
            orders.remarks.push(format!(
                "the kernel command line may have been cut off: it is {} bytes long{}; x86 kernels keep {KERNEL_LIMIT}",
                text.trim_end().len(),
                if cut { " and ends inside quotes" } else { "" },
            ));
        }
        let mut runs = Vec::new();
        for word in words {
            let value = word.value.unwrap_or_default();
            match word.key.as_str() {
                "SALAD.machine_id" if !value.is_empty() => orders.machine_id = Some(value),
                "BOOTIF" => orders.boot_interface(&value),
                "farmgate.action" => orders.steps.extend(value.split(',').filter_map(action)),
                "farmgate.run" if !value.trim().is_empty() => runs.push(Step::Run(value)),
                "farmgate.url" if !value.is_empty() => orders.url = Some(value),
                "farmgate.poweroff" => orders.power_off = orders.flag(&word.key, &value, true),
                "farmgate.shell" => orders.shell = orders.flag(&word.key, &value, false),
                key if key.starts_with("farmgate.") => orders.strange(key),
                _ => {}
            }
        }
        orders.steps.extend(runs);
        if orders.shell && orders.power_off {
            orders.remarks.push("farmgate.shell=yes has no effect without farmgate.poweroff=no".to_owned());
        }
        orders
    }

    /// Whether anything of it may need an address.
    pub fn needs_network(&self) -> bool {
        !self.steps.is_empty() || self.shell
    }

    /// `01-` is the hardware type (Ethernet) that boot loaders write before the address.
    fn boot_interface(&mut self, value: &str) {
        match value.strip_prefix("01-").unwrap_or(value).parse() {
            Ok(mac) => self.boot_mac = Some(mac),
            Err(_) => {
                self.remarks.push(format!("BOOTIF={value} is not understood: write 01-aa-bb-cc-dd-ee-ff"))
            }
        }
    }

    fn flag(&mut self, key: &str, value: &str, default: bool) -> bool {
        match value {
            "yes" | "true" | "1" | "enabled" => true,
            "no" | "false" | "0" | "disabled" => false,
            _ => {
                self.remarks.push(format!("{key}={value} is not understood: write yes or no"));
                default
            }
        }
    }

    fn strange(&mut self, key: &str) {
        match KNOWN_KEYS.iter().find(|(known, _)| *known == key) {
            Some(_) => self.remarks.push(format!("{key} has no value and is ignored")),
            None => {
                let known = KNOWN_KEYS.map(|(name, meaning)| format!("{name} ({meaning})")).join(", ");
                self.remarks
                    .push(format!("unknown key {key} on the kernel command line; known are: {known}"));
            }
        }
    }
}

fn action(name: &str) -> Option<Step> {
    match name.trim() {
        "" | "none" => None,
        "register" => Some(Step::Register),
        "check" => Some(Step::Check),
        other => Some(Step::Unknown(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        words(text).0.into_iter().map(|w| (w.key, w.value)).collect()
    }

    #[test]
    fn words_are_cut_as_the_kernel_cuts_them() {
        let some = |k: &str, v: &str| (k.to_owned(), Some(v.to_owned()));
        let bare = |k: &str| (k.to_owned(), None);
        for (text, expected) in [
            ("a b=c\n", vec![bare("a"), some("b", "c")]),
            ("  quiet\tx=1  ", vec![bare("quiet"), some("x", "1")]),
            (r#"run="echo hello; uname -a" z"#, vec![some("run", "echo hello; uname -a"), bare("z")]),
            (r#""run=echo a b" z"#, vec![some("run", "echo a b"), bare("z")]),
            (r#"run="a='x y'""#, vec![some("run", "a='x y'")]),
            (r#"k=v" w"x"#, vec![some("k", r#"v" w"x"#)]),
            (r#"k="" l="#, vec![some("k", ""), some("l", "")]),
            ("a=b=c", vec![some("a", "b=c")]),
            ("", vec![]),
        ] {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn a_line_that_ends_inside_quotes_is_noticed() {
        let orders = Orders::parse(r#"farmgate.run="echo a b"#);
        assert_eq!(orders.steps, [Step::Run("echo a b".to_owned())]);
        assert!(orders.remarks[0].contains("ends inside quotes"), "{:?}", orders.remarks);
    }

    #[test]
    fn actions_come_before_commands_and_keep_their_order() {
        let orders =
            Orders::parse(r#"farmgate.run=first farmgate.action=check,register farmgate.run="second x""#);
        assert_eq!(
            orders.steps,
            [Step::Check, Step::Register, Step::Run("first".to_owned()), Step::Run("second x".to_owned())]
        );
        assert!(orders.remarks.is_empty());
        assert!(orders.needs_network());
    }

    #[test]
    fn an_ordinary_command_line_asks_for_nothing() {
        let orders = Orders::parse("console=ttyS0,115200 quiet ro farmgate.action=none");
        assert!(orders.steps.is_empty() && orders.power_off && !orders.shell && !orders.needs_network());
        assert!(orders.remarks.is_empty());
    }

    #[test]
    fn names_and_switches_are_read() {
        let orders = Orders::parse(
            "BOOTIF=01-52-54-00-11-22-0A SALAD.machine_id=dut1 farmgate.url=http://10.42.0.1 farmgate.poweroff=no farmgate.shell=yes",
        );
        assert_eq!(orders.boot_mac.unwrap().to_string(), "52:54:00:11:22:0a");
        assert_eq!(orders.machine_id.as_deref(), Some("dut1"));
        assert_eq!(orders.url.as_deref(), Some("http://10.42.0.1"));
        assert!(!orders.power_off && orders.shell);
    }

    #[test]
    fn what_is_not_understood_is_said_with_what_would_be() {
        let orders = Orders::parse(
            "farmgate.acton=register farmgate.action=regster BOOTIF=eth0 farmgate.poweroff=maybe",
        );
        assert_eq!(orders.steps, [Step::Unknown("regster".to_owned())]);
        assert_eq!(orders.remarks.len(), 3);
        assert!(
            orders.remarks[0].contains("farmgate.acton") && orders.remarks[0].contains("farmgate.action")
        );
        assert!(orders.power_off);
    }

    proptest! {
        #[test]
        fn no_line_panics(text in any::<String>()) {
            Orders::parse(&text);
        }

        #[test]
        fn a_quoted_command_survives(command in "[a-z;'$= ]{1,40}") {
            prop_assume!(!command.trim().is_empty());
            let orders = Orders::parse(&format!("quiet farmgate.run=\"{command}\" x"));
            prop_assert_eq!(orders.steps, [Step::Run(command)]);
        }
    }
}
