//! Switching the outlet of a run's machine, as tasks of its own: a PDU takes seconds, and the run has other things to
//! do meanwhile.

use std::time::Duration;

use farmgate_pdu::{Notice, PduHandle, PduSnapshot, PowerError};
use farmgate_protocol::{
    PortId, Timestamp,
    pdu::{PduState, PortState},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};

use super::{RunContext, boundary::may_be_on_from};

/// How long a run bears a PDU that does not answer, before it gives its machine up: longer than a PDU's own restart.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a PDU gets where its time is over already: a gateway that came back asks once more. ON may have to wait for the
/// end of the off time too.
const AT_LEAST: Duration = Duration::from_secs(15);

/// What becomes of the port.
pub(super) enum PowerNews {
    /// Seen OFF, and from when on it may be switched on.
    SeenOff {
        since: Timestamp,
    },
    SeenOn,
    /// Seen OFF, for good.
    Final,
    Failed {
        message: String,
        teardown: bool,
    },
    /// The PDU does not do it at the moment; it is tried again.
    Trouble {
        message: String,
    },
}

/// The one task that switches for a run, and what it says.
pub(super) struct Power {
    tasks: JoinSet<()>,
    news: (mpsc::Sender<PowerNews>, mpsc::Receiver<PowerNews>),
}

impl Power {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), news: mpsc::channel(8) }
    }

    /// The next thing that happens. Cancel safe.
    pub(super) async fn next(&mut self) -> PowerNews {
        match self.news.1.recv().await {
            Some(news) => news,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// OFF, the off delay, ON; the first of it only where it was not seen OFF already.
    pub(super) fn cycle(&mut self, context: &RunContext, was_off: bool, asked: Timestamp) {
        let (switch, news) = self.begin(context, asked + context.min_off + PATIENCE);
        self.tasks.spawn(async move {
            // The run may have ended: then nobody listens.
            match switch.cycle(was_off, &news).await {
                Ok(()) => {
                    let notices = switch.pdu.notices();
                    let _ = news.send(PowerNews::SeenOn).await;
                    switch.watch_on(notices, &news).await;
                }
                Err(error) => {
                    let message = switch.message(&error);
                    let _ = news.send(PowerNews::Failed { message, teardown: false }).await;
                }
            }
        });
    }

    /// OFF for good.
    pub(super) fn off(&mut self, context: &RunContext, asked: Timestamp) {
        let (switch, news) = self.begin(context, asked + PATIENCE);
        self.tasks.spawn(async move {
            let told = match switch.set(false, &news).await {
                Ok(()) => PowerNews::Final,
                Err(error) => PowerNews::Failed { message: switch.message(&error), teardown: true },
            };
            let _ = news.send(told).await;
        });
    }

    /// Says so if the port of a machine that should be on turns out to be off: after a restart of the gateway only the
    /// PDU knows.
    pub(super) fn expect_on(&mut self, context: &RunContext) {
        let (switch, news) = self.begin(context, Timestamp::now());
        self.tasks.spawn(async move {
            let mut snapshots = switch.pdu.snapshot();
            let known = snapshots.wait_for(|s| {
                let port = s.pdu.ports.get(switch.port.as_str());
                s.pdu.state == PduState::Ok && port.is_some_and(|p| p.state != PortState::Unknown)
            });
            let state = known.await.ok().and_then(|s| s.pdu.ports.get(switch.port.as_str()).map(|p| p.state));
            if state != Some(PortState::Off) {
                return switch.watch_on(switch.pdu.notices(), &news).await;
            }
            let message = format!(
                "PDU {} port {}: found off when the gateway came back; somebody, or a power cut, switched it off",
                switch.pdu.name(),
                switch.port
            );
            let _ = news.send(PowerNews::Failed { message, teardown: false }).await;
        });
    }

    /// Ends what was being done, and forgets what it still had to say.
    fn begin(&mut self, context: &RunContext, give_up_at: Timestamp) -> (Switch, mpsc::Sender<PowerNews>) {
        *self = Self::new();
        let RunContext { pdu, port, min_off, .. } = context.clone();
        (Switch { pdu, port, min_off, give_up_at }, self.news.0.clone())
    }
}

/// What is switched.
struct Switch {
    pdu: PduHandle,
    port: PortId,
    min_off: Duration,
    /// The PDU is borne until then; counted from when it was asked first, also by a gateway that died since.
    give_up_at: Timestamp,
}

impl Switch {
    async fn cycle(&self, was_off: bool, news: &mpsc::Sender<PowerNews>) -> Result<(), PowerError> {
        if !was_off {
            let before = self.pdu.snapshot().borrow().pdu.ports.get(self.port.as_str()).cloned();
            self.set(false, news).await?;
            let since = may_be_on_from(before.as_ref(), self.min_off, Timestamp::now());
            let _ = news.send(PowerNews::SeenOff { since }).await;
        }
        self.set(true, news).await
    }

    /// Switches, and bears a PDU that is away for a while.
    async fn set(&self, on: bool, news: &mpsc::Sender<PowerNews>) -> Result<(), PowerError> {
        let mut told = false;
        loop {
            let least = if on { AT_LEAST + self.min_off.max(self.own_min_off()) } else { AT_LEAST };
            let left = self.give_up_at.since(Timestamp::now()).max(least);
            let switching = async {
                if on { self.pdu.on(&self.port, self.min_off).await } else { self.pdu.off(&self.port).await }
            };
            let done = match tokio::time::timeout(left, switching).await {
                Ok(done) => done,
                Err(_) => return Err(self.not_confirmed(on)),
            };
            match done {
                Err(error @ PowerError::NotConfirmed { .. }) if Timestamp::now() < self.give_up_at => {
                    if !std::mem::replace(&mut told, true) {
                        let message = format!("{}; it is tried again", self.message(&error));
                        let _ = news.send(PowerNews::Trouble { message }).await;
                    }
                }
                done => return done,
            }
        }
    }

    /// Says so when the port of a machine that should be on goes off; the run's own OFF ends this task before.
    async fn watch_on(&self, mut notices: broadcast::Receiver<Notice>, news: &mpsc::Sender<PowerNews>) {
        let mut snapshots = self.pdu.snapshot();
        for state in [PortState::On, PortState::Off] {
            let is = |s: &PduSnapshot| s.pdu.ports.get(self.port.as_str()).is_some_and(|p| p.state == state);
            if snapshots.wait_for(is).await.is_err() {
                return; // the PDU's task has ended, which is said elsewhere
            }
        }
        let mut why = None;
        loop {
            match notices.try_recv() {
                Ok(notice) if notice.port == self.port => why = Some(notice.text),
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        let why = why.unwrap_or_else(|| "somebody else switched it off".to_owned());
        let message = format!("PDU {} port {}: off while the job ran: {why}", self.pdu.name(), self.port);
        let _ = news.send(PowerNews::Failed { message, teardown: false }).await;
    }

    /// The port's own minimum off time.
    fn own_min_off(&self) -> Duration {
        let snapshot = self.pdu.snapshot();
        let seconds = snapshot.borrow().pdu.ports.get(self.port.as_str()).map(|port| port.min_off_time);
        seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default()
    }

    fn not_confirmed(&self, on: bool) -> PowerError {
        let snapshot = self.pdu.snapshot();
        let seen = snapshot.borrow().pdu.ports.get(self.port.as_str()).map(|port| port.state);
        PowerError::NotConfirmed {
            pdu: self.pdu.name().to_owned(),
            port: self.port.clone(),
            wanted: if on { PortState::On } else { PortState::Off },
            seen: seen.unwrap_or(PortState::Unknown),
            waited: PATIENCE,
            source: None,
        }
    }

    fn message(&self, error: &PowerError) -> String {
        format!("PDU {} port {}: {}", self.pdu.name(), self.port, with_causes(error))
    }
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
