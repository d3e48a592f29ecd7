//! What a machine boots where nothing else is said: one set for all, and others for some boot loaders, architectures
//! and platforms. The most specific that names a thing wins, for each thing by itself.

use std::{collections::BTreeMap, path::PathBuf};

use farmgate_boots::{Content, ScriptRequest};

/// The boot loader that asks for scripts; the first word of a [`Defaults::special`] key.
const BOOTLOADER: &str = "IPXE";

/// A set of defaults; what is None is taken from the less specific set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootDefault {
    /// `BOOTS_DEFAULT_KERNEL`.
    pub kernel: Option<PathBuf>,
    /// `BOOTS_DEFAULT_INITRD`.
    pub initrd: Option<PathBuf>,
    /// `BOOTS_DEFAULT_CMDLINE`.
    pub cmdline: Option<String>,
}

/// What a boot needs and a job may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultThing {
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// The kernel command line.
    Cmdline,
}

/// A setting that says what a machine boots where the job does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultSetting {
    /// Its name: `BOOTS_DEFAULT_IPXE_ARM64_KERNEL`.
    pub setting: String,
    /// The key in [`Defaults::special`] of the machines that it is for; None: all for which there is none of their own.
    pub asks_as: Option<String>,
    /// A path, or a command line.
    pub value: String,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// For everyone.
    pub general: BootDefault,
    /// By `IPXE`, `IPXE_X86_64` or `IPXE_X86_64_EFI`: boot loader, build architecture and platform as iPXE names them.
    pub special: BTreeMap<String, BootDefault>,
}

impl Defaults {
    /// What applies to a machine that asks like that.
    pub fn of(&self, request: &ScriptRequest) -> BootDefault {
        let mut found = self.general.clone();
        let mut key = BOOTLOADER.to_owned();
        let words = [None, request.buildarch.as_deref(), request.platform.as_deref()];
        for (depth, word) in words.into_iter().enumerate() {
            match word {
                Some(word) => key.push_str(&format!("_{}", word.to_ascii_uppercase())),
                None if depth > 0 => break, // it did not say: nothing more specific can be meant
                None => {}
            }
            if let Some(special) = self.special.get(&key) {
                found.kernel = special.kernel.clone().or(found.kernel);
                found.initrd = special.initrd.clone().or(found.initrd);
                found.cmdline = special.cmdline.clone().or(found.cmdline);
            }
        }
        found
    }

    /// All settings that name this thing, the general one first.
    pub fn settings(&self, thing: DefaultThing) -> Vec<DefaultSetting> {
        let special = self.special.iter().map(|(key, set)| (Some(key.as_str()), set));
        let named = std::iter::once((None, &self.general)).chain(special);
        let found = named.filter_map(|(key, set)| {
            let path = |path: &PathBuf| path.display().to_string();
            let (word, value) = match thing {
                DefaultThing::Kernel => ("KERNEL", set.kernel.as_ref().map(path)),
                DefaultThing::Initramfs => ("INITRD", set.initrd.as_ref().map(path)),
                DefaultThing::Cmdline => ("CMDLINE", set.cmdline.clone()),
            };
            let setting = match key {
                None => format!("BOOTS_DEFAULT_{word}"),
                Some(key) => format!("BOOTS_DEFAULT_{key}_{word}"),
            };
            Some(DefaultSetting { setting, asks_as: key.map(str::to_owned), value: value? })
        });
        found.collect()
    }

    fn all(&self) -> impl Iterator<Item = &BootDefault> {
        std::iter::once(&self.general).chain(self.special.values())
    }

    /// Whether there is a kernel for anyone.
    pub fn has_kernel(&self) -> bool {
        self.all().any(|set| set.kernel.is_some())
    }

    /// Whether a machine that brings no initramfs of its own is given one.
    pub fn has_initrd(&self) -> bool {
        self.all().any(|set| set.initrd.is_some())
    }

    /// The first file that is named and does not exist.
    pub fn missing_file(&self) -> Option<&PathBuf> {
        self.all().flat_map(|set| set.kernel.iter().chain(&set.initrd)).find(|path| !path.is_file())
    }
}

impl BootDefault {
    /// The initramfs as what is served.
    pub(crate) fn initrds(&self) -> Vec<Content> {
        self.initrd.iter().cloned().map(Content::File).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str) -> BootDefault {
        BootDefault { kernel: Some(name.into()), ..BootDefault::default() }
    }
    fn asks(buildarch: Option<&str>, platform: Option<&str>) -> ScriptRequest {
        ScriptRequest { platform: platform.map(str::to_owned), buildarch: buildarch.map(str::to_owned) }
    }

    #[test]
    fn settings_are_told_with_whom_they_are_for() {
        let special = BTreeMap::from([("IPXE_ARM64".to_owned(), kernel("arm"))]);
        let defaults = Defaults { general: kernel("all"), special };
        let found = defaults.settings(DefaultThing::Kernel);
        let names: Vec<(&str, &str)> = found.iter().map(|s| (s.setting.as_str(), s.value.as_str())).collect();
        assert_eq!(names, [("BOOTS_DEFAULT_KERNEL", "all"), ("BOOTS_DEFAULT_IPXE_ARM64_KERNEL", "arm")]);
        assert_eq!(found[1].asks_as.as_deref(), Some("IPXE_ARM64"));
        assert_eq!(defaults.settings(DefaultThing::Cmdline), []);
    }

    #[test]
    fn the_most_specific_that_names_a_thing_wins() {
        let general = BootDefault { cmdline: Some("all".into()), ..kernel("all") };
        let special = BTreeMap::from([
            ("IPXE_ARM64".to_owned(), kernel("arm")),
            (
                "IPXE_ARM64_EFI".to_owned(),
                BootDefault { cmdline: Some("efi".into()), ..BootDefault::default() },
            ),
        ]);
        let defaults = Defaults { general, special };
        for (request, expected) in [
            (asks(None, None), ("all", "all")),
            (asks(Some("x86_64"), Some("efi")), ("all", "all")),
            (asks(Some("arm64"), Some("pcbios")), ("arm", "all")),
            (asks(Some("arm64"), Some("efi")), ("arm", "efi")),
            (asks(None, Some("efi")), ("all", "all")),
        ] {
            let found = defaults.of(&request);
            let found = (found.kernel.unwrap(), found.cmdline.unwrap());
            assert_eq!((found.0.to_str().unwrap(), found.1.as_str()), expected, "{request:?}");
        }
    }
}
