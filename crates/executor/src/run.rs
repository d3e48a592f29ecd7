//! Drives one `JobRun`: feeds it what happens (power, boot, console, timers, the client) and carries out what it
//! says. All decisions are the state machine's; this is its edge.

mod boundary;
mod prepare;

use std::{pin::Pin, sync::Arc, time::Duration};

use farmgate_boots::Sighting;
use farmgate_job::{
    Action, BootKind, Cause, Event, Job, JobRun, Outcome, Phase, RunSpec, TimerId, Variables,
};
use farmgate_pdu::{PduHandle, PowerError};
use farmgate_protocol::{
    DutId, JobStatus, MacAddress, PortId, Timestamp,
    console::{Control, Severity, Tag},
};
use farmgate_salad::{Chunk, ConsoleOffset, Salad};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use self::{
    boundary::{Boot, PowerStage, may_be_on_from},
    prepare::{Plans, Prepared, prepare},
};
use crate::{
    artifacts::ArtifactCache,
    boot_table::{BootTable, describe},
    client::{ClientItem, Console, News, RunClient},
    events::EventLog,
};

/// What a run uses of its DUT and of the gateway.
#[derive(Clone)]
pub(crate) struct RunContext {
    /// Number of the run.
    pub run: u64,
    pub dut: DutId,
    pub mac: MacAddress,
    pub pdu: PduHandle,
    pub port: PortId,
    pub min_off: Duration,
    pub salad: Salad,
    pub boots: Arc<BootTable>,
    pub artifacts: Arc<ArtifactCache>,
    /// What the job was rendered with; its `data` artifacts are templates too.
    pub variables: Arc<Variables>,
    pub events: EventLog,
}

/// What others may ask of a run.
#[derive(Debug)]
pub(crate) enum Command {
    /// End it.
    Cancel {
        /// Who wants that, for the verdict.
        by: String,
    },
}

/// What joins a run with others while it lasts.
pub(crate) struct Wires {
    /// Where its console begins.
    pub from: ConsoleOffset,
    /// Who waits for it.
    pub client: Option<RunClient>,
    /// What others ask of it.
    pub commands: mpsc::Receiver<Command>,
    /// Where it tells its phase.
    pub phase: watch::Sender<Phase>,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct RunReport {
    pub outcome: Outcome,
    /// The line by which the machine said that it is unfit for service.
    pub unfit: Option<String>,
    /// The longest that its firmware took from the confirmed ON to its first network boot request.
    pub firmware: Option<Duration>,
    /// Its part of the machine's console record.
    pub console: std::ops::Range<ConsoleOffset>,
    pub elapsed: Duration,
}

/// Runs a job on a DUT to its verdict. The port is OFF when it returns, or the report says why it is not.
pub(crate) async fn drive(
    context: RunContext,
    job: Job,
    learned_firmware_time: Option<Duration>,
    wires: Wires,
) -> RunReport {
    let Wires { from, client, mut commands, phase } = wires;
    let run = context.run;
    let started = Instant::now();
    let mut sightings = context.boots.begin(context.mac, run);
    let _plan = PlanGuard { boots: Arc::clone(&context.boots), mac: context.mac, run };
    let spec = RunSpec { job: job.clone(), firmware_boot_time: learned_firmware_time };
    let (machine, actions) = JobRun::new(spec, Timestamp::now());
    let mut edge = Edge {
        console: Console::new(context.salad.clone(), context.dut.to_string(), from),
        machine,
        job,
        run,
        plans: None,
        preparing: None,
        power: JoinSet::new(),
        power_news: mpsc::channel(4),
        power_stage: PowerStage::Off,
        held: Vec::new(),
        timers: Vec::new(),
        client,
        phase,
        unfit: None,
        on_since: None,
        firmware: None,
        context,
    };
    edge.perform(actions);
    while edge.machine.outcome().is_none() {
        edge.step(&mut sightings, &mut commands).await;
    }
    let to = edge.console.at;
    let outcome = edge.machine.outcome().cloned().unwrap_or_else(|| Outcome {
        status: JobStatus::Unknown,
        cause: Cause::Bug,
        summary: "the run ended without a verdict".to_owned(),
        attempts: Vec::new(),
    });
    edge.emit("run", format!("job {run} is over: {} ({})", outcome.status, outcome.summary));
    edge.tell_end(outcome.status);
    RunReport {
        outcome,
        unfit: edge.unfit,
        firmware: edge.firmware,
        console: from..to,
        elapsed: started.elapsed(),
    }
}

/// Takes the run's boot plan away, however the run ends: a machine must not boot the files of a job that is over.
struct PlanGuard {
    boots: Arc<BootTable>,
    mac: MacAddress,
    run: u64,
}

impl Drop for PlanGuard {
    fn drop(&mut self) {
        self.boots.end(self.mac, self.run);
    }
}

/// Console pieces and sightings that are held back at most. The console then waits in its record; further sightings
/// tell nothing new.
const HELD: usize = 256;

/// Something that arrived before the PDU confirmed that the port is on.
enum Held {
    Console(Chunk),
    Sighting(Sighting),
}

/// News of the power task.
enum PowerNews {
    /// And from when on it may be switched on.
    SeenOff {
        since: Timestamp,
    },
    SeenOn,
    Final,
    Failed {
        message: String,
        teardown: bool,
    },
}

struct Edge {
    context: RunContext,
    run: u64,
    machine: JobRun,
    job: Job,
    console: Console,
    plans: Option<Plans>,
    preparing: Option<Pin<Box<dyn Future<Output = Prepared> + Send>>>,
    power: JoinSet<()>,
    power_news: (mpsc::Sender<PowerNews>, mpsc::Receiver<PowerNews>),
    power_stage: PowerStage,
    held: Vec<Held>,
    timers: Vec<(TimerId, Instant)>,
    client: Option<RunClient>,
    phase: watch::Sender<Phase>,
    unfit: Option<String>,
    /// When ON was confirmed, until the firmware has asked to boot.
    on_since: Option<Timestamp>,
    firmware: Option<Duration>,
}

impl Edge {
    /// Waits for the next thing that happens and deals with it.
    async fn step(
        &mut self,
        sightings: &mut mpsc::Receiver<Sighting>,
        commands: &mut mpsc::Receiver<Command>,
    ) {
        let timer = self.timers.iter().map(|(_, at)| *at).min();
        tokio::select! {
            chunk = self.console.next(), if self.held.len() < HELD => self.console_said(chunk),
            Some(sighting) = sightings.recv() => self.saw(sighting),
            Some(news) = self.power_news.1.recv() => self.power_changed(news),
            prepared = wait_for(&mut self.preparing) => self.prepared(prepared),
            () = sleep_until(timer) => self.timer_fired(),
            Some(Command::Cancel { by }) = commands.recv() => self.feed(Event::Cancel { by }),
            typed = read_input(&mut self.client) => match typed {
                Some(bytes) => self.typed(&bytes).await,
                None => {
                    self.client = None;
                    self.feed(Event::ClientGone);
                }
            },
        }
    }

    fn feed(&mut self, event: Event<'_>) {
        let actions = self.machine.on(event, Timestamp::now());
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare { .. } => {
                    let (context, job) = (self.context.clone(), self.job.clone());
                    self.preparing = Some(Box::pin(async move { prepare(&context, &job).await }));
                }
                Action::SetBootPlan { boot } => self.set_plan(boot),
                Action::PowerCycle => self.power_cycle(),
                Action::PowerOff => self.power_off(),
                Action::ArmTimer { timer, at } => {
                    self.timers.retain(|(t, _)| *t != timer);
                    self.timers.push((timer, Instant::now() + at.since(Timestamp::now())));
                }
                Action::DisarmTimer { timer } => self.timers.retain(|(t, _)| *t != timer),
                Action::Tell(control) => self.tell(control),
                Action::UnfitForService { line } => {
                    self.emit(
                        "unfit",
                        format!("the machine says that it is unfit for service: {}", line.trim_end()),
                    );
                    self.unfit = Some(line);
                }
                Action::Finish(_) => self.timers.clear(), // the verdict is read from the machine
            }
        }
        // Nobody may be watching; then the phase is of no interest.
        let _ = self.phase.send_if_modified(|known| {
            let now = self.machine.phase();
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    fn tell(&mut self, control: Control) {
        let mut details = control.metadata.clone();
        details.insert("tag".to_owned(), Value::from(control.tag as u16));
        details.insert("run".to_owned(), Value::from(self.run));
        self.context.events.emit(Some(&self.context.dut), "run", control.msg.trim_end(), details);
        self.send(News::Control(control));
    }

    fn tell_end(&mut self, status: JobStatus) {
        self.send(News::End { status });
    }

    fn send(&mut self, news: News) {
        if let Some(client) = &self.client {
            // A client that is gone is noticed by its input; its messages are dropped.
            let _ = client.items.send(ClientItem { at: self.console.at, date: Timestamp::now(), news });
        }
    }

    fn emit(&self, kind: &str, text: String) {
        let mut details = Map::new();
        details.insert("run".to_owned(), Value::from(self.run));
        self.context.events.emit(Some(&self.context.dut), kind, text, details);
    }

    fn set_plan(&mut self, boot: BootKind) {
        let plan = self.plans.as_ref().map(|plans| match boot {
            BootKind::Start => plans.start.clone(),
            BootKind::Continue => plans.next.clone(),
        });
        self.context.boots.set_plan(self.context.mac, self.run, plan);
    }

    fn prepared(&mut self, prepared: Prepared) {
        self.preparing = None;
        match prepared {
            Ok((plans, warnings)) => {
                self.plans = Some(plans);
                for warning in warnings {
                    self.tell(Control::info(Tag::None, warning).severity(Severity::Warn));
                }
                self.feed(Event::SetupDone);
            }
            Err((cause, message)) => self.feed(Event::SetupFailed { cause, message }),
        }
    }

    fn console_said(&mut self, chunk: Chunk) {
        match self.power_stage.belongs(Timestamp::from_micros(chunk.time.0)) {
            Boot::Present => self.feed(Event::Console { bytes: &chunk.bytes }),
            Boot::Starting => self.held.push(Held::Console(chunk)),
            // Shown to the client, but it says nothing about this boot.
            Boot::Before => {}
        }
    }

    fn saw(&mut self, sighting: Sighting) {
        match self.power_stage.belongs(sighting.time) {
            Boot::Present => {
                let stage = describe(&sighting.stage).0;
                // Only what tells that a firmware boots over the network: a machine that boots from its disk gets
                // an address too.
                if !matches!(stage, "os-dhcp" | "dhcp-ack") {
                    if let Some(on) = self.on_since.take() {
                        self.firmware = self.firmware.max(Some(sighting.time.since(on)));
                    }
                    self.feed(Event::BootStage { stage: stage.to_owned() });
                }
            }
            Boot::Starting if self.held.len() < HELD => {
                self.held.push(Held::Sighting(sighting));
            }
            Boot::Starting | Boot::Before => {}
        }
    }

    fn power_changed(&mut self, news: PowerNews) {
        match news {
            PowerNews::SeenOff { since } => {
                self.power_stage = PowerStage::Starting { since };
                self.feed(Event::PowerOff);
            }
            PowerNews::SeenOn => {
                if let PowerStage::Starting { since } = self.power_stage {
                    self.power_stage = PowerStage::On { since };
                }
                self.on_since = Some(Timestamp::now());
                self.feed(Event::PowerOn);
                for held in std::mem::take(&mut self.held) {
                    match held {
                        Held::Console(chunk) => self.console_said(chunk),
                        Held::Sighting(sighting) => self.saw(sighting),
                    }
                }
            }
            PowerNews::Final => {
                self.power_stage = PowerStage::Off;
                self.feed(Event::TeardownDone);
            }
            PowerNews::Failed { message, teardown: true } => self.feed(Event::TeardownFailed { message }),
            PowerNews::Failed { message, teardown: false } => self.feed(Event::PowerFailed { message }),
        }
    }

    fn power_cycle(&mut self) {
        self.replace_power_task();
        let (RunContext { pdu, port, min_off, .. }, news) = (self.context.clone(), self.power_news.0.clone());
        self.power.spawn(async move {
            let result = async {
                let before = pdu.snapshot().borrow().pdu.ports.get(port.as_str()).cloned();
                pdu.off(&port).await?;
                let since = may_be_on_from(before.as_ref(), min_off, Timestamp::now());
                // The run may have ended: then nobody listens.
                let _ = news.send(PowerNews::SeenOff { since }).await;
                pdu.on(&port, min_off).await
            };
            let told = match result.await {
                Ok(()) => PowerNews::SeenOn,
                Err(error) => {
                    PowerNews::Failed { message: power_message(&pdu, &port, &error), teardown: false }
                }
            };
            let _ = news.send(told).await;
        });
    }

    fn power_off(&mut self) {
        self.replace_power_task();
        let (RunContext { pdu, port, .. }, news) = (self.context.clone(), self.power_news.0.clone());
        self.power.spawn(async move {
            let told = match pdu.off(&port).await {
                Ok(()) => PowerNews::Final,
                Err(error) => {
                    PowerNews::Failed { message: power_message(&pdu, &port, &error), teardown: true }
                }
            };
            // The run may have ended: then nobody listens.
            let _ = news.send(told).await;
        });
    }

    /// Ends what the power task was doing, and forgets what it still had to say.
    fn replace_power_task(&mut self) {
        self.power = JoinSet::new();
        self.power_news = mpsc::channel(4);
        self.power_stage = PowerStage::Off;
        self.held.clear();
    }

    fn timer_fired(&mut self) {
        let now = Instant::now();
        let due: Vec<TimerId> =
            self.timers.iter().filter(|(_, at)| *at <= now).map(|(t, _)| t.clone()).collect();
        for timer in due {
            // Dealing with one may have disarmed or re-armed the next.
            if self.timers.iter().any(|(t, at)| *t == timer && *at <= now) {
                self.timers.retain(|(t, _)| *t != timer);
                self.feed(Event::Timer { timer });
            }
        }
    }

    async fn typed(&mut self, bytes: &[u8]) {
        let write = self.context.salad.write(self.context.dut.as_str(), bytes);
        match tokio::time::timeout(Duration::from_secs(1), write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(dut = %self.context.dut, %error, "typed text is lost"),
            Err(_) => {
                tracing::info!(dut = %self.context.dut, "typed text is lost: the console does not take it")
            }
        }
    }
}

fn power_message(pdu: &PduHandle, port: &PortId, error: &PowerError) -> String {
    format!("PDU {} port {port}: {}", pdu.name(), with_causes(error))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn wait_for(preparing: &mut Option<Pin<Box<dyn Future<Output = Prepared> + Send>>>) -> Prepared {
    match preparing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn read_input(client: &mut Option<RunClient>) -> Option<Vec<u8>> {
    match client {
        Some(client) => client.input.recv().await,
        None => std::future::pending().await,
    }
}
