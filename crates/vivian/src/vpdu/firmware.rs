//! Which firmware an outlet's machine has, and where the distributions keep it.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// A machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// SeaBIOS, QEMU's own.
    Bios,
    /// OVMF.
    Uefi,
}

/// OVMF's code and the template of its variable store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ovmf {
    /// Read-only, shared by all machines.
    pub code: PathBuf,
    /// Copied for each machine.
    pub vars: PathBuf,
}

/// Code and variables by distribution: Debian and Ubuntu (large and old), Fedora, Arch, openSUSE.
const CANDIDATES: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
];

impl Ovmf {
    /// Looks where the distributions put it.
    pub fn find() -> Option<Self> {
        Self::find_below(Path::new("/"))
    }

    fn find_below(root: &Path) -> Option<Self> {
        CANDIDATES.iter().find_map(|(code, vars)| {
            let at = |path: &str| root.join(path.trim_start_matches('/'));
            let found = Self { code: at(code), vars: at(vars) };
            (found.code.is_file() && found.vars.is_file()).then_some(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_without_its_variables_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        put(CANDIDATES[0].0);
        assert_eq!(Ovmf::find_below(root.path()), None);
        put(CANDIDATES[2].0);
        put(CANDIDATES[2].1);
        let found = Ovmf::find_below(root.path()).unwrap();
        assert!(found.code.ends_with("edk2/ovmf/OVMF_CODE.fd"));
    }
}
