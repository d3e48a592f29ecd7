//! Boots every machine on an interface with the same kernel: network boot without anything around it.
//!
//! ```text
//! boots --interface private --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0'
//! ```
//!
//! It prints each step of each client with the seconds since it started.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use farmgate_boots::{
    BootDirectory, BootPlan, Boots, BootsConfig, Content, Reservation, ScriptRequest, Sighting, http,
};
use farmgate_protocol::MacAddress;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
struct Options {
    /// The interface that the machines are on
    #[arg(long, default_value = "private")]
    interface: String,
    /// This machine's address on it; clients get x.x.x.100 to x.x.x.199
    #[arg(long, default_value = "10.42.0.1")]
    address: Ipv4Addr,
    /// The kernel
    #[arg(long)]
    kernel: PathBuf,
    /// Initramfs archives, joined in this order
    #[arg(long)]
    initrd: Vec<PathBuf>,
    /// The kernel command line
    #[arg(long, default_value = "console=ttyS0")]
    cmdline: String,
    /// Boot loaders
    #[arg(long, default_value = "/usr/lib/ipxe")]
    tftp_root: PathBuf,
    /// Send no IPv6 router advertisements (to see what they are for)
    #[arg(long)]
    no_router_advertisements: bool,
    /// Refuse to boot anything, for this reason
    #[arg(long)]
    refuse: Option<String>,
}

struct Everyone {
    options: Options,
    started: Instant,
}

impl BootDirectory for Everyone {
    fn reservation(&self, _: MacAddress) -> Option<Reservation> {
        None
    }
    fn is_reserved(&self, _: Ipv4Addr) -> bool {
        false
    }
    fn plan(&self, mac: MacAddress, _: &ScriptRequest) -> Result<BootPlan, String> {
        if let Some(reason) = &self.options.refuse {
            return Err(reason.clone());
        }
        Ok(BootPlan {
            console_id: mac.to_string(),
            kernel: Content::File(self.options.kernel.clone()),
            initrds: self.options.initrd.iter().cloned().map(Content::File).collect(),
            cmdline: self.options.cmdline.clone(),
        })
    }
    fn saw(&self, sighting: Sighting) {
        println!("{:7.2} {} {:?}", self.started.elapsed().as_secs_f64(), sighting.mac, sighting.stage);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let options = Options::parse();
    let [a, b, c, _] = options.address.octets();
    let config = BootsConfig {
        interface: options.interface.clone(),
        address: options.address,
        prefix_len: 24,
        pool: Ipv4Addr::new(a, b, c, 100)..=Ipv4Addr::new(a, b, c, 199),
        tftp_root: options.tftp_root.clone(),
        base_url: format!("http://{}", options.address),
        lease_time: Duration::from_secs(3600),
        dhcp: true,
        tftp: true,
        router_advertisements: !options.no_router_advertisements,
    };
    let listener = tokio::net::TcpListener::bind(SocketAddr::from((options.address, 80))).await?;
    let firmware = http::firmware_router(options.tftp_root.clone());
    let directory: Arc<dyn BootDirectory> = Arc::new(Everyone { options, started: Instant::now() });
    let shutdown = CancellationToken::new();
    let boots = Boots::start(config, Arc::clone(&directory), shutdown.clone()).await?;
    println!("serving");
    tokio::select! {
        ended = axum::serve(listener, http::router(directory).merge(firmware)) => ended?,
        // Connections are cut: one to a machine that lost its power would never end by itself.
        signal = tokio::signal::ctrl_c() => signal?,
    }
    shutdown.cancel();
    boots.stopped().await;
    Ok(())
}
