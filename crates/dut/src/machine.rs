//! The machine as the init finds and leaves it: its file systems, its console, its power.
//!
//! Owns the system calls that only PID 1 makes. None of them stops the boot: each returns what went wrong as
//! sentences, to be printed once there is a console.

use std::{
    fs::{self, OpenOptions},
    thread::sleep,
    time::Duration,
};

use rustix::{mount::MountFlags, system::RebootCommand};

/// File system type, where, and options.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("devtmpfs", "/dev", "mode=0755"),
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devpts", "/dev/pts", "mode=0620,gid=5"),
    ("tmpfs", "/run", "mode=0755"),
    ("tmpfs", "/tmp", "mode=1777"),
];

/// Mounts what every program expects.
pub fn mount_all() -> Vec<String> {
    let mut failures = Vec::new();
    for (kind, target, options) in MOUNTS {
        if let Err(error) = mount(kind, target, options) {
            failures.push(format!("cannot mount {kind} on {target}: {error}"));
        }
    }
    failures
}

fn mount(kind: &str, target: &str, options: &str) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    let options = std::ffi::CString::new(options).map_err(std::io::Error::other)?;
    match rustix::mount::mount(kind, target, kind, MountFlags::empty(), options.as_c_str()) {
        // Some kernels mount /dev by themselves.
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the kernel's console our standard input, output and error.
pub fn open_console() -> Vec<String> {
    let open = || -> std::io::Result<()> {
        let console = OpenOptions::new().read(true).write(true).open("/dev/console")?;
        rustix::stdio::dup2_stdin(&console)?;
        rustix::stdio::dup2_stdout(&console)?;
        rustix::stdio::dup2_stderr(&console)?;
        Ok(())
    };
    match open() {
        Ok(()) => Vec::new(),
        Err(error) => {
            vec![format!("cannot open /dev/console: {error}; is console= on the command line right?")]
        }
    }
}

/// Switches the machine off. If its firmware cannot, it stays, doing nothing.
pub fn power_off() -> ! {
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    let _ = rustix::system::reboot(RebootCommand::Halt);
    loop {
        sleep(Duration::from_secs(3600));
    }
}
