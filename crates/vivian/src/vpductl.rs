//! Remote control of a vPDU: what a person types to press its buttons.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Parser};
use farmgate_protocol::vpdu::{DEFAULT_PORT, Reply, Request};

use crate::{
    outlet::Outlet,
    vpdu::{
        options::DEFAULT_STATE_DIR,
        qmp::{Picture, screenshot},
    },
};

/// How long the vPDU may take for an answer: an ON may have to wait for the KVM probe, an OFF for a stubborn process.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Where the outlets' folders are looked for, if not told: vivian's vPDU, then one started by hand.
const STATE_DIRS: [&str; 2] = ["var/vivian/vpdu", DEFAULT_STATE_DIR];

/// Switch the outlets of a virtual PDU. Without a command, shows the state of all of them.
#[derive(Debug, Clone, Parser)]
#[command(name = "vpductl", version, group = ArgGroup::new("command").multiple(false))]
pub struct Options {
    /// Host of the vPDU
    #[arg(long, default_value = "localhost")]
    pub host: String,
    /// TCP port of the vPDU
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// The outlet, from 1
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub outlet: Option<Outlet>,
    /// All outlets
    #[arg(long)]
    pub all: bool,
    /// Switch on
    #[arg(long, group = "command")]
    pub on: bool,
    /// Switch off; answered when the machine is gone
    #[arg(long, group = "command")]
    pub off: bool,
    /// Switch off, then on
    #[arg(long, group = "command")]
    pub reboot: bool,
    /// Show the state (the default)
    #[arg(long, group = "command")]
    pub status: bool,
    /// Switch everything off and end the vPDU
    #[arg(long, group = "command", conflicts_with_all = ["outlet", "all"])]
    pub shutdown: bool,
    /// Save what the outlet's machine shows on its screen; a .ppm or .png file
    #[arg(long, group = "command", value_name = "FILE", requires = "outlet")]
    pub screenshot: Option<PathBuf>,
    /// State directory of the vPDU, for --screenshot [default: var/vivian/vpdu, then var/vpdu]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No vPDU there.
    #[error(
        "no vPDU answers at {address} ({source}); start the virtual farm with `vivian up`, or a vPDU alone with `vpdu`"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It does not speak the protocol.
    #[error("what listens at {0} is no vPDU: it answered {1}")]
    Strange(String, u8),
    /// The port does not exist.
    #[error("there is no outlet {0}: this vPDU has {1}")]
    NoOutlet(u8, u8),
    /// It was asked, and failed.
    #[error("{0}: {1} failed; the vPDU's log says why (vivian keeps it in var/vivian/log/vpdu.log)")]
    Failed(Outlet, &'static str),
    /// It was asked to end, and failed.
    #[error("not every outlet could be switched off; the vPDU's log says which")]
    Shutdown,
    /// No button was named.
    #[error("say which: --outlet N or --all")]
    Which,
    /// No picture.
    #[error("no screenshot of {outlet} ({source}); is it on, and is {} the state directory of its vPDU?", folder.display())]
    Screenshot {
        /// Of what.
        outlet: Outlet,
        /// Where its socket was looked for.
        folder: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// A vPDU at the other end of the network.
#[derive(Debug, Clone)]
pub struct Client {
    host: String,
    port: u16,
}

impl Client {
    /// The vPDU at that host and TCP port. Nothing is sent yet.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Asks, and gives the byte that comes back.
    ///
    /// # Errors
    /// Nobody is there, or does not answer.
    pub fn ask(&self, request: Request) -> Result<u8, Failure> {
        self.exchange(request).map_err(|source| Failure::Unreachable { address: self.address(), source })
    }

    fn exchange(&self, request: Request) -> io::Result<u8> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        // `localhost` is two addresses, and the vPDU listens on one.
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(stream) => stream,
                Err(e) => {
                    last = e;
                    continue;
                }
            };
            stream.set_read_timeout(Some(ANSWER_TIME))?;
            stream.write_all(&request.encode())?;
            let mut reply = [0];
            stream.read_exact(&mut reply)?;
            return Ok(reply[0]);
        }
        Err(last)
    }

    /// How many outlets there are.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn outlets(&self) -> Result<u8, Failure> {
        self.ask(Request::NumPorts)
    }

    /// Is the outlet on? None: the vPDU does not know.
    ///
    /// # Errors
    /// Nobody is there, or it is no vPDU.
    pub fn status(&self, outlet: Outlet) -> Result<Option<bool>, Failure> {
        match self.ask(Request::Status(outlet.wire_index()))? {
            byte if byte == Reply::On as u8 => Ok(Some(true)),
            byte if byte == Reply::Off as u8 => Ok(Some(false)),
            byte if byte == Reply::Error as u8 => Ok(None),
            byte => Err(Failure::Strange(self.address(), byte)),
        }
    }

    /// Switches the outlet.
    ///
    /// # Errors
    /// Nobody is there, or the vPDU failed to.
    pub fn switch(&self, outlet: Outlet, on: bool) -> Result<(), Failure> {
        let (request, word) = if on {
            (Request::On(outlet.wire_index()), "ON")
        } else {
            (Request::Off(outlet.wire_index()), "OFF")
        };
        match Reply::decode(self.ask(request)?) {
            Some(Reply::Ok) => Ok(()),
            _ => Err(Failure::Failed(outlet, word)),
        }
    }

    /// Switches everything off and ends the vPDU.
    ///
    /// # Errors
    /// Nobody is there, or not everything could be switched off.
    pub fn shutdown(&self) -> Result<(), Failure> {
        match Reply::decode(self.ask(Request::Shutdown)?) {
            Some(Reply::Ok) => Ok(()),
            _ => Err(Failure::Shutdown),
        }
    }
}

/// Does what the options say, with its words going to `out`. With several outlets, all are tried; the first failure
/// is the result.
///
/// # Errors
/// The vPDU is not there, refuses, or fails.
pub fn run(options: &Options, out: &mut impl io::Write) -> Result<(), Failure> {
    let client = Client::new(&options.host, options.port);
    let mut say = |line: String| {
        // A reader that left does not stop what was asked for.
        let _ = writeln!(out, "{line}");
    };
    if options.shutdown {
        client.shutdown()?;
        say("every outlet is off, the vPDU ends".to_owned());
        return Ok(());
    }
    if let (Some(file), Some(outlet)) = (&options.screenshot, options.outlet) {
        take_screenshot(options.state_dir.as_deref(), outlet, file)?;
        say(format!("{outlet}: screen saved in {}", file.display()));
        return Ok(());
    }
    let switching = options.on || options.off || options.reboot;
    let count = client.outlets()?;
    let outlets: Vec<Outlet> = match options.outlet {
        Some(outlet) if outlet.number() > count => return Err(Failure::NoOutlet(outlet.number(), count)),
        Some(outlet) => vec![outlet],
        None if switching && !options.all => return Err(Failure::Which),
        None => Outlet::first(count).collect(),
    };
    let mut result = Ok(());
    for outlet in outlets {
        match press(&client, options, outlet) {
            Ok(word) => say(format!("{outlet}: {word}")),
            Err(e) => {
                if result.is_ok() {
                    result = Err(e);
                } else {
                    say(e.to_string());
                }
            }
        }
    }
    result
}

fn press(client: &Client, options: &Options, outlet: Outlet) -> Result<&'static str, Failure> {
    if options.off || options.reboot {
        client.switch(outlet, false)?;
    }
    if options.on || options.reboot {
        client.switch(outlet, true)?;
    }
    Ok(match client.status(outlet)? {
        Some(true) => "ON",
        Some(false) => "OFF",
        None => "UNKNOWN (its last OFF failed)",
    })
}

fn take_screenshot(state_dir: Option<&Path>, outlet: Outlet, file: &Path) -> Result<(), Failure> {
    let folder = state_dir
        .into_iter()
        .chain(STATE_DIRS.iter().map(Path::new).filter(|_| state_dir.is_none()))
        .map(|dir| dir.join(outlet.folder()))
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| state_dir.unwrap_or(Path::new(STATE_DIRS[0])).join(outlet.folder()));
    let is_png = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    screenshot(&folder, file, if is_png { Picture::Png } else { Picture::Ppm })
        .map_err(|source| Failure::Screenshot { outlet, folder, source })
}
