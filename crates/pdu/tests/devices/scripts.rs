//! A folder with a program linked into it: the program is a script of this folder, which keeps its state beside the
//! link. (A script that is written by the test could not be started while another thread forks.)

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use crate::conformance::Fault;

pub struct Folder {
    folder: tempfile::TempDir,
    program: &'static str,
}

impl Folder {
    /// A folder in which `script` of the tests is called `program`.
    pub fn with(script: &str, program: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/devices").join(script);
        symlink(script, folder.path().join(program)).unwrap();
        let new = Self { folder, program };
        new.write("fault", "none");
        new
    }

    pub fn program(&self) -> String {
        self.folder.path().join(self.program).to_str().unwrap().to_owned()
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    /// Empty if there is no such file.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// Removes everything but the program.
    pub fn clear(&self) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != self.program {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        self.write("fault", "none");
    }

    /// Tells the script what to do wrong; false for what a program cannot do.
    pub fn fault(&self, fault: Fault) -> bool {
        let name = match fault {
            Fault::None => "none",
            Fault::Slow(_) => "slow",
            Fault::Silent => "silent",
            Fault::LiesFor(_) => "lies",
            Fault::LosesEverySecond => "loses",
            Fault::Gone => "gone",
        };
        self.write("fault", name);
        true
    }

    pub fn commands(&self) -> usize {
        self.read("commands").lines().count()
    }
}
