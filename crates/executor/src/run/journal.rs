//! Storing a run's steps. What decides something (power, boot plan, verdict) is on the disk before it is done; what is
//! only told goes to the disk in the same order, but nobody waits for it: a gateway that is killed in between decides
//! the same from the same console, and tells it again under the same number.

use std::{sync::Arc, time::Duration};

use farmgate_job::{Action, Event, Phase};
use farmgate_protocol::{
    Timestamp,
    console::{Control, Severity, Tag},
};
use farmgate_salad::ConsoleOffset;
use farmgate_store::{Change, Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    Edge, Held, PowerStage,
    checkpoint::{Checkpoint, StoredOutcome},
};
use crate::runs::log::{End, RunLog, Told};

/// How often the end of a run is offered again to a store that did not take it.
const AGAIN: Duration = Duration::from_secs(5);

/// What of a run is not stored yet, and where it goes.
pub(super) struct Journal {
    store: Store,
    log: Arc<RunLog>,
    unsent: Vec<Change>,
    /// The run is not known to the store: its first commit waits for what comes within a moment.
    fresh: bool,
    stored: Option<oneshot::Sender<Result<(), StoreError>>>,
    /// The store failed: the run ends, and waits for it no more.
    broken: bool,
}

impl Journal {
    pub(super) fn new(store: Store, log: Arc<RunLog>) -> Self {
        Self { store, log, unsent: Vec::new(), fresh: false, stored: None, broken: false }
    }

    /// Of a run that the store has not heard of.
    pub(super) fn begin(
        &mut self,
        creation: Vec<Change>,
        stored: Option<oneshot::Sender<Result<(), StoreError>>>,
    ) {
        (self.unsent, self.fresh, self.stored) = (creation, true, stored);
    }

    /// Everything so far is on the disk when this returns.
    async fn commit(&mut self) -> Result<(), StoreError> {
        self.fresh = false;
        let changes = std::mem::take(&mut self.unsent);
        let done = if changes.is_empty() { Ok(()) } else { self.store.write(changes.clone()).await };
        if done.is_err() {
            // They may go together with what follows.
            self.unsent = changes;
            self.broken = true;
        }
        if let Some(stored) = self.stored.take() {
            // A submitter that is gone does not want to know.
            let _ = stored.send(done.clone());
        }
        done
    }

    /// The same in the background, in the same order.
    fn commit_soon(&mut self) {
        if !self.fresh && !self.broken && !self.unsent.is_empty() {
            self.store.write_soon(std::mem::take(&mut self.unsent));
        }
    }
}

impl Edge {
    /// Stores a step, tells what it says, and does it. `quiet`: a step without consequences need not be stored.
    pub(super) async fn settle(&mut self, actions: Vec<Action>, quiet: bool) {
        for action in &actions {
            if let Action::UnfitForService { line } = action {
                self.unfit = Some(line.clone());
            }
        }
        if actions.iter().any(|a| matches!(a, Action::PowerCycle | Action::PowerOff)) {
            // The first power cycle after a restart may be the one that was under way: it goes on where it stood.
            let goes_on = std::mem::take(&mut self.cycle_goes_on)
                && actions.iter().any(|a| matches!(a, Action::PowerCycle));
            if !goes_on {
                // What the machine says from here on belongs to no boot.
                self.power_stage = PowerStage::Off;
                self.power_asked = Timestamp::now();
            }
        }
        let told = self.messages(&actions);
        let decides = actions.iter().any(|action| {
            use Action::{Finish, PowerCycle, PowerOff, SetBootPlan, UnfitForService};
            matches!(action, SetBootPlan { .. } | PowerCycle | PowerOff | UnfitForService { .. } | Finish(_))
        });
        if !quiet || !told.is_empty() || decides {
            self.note(&told);
            if decides && !self.journal.broken {
                if let Err(error) = self.journal.commit().await {
                    return self.give_up(&error, told, actions).await;
                }
            } else {
                self.journal.commit_soon();
            }
        }
        self.publish(told);
        self.perform(actions);
    }

    /// Everything so far is on the disk when this returns, or the run is ending.
    pub(super) async fn flush(&mut self) {
        if !self.journal.broken
            && let Err(error) = self.journal.commit().await
        {
            self.give_up(&error, Vec::new(), Vec::new()).await;
        }
    }

    /// Nothing can be stored: the run ends, without waiting for the store any more.
    async fn give_up(&mut self, error: &StoreError, told: Vec<Told>, actions: Vec<Action>) {
        tracing::error!(run = self.context.run, %error, "a run cannot be stored");
        self.publish(told);
        let message = format!("the gateway cannot store the run: {error}");
        let instead = self.machine.on(Event::GatewayFailed { message }, Timestamp::now());
        if instead.is_empty() {
            // It was ending already: switching off and the verdict must not wait for a disk.
            self.perform(actions);
        } else {
            Box::pin(self.settle(instead, false)).await;
        }
    }

    /// What the actions say, numbered.
    fn messages(&self, actions: &[Action]) -> Vec<Told> {
        let first = self.journal.log.next_seq();
        let controls = actions.iter().filter_map(|action| match action {
            Action::Tell(control) => Some(control.clone()),
            _ => None,
        });
        let (at, date) = (self.console.at, Timestamp::now());
        controls.zip(first..).map(|(control, seq)| Told { seq, at, date, control }).collect()
    }

    /// Puts the step among what is to be stored.
    fn note(&mut self, told: &[Told]) {
        let run = self.context.run;
        let (phase, fed) = (self.machine.phase(), self.fed());
        let joules = self.joules();
        let changes = &mut self.journal.unsent;
        for message in told {
            changes.push(Change::Event {
                run,
                seq: message.seq,
                time: message.date,
                console: message.at.0,
                body: control_to_json(&message.control),
            });
        }
        if phase == Phase::Done {
            if let Some(outcome) = self.machine.outcome() {
                let stored = StoredOutcome {
                    outcome: outcome.clone(),
                    firmware: self.firmware,
                    unfit: self.unfit.clone(),
                    joules,
                };
                changes.push(Change::Finish {
                    run,
                    ended: Timestamp::now(),
                    status: outcome.status,
                    cause: serde_json::to_value(&outcome.cause).unwrap_or_default(),
                    summary: outcome.summary.clone(),
                    outcome: serde_json::to_value(stored).unwrap_or_default(),
                    console_to: self.console.at.0,
                    kept: self.context.kept.clone(),
                });
            }
            return;
        }
        let checkpoint = Checkpoint {
            machine: self.machine.state().clone(),
            firmware_time: self.machine.spec().firmware_boot_time,
            plans: self.plans.as_ref().map(Into::into),
            power: self.power_stage,
            power_asked: self.power_asked,
            on_since: self.on_since,
            firmware: self.firmware,
            unfit: self.unfit.clone(),
        };
        changes.push(Change::Step {
            run,
            progress: serde_json::to_string(&checkpoint).ok(),
            feed: Some(fed.0),
            phase: Some(phase_word(phase).to_owned()),
            started: None,
            dut: None,
        });
    }

    /// The console up to here is in the state; what is held back is not.
    fn fed(&self) -> ConsoleOffset {
        let held = self.held.iter().find_map(|held| match held {
            Held::Console(chunk) => Some(chunk.offset),
            Held::Sighting(_) => None,
        });
        held.unwrap_or(self.console.at)
    }

    fn publish(&mut self, told: Vec<Told>) {
        for message in told {
            let mut details = message.control.metadata.clone();
            details.insert("tag".to_owned(), Value::from(message.control.tag as u16));
            details.insert("run".to_owned(), Value::from(self.context.run));
            let text = message.control.msg.trim_end().to_owned();
            self.context.events.emit(Some(&self.context.dut), "run", text, details);
            self.journal.log.tell(message);
        }
        if let Some(outcome) = self.machine.outcome() {
            let end = End {
                at: self.console.at,
                date: Timestamp::now(),
                status: outcome.status,
                joules: self.joules(),
            };
            self.journal.log.end(end);
            self.store_the_end_some_time();
        }
    }

    /// A verdict that could not be stored is offered again, so that the run does not begin anew after a restart.
    fn store_the_end_some_time(&mut self) {
        let (store, changes) = (self.journal.store.clone(), std::mem::take(&mut self.journal.unsent));
        if changes.is_empty() {
            return;
        }
        let run = self.context.run;
        tokio::spawn(async move {
            while let Err(error) = store.write(changes.clone()).await {
                if !error.is_of_storage() {
                    tracing::error!(run, %error, "the end of a run is lost to the history");
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
}

/// The word of a phase in the API.
pub(crate) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "setup",
        Phase::PoweringOn => "powering_on",
        Phase::Firmware => "firmware",
        Phase::Booting => "booting",
        Phase::Session => "session",
        Phase::Teardown => "teardown",
        Phase::Done => "done",
    }
}

/// A message as it is stored.
pub(crate) fn control_to_json(control: &Control) -> Value {
    json!({
        "msg": control.msg,
        "severity": control.severity as u8,
        "tag": control.tag as u16,
        "metadata": control.metadata,
    })
}

/// The same back; what is unreadable is empty.
pub(crate) fn control_from_json(body: &Value) -> Control {
    let severity = match body["severity"].as_u64() {
        Some(0) => Severity::Debug,
        Some(2) => Severity::Warn,
        Some(3) => Severity::Error,
        _ => Severity::Info,
    };
    Control {
        msg: body["msg"].as_str().unwrap_or_default().to_owned(),
        severity,
        tag: Tag::from_number(body["tag"].as_i64().unwrap_or_default()),
        metadata: body["metadata"].as_object().cloned().unwrap_or_default(),
    }
}
