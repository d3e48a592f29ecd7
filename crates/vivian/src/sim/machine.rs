//! One boot of a simulated machine: firmware, network boot, kernel. It plays over real connections: its console to
//! SALAD, its script and files from the gateway; it ends when its outlet goes off. A firmware that does not get
//! something tries again without a word, so that what a boot prints does not depend on how fast the gateway was.

use std::{
    fs::{self, File},
    io::Write as _,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

use super::{
    World, artifact,
    behaviour::{Order, Play, Step},
    script::{self, BootScript, NoBoot},
    seed::Seed,
};

/// Between two tries of a firmware.
const AGAIN: Duration = Duration::from_millis(150);

/// Tries of each thing: two minutes, like a real firmware that waits for a gateway which is just restarting.
const TRIES: u32 = 800;

/// The longest that a machine waits for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Lives until the outlet goes off, which drops it. `boot`: times that the outlet was switched on.
pub(super) async fn live(world: Arc<World>, dut: u32, boot: u64) {
    let mut machine = Machine { console: Console::new(&world, dut, boot), world, dut, boot };
    machine.play().await;
    // It is on and does nothing more. Its console stays connected.
    std::future::pending::<()>().await;
}

struct Machine {
    world: Arc<World>,
    dut: u32,
    boot: u64,
    console: Console,
}

/// It cannot go on.
struct Lost(String);

impl Machine {
    async fn play(&mut self) {
        if let Err(Lost(why)) = self.boot().await {
            self.note("lost", &[("why", why.into())]);
        }
    }

    fn note(&self, event: &str, more: &[(&str, serde_json::Value)]) {
        let mut all = vec![("boot", self.boot.into())];
        all.extend_from_slice(more);
        self.world.journal.note(self.dut, event, &all);
    }

    async fn boot(&mut self) -> Result<(), Lost> {
        // How long differs from boot to boot, what is said does not.
        let mut pace = Seed::new(self.world.seed ^ (u64::from(self.dut) << 32) ^ self.boot);
        let (least, most) = self.world.firmware;
        sleep(Duration::from_millis(pace.between(least, most))).await;
        self.console.connect().await;
        let bios = format!("SimBIOS (simulated machine {})\r\n", self.dut);
        self.console.print(bios.as_bytes()).await;
        if self.world.outlet(self.dut).takes_noboot() {
            self.note("noboot", &[]);
            self.console.print(b"No bootable device\r\n").await;
            return Ok(());
        }
        self.console.print(b"iPXE (simulated)\r\n").await;
        let fragile = self.world.outlet(self.dut).faults().fragile;
        let (base, script) = self.script().await?;
        self.note("script", &[]);
        self.console.print(format!("{}\r\n", script.announcement).as_bytes()).await;
        let kernel = self.file(&format!("{base}/{}", script.kernel), fragile).await?;
        self.note("kernel", &[("bytes", kernel.len().into())]);
        let slow = self.world.outlet(self.dut).faults().slow_boot;
        sleep(Duration::from_millis(slow)).await;
        let initrd = match &script.initrd {
            Some(initrd) => self.file(&format!("{base}/{initrd}"), fragile).await?,
            None => Vec::new(),
        };
        self.note("initrd", &[("bytes", initrd.len().into())]);
        for (name, content) in [("kernel", &kernel), ("initrd", &initrd)] {
            if !content.is_empty() && !artifact::is_whole(content) {
                self.console.print(format!("the {name} is damaged\r\n").as_bytes()).await;
                return Err(Lost(format!("the {name} is damaged")));
            }
        }
        self.kernel(&script).await
    }

    /// The script, and what its URLs are relative to.
    async fn script(&self) -> Result<(String, BootScript), Lost> {
        let base = format!("http://{}/boot/{}", self.world.gateway, super::mac(self.dut));
        let url = format!("{base}/boot.ipxe?platform=pcbios&buildarch=x86_64");
        for _ in 0..TRIES {
            if let Ok(text) = self.get(&url).await {
                match script::read(&String::from_utf8_lossy(&text)) {
                    Ok(script) => return Ok((base, script)),
                    Err(NoBoot::NoScript) => return Err(Lost(NoBoot::NoScript.to_string())),
                    Err(NoBoot::Refused(_)) => {}
                }
            }
            sleep(AGAIN).await;
        }
        Err(Lost("it never got its script".to_owned()))
    }

    async fn file(&self, url: &str, fragile: bool) -> Result<Vec<u8>, Lost> {
        for _ in 0..TRIES {
            match self.get(url).await {
                Ok(content) => return Ok(content),
                Err(error) if fragile => return Err(Lost(format!("a fragile firmware: {error}"))),
                Err(_) => sleep(AGAIN).await,
            }
        }
        Err(Lost(format!("it never got {url}")))
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let get = async {
            let answer = self.world.http.get(url).send().await?.error_for_status()?;
            answer.bytes().await.map(|bytes| bytes.to_vec())
        };
        match tokio::time::timeout(ANSWER, get).await {
            Ok(got) => got.map_err(|error: reqwest::Error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    async fn kernel(&mut self, script: &BootScript) -> Result<(), Lost> {
        let Some(order) = Order::read(&script.cmdline) else {
            return Err(Lost(format!("the command line names no behaviour: {}", script.cmdline)));
        };
        let count = self.world.count(self.dut, &order.job);
        let more = [("job", order.job.clone().into()), ("count", count.into())];
        self.note("booted", &more);
        let registered = match order.play {
            Play::Register | Play::Check => self.register(order.play == Play::Check).await,
            Play::Named(..) => true,
        };
        let id = script.announcement.strip_prefix("SALAD.machine_id=").unwrap_or_default();
        let mut steps = order.steps(id, count, registered).into_iter();
        let last = steps.len().saturating_sub(1);
        for (number, step) in steps.by_ref().enumerate() {
            if number == last / 2 {
                self.note("half", &[]);
            }
            match step {
                Step::Wait(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
                Step::Print(bytes) => self.console.print(&bytes).await,
                Step::Drop => self.console.stream = None,
                Step::Back => self.console.connect().await,
            }
            if number == last {
                self.note("quiet", &[]);
            }
        }
        Ok(())
    }

    /// Says who it is, or asks whether it is what the gateway knows of it.
    async fn register(&self, check: bool) -> bool {
        let query = if check { "?check=true" } else { "" };
        let url = format!("http://{}/api/v1/dut/{query}", self.world.gateway);
        let body = json!({
            "mac_address": super::mac(self.dut),
            "base_name": super::BASE_NAME,
            "tags": [super::TAG],
        });
        for _ in 0..TRIES {
            let sent =
                self.world.http.post(&url).header("content-type", "application/json").body(body.to_string());
            let answer = tokio::time::timeout(ANSWER, sent.send()).await;
            if let Ok(Ok(answer)) = answer
                && !answer.status().is_server_error()
            {
                let fine = answer.status().is_success();
                let said: serde_json::Value = answer
                    .bytes()
                    .await
                    .ok()
                    .and_then(|b| serde_json::from_slice(&b).ok())
                    .unwrap_or_default();
                let same = said["differences"].as_array().is_none_or(Vec::is_empty);
                return fine && (same || !check);
            }
            sleep(AGAIN).await;
        }
        false
    }
}

/// The serial console, and a copy of what was said on it.
struct Console {
    address: String,
    stream: Option<TcpStream>,
    /// None: nobody wants it, or it cannot be written.
    copy: Option<File>,
}

impl Console {
    fn new(world: &World, dut: u32, boot: u64) -> Self {
        let copy = world.consoles.as_ref().and_then(|folder| {
            let folder = folder.join(dut.to_string());
            let made =
                fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(format!("{boot}.log"))));
            made.inspect_err(|error| tracing::warn!(dut, %error, "no copy of a console")).ok()
        });
        Self { address: world.console.clone(), stream: None, copy }
    }

    /// Connects, however long it takes.
    async fn connect(&mut self) {
        loop {
            if let Ok(stream) = TcpStream::connect(&self.address).await {
                // Late bytes are all that is lost if this fails.
                let _ = stream.set_nodelay(true);
                self.stream = Some(stream);
                return;
            }
            sleep(AGAIN).await;
        }
    }

    async fn print(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        if stream.write_all(bytes).await.is_err() {
            // SALAD is gone: like the wire of a serial port, nobody hears what is said.
            self.stream = None;
            return;
        }
        if let Some(copy) = &mut self.copy {
            // A copy that ends early fails the test that reads it.
            let _ = copy.write_all(bytes);
        }
    }
}
