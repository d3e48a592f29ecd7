//! Which files clients may have: regular ones below one folder.

use std::{
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
};

/// A file that may be served.
#[derive(Debug)]
pub struct OpenFile {
    /// Open for reading.
    pub file: File,
    /// Its length when it was opened.
    pub length: u64,
}

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name leaves the folder, or leads to something that is no regular file.
    #[error("{0:?} is not a regular file below the served folder")]
    Outside(String),
    /// The file could not be opened.
    #[error("cannot open {path}")]
    Open {
        /// The path that was tried.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Opens the regular file `name` below `root`. Firmware writes names with and without a first slash, some with
/// backslashes; all of them start at the root. A symbolic link is followed as long as it ends below the root.
///
/// # Errors
/// [`FileError::Outside`] for a name that leads elsewhere, [`FileError::Open`] for one that leads nowhere.
pub fn open_below(root: &Path, name: &str) -> Result<OpenFile, FileError> {
    let outside = || FileError::Outside(name.chars().take(255).collect());
    let relative = name.replace('\\', "/");
    let relative = Path::new(relative.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || name.len() > 255 || name.contains('\0') {
        return Err(outside());
    }
    let path = root.join(relative);
    let open = |source| FileError::Open { path: path.clone(), source };
    let real_root = root.canonicalize().map_err(open)?;
    let real = path.canonicalize().map_err(open)?;
    // Looked at before opening: to open a FIFO would wait for its writer.
    if !real.starts_with(&real_root) || !fs::metadata(&real).map_err(open)?.is_file() {
        return Err(outside());
    }
    let file = File::open(&real).map_err(open)?;
    let length = file.metadata().map_err(open)?.len();
    Ok(OpenFile { file, length })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_below_the_root_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/a.efi"), b"abc").unwrap();
        fs::write(dir.path().join("secret"), b"s").unwrap();
        symlink("sub/a.efi", root.join("inside")).unwrap();
        symlink("../secret", root.join("leaves")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        for good in ["sub/a.efi", "/sub/a.efi", "//sub/a.efi", "\\sub\\a.efi", "inside", "./sub/./a.efi"] {
            assert_eq!(open_below(&root, good).unwrap().length, 3, "{good}");
        }
        let bad = [
            "../secret",
            "sub/../../secret",
            "..\\secret",
            "leaves",
            "up/secret",
            "sub",
            "",
            "/",
            "sub/../inside",
        ];
        for bad in bad {
            assert!(matches!(open_below(&root, bad), Err(FileError::Outside(_))), "{bad}");
        }
        assert!(matches!(open_below(&root, "absent"), Err(FileError::Open { .. })));
        assert!(open_below(&root, "a\0b").is_err());
    }
}
