//! How the farm gets namespaces of its own: as an ordinary user where the kernel lets one, else as root.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

/// The namespaces, and that what is inside dies with `unshare`.
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Inside, the user is root.
const USER: [&str; 2] = ["--user", "--map-root-user"];

/// Which way is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A user namespace: no privileges on the host.
    User,
    /// The privileges that root has.
    Root,
}

/// Neither way is open.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// `unshare` is missing.
    #[error("cannot run `unshare` ({0}): apt-get install util-linux")]
    NoUnshare(#[source] io::Error),
    /// An ordinary user may not.
    #[error(
        "this computer does not let ordinary users make namespaces ({0}): run the same with sudo, or allow it with `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu) or `sysctl kernel.unprivileged_userns_clone=1` (older Debian)"
    )]
    User(String),
    /// Not even root may.
    #[error("not even root may make namespaces here ({0}): give the container --privileged")]
    Root(String),
}

impl Isolation {
    /// Tries which way is open; that of an ordinary user first, also for root.
    ///
    /// # Errors
    /// None is.
    pub fn find() -> Result<Self, Refused> {
        let Err(user) = Self::User.works()? else { return Ok(Self::User) };
        if !rustix::process::geteuid().is_root() {
            return Err(Refused::User(user));
        }
        match Self::Root.works()? {
            Ok(()) => Ok(Self::Root),
            Err(root) => Err(Refused::Root(root)),
        }
    }

    /// Which way it is, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::User => "the farm runs in an unprivileged user namespace",
            Self::Root => "the farm runs in namespaces made by root, as user namespaces are refused here",
        }
    }

    fn works(self) -> Result<Result<(), String>, Refused> {
        let tried = Command::new("unshare")
            .args(self.namespaces())
            .arg("true")
            .stdin(Stdio::null())
            .output()
            .map_err(Refused::NoUnshare)?;
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        Ok(if tried.status.success() { Ok(()) } else { Err(said) })
    }

    fn namespaces(self) -> impl Iterator<Item = &'static str> {
        let user: &[&str] = match self {
            Self::User => &USER,
            Self::Root => &[],
        };
        user.iter().chain(&NAMESPACES).copied()
    }

    /// The command that starts the supervisor in its namespaces and in a session of its own. The process that it
    /// makes becomes `unshare`, whose death takes the supervisor along.
    pub fn unshare(self, vivian: &Path) -> Command {
        let mut command = Command::new("setsid");
        command
            .arg("unshare")
            .args(self.namespaces())
            .arg("--")
            .arg(vivian)
            .arg(super::supervisor::SUBCOMMAND);
        command
    }

    /// The command that runs `program` beside the supervisor with that process id, in this process's folder.
    pub fn enter(self, pid: i32, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n", "-m", "-p"]);
        if self == Self::User {
            command.args(["-U", "--preserve-credentials"]);
        }
        // Entering the mount namespace leads to its root folder.
        let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
        command.args(["--", "env", "-C"]).arg(folder).arg(program);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_an_ordinary_user_needs_a_user_namespace() {
        let user = line(&Isolation::User.unshare(Path::new("/b/vivian")));
        assert_eq!(
            user,
            "setsid unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc -- /b/vivian supervise"
        );
        assert!(!line(&Isolation::Root.unshare(Path::new("/b/vivian"))).contains("--user"));
        assert!(
            line(&Isolation::User.enter(42, "ip"))
                .starts_with("nsenter -t 42 -n -m -p -U --preserve-credentials -- env -C ")
        );
        assert!(!line(&Isolation::Root.enter(42, "ip")).contains("-U"));
    }
}
