//! The course of a boot, from the first line on the console to the last.
//!
//! Owns the order of things and nothing else: what takes long (DHCP) is started first and awaited last, and every
//! failure becomes a sentence and a status, for PID 1 must not end.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use farmgate_protocol::{MacAddress, dut::Registration};

use crate::{
    cmdline::{Orders, Step},
    coldplug::{Coldplug, Devices},
    console::{self, KernelQuiet, line, say},
    hardware,
    http::Gateway,
    identity,
    lease::Lease,
    machine,
    network::{self, Dhcp, NetworkError},
    processes::Children,
    registration, report, tty,
};

/// How long disks may take to show up after their driver.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// The whole life of the machine.
pub fn run() -> ! {
    let mut problems = machine::mount_all();
    problems.extend(machine::open_console());
    let orders = announce();
    for problem in problems.iter().chain(&orders.remarks) {
        say(problem);
    }
    let power_off = orders.power_off;
    let shell = orders.shell;
    let mut boot = Boot::new(orders);
    let status = boot.carry_out();
    close(status);
    if !power_off {
        stay_on(&mut boot.children, shell);
    }
    machine::power_off()
}

/// The last lines, which end a job at the gateway.
pub fn close(status: i32) {
    let _quiet = KernelQuiet::begin();
    line(&format!("Execution is over, pipeline status: {status}"));
    line("It's now safe to turn off your computer");
}

/// Says that userspace runs, and who this is if that is known already.
fn announce() -> Orders {
    let _quiet = KernelQuiet::begin();
    line("farmgate.stage=userspace");
    let text = fs::read("/proc/cmdline").unwrap_or_default();
    let orders = Orders::parse(&String::from_utf8_lossy(&text));
    if let Some(id) = orders.machine_id.clone().or_else(|| orders.boot_mac.map(|mac| mac.to_string())) {
        introduce(&id);
    }
    orders
}

fn introduce(id: &str) {
    line(&format!("SALAD.machine_id={id}"));
}

fn stay_on(children: &mut Children, shell: bool) -> ! {
    say("farmgate.poweroff=no: this machine stays on");
    loop {
        if shell {
            // A session of its own, so that the shell has job control and Ctrl-C.
            if let Err(error) = children.shell("exec setsid -c /bin/sh -l || exec /bin/sh -l") {
                say(&format!("cannot start a shell: {error}; the initramfs needs busybox"));
            }
        }
        children.reap_orphans();
        sleep(Duration::from_secs(1));
    }
}

/// The network of this boot.
enum Network {
    /// Nothing asked for it.
    Unwanted,
    /// An address is being asked for.
    Starting(Dhcp),
    /// It works.
    Up { mac: MacAddress, lease: Lease },
    /// It was asked for and failed; the reason was printed.
    Failed,
}

struct Boot {
    orders: Orders,
    arch: String,
    coldplug: Coldplug,
    children: Children,
    network: Network,
    /// Kept because a second action needs the same.
    report: Option<Registration>,
}

impl Boot {
    fn new(orders: Orders) -> Self {
        let kernel = rustix::system::uname();
        let folder = Path::new("/lib/modules").join(&*kernel.release().to_string_lossy());
        Self {
            orders,
            arch: kernel.machine().to_string_lossy().into_owned(),
            coldplug: Coldplug::new(Path::new("/sys"), &folder),
            children: Children::default(),
            network: Network::Unwanted,
            report: None,
        }
    }

    /// All that the command line asks for; the first status that is not 0.
    fn carry_out(&mut self) -> i32 {
        let userspace = console::uptime();
        self.start_network();
        self.coldplug.pass(Devices::All);
        for failure in self.coldplug.take_failures() {
            say(&failure);
        }
        let mut status = 0;
        for (number, step) in (1..).zip(std::mem::take(&mut self.orders.steps)) {
            // By number: a job's console patterns shall not find the text of a command that did not run.
            let title = title(number, &step);
            if status != 0 {
                say(&format!("{title} is skipped after the failure"));
                continue;
            }
            status = self.step(&step);
            if status != 0 {
                say(&format!("{title} failed with status {status}"));
            }
        }
        say(&format!(
            "seconds since the kernel started: userspace {userspace:.2}, end {:.2}",
            console::uptime()
        ));
        status
    }

    /// Starts asking for an address, or at least finds out who this is.
    fn start_network(&mut self) {
        let named = self.orders.machine_id.is_some() || self.orders.boot_mac.is_some();
        let wanted = self.orders.needs_network();
        if named && !wanted {
            return;
        }
        self.network =
            match network::wait_for_interface(Path::new("/sys"), self.orders.boot_mac, &mut self.coldplug) {
                Ok(interface) => {
                    if !named {
                        let _quiet = KernelQuiet::begin();
                        introduce(&interface.mac.to_string());
                    }
                    match wanted.then(|| Dhcp::start(interface, &mut self.children)) {
                        Some(Ok(dhcp)) => Network::Starting(dhcp),
                        Some(Err(error)) => failed(&error),
                        None => Network::Unwanted,
                    }
                }
                Err(error) => failed(&error),
            };
    }

    /// Waits until the network works or failed.
    fn settle_network(&mut self) {
        let Network::Starting(dhcp) = &self.network else { return };
        self.network = match dhcp.lease(&mut self.children) {
            Ok(lease) => {
                let interface = dhcp.interface();
                let from = lease.gateway().map(|g| format!(" from {g}")).unwrap_or_default();
                say(&format!(
                    "network: {} {} has {}/{}{from} at {:.2} s",
                    interface.name,
                    interface.mac,
                    lease.address,
                    lease.prefix,
                    console::uptime()
                ));
                Network::Up { mac: interface.mac, lease }
            }
            Err(error) => failed(&error),
        };
    }

    fn step(&mut self, step: &Step) -> i32 {
        match step {
            Step::Register | Step::Check => self.talk(step),
            Step::Unknown(name) => {
                say(&format!("farmgate.action={name} is not known: write register, check or none"));
                1
            }
            Step::Run(command) => {
                self.settle_network();
                say(&format!("runs: {command}"));
                self.children.shell(command).unwrap_or_else(|error| {
                    say(&format!("cannot start /bin/sh: {error}; the initramfs needs busybox"));
                    127
                })
            }
        }
    }

    /// Registers or checks.
    fn talk(&mut self, step: &Step) -> i32 {
        let report = match self.report.take() {
            Some(report) => report,
            None => self.detect(),
        };
        let status = match self.gateway() {
            Ok(gateway) => converse(step, &gateway, &report),
            Err(sentence) => {
                say(&sentence);
                1
            }
        };
        self.report = Some(report);
        status
    }

    fn gateway(&self) -> Result<Gateway, String> {
        let Network::Up { lease, .. } = &self.network else {
            return Err("there is no network to reach the gateway over".to_owned());
        };
        match (&self.orders.url, lease.gateway()) {
            (Some(url), _) => Gateway::from_url(url).map_err(|error| error.to_string()),
            (None, Some(address)) => Ok(Gateway::at(address)),
            (None, None) => {
                Err("DHCP names no server or router: give farmgate.url=http://ADDRESS".to_owned())
            }
        }
    }

    /// Looks at the hardware and searches the tty while DHCP is at work, and prints what was found.
    fn detect(&mut self) -> Registration {
        let start = Instant::now();
        while hardware::disks_may_come(Path::new("/")) && start.elapsed() < DISK_PATIENCE {
            sleep(Duration::from_millis(20));
        }
        let found = hardware::detect(Path::new("/"), &self.arch);
        console::drain();
        let ports = tty::candidates(Path::new("/sys"));
        let tty = tty::find(Path::new("/sys"), Path::new("/dev"), &ports);
        if tty.is_none() {
            say(&format!("no serial port answers SALAD.ping; asked: {}", ports.join(", ")));
        }
        self.settle_network();
        let (mac, ip): (Option<MacAddress>, Option<Ipv4Addr>) = match &self.network {
            Network::Up { mac, lease } => (Some(*mac), Some(lease.address)),
            _ => (self.orders.boot_mac, None),
        };
        let report = Registration {
            base_name: identity::base_name(&found).to_owned(),
            tags: identity::tags(&found),
            mac_address: mac,
            ip_address: ip,
            local_tty_device: tty,
            hardware: Some(found),
        };
        say("this machine:");
        say(&report::table(&report));
        report
    }
}

fn failed(error: &NetworkError) -> Network {
    say(&error.to_string());
    Network::Failed
}

fn title(number: usize, step: &Step) -> String {
    let kind = match step {
        Step::Register => "register",
        Step::Check => "check",
        Step::Run(_) => "run",
        Step::Unknown(_) => "unknown action",
    };
    format!("step {number} ({kind})")
}

fn converse(step: &Step, gateway: &Gateway, report: &Registration) -> i32 {
    let result = if *step == Step::Check {
        registration::check(gateway, report, say).map(|differences| {
            for difference in &differences {
                say(&format!("difference: {difference}"));
            }
            match differences.len() {
                0 => say(&format!("checked at {gateway}: as registered")),
                count => say(&format!("checked at {gateway}: {count} differences")),
            }
            i32::from(!differences.is_empty())
        })
    } else {
        registration::register(gateway, report, say).map(|name| {
            let name = name.map(|n| format!(" as {n}")).unwrap_or_default();
            say(&format!("registered at {gateway}{name}"));
            0
        })
    };
    result.unwrap_or_else(|error| {
        say(&error.to_string());
        1
    })
}
