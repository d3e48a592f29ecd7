//! The task of one DUT: the only one that changes its state. It asks [`crate::life`] where the DUT stands, boots it
//! for training and quick checks as [`crate::training`] says, runs one job at a time on it, and takes intents from
//! everybody else. How it qualifies its machine is in
//! [`qualify`], what it shows of it in [`shown`], what it keeps of it over a restart in [`memory`].

mod memory;
mod qualify;
pub(crate) mod shown;

use std::{ops::Range, sync::Arc, time::Duration};

use farmgate_job::{Cause, Job, Phase, Variables};
use farmgate_mars::{DutEntry, Mars};
use farmgate_pdu::PduSnapshot;
use farmgate_protocol::{
    DutId, JobStatus, PortId, Timestamp,
    dut::{Dut, DutState, Training},
    pdu::PduState,
};
use farmgate_salad::{ConsoleOffset, Salad};
use farmgate_store::{Change, Kept, Store, StoreError, StoredRun};
use serde_json::Map;
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::ArtifactCache,
    boot_table::BootTable,
    config::ExecutorConfig,
    dispatch::Dispatcher,
    dut_table::DutTable,
    error::ExecutorError,
    events::EventLog,
    life::{Memory, Standing, standing},
    pdus::Pdus,
    run::{Begin, Command, RunContext, RunReport, drive},
    runs::{OwnEnds, Runs},
    training::Round,
};
pub(crate) use memory::{Inherited, Remembered, lost, told};
use shown::describe;

/// How long a run may take to end when the gateway stops: a PDU has 30 s to confirm OFF.
const STOPPING: Duration = Duration::from_secs(35);

/// What all DUT tasks share.
pub(crate) struct Shared {
    pub config: ExecutorConfig,
    pub mars: Arc<Mars>,
    pub pdus: Arc<Pdus>,
    pub salad: Salad,
    pub boots: Arc<BootTable>,
    pub artifacts: Arc<ArtifactCache>,
    pub events: EventLog,
    /// What must survive.
    pub store: Store,
    /// The runs that have not ended.
    pub runs: Runs,
    /// The machines' tasks.
    pub duts: DutTable,
    /// Who gets which machine.
    pub queue: Dispatcher,
    /// A machine has become free, or its state has changed otherwise.
    pub freed: Notify,
    /// Bounds the quick checks that run at once: a farm that starts must not blow a fuse.
    pub quick_checks: Arc<Semaphore>,
    pub shutdown: CancellationToken,
}

/// A job for this DUT, checked and resolved.
pub(crate) struct JobStart {
    pub run: u64,
    pub job: Box<Job>,
    pub variables: Arc<Variables>,
    pub from: ConsoleOffset,
    pub ends: OwnEnds,
    /// What makes it known to the store.
    pub creation: Vec<Change>,
    /// What stays of its submission when it has ended.
    pub kept: Kept,
    /// Told when it is stored.
    pub stored: oneshot::Sender<Result<(), StoreError>>,
}

/// What others ask of a DUT's task.
pub(crate) enum Intent {
    /// Its entry in the farm file, or its full name, changed, or the PDUs did.
    Entry { entry: Arc<DutEntry>, full_name: String },
    /// Run a job; the job comes back if the DUT is not free.
    Start(Box<JobStart>, oneshot::Sender<Result<(), Box<JobStart>>>),
    /// End the job that runs.
    Cancel { by: String, reply: oneshot::Sender<Result<(), ExecutorError>> },
    /// Boot it once to see that it works.
    QuickCheck { reply: oneshot::Sender<Result<(), ExecutorError>> },
    /// Is a quick check due or running?
    QuickCheckDue { reply: oneshot::Sender<bool> },
    /// Try again to qualify.
    Retrain,
    /// The console log of a training loop.
    TrainingLog { index: usize, reply: oneshot::Sender<Option<Range<ConsoleOffset>>> },
}

/// Handle to a DUT's task.
#[derive(Clone)]
pub(crate) struct DutHandle {
    pub intents: mpsc::Sender<Intent>,
    pub shown: watch::Receiver<Dut>,
    pub stop: CancellationToken,
}

/// What the DUT does at the moment.
struct Activity {
    kind: Kind,
    run: u64,
    commands: mpsc::Sender<Command>,
    phase: watch::Receiver<Phase>,
}

/// Why a machine is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Job,
    Registration,
    TrainingBoot,
    QuickCheck,
}

impl Kind {
    /// The word in the store and the API.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Registration => "registration",
            Self::TrainingBoot => "training",
            Self::QuickCheck => "quick_check",
        }
    }

    fn from_word(word: &str) -> Self {
        let all = [Self::Registration, Self::TrainingBoot, Self::QuickCheck];
        all.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Job)
    }
}

struct DutTask {
    shared: Arc<Shared>,
    id: DutId,
    entry: Arc<DutEntry>,
    full_name: String,
    memory: Memory,
    round: Option<Round>,
    retry_at: Option<Instant>,
    logs: Vec<Range<ConsoleOffset>>,
    /// Runs up to this number are in `memory`, `round` and `logs`.
    settled: u64,
    /// What was stored of these last.
    remembered: Option<Remembered>,
    /// A run that a gateway which died had on this machine.
    inherited: Option<Box<StoredRun>>,
    activity: Option<Activity>,
    running: JoinSet<Option<RunReport>>,
    shown: watch::Sender<Dut>,
}

/// Starts the task of a DUT.
pub(crate) fn spawn(
    tasks: &mut JoinSet<()>,
    shared: Arc<Shared>,
    id: DutId,
    entry: Arc<DutEntry>,
    full_name: String,
    inherited: Inherited,
) -> DutHandle {
    let (intents, inbox) = mpsc::channel(64);
    if let (Some(mac), Some(run)) = (entry.mac_address, &inherited.run) {
        shared.boots.expect(mac, run.row.number);
    }
    let Remembered { quick_check_due, borked, round, logs, settled } =
        inherited.memory.clone().unwrap_or_default();
    // A gateway that comes back from a crash goes on; one that is started looks at its machines first.
    let check = shared.config.quick_check && !inherited.after_crash && entry.ready_for_service;
    let memory = Memory { quick_check_due: quick_check_due || check, borked, ..Memory::default() };
    let logs = logs.into_iter().map(|(from, to)| ConsoleOffset(from)..ConsoleOffset(to)).collect();
    let host = shared.config.console_host.clone();
    let first = Standing { state: DutState::Unknown, reason: "the gateway is starting".to_owned() };
    let (shown, watched) = watch::channel(describe(
        &id,
        &entry,
        &full_name,
        &first,
        Timestamp::now(),
        Training::default(),
        host,
    ));
    let stop = shared.shutdown.child_token();
    let task = DutTask {
        shared,
        id,
        entry,
        full_name,
        memory,
        round,
        retry_at: None,
        logs,
        settled,
        remembered: inherited.memory,
        inherited: inherited.run,
        activity: None,
        running: JoinSet::new(),
        shown,
    };
    tasks.spawn(task.live(inbox, stop.clone()));
    DutHandle { intents, shown: watched, stop }
}

impl DutTask {
    async fn live(mut self, mut inbox: mpsc::Receiver<Intent>, stop: CancellationToken) {
        if self.shared.config.observe {
            return self.observe(inbox, stop).await;
        }
        self.settle_past_runs().await;
        match self.inherited.take() {
            Some(run) => self.take_up(*run).await,
            None => self.switch_off_left_on().await,
        }
        loop {
            let acted_on = self.advance().await;
            self.remember();
            self.show();
            if self.memory.pdu_problem != acted_on {
                continue; // the PDU changed meanwhile: nothing else would tell
            }
            let pdu = self.power().map(|(pdu, port)| (pdu.snapshot(), port));
            let phase = self.activity.as_mut().map(|a| &mut a.phase);
            tokio::select! {
                () = stop.cancelled() => break,
                intent = inbox.recv() => match intent {
                    Some(intent) => self.intent(intent),
                    None => break,
                },
                Some(ended) = self.running.join_next() => {
                    let report = ended.unwrap_or_else(|error| {
                        tracing::error!(dut = %self.id, %error, "a run ended by a bug");
                        None
                    });
                    self.run_ended(report).await;
                }
                () = changed(phase) => {}
                () = pdu_changed(pdu, &self.memory.pdu_problem) => {}
                () = sleep_until(self.retry_at) => {
                    self.retry_at = None;
                    if let Some(round) = &mut self.round {
                        round.retry_registration();
                    }
                }
            }
        }
        self.stop_running().await;
    }

    /// Shows where the machine stands and says what would be done about it; does nothing.
    async fn observe(mut self, mut inbox: mpsc::Receiver<Intent>, stop: CancellationToken) {
        let mut said = None;
        loop {
            let now = self.standing();
            if said != Some(now.state) {
                let would = match now.state {
                    DutState::Training => "it would be trained: booted again and again",
                    DutState::QuickCheck => "it would be booted once, to see that it works",
                    DutState::Idle => "it would take jobs, and be switched off until then",
                    _ => "nothing would be done",
                };
                self.emit("observe", format!("observing {}: {would}", self.full_name));
                said = Some(now.state);
            }
            self.show();
            let pdu = self.power().map(|(pdu, port)| (pdu.snapshot(), port));
            tokio::select! {
                () = stop.cancelled() => return,
                intent = inbox.recv() => match intent {
                    Some(Intent::Entry { entry, full_name }) => self.entry_changed(entry, full_name),
                    // Its reply is dropped with it: the asker is told that the task does nothing.
                    Some(_) => {}
                    None => return,
                },
                () = pdu_changed(pdu, &self.memory.pdu_problem) => {}
            }
        }
    }

    /// Ends what runs, within bounds: the port must not stay on without a run.
    async fn stop_running(&mut self) {
        if let Some(activity) = self.activity.take() {
            // The run may be ending by itself: then there is nobody to tell.
            let _ = activity.commands.try_send(Command::Cancel {
                by: "the end of the gateway, or of the machine's entry in the farm file".to_owned(),
            });
            if tokio::time::timeout(STOPPING, self.running.join_next()).await.is_err() {
                tracing::warn!(dut = %self.id, "a run did not end in time; its port may be on");
            }
        }
    }

    /// A port of ours that is on while no run uses it was left on by a gateway that died.
    async fn switch_off_left_on(&self) {
        if standing(&self.entry, &Memory { pdu_known: true, ..Memory::default() }).state
            == DutState::WaitForConfig
            || self.entry.is_retired
            || !self.entry.ready_for_service
        {
            return; // not ours yet, or a training follows, which begins with OFF
        }
        if let Some((pdu, port)) = self.power() {
            match tokio::time::timeout(Duration::from_secs(10), pdu.off(&port)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(dut = %self.id, %error, "cannot switch off"),
                Err(_) => tracing::warn!(dut = %self.id, "cannot switch off: the PDU does not answer"),
            }
        }
    }

    fn power(&self) -> Option<(farmgate_pdu::PduHandle, farmgate_protocol::PortId)> {
        let pdu = self.shared.pdus.get(self.entry.pdu.as_deref()?)?;
        Some((pdu, self.entry.pdu_port_id.clone()?))
    }

    fn standing(&mut self) -> Standing {
        let power = self.power();
        self.memory.pdu_known = power.is_some();
        self.memory.pdu_problem = power.and_then(|(pdu, port)| problem_of(&pdu.snapshot().borrow(), &port));
        standing(&self.entry, &self.memory)
    }

    /// Starts what the DUT's standing asks for, if nothing runs. Returns what was known of the PDU's troubles then.
    async fn advance(&mut self) -> Option<String> {
        let trouble = self.memory.pdu_problem.is_some();
        let standing = self.standing();
        let acted_on = self.memory.pdu_problem.clone();
        if trouble && acted_on.is_none() && self.activity.is_none() {
            // A PDU that had lost its mains may come back with everything on.
            self.switch_off_left_on().await;
        }
        self.act_on(standing).await;
        acted_on
    }

    async fn act_on(&mut self, standing: Standing) {
        if let Some(activity) = &self.activity {
            let fits = match activity.kind {
                Kind::Job => true, // a job runs to its end, whatever the file says meanwhile
                // A PDU that does not answer for a moment is the run's own trouble, not a reason to end it.
                Kind::Registration | Kind::TrainingBoot => {
                    matches!(standing.state, DutState::Training | DutState::Unknown)
                }
                Kind::QuickCheck => matches!(standing.state, DutState::QuickCheck | DutState::Unknown),
            };
            if !fits {
                // Full: it has been told already.
                let _ = activity
                    .commands
                    .try_send(Command::Cancel { by: "a change of the farm file".to_owned() });
            }
            return;
        }
        match standing.state {
            DutState::Training => self.train().await,
            DutState::QuickCheck => {
                self.round = None;
                let template = self.shared.config.bootloop_job.clone();
                self.boot(Kind::QuickCheck, &template).await;
            }
            _ => {
                self.retry_at = None;
                if standing.state != DutState::Idle {
                    self.round = None;
                }
            }
        }
    }

    /// What a run uses of this machine. None: it has no outlet or no address.
    fn context(&self, run: u64, kind: Kind, variables: Arc<Variables>, kept: Kept) -> Option<RunContext> {
        let (pdu, port) = self.power()?;
        // A training learns it anew.
        let known = self.entry.firmware_boot_time.filter(|_| matches!(kind, Kind::Job | Kind::QuickCheck));
        Some(RunContext {
            run,
            dut: self.id.clone(),
            mac: self.entry.mac_address?,
            pdu,
            port,
            min_off: Duration::try_from_secs_f64(self.entry.pdu_off_delay).unwrap_or_default(),
            salad: self.shared.salad.clone(),
            boots: Arc::clone(&self.shared.boots),
            artifacts: Arc::clone(&self.shared.artifacts),
            variables,
            events: self.shared.events.clone(),
            store: self.shared.store.clone(),
            kept,
            firmware_time: known.and_then(|s| Duration::try_from_secs_f64(s).ok()),
        })
    }

    fn start(&mut self, kind: Kind, context: RunContext, begin: Begin, ends: OwnEnds) {
        let run = context.run;
        let commands = ends.live.commands.clone();
        self.shared.runs.insert(run, ends.live.clone());
        let (phase_in, phase) = watch::channel(Phase::Setup);
        let permits = Arc::clone(&self.shared.quick_checks);
        self.running.spawn(async move {
            // Closed never; if it were, quick checks would run unbounded rather than not at all.
            let _permit = if kind == Kind::QuickCheck { permits.acquire_owned().await.ok() } else { None };
            Some(drive(context, begin, ends, phase_in).await)
        });
        self.activity = Some(Activity { kind, run, commands, phase });
    }

    async fn run_ended(&mut self, report: Option<RunReport>) {
        let Some(activity) = self.activity.take() else { return };
        self.shared.runs.remove(activity.run);
        let Some(report) = report else {
            self.memory.borked = Some("a run on it ended by a bug of the gateway: see its log".to_owned());
            if let Some((pdu, port)) = self.power() {
                // The run could not do it any more. A failure is in the PDU's own state and log.
                let _ = pdu.off(&port).await;
            }
            return;
        };
        self.count(activity.kind, report).await;
    }

    /// What the end of a run means for its machine. A run counts once, also if the gateway died in between.
    async fn count(&mut self, kind: Kind, report: RunReport) {
        self.settled = self.settled.max(report.run);
        let status = report.outcome.status;
        let passed = status == JobStatus::Pass;
        match kind {
            Kind::Job => {}
            Kind::Registration => {
                if !passed {
                    let text = format!("the registration failed: {}", report.outcome.summary);
                    self.emit("training", text);
                }
                if let Some(round) = &mut self.round {
                    round.registration_ended(passed);
                }
            }
            Kind::TrainingBoot => {
                self.logs.push(report.console.clone());
                if let Some(round) = &mut self.round {
                    round.boot_ended(status, report.elapsed, report.outcome.summary.clone());
                    round.firmware_took(report.firmware);
                }
                let text = format!("training: boot {} ended: {status}", self.logs.len());
                self.emit("training", text);
            }
            Kind::QuickCheck => {
                self.memory.quick_check_due = false;
                // One that somebody ended says nothing about the machine.
                if !passed && !matches!(report.outcome.cause, Cause::Cancelled { .. }) {
                    self.leave_service(&format!("its quick check failed: {}", report.outcome.summary)).await;
                }
            }
        }
        // In a training or a quick check it is a failure like others, and counted above.
        if kind == Kind::Job
            && let Some(line) = report.unfit
        {
            self.leave_service(&format!("its console said that it is unfit: {}", line.trim_end())).await;
        }
    }

    fn intent(&mut self, intent: Intent) {
        match intent {
            Intent::Entry { entry, full_name } => {
                // We may have changed the file ourselves while this was on its way: the newest counts.
                let newest = self.shared.mars.farm().borrow().duts.get(&self.id).cloned();
                self.entry_changed(newest.map_or(entry, Arc::new), full_name);
            }
            Intent::Start(start, reply) => self.start_job(start, reply),
            Intent::Cancel { by, reply } => {
                // The asker may be gone: then it does not matter to it.
                let _ = reply.send(self.cancel(by));
            }
            Intent::QuickCheck { reply } => {
                let _ = reply.send(self.queue_quick_check());
            }
            Intent::QuickCheckDue { reply } => {
                let _ = reply.send(self.memory.quick_check_due);
            }
            Intent::Retrain => {
                self.memory.borked = None;
                self.memory.quick_check_due = self.entry.ready_for_service;
            }
            Intent::TrainingLog { index, reply } => {
                let _ = reply.send(self.logs.get(index).cloned());
            }
        }
    }

    fn entry_changed(&mut self, entry: Arc<DutEntry>, full_name: String) {
        let rewired = (&entry.pdu, &entry.pdu_port_id) != (&self.entry.pdu, &self.entry.pdu_port_id);
        let demoted = self.entry.ready_for_service && !entry.ready_for_service;
        if rewired || demoted {
            // Another outlet, or a person's wish: what was found out before is void.
            self.memory.borked = None;
            self.round = None;
        }
        self.entry = entry;
        self.full_name = full_name;
    }

    fn start_job(&mut self, start: Box<JobStart>, reply: oneshot::Sender<Result<(), Box<JobStart>>>) {
        if self.activity.is_some() || self.standing().state != DutState::Idle {
            // A submitter that is gone has no use for its job either.
            let _ = reply.send(Err(start));
            return;
        }
        let Some(context) =
            self.context(start.run, Kind::Job, Arc::clone(&start.variables), start.kept.clone())
        else {
            let _ = reply.send(Err(start));
            return;
        };
        let JobStart { run, job, from, ends, creation, stored, .. } = *start;
        self.emit("run", format!("job {run} starts on {}", self.full_name));
        self.start(Kind::Job, context, Begin::New { job, from, creation, stored: Some(stored) }, ends);
        // Before the answer: whoever gets it must not find the machine free.
        self.show();
        let _ = reply.send(Ok(()));
    }

    fn cancel(&mut self, by: String) -> Result<(), ExecutorError> {
        match &self.activity {
            Some(activity) if activity.kind == Kind::Job => {
                // Full: it has been told already.
                let _ = activity.commands.try_send(Command::Cancel { by });
                Ok(())
            }
            _ => Err(self.wrong_state("no job runs on it")),
        }
    }

    fn queue_quick_check(&mut self) -> Result<(), ExecutorError> {
        if self.entry.is_retired || !self.entry.ready_for_service {
            return Err(self.wrong_state("only a machine in service can be checked"));
        }
        self.memory.quick_check_due = true;
        Ok(())
    }

    fn wrong_state(&self, why: &str) -> ExecutorError {
        let state = self.shown.borrow().state.as_str();
        ExecutorError::WrongState { dut: self.id.clone(), state, why: why.to_owned() }
    }

    fn emit(&self, kind: &str, text: impl Into<String>) {
        self.shared.events.emit(Some(&self.id), kind, text, Map::new());
    }
}

/// Why a PDU, or its port, cannot be used at the moment.
fn problem_of(snapshot: &PduSnapshot, port: &PortId) -> Option<String> {
    let (name, error) = (&snapshot.name, snapshot.pdu.error.as_deref().unwrap_or("see its log"));
    match snapshot.pdu.state {
        PduState::Ok => snapshot.pdu.ports.get(port.as_str()).and_then(|port| port.alarm.clone()),
        PduState::Created | PduState::Initializing => Some(format!("its PDU {name} has not answered yet")),
        PduState::Error => Some(format!("its PDU {name} does not answer: {error}")),
        PduState::Stopped => Some(format!("its PDU {name} is not in use any more")),
    }
}

/// Returns when a PDU is in another state than was known.
async fn pdu_changed(pdu: Option<(watch::Receiver<PduSnapshot>, PortId)>, known: &Option<String>) {
    if let Some((mut pdu, port)) = pdu
        && pdu.wait_for(|snapshot| problem_of(snapshot, &port) != *known).await.is_ok()
    {
        return;
    }
    // None, or its task has ended: the farm file says what comes next.
    std::future::pending().await
}

async fn changed(phase: Option<&mut watch::Receiver<Phase>>) {
    match phase {
        Some(phase) => {
            if phase.changed().await.is_err() {
                // The run is over; its report follows.
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
