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
