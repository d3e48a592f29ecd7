//! The init of the initramfs that test machines boot over the network.
//!
//! As PID 1 it brings the machine up, does what the kernel command line asks for, reports the status on the console
//! and switches off; `init` has that course. Started by hand on a running system it only prints what it would
//! register, which is the way to look at a new kind of hardware.

mod cmdline;
mod coldplug;
mod console;
mod hardware;
mod http;
mod identity;
mod init;
mod lease;
mod machine;
mod modules;
mod network;
mod processes;
mod registration;
mod report;
mod tty;

use std::path::Path;

use farmgate_protocol::dut::Registration;

fn main() {
    if !rustix::process::getpid().is_init() {
        show_hardware();
        return;
    }
    // The end of PID 1 is a kernel panic, which nobody can tell from a broken kernel.
    std::panic::set_hook(Box::new(|panic| {
        console::say(&format!("internal error, please report it: {panic}"));
        init::close(1);
        machine::power_off();
    }));
    init::run();
}

fn show_hardware() {
    let kernel = rustix::system::uname();
    let hardware = hardware::detect(Path::new("/"), &kernel.machine().to_string_lossy());
    let report = Registration {
        base_name: identity::base_name(&hardware).to_owned(),
        tags: identity::tags(&hardware),
        mac_address: network::ethernet_interfaces(Path::new("/sys")).first().map(|i| i.mac),
        hardware: Some(hardware),
        ..Registration::default()
    };
    console::say("this is the init of test machines, not started as one; it would register:");
    console::say(&report::table(&report));
}
