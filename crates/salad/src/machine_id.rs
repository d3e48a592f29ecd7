//! Names of machines, and the names of the folders that hold their records.
//!
//! Two doors with different strictness lead here: the gateway names machines by the ids of its farm file, whatever
//! those may contain; a console is a stranger and may only print ids of plain characters.

use std::fmt;

/// Why a text cannot name a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot name a machine: {reason}")]
pub struct MachineIdError {
    text: String,
    reason: &'static str,
}

/// The longest id, in bytes.
pub(crate) const MAX_ID: usize = 128;

/// The longest folder name that an id may need; file systems stop at 255.
const MAX_FOLDER: usize = 240;

/// The name of the record that takes what belongs to nobody.
const QUARANTINE: &str = "_unassociated";

/// The id of a machine, for instance `52:54:00:11:22:01`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(String);

impl MachineId {
    /// The id of a machine as the gateway, or a person, writes it.
    ///
    /// # Errors
    /// When it is empty, longer than 128 bytes, has a blank, a control character or a slash, or when its folder's
    /// name would be too long.
    pub fn new(text: &str) -> Result<Self, MachineIdError> {
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.len() > MAX_ID {
            "it is longer than 128 bytes"
        } else if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/') {
            "it has a blank, a control character or a slash"
        } else if folder(text).len() > MAX_FOLDER {
            "it has too many characters outside A-Z a-z 0-9 : . _ -"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(MachineIdError { text: text.chars().take(MAX_ID).collect(), reason })
    }

    /// The id that a console announced. Consoles are strangers, so only plain characters count, and nobody
    /// announces the quarantine.
    ///
    /// # Errors
    /// When it is anything but 1 to 128 characters of `A-Z a-z 0-9 : . _ -`.
    pub fn announced(bytes: &[u8]) -> Result<Self, MachineIdError> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b":._-".contains(b);
        let text: String = String::from_utf8_lossy(bytes).chars().take(MAX_ID).collect();
        if bytes.len() > MAX_ID {
            return Err(MachineIdError { text, reason: "it is longer than 128 characters" });
        }
        if !bytes.iter().all(plain) {
            return Err(MachineIdError { text, reason: "a console may only use A-Z a-z 0-9 : . _ -" });
        }
        if text == QUARANTINE {
            return Err(MachineIdError { text, reason: "the name is reserved" });
        }
        Self::new(&text)
    }

    /// The machine that takes what no machine may have; its record is read like any other.
    pub fn quarantine() -> Self {
        Self(QUARANTINE.to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the machine's folder: the id, with everything percent-encoded that could leave the folder,
    /// hide it, or be taken for the quarantine.
    pub(crate) fn folder(&self) -> String {
        if self.0 == QUARANTINE { self.0.clone() } else { folder(&self.0) }
    }

    /// The machine whose folder has this name; `None` for a folder that this crate did not name.
    pub(crate) fn from_folder(name: &str) -> Option<Self> {
        if name == QUARANTINE {
            return Some(Self::quarantine());
        }
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first == b'%' {
                let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail.get(2..)?;
            } else {
                bytes.push(first);
            }
        }
        let id = Self::new(std::str::from_utf8(&bytes).ok()?).ok()?;
        (id.folder() == name).then_some(id)
    }
}

fn folder(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for (at, byte) in id.bytes().enumerate() {
        let inside = byte.is_ascii_alphanumeric() || b":-".contains(&byte);
        if inside || (at > 0 && b"._".contains(&byte)) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_console_may_only_announce_plain_ids() {
        for bad in [&b""[..], b"a/b", b"..\\", b"$(cat", b"\xff", b"_unassociated", &[b'a'; 129]] {
            assert!(MachineId::announced(bad).is_err(), "{bad:?}");
        }
        for good in [&b"52:54:00:11:22:01"[..], b"gfx9-navi10", b"_x", b"..", &[b'a'; 128]] {
            assert!(MachineId::announced(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn no_folder_is_hidden_or_shared_with_the_quarantine() {
        assert_eq!(MachineId::new("..").unwrap().folder(), "%2E.");
        assert_eq!(MachineId::new("_x").unwrap().folder(), "%5Fx");
        assert_eq!(MachineId::quarantine().folder(), "_unassociated");
        assert_eq!(MachineId::new("52:54:00:11:22:01").unwrap().folder(), "52:54:00:11:22:01");
    }

    proptest! {
        #[test]
        fn a_folder_names_its_machine_and_stays_inside(text in any::<String>()) {
            if let Ok(id) = MachineId::new(&text) {
                let folder = id.folder();
                prop_assert!(!folder.starts_with('.') && !folder.contains('/') && folder.len() <= 255);
                prop_assert_eq!(MachineId::from_folder(&folder), Some(id));
            }
        }

        #[test]
        fn no_folder_name_panics(name in any::<String>()) {
            let _ = MachineId::from_folder(&name);
        }
    }
}
