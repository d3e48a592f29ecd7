//! Child processes of PID 1.
//!
//! Owns waiting: as the init, this program inherits every orphan of the machine and must wait for it too, so all
//! waiting goes through [`Children`], which keeps the end of a child until somebody asks.

use std::{
    collections::BTreeMap,
    io,
    process::{Command, Stdio},
};

use rustix::process::{WaitOptions, WaitStatus};

/// Number of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Child(i32);

/// All children of this process.
#[derive(Debug, Default)]
pub struct Children {
    /// Those of ours that nobody asked for yet: `None` while they run, then their status.
    ours: BTreeMap<Child, Option<i32>>,
}

impl Children {
    /// Starts a program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&mut self, command: &mut Command) -> io::Result<Child> {
        let id = command.spawn()?.id();
        let child = Child(i32::try_from(id).map_err(io::Error::other)?);
        self.ours.insert(child, None);
        Ok(child)
    }

    /// The status of a child that ended, once: its exit code, or 128 and the signal, as a shell says it.
    pub fn ended(&mut self, child: Child) -> Option<i32> {
        self.reap_orphans();
        self.take(child)
    }

    /// Waits until a child ends.
    pub fn wait(&mut self, child: Child) -> i32 {
        loop {
            if let Some(status) = self.take(child) {
                return status;
            }
            if !self.reap(WaitOptions::empty()) {
                // There is no such child: somebody else waited for it.
                return self.take(child).unwrap_or(1);
            }
        }
    }

    /// Runs a shell command on the console until it ends.
    ///
    /// # Errors
    /// There is no shell.
    pub fn shell(&mut self, command: &str) -> io::Result<i32> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let child = self.spawn(&mut shell)?;
        Ok(self.wait(child))
    }

    /// Waits for everything that has ended already.
    pub fn reap_orphans(&mut self) {
        while self.reap(WaitOptions::NOHANG) {}
    }

    fn take(&mut self, child: Child) -> Option<i32> {
        let status = self.ours.get(&child).copied().flatten()?;
        self.ours.remove(&child);
        Some(status)
    }

    /// Waits for any process; false if none ended, or none is left.
    fn reap(&mut self, options: WaitOptions) -> bool {
        loop {
            return match rustix::process::wait(options) {
                Ok(Some((pid, status))) => {
                    if let Some(slot) = self.ours.get_mut(&Child(pid.as_raw_nonzero().get())) {
                        *slot = Some(shell_status(status));
                    }
                    true
                }
                Ok(None) => false,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => false,
            };
        }
    }
}

fn shell_status(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test only: waiting for any child of the test process must not meet the children of another test.
    #[test]
    fn each_child_keeps_its_own_end_until_asked() {
        let mut children = Children::default();
        assert_eq!(children.shell("exit 7").unwrap(), 7);
        assert_eq!(children.shell("kill -9 $$").unwrap(), 137);
        let first = children.spawn(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap();
        let second = children.spawn(Command::new("/bin/sh").args(["-c", "exit 4"])).unwrap();
        assert_eq!(children.wait(second), 4);
        assert_eq!(children.wait(first), 3);
        assert_eq!(children.ended(first), None);
        assert_eq!(children.wait(first), 1);
        assert!(children.spawn(&mut Command::new("/nonexistent/program")).is_err());
    }
}
