//! The command line of `vivian`: what a person types, and what they are told.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Farm, FarmError, LOOK, health,
    isolation::{Isolation, Refused},
    options::{FarmOptions, Ports, Service, default_bin_dir, parse_env, parse_port},
    process, record, supervisor,
};
use crate::{outlet::Outlet, vpductl::Client};

/// The virtual farm: a gateway, a virtual PDU and virtual DUTs on this computer, in a network of their own.
#[derive(Debug, Parser)]
#[command(name = "vivian", version)]
pub struct Cli {
    /// Where the farm keeps its files
    #[arg(long, global = true, default_value = "var/vivian", value_name = "DIR")]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the farm and return when it answers
    Up(UpOptions),
    /// Start the farm and stay with it; Ctrl-C ends it
    Run(UpOptions),
    /// Tell the whole story on a farm of its own: a machine is switched on, registers, qualifies and runs a job
    Demo {
        /// Folder with the DUTs' vmlinuz and initramfs.img
        #[arg(long, default_value = "var/images/dut", value_name = "DIR")]
        images: PathBuf,
    },
    /// End the farm
    Down,
    /// Show whether the farm is up and well
    Status,
    /// End the farm and forget its DUTs, disks, jobs and logs
    Reset,
    /// Open a shell inside the farm
    Connect,
    /// Run a command inside the farm
    Exec {
        /// The command with its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// What runs inside; for `vivian up` to call
    #[command(hide = true)]
    Supervise,
}

#[derive(Debug, Args)]
struct UpOptions {
    /// Another port of the host for a service: executor, salad, console or vpdu (again for more; 0 takes a free one)
    /// [default: executor=8000 salad=8005 console=8100 vpdu=9191]
    #[arg(long, value_name = "SERVICE=PORT", value_parser = parse_port, num_args = 1.., value_delimiter = ',', verbatim_doc_comment)]
    ports: Vec<(Service, u16)>,
    /// Take free ports of the host; ports.json in the state directory names them
    #[arg(long, conflicts_with = "ports")]
    ephemeral_ports: bool,
    /// Boots in the training of a new DUT, all of which must succeed [default: the gateway's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    boot_count: Option<u32>,
    /// A variable for the gateway's environment (again for more)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Folder with the DUTs' vmlinuz and initramfs.img
    #[arg(long, default_value = "var/images/dut", value_name = "DIR")]
    images: PathBuf,
    /// Folder with the programs vivian, vpdu and farmgate [default: that of the running one]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Only the network and the vPDU, no gateway
    #[arg(long)]
    no_gateway: bool,
    /// No way out to the internet
    #[arg(long)]
    no_uplink: bool,
    #[command(flatten)]
    vpdu: VpduOptions,
}

/// Passed on to the vPDU, which checks them and explains them in `vpdu --help`.
#[derive(Debug, Args)]
struct VpduOptions {
    /// Firmware of the DUTs: bios or uefi
    #[arg(long)]
    firmware: Option<String>,
    /// Another firmware for one outlet
    #[arg(long, value_name = "N=FIRMWARE")]
    outlet_firmware: Vec<String>,
    /// A fault for one outlet's DUT, like 3=noboot
    #[arg(long, value_name = "N=FAULT")]
    outlet_fault: Vec<String>,
    /// Network card of the DUTs: virtio or e1000
    #[arg(long)]
    nic: Option<String>,
    /// Memory of a DUT, MiB
    #[arg(long)]
    memory: Option<String>,
    /// Number of outlets
    #[arg(long)]
    num_ports: Option<String>,
    /// What executes the guests: auto, kvm or tcg
    #[arg(long)]
    accel: Option<String>,
    /// Where the DUTs' screens are shown: none, vnc or gtk
    #[arg(long)]
    display: Option<String>,
}

impl VpduOptions {
    fn arguments(&self) -> Vec<String> {
        let single = [
            ("--firmware", &self.firmware),
            ("--nic", &self.nic),
            ("--memory", &self.memory),
            ("--num-ports", &self.num_ports),
            ("--accel", &self.accel),
            ("--display", &self.display),
        ];
        let single = single.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?)));
        let firmware = self.outlet_firmware.iter().map(|value| ("--outlet-firmware", value));
        let faults = self.outlet_fault.iter().map(|value| ("--outlet-fault", value));
        single.chain(firmware).chain(faults).map(|(option, value)| format!("{option}={value}")).collect()
    }
}

impl UpOptions {
    fn farm(&self, state_dir: &Path) -> FarmOptions {
        let mut ports = if self.ephemeral_ports { Ports::ephemeral() } else { Ports::default() };
        for (service, port) in &self.ports {
            ports.set(*service, *port);
        }
        FarmOptions {
            state_dir: state_dir.to_owned(),
            ports,
            boot_count: self.boot_count,
            env: self.env.clone(),
            images: self.images.clone(),
            bin_dir: self.bin_dir.clone().unwrap_or_else(default_bin_dir),
            vpdu_arguments: self.vpdu.arguments(),
            gateway: !self.no_gateway,
            uplink: !self.no_uplink,
        }
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Action::Supervise) {
        crate::init_log();
        return match supervisor::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(&e.to_string()),
        };
    }
    if let Action::Demo { images } = &cli.command {
        return demonstrate(images);
    }
    match act(&cli) {
        Ok(code) => code,
        Err(e) if needs_root(&e) => with_sudo(&e),
        Err(e) => fail(&e.to_string()),
    }
}

/// The demo's farm is not the one that `vivian up` leaves running.
fn demonstrate(images: &Path) -> ExitCode {
    match crate::demo::run(images, Path::new("var/demo")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => fail(&e.to_string()),
    }
}

fn act(cli: &Cli) -> Result<ExitCode, FarmError> {
    let state_dir = &cli.state_dir;
    match &cli.command {
        Action::Up(options) => up(&options.farm(state_dir)),
        Action::Run(options) => run(&options.farm(state_dir)),
        Action::Down => down(state_dir),
        Action::Status => status(state_dir),
        Action::Reset => {
            down(state_dir)?;
            record::reset(state_dir)?;
            say(&format!("{} is fresh; the images stay", state_dir.display()));
            Ok(ExitCode::SUCCESS)
        }
        Action::Connect => {
            let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
            say("you are root inside the farm now; `exit` leaves, the farm stays");
            let mut command = enterable(state_dir)?.exec(&shell);
            Err(process("run `nsenter`")(command.exec()))
        }
        Action::Exec { command } => {
            let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
            let mut command = enterable(state_dir)?.exec(&program.to_string_lossy());
            Err(process("run `nsenter`")(command.args(arguments).exec()))
        }
        Action::Demo { .. } | Action::Supervise => Ok(ExitCode::FAILURE),
    }
}

/// The running farm, if this user may enter it.
fn enterable(state_dir: &Path) -> Result<Farm, FarmError> {
    let farm = Farm::find(state_dir)?;
    if farm.supervisor().isolation == Isolation::Root && !rustix::process::geteuid().is_root() {
        return Err(process("enter a farm that root started")(io::ErrorKind::PermissionDenied.into()));
    }
    Ok(farm)
}

fn say(line: &str) {
    // A reader that left does not stop what was asked for.
    let _ = writeln!(io::stdout(), "{line}");
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "vivian: {message}");
    ExitCode::FAILURE
}

fn needs_root(e: &FarmError) -> bool {
    let forbidden = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
    let refused = match e {
        FarmError::Isolation(Refused::User(_)) => true,
        FarmError::Process { source, .. } => forbidden(source),
        _ => false,
    };
    refused && !rustix::process::geteuid().is_root()
}

/// Runs the same command again as root, where `sudo` is installed. It asks for the password itself.
fn with_sudo(why: &FarmError) -> ExitCode {
    let Ok(own) = std::env::current_exe() else { return fail(&why.to_string()) };
    say(&format!("using sudo, as {why}"));
    let e = Command::new("sudo").args(["-E", "--"]).arg(own).args(std::env::args_os().skip(1)).exec();
    fail(&format!("{why} (and sudo: {e})"))
}

fn up(options: &FarmOptions) -> Result<ExitCode, FarmError> {
    match Farm::start(options, &mut say) {
        Ok(farm) => {
            introduce(&farm, options);
            farm.leave()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(FarmError::AlreadyUp(_)) => {
            say("vivian is up already");
            status(&options.state_dir)
        }
        Err(e) => Err(e),
    }
}

fn introduce(farm: &Farm, options: &FarmOptions) {
    let Ports { executor, salad, vpdu, .. } = farm.ports();
    let at = if *vpdu == Ports::default().vpdu { String::new() } else { format!(" --port {vpdu}") };
    let dir = options.state_dir.display();
    let state = if dir.to_string() == "var/vivian" { String::new() } else { format!(" --state-dir {dir}") };
    say(&format!("the farm is up; its files are in {dir}, its logs in {dir}/log. What to type next:"));
    let mut next = Vec::new();
    if !on_path(&options.bin_dir) {
        next.push((format!("export PATH={}:$PATH", options.bin_dir.display()), "find our programs"));
    }
    next.push((format!("vpductl{at} --outlet 1 --on"), "switch a DUT on"));
    next.push((format!("vpductl{at}"), "show all outlets"));
    if options.gateway {
        next.push((format!("executorctl -e http://localhost:{executor} duts"), "show the DUTs"));
        next.push((format!("curl -s http://localhost:{executor}/api/v1/duts"), "the same in JSON"));
        next.push((format!("curl -s http://localhost:{salad}/api/v1/machine"), "the consoles"));
        next.push((
            format!("$EDITOR {dir}/permanent/mars_db.yaml"),
            "wire a DUT that registered to its outlet",
        ));
        let run = format!(
            "executorctl -e http://localhost:{executor} run -t virtio:family:VIRTIO jobs/examples/hello.yml"
        );
        next.push((run, "run a job"));
    }
    next.push((format!("tail -F {dir}/vpdu/outlet-1/console.log"), "what a DUT says"));
    next.push((format!("vivian{state} status"), "look at the farm; `connect` enters it, `down` ends it"));
    for (command, purpose) in next {
        say(&format!("  {command:50}  {purpose}"));
    }
}

/// Whether a shell finds the programs of a folder by their names.
fn on_path(folder: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|entry| entry == folder)
}

fn run(options: &FarmOptions) -> Result<ExitCode, FarmError> {
    // A Ctrl-C during the start ends this process, and the supervisor sees that its starter is gone.
    let farm = Farm::start(options, &mut say)?;
    introduce(&farm, options);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(process("watch for signals"))?;
    let (mut term, mut interrupt) = {
        let _context = runtime.enter();
        let watch = |kind| signal(kind).map_err(process("watch for signals"));
        (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?)
    };
    say("Ctrl-C ends the farm");
    loop {
        let asked = runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => true,
                _ = interrupt.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            }
        });
        if asked {
            break;
        }
        if farm.ended_within(Duration::ZERO)? {
            let log = record::log_end(farm.state_dir(), "vivian");
            return Ok(fail(&format!("the farm ended by itself; {log}")));
        }
    }
    say("ending the farm");
    farm.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn down(state_dir: &Path) -> Result<ExitCode, FarmError> {
    match Farm::find(state_dir) {
        Ok(farm) => {
            farm.stop()?;
            say("the farm is down");
        }
        Err(FarmError::NotUp(_)) => say("the farm was not up"),
        Err(e) => return Err(e),
    }
    Ok(ExitCode::SUCCESS)
}

fn status(state_dir: &Path) -> Result<ExitCode, FarmError> {
    let farm = match Farm::find(state_dir) {
        Ok(farm) => farm,
        Err(e @ FarmError::NotUp(_)) => {
            say(&e.to_string());
            return Ok(ExitCode::FAILURE);
        }
        Err(e) => return Err(e),
    };
    let supervisor = farm.supervisor();
    say(&format!("up since {}, supervisor pid {}", supervisor.since, supervisor.pid));
    let children = record::children(farm.state_dir());
    let mut well = true;
    for child in &children {
        let state = match &child.ended {
            Some(how) => format!("ENDED ({how})"),
            None => format!("runs, pid {} inside", child.pid),
        };
        well &= child.ended.is_none();
        say(&format!("{:9} {state}, log {}/log/{}.log", child.name, state_dir.display(), child.name));
    }
    let gateway = children.iter().any(|child| child.name == "farmgate");
    for service in Service::ALL {
        let answers = match service {
            Service::Vpdu => Some(health::vpdu(farm.ports())),
            Service::Executor if gateway => Some(health::executor(farm.ports())),
            Service::Salad if gateway => Some(health::salad(farm.ports())),
            _ => None,
        };
        well &= answers != Some(false);
        let word = match answers {
            Some(true) => "answers",
            Some(false) => "DOES NOT ANSWER",
            None => "forwarded",
        };
        say(&format!("{:9} 127.0.0.1:{} {word}", service.to_string(), farm.ports().get(service)));
    }
    say(&format!("outlets   {}", outlets(farm.ports())));
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outlets(ports: &Ports) -> String {
    let client = Client::new("127.0.0.1", ports.vpdu);
    let Ok(count) = client.outlets() else { return "unknown".to_owned() };
    let on: Vec<_> = Outlet::first(count)
        .filter(|outlet| matches!(client.status(*outlet), Ok(Some(true))))
        .map(|outlet| outlet.number().to_string())
        .collect();
    if on.is_empty() { format!("{count}, all off") } else { format!("{count}, on: {}", on.join(", ")) }
}
