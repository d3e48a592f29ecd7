//! The part of a DUT's task that qualifies its machine: it boots it as [`crate::training`] says, and takes it out of
//! service when it turns out to be unreliable.

use std::{sync::Arc, time::Duration};

use farmgate_job::{Source, Variables};
use farmgate_mars::DutChange;
use farmgate_protocol::Timestamp;
use farmgate_store::{Change, Kept, NewRun, RunState};
use serde_json::Value;
use tokio::time::Instant;

use super::{DutTask, Kind};
use crate::{
    config::BuiltinJob,
    run::Begin,
    runs::{
        OwnEnds,
        attendance::{Attendance, Policy},
        log::RunLog,
    },
    training::{Drill, Round, Step},
};

impl DutTask {
    pub(super) async fn train(&mut self) {
        let config = &self.shared.config;
        let drill = Drill {
            boots: config.boot_count,
            qualifying: config.qualifying_boot_count,
            registration_delay: config.registration_retrial_delay,
        };
        if self.round.is_none() {
            self.logs.clear();
        }
        let step = self.round.get_or_insert_with(|| Round::new(drill)).next();
        match step {
            Step::Register => {
                let template = self.shared.config.registration_job.clone();
                self.boot(Kind::Registration, &template).await;
            }
            Step::Boot(_) => {
                let template = self.shared.config.bootloop_job.clone();
                self.boot(Kind::TrainingBoot, &template).await;
            }
            Step::WaitThenRegister(delay) => {
                if self.retry_at.is_none() {
                    self.retry_at = Some(Instant::now() + delay);
                }
            }
            Step::Qualified => {
                let summary = self.round.as_ref().map(Round::summary).unwrap_or_default();
                self.emit("training", format!("{} qualified: {summary}", self.full_name));
                let learned = self.round.as_ref().and_then(Round::firmware_time);
                let change = DutChange {
                    ready_for_service: Some(true),
                    firmware_boot_time: learned.map(Some),
                    ..DutChange::default()
                };
                match self.shared.mars.update_dut(&self.id, change).await {
                    Ok(farm) => {
                        if let Some(entry) = farm.duts.get(&self.id) {
                            self.entry = Arc::new(entry.clone());
                        }
                    }
                    Err(error) => {
                        self.memory.borked =
                            Some(format!("it qualified, but the farm file cannot be written: {error}"));
                    }
                }
            }
            Step::Failed => {
                let summary = self.round.as_ref().map(Round::summary).unwrap_or_default();
                self.emit("training", format!("{} did not qualify: {summary}", self.full_name));
                self.memory.borked =
                    Some(format!("it did not qualify: {summary}; activate it to train it again"));
            }
        }
    }

    /// Starts a boot of the gateway's own.
    pub(super) async fn boot(&mut self, kind: Kind, template: &BuiltinJob) {
        // The template is rendered with what is shown, which may be older than the entry.
        self.show();
        let dut = self.shown.borrow().clone();
        let mut variables = Variables::for_dut(&dut, &self.shared.config.farm_name);
        for (name, value) in &self.shared.config.job_variables {
            variables = variables.set(name, value.clone());
        }
        let source = Source { name: &template.name, text: &template.text };
        let job = match self.shared.config.resolve(&source, &variables) {
            Ok(job) => job,
            Err(error) => {
                self.memory.borked = Some(format!("the gateway's job template is wrong: {error}"));
                self.memory.quick_check_due = false;
                return;
            }
        };
        let from = match self.shared.salad.end(self.id.as_str()).await {
            Ok(from) => from,
            Err(error) => {
                tracing::error!(dut = %self.id, %error, "consoles are away: waiting");
                self.retry_at = Some(Instant::now() + Duration::from_secs(5));
                return;
            }
        };
        let run = self.shared.store.next_run();
        let words = match kind {
            Kind::Registration => "training: boots to register itself".to_owned(),
            Kind::QuickCheck => "quick check: boots once".to_owned(),
            _ => format!("training: boot {} of {}", self.logs.len() + 1, self.shared.config.boot_count),
        };
        self.emit("training", words);
        let variables = Arc::new(variables);
        let Some(context) = self.context(run, kind, Arc::clone(&variables), Kept::default()) else { return };
        let now = Timestamp::now();
        let created = NewRun {
            number: run,
            kind: kind.as_str().to_owned(),
            dut: Some(self.id.clone()),
            created: now,
            name: template.name.clone(),
            text: template.text.clone(),
            metadata: Value::Null,
            priority: "default".to_owned(),
            submitter: "gateway".to_owned(),
            state: RunState::Active,
            spec: serde_json::to_value(&job).ok(),
            variables: Value::Object(variables.0.clone()),
            console_from: Some(from.0),
            resume_token_hash: None,
            client: Value::Null,
        };
        let started =
            Change::Step { run, progress: None, feed: None, phase: None, started: Some(now), dut: None };
        let ends = OwnEnds::new(Arc::new(RunLog::new(run)), Arc::new(Attendance::new(Policy::Detached)));
        let creation = vec![created.into(), started];
        self.start(kind, context, Begin::New { job: Box::new(job), from, creation, stored: None }, ends);
    }

    /// Out of service until it has qualified again.
    pub(super) async fn leave_service(&mut self, why: &str) {
        self.emit("training", format!("{} leaves service: {why}", self.full_name));
        // What it was once qualified by counts no more.
        self.round = None;
        let change = DutChange { ready_for_service: Some(false), ..DutChange::default() };
        match self.shared.mars.update_dut(&self.id, change).await {
            Ok(farm) => {
                if let Some(entry) = farm.duts.get(&self.id) {
                    self.entry = Arc::new(entry.clone());
                }
            }
            Err(error) => {
                self.memory.borked = Some(format!("{why}; and the farm file cannot be written: {error}"))
            }
        }
    }
}
