//! Drives one `JobRun`: feeds it what happens (power, boot, console, timers, the client) and carries out what it
//! says. All decisions are the state machine's; this is its edge. Each step is stored before it is acted on
//! ([`journal`]), so that a gateway that was killed goes on with the run where it stood.

mod boundary;
pub(crate) mod checkpoint;
mod journal;
mod power;
mod prepare;

pub(crate) use journal::{control_from_json, control_to_json};

use std::{pin::Pin, sync::Arc, time::Duration};

use farmgate_boots::Sighting;
use farmgate_job::{
    Action, BootKind, Cause, Event, Job, JobRun, Outcome, Phase, RunSpec, TimerId, Variables,
};
use farmgate_pdu::PduHandle;
use farmgate_protocol::{
    DutId, JobStatus, MacAddress, PortId, Timestamp,
    console::{Control, Severity, Tag},
};
use farmgate_salad::{Chunk, ConsoleOffset, Salad};
use farmgate_store::{Change, Kept, Store, StoreError};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use self::{
    boundary::{Boot, PowerStage},
    checkpoint::Checkpoint,
    journal::Journal,
    power::{Power, PowerNews},
    prepare::{Plans, Prepared, prepare},
};
use crate::{
    artifacts::ArtifactCache,
    boot_table::{BootTable, describe},
    client::Console,
    events::EventLog,
    runs::{OwnEnds, log::ConsolePlace},
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
    pub store: Store,
    /// What stays of the submission when the run has ended: no secrets.
    pub kept: Kept,
    /// How long the machine's firmware takes, where that was learned.
    pub firmware_time: Option<Duration>,
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

/// How a run comes to its edge.
pub(crate) enum Begin {
    /// It has just got its machine.
    New {
        job: Box<Job>,
        /// Where its console begins.
        from: ConsoleOffset,
        /// What makes it known to the store; committed with its first step.
        creation: Vec<Change>,
        /// Told when it is stored.
        stored: Option<oneshot::Sender<Result<(), StoreError>>>,
    },
    /// A gateway that died had it.
    Again {
        job: Box<Job>,
        checkpoint: Box<Checkpoint>,
        from: ConsoleOffset,
        /// The console up to here is in the checkpoint.
        fed: ConsoleOffset,
    },
}

/// How it went.
#[derive(Debug)]
pub(crate) struct RunReport {
    pub run: u64,
    pub outcome: Outcome,
    /// The line by which the machine said that it is unfit for service.
    pub unfit: Option<String>,
    /// The longest that its firmware took from the confirmed ON to its first network boot request.
    pub firmware: Option<Duration>,
    /// Its part of the machine's console record.
    pub console: std::ops::Range<ConsoleOffset>,
    pub elapsed: Duration,
}

/// A preparation that takes no longer is stored together with the run itself: one wait for the disk less.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Runs a job on a DUT to its verdict. The port is OFF when it returns, or the report says why it is not.
pub(crate) async fn drive(
    context: RunContext,
    begin: Begin,
    ends: OwnEnds,
    phase: watch::Sender<Phase>,
) -> RunReport {
    let run = context.run;
    let started = Instant::now();
    let sightings = context.boots.begin(context.mac, run);
    let _plan = PlanGuard { boots: Arc::clone(&context.boots), mac: context.mac, run };
    // A receiver is read only here; the run is told to go by the guard that the DUT's task holds.
    let _ = ends.dut.send(Some(context.dut.clone()));
    let (mut edge, from) = match begin {
        Begin::New { job, from, creation, stored } => {
            let machine = context.dut.to_string();
            ends.live.log.set_console(ConsolePlace { machine, from });
            let spec = RunSpec { job: *job, firmware_boot_time: context.firmware_time };
            let (machine, actions) = JobRun::new(spec, Timestamp::now());
            let mut edge = Edge::new(context, machine, from, ends, sightings, phase);
            edge.joules_from = edge.counted_joules();
            edge.journal.begin(creation, stored);
            edge.settle(actions, false).await;
            edge.prepare_at_once().await;
            (edge, from)
        }
        Begin::Again { job, checkpoint, from, fed } => {
            let spec = RunSpec { job: *job, firmware_boot_time: checkpoint.firmware_time };
            let machine = JobRun::restore(spec, checkpoint.machine.clone());
            let mut edge = Edge::new(context, machine, fed, ends, sightings, phase);
            edge.take_up(*checkpoint).await;
            (edge, from)
        }
    };
    while edge.machine.outcome().is_none() {
        edge.step().await;
    }
    edge.report(from, started.elapsed())
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

struct Edge {
    context: RunContext,
    machine: JobRun,
    journal: Journal,
    console: Console,
    plans: Option<Plans>,
    preparing: Option<Pin<Box<dyn Future<Output = Prepared> + Send>>>,
    power: Power,
    power_stage: PowerStage,
    /// When the last power cycle or the last OFF was asked for: a PDU is not borne anew after each restart.
    power_asked: Timestamp,
    /// A gateway that died was in the middle of a power cycle, which goes on where it stood.
    cycle_goes_on: bool,
    held: Vec<Held>,
    timers: Vec<(TimerId, Instant)>,
    ends: OwnEnds,
    /// That the client is gone was said.
    client_gone: bool,
    sightings: mpsc::Receiver<Sighting>,
    phase: watch::Sender<Phase>,
    unfit: Option<String>,
    /// When ON was confirmed, until the firmware has asked to boot.
    on_since: Option<Timestamp>,
    firmware: Option<Duration>,
    /// Where the port's count of joules stood at the beginning. None: not measured, or a gateway before began the run.
    joules_from: Option<f64>,
}

impl Edge {
    fn new(
        context: RunContext,
        machine: JobRun,
        at: ConsoleOffset,
        ends: OwnEnds,
        sightings: mpsc::Receiver<Sighting>,
        phase: watch::Sender<Phase>,
    ) -> Self {
        Self {
            console: Console::new(context.salad.clone(), context.dut.to_string(), at),
            journal: Journal::new(context.store.clone(), Arc::clone(&ends.live.log)),
            machine,
            plans: None,
            preparing: None,
            power: Power::new(),
            power_stage: PowerStage::Off,
            power_asked: Timestamp::now(),
            cycle_goes_on: false,
            held: Vec::new(),
            timers: Vec::new(),
            ends,
            client_gone: false,
            sightings,
            phase,
            unfit: None,
            on_since: None,
            firmware: None,
            joules_from: None,
            context,
        }
    }

    fn counted_joules(&self) -> Option<f64> {
        let snapshot = self.context.pdu.snapshot();
        snapshot.borrow().pdu.ports.get(self.context.port.as_str()).and_then(|port| port.energy)
    }

    /// What the machine drew in this run, joules.
    fn joules(&self) -> Option<f64> {
        Some((self.counted_joules()? - self.joules_from?).max(0.0))
    }

    /// Gives a preparation that has nothing to fetch the chance to be stored together with the run.
    async fn prepare_at_once(&mut self) {
        if let Ok(prepared) = tokio::time::timeout(AT_ONCE, wait_for(&mut self.preparing)).await {
            self.prepared(prepared).await;
        }
        self.flush().await;
    }

    /// Goes on where the gateway that died stood.
    async fn take_up(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { machine: _, firmware_time: _, plans, power, power_asked, on_since, firmware, unfit } =
            checkpoint;
        self.plans = plans.map(Into::into);
        if let Some(plans) = &mut self.plans {
            plans.pin_again(&self.context.artifacts);
        }
        (self.power_stage, self.on_since) = (power, on_since);
        (self.firmware, self.unfit) = (firmware, unfit);
        let phase = self.machine.phase();
        self.power_asked = power_asked;
        self.cycle_goes_on = phase == Phase::PoweringOn;
        if !matches!(phase, Phase::Teardown | Phase::Done) {
            let text = "The gateway was restarted; the job goes on";
            let control = Control::info(Tag::Resumed, text).severity(Severity::Warn);
            self.settle(vec![Action::Tell(control)], false).await;
        }
        if matches!(phase, Phase::Firmware | Phase::Booting | Phase::Session) {
            self.power.expect_on(&self.context);
        }
        if self.machine.last_stage() == Some("kernel-done") && self.has_initrd() {
            self.machine.has_more_to_fetch();
        }
        let actions = self.machine.resume(Timestamp::now());
        self.perform(actions);
        // What the machine said meanwhile comes before the timers that ran out meanwhile.
        self.catch_up().await;
    }

    /// Waits for the next thing that happens and deals with it.
    async fn step(&mut self) {
        let timer = self.timers.iter().map(|(_, at)| *at).min();
        let attendance = Arc::clone(&self.ends.live.attendance);
        tokio::select! {
            chunk = self.console.next(), if self.held.len() < HELD => self.console_said(chunk).await,
            Some(sighting) = self.sightings.recv() => self.saw(sighting).await,
            news = self.power.next() => self.power_changed(news).await,
            prepared = wait_for(&mut self.preparing) => self.prepared(prepared).await,
            () = sleep_until(timer) => self.timer_fired().await,
            Some(Command::Cancel { by }) = self.ends.commands.recv() => {
                self.feed(Event::Cancel { by }, Timestamp::now()).await;
            }
            Some(bytes) = self.ends.input.recv() => self.typed(&bytes).await,
            () = attendance.gone(), if !self.client_gone => {
                self.client_gone = true;
                self.feed(Event::ClientGone, Timestamp::now()).await;
            }
        }
    }

    async fn feed(&mut self, event: Event<'_>, at: Timestamp) {
        // Bytes that decide nothing are read again after a restart.
        let quiet = matches!(event, Event::Console { .. });
        let actions = self.machine.on(event, at);
        self.settle(actions, quiet).await;
    }

    /// Carries out what needs no waiting.
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare { .. } => {
                    self.preparing = Some(match &self.plans {
                        // Of a run that was taken up again: what it boots is still there.
                        Some(plans) => Box::pin(std::future::ready(Ok((plans.clone(), Vec::new())))),
                        None => {
                            let (context, job) = (self.context.clone(), self.machine.spec().job.clone());
                            Box::pin(async move { prepare(&context, &job).await })
                        }
                    });
                }
                Action::SetBootPlan { boot } => self.set_plan(boot),
                Action::PowerCycle => {
                    let was_off = matches!(self.power_stage, PowerStage::Starting { .. });
                    if !was_off {
                        self.held.clear();
                    }
                    self.power.cycle(&self.context, was_off, self.power_asked);
                }
                Action::PowerOff => {
                    self.held.clear();
                    self.power.off(&self.context, self.power_asked);
                }
                Action::ArmTimer { timer, at } => {
                    self.timers.retain(|(t, _)| *t != timer);
                    self.timers.push((timer, Instant::now() + at.since(Timestamp::now())));
                }
                Action::DisarmTimer { timer } => self.timers.retain(|(t, _)| *t != timer),
                // Told when the step was stored.
                Action::Tell(_) => {}
                Action::UnfitForService { line } => {
                    let text = format!("the machine says that it is unfit for service: {}", line.trim_end());
                    self.emit("unfit", text);
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

    fn emit(&self, kind: &str, text: String) {
        let mut details = Map::new();
        details.insert("run".to_owned(), Value::from(self.context.run));
        self.context.events.emit(Some(&self.context.dut), kind, text, details);
    }

    fn set_plan(&mut self, boot: BootKind) {
        let plan = self.plans.as_ref().map(|plans| match boot {
            BootKind::Start => plans.start.clone(),
            BootKind::Continue => plans.next.clone(),
        });
        self.context.boots.set_plan(self.context.mac, self.context.run, plan);
    }

    async fn prepared(&mut self, prepared: Prepared) {
        self.preparing = None;
        let event = match prepared {
            Ok((plans, warnings)) => {
                self.plans = Some(plans);
                let warn = |text| Action::Tell(Control::info(Tag::None, text).severity(Severity::Warn));
                let told: Vec<Action> = warnings.into_iter().map(warn).collect();
                if !told.is_empty() {
                    self.settle(told, false).await;
                }
                Event::SetupDone
            }
            Err((cause, message)) => Event::SetupFailed { cause, message },
        };
        self.feed(event, Timestamp::now()).await;
    }

    async fn console_said(&mut self, chunk: Chunk) {
        let time = Timestamp::from_micros(chunk.time.0);
        match self.power_stage.belongs(time) {
            Boot::Present => {
                // At its own time: bytes that are read late, or again after a restart, decide as they would have.
                self.feed(Event::Console { bytes: &chunk.bytes }, time).await;
            }
            Boot::Starting => self.held.push(Held::Console(chunk)),
            // Shown to the client, but it says nothing about this boot.
            Boot::Before => {}
        }
    }

    async fn saw(&mut self, sighting: Sighting) {
        match self.power_stage.belongs(sighting.time) {
            Boot::Present => {
                let stage = describe(&sighting.stage).0;
                // Only what tells that a firmware boots over the network: a machine that boots from its disk gets
                // an address too.
                if !matches!(stage, "os-dhcp" | "dhcp-ack") {
                    if let Some(on) = self.on_since.take() {
                        self.firmware = self.firmware.max(Some(sighting.time.since(on)));
                    }
                    self.feed(Event::BootStage { stage: stage.to_owned() }, sighting.time).await;
                }
            }
            Boot::Starting if self.held.len() < HELD => {
                self.held.push(Held::Sighting(sighting));
            }
            Boot::Starting | Boot::Before => {}
        }
    }

    /// Whether the boot that goes on loads an initramfs after its kernel.
    fn has_initrd(&self) -> bool {
        let own = self.plans.as_ref().and_then(|plans| match self.machine.boot_kind() {
            BootKind::Start => plans.start.initrds.as_ref(),
            BootKind::Continue => plans.next.initrds.as_ref(),
        });
        own.map_or_else(|| self.context.boots.defaults().has_initrd(), |all| !all.is_empty())
    }

    async fn power_changed(&mut self, news: PowerNews) {
        let now = Timestamp::now();
        match news {
            PowerNews::SeenOff { since } => {
                self.power_stage = PowerStage::Starting { since };
                self.feed(Event::PowerOff, now).await;
            }
            PowerNews::SeenOn => {
                if let PowerStage::Starting { since } = self.power_stage {
                    self.power_stage = PowerStage::On { since };
                }
                self.on_since = Some(now);
                self.feed(Event::PowerOn, now).await;
                for held in std::mem::take(&mut self.held) {
                    match held {
                        Held::Console(chunk) => self.console_said(chunk).await,
                        Held::Sighting(sighting) => self.saw(sighting).await,
                    }
                }
            }
            PowerNews::Final => {
                self.power_stage = PowerStage::Off;
                self.feed(Event::TeardownDone, now).await;
            }
            PowerNews::Failed { message, teardown: true } => {
                self.feed(Event::TeardownFailed { message }, now).await;
            }
            PowerNews::Failed { message, teardown: false } => {
                self.feed(Event::PowerFailed { message }, now).await;
            }
            PowerNews::Trouble { message } => {
                let control = Control::info(Tag::None, message).severity(Severity::Warn);
                self.settle(vec![Action::Tell(control)], true).await;
            }
        }
    }

    async fn timer_fired(&mut self) {
        // What the machine said before is counted before, also where it is read late.
        self.catch_up().await;
        let now = Instant::now();
        let due: Vec<TimerId> =
            self.timers.iter().filter(|(_, at)| *at <= now).map(|(t, _)| t.clone()).collect();
        for timer in due {
            // Dealing with one may have disarmed or re-armed the next.
            if self.timers.iter().any(|(t, at)| *t == timer && *at <= now) {
                self.timers.retain(|(t, _)| *t != timer);
                self.feed(Event::Timer { timer }, Timestamp::now()).await;
            }
        }
    }

    /// Reads what is in the console's record by now.
    async fn catch_up(&mut self) {
        let end = match self.context.salad.end(self.context.dut.as_str()).await {
            Ok(end) => end,
            Err(error) => {
                tracing::warn!(dut = %self.context.dut, %error, "the console cannot be read up to now");
                return;
            }
        };
        while self.console.at < end && self.held.len() < HELD && self.machine.outcome().is_none() {
            // The bytes are in the record already; the bound is for a SALAD that goes away in between.
            let Ok(chunk) = tokio::time::timeout(Duration::from_secs(5), self.console.next()).await else {
                return;
            };
            self.console_said(chunk).await;
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

    fn report(self, from: ConsoleOffset, elapsed: Duration) -> RunReport {
        let run = self.context.run;
        let outcome = self.machine.outcome().cloned().unwrap_or_else(|| Outcome {
            status: JobStatus::Unknown,
            cause: Cause::Bug,
            summary: "the run ended without a verdict".to_owned(),
            attempts: Vec::new(),
        });
        self.emit("run", format!("job {run} is over: {} ({})", outcome.status, outcome.summary));
        let console = from..self.console.at;
        RunReport { run, outcome, unfit: self.unfit, firmware: self.firmware, console, elapsed }
    }
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
