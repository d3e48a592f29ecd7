//! Which kernel modules a device asks for, and in which order they must be loaded.
//!
//! This module owns the meaning of `modules.alias`, `modules.dep` and `modules.softdep` as depmod(8) writes
//! them. It is text in, names out; reading devices and loading files is the business of `coldplug`.

use std::collections::{BTreeMap, BTreeSet};

/// What depmod knows about the modules in an image.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Glob over modaliases, and the module that it asks for.
    aliases: Vec<(String, String)>,
    files: BTreeMap<String, ModuleFile>,
    /// Modules that should be there before, though nothing links to them.
    wanted_before: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct ModuleFile {
    /// Below `/lib/modules/RELEASE`.
    path: String,
    needs: Vec<String>,
}

impl Catalogue {
    /// Reads the three files; lines that make no sense are skipped, a device then has no driver.
    pub fn parse(alias: &str, dep: &str, softdep: &str) -> Self {
        let mut catalogue = Self::default();
        for line in alias.lines() {
            if let ["alias", pattern, module] = *line.split_whitespace().collect::<Vec<_>>() {
                catalogue.aliases.push((pattern.to_owned(), module_name(module)));
            }
        }
        for line in dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(module_name).collect();
                catalogue.files.insert(module_name(path), ModuleFile { path: path.trim().to_owned(), needs });
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                let before = words.skip_while(|w| *w != "pre:").skip(1).take_while(|w| *w != "post:");
                catalogue.wanted_before.insert(module_name(module), before.map(module_name).collect());
            }
        }
        catalogue
    }

    /// The modules that a device with this modalias asks for, each once.
    pub fn modules_for(&self, modalias: &str) -> BTreeSet<&str> {
        self.aliases
            .iter()
            .filter(|(pattern, _)| glob_matches(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, module)| module.as_str())
            .collect()
    }

    /// Paths of the files to load for a module, the first first, itself last. Empty if it is not in the image.
    pub fn load_order(&self, module: &str) -> Vec<&str> {
        let mut order = Vec::new();
        self.visit(&module_name(module), &mut BTreeSet::new(), &mut order);
        order
    }

    fn visit<'a>(&'a self, module: &str, seen: &mut BTreeSet<String>, order: &mut Vec<&'a str>) {
        // `seen` is filled before the descent, so that a circle in a damaged file ends.
        let Some(file) = self.files.get(module) else { return };
        if !seen.insert(module.to_owned()) {
            return;
        }
        for before in file.needs.iter().chain(self.wanted_before.get(module).into_iter().flatten()) {
            self.visit(before, seen, order);
        }
        order.push(&file.path);
    }
}

/// `kernel/drivers/net/virtio-net.ko.xz` and `virtio-net` are both `virtio_net` to the kernel.
fn module_name(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// Whether a device should have its driver before all others: the network, and what it hangs on.
pub fn is_urgent(modalias: &str) -> bool {
    modalias.starts_with("virtio:d00000001v") || (modalias.starts_with("pci:") && modalias.contains("bc02sc"))
}

/// fnmatch(3) without flags, as far as module aliases use it: `*`, `?`, `[a-f]`, `[!x]`. Dashes and underscores
/// are the same, for modprobe treats them so.
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the text after the last star did not fit: the star then takes one byte more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) if t < text.len() => {
                if let Some(width) = one_matches(&pattern[p..], text[t]) {
                    p += width;
                    t += 1;
                    continue;
                }
            }
            None if t == text.len() => return true,
            _ => {}
        }
        match retry {
            Some((after_star, from)) if from < text.len() => {
                p = after_star;
                t = from + 1;
                retry = Some((after_star, from + 1));
            }
            _ => return false,
        }
    }
}

/// Whether the first element of the pattern accepts the byte; then how long that element is.
fn one_matches(pattern: &[u8], byte: u8) -> Option<usize> {
    let same = |a: u8, b: u8| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_'));
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => match class.iter().skip(1).position(|&c| c == b']') {
            Some(at) => class_accepts(&class[..=at], byte).then_some(at + 3),
            None => (byte == b'[').then_some(1),
        },
        [c, ..] => same(*c, byte).then_some(1),
        [] => None,
    }
}

fn class_accepts(class: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    while let [first, after @ ..] = rest {
        if let [b'-', last, beyond @ ..] = after {
            found |= (*first..=*last).contains(&byte);
            rest = beyond;
        } else {
            found |= *first == byte;
            rest = after;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias pci:v00008086d00001533sv*sd*bc*sc*i* igb
alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169
alias acpi*:PNP0[cC]0?:* button
broken line
";
    const DEP: &str = "\
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/core/failover.ko:
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/drivers/net/virtio-net.ko.xz: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko
kernel/net/phy/realtek.ko:
kernel/net/r8169.ko: kernel/net/loop_a.ko
kernel/net/loop_a.ko: kernel/net/loop_b.ko
kernel/net/loop_b.ko: kernel/net/loop_a.ko
";

    fn catalogue() -> Catalogue {
        Catalogue::parse(ALIAS, DEP, "softdep r8169 pre: realtek mdio-x post: later\n")
    }

    #[test]
    fn globs_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*bc02sc00*", "pci:v0d0bc02sc00i00", true),
            ("a*b*c", "a-b-b-c", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("x[0-9a-f]y", "xey", true),
            ("x[0-9a-f]y", "xgy", false),
            ("x[!0-9]y", "xay", true),
            ("x[^0-9]y", "x5y", false),
            ("x[]]y", "x]y", true),
            ("x[y", "x[y", true),
            ("platform:i2c_x", "platform:i2c-x", true),
            ("abc", "abcd", false),
            ("abcd", "abc", false),
        ] {
            assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn devices_find_their_drivers() {
        let catalogue = catalogue();
        let of = |modalias| catalogue.modules_for(modalias).into_iter().collect::<Vec<_>>();
        assert_eq!(of("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"), ["virtio_pci"]);
        assert_eq!(of("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(of("acpi:PNP0C0F:"), ["button"]);
        assert!(of("pci:v00001234d00001111sv0sd0bc03sc00i00").is_empty());
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let catalogue = catalogue();
        let order = catalogue.load_order("virtio_net");
        let at = |name: &str| order.iter().position(|p| p.contains(name)).unwrap();
        assert_eq!(order.len(), 5);
        assert!(at("virtio_ring") < at("virtio.ko") && at("/failover") < at("net_failover"));
        assert_eq!(at("virtio-net"), 4);
    }

    #[test]
    fn soft_dependencies_count_and_circles_end() {
        let catalogue = catalogue();
        let order = catalogue.load_order("r8169");
        assert_eq!(order.last(), Some(&"kernel/net/r8169.ko"));
        assert!(order.contains(&"kernel/net/phy/realtek.ko"));
        assert_eq!(order.len(), 4);
        assert!(catalogue.load_order("absent").is_empty());
    }

    #[test]
    fn the_network_is_urgent() {
        assert!(is_urgent("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"));
        assert!(is_urgent("virtio:d00000001v00001AF4"));
        assert!(!is_urgent("virtio:d00000010v00001AF4"));
        assert!(!is_urgent("pci:v00001AF4d00001050sv00001AF4sd00001100bc03sc80i00"));
    }

    proptest! {
        #[test]
        fn any_glob_ends(pattern in "[a*?\\[\\]!-]{0,20}", text in "[ab\\]-]{0,20}") {
            glob_matches(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_text_matches_itself_and_stars(text in "[a-zA-Z0-9:]{0,30}", cut in 0usize..30) {
            let cut = cut.min(text.len());
            prop_assert!(glob_matches(text.as_bytes(), text.as_bytes()));
            let starred = format!("{}*{}", &text[..cut], &text[cut..]);
            prop_assert!(glob_matches(starred.as_bytes(), text.as_bytes()));
        }
    }
}
