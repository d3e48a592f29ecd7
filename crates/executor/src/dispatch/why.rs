//! What a job waits for, in words and numbers.

use farmgate_protocol::{
    Timestamp,
    dut::DutState,
    run::{Why, WhyMachine},
};

use super::Task;
use crate::matching::satisfies;

/// Runs that an estimate looks back at.
const LOOK_BACK: u32 = 20;

impl Task {
    pub(super) async fn why(&self, run: u64) -> Option<Why> {
        let job = self.jobs.get(&run)?;
        let target = &job.pending.target;
        let farm = &self.shared.config.farm_name;
        let place = self.place(run, target);
        let mut machines = Vec::new();
        let mut in_service = 0_u32;
        for handle in self.shared.duts.present() {
            let dut = handle.shown.borrow().clone();
            if satisfies(&dut, target, farm) {
                in_service += u32::from(serves(dut.state));
                machines.push(WhyMachine {
                    run: self.shared.runs.on(&dut.id),
                    dut: dut.id,
                    full_name: dut.full_name,
                    state: dut.state,
                    reason: dut.state_reason,
                });
            }
        }
        let reason = match (machines.len(), in_service) {
            (0, _) => "no machine of the farm has what the job asks for any more".to_owned(),
            (1, 0) => format!("{} could run it, but is {}", machines[0].full_name, machines[0].state),
            (all, 0) => format!("{all} machines could run it, but none of them is in service"),
            (_, 1) if place == 1 => "it is next; the one machine that can run it is busy".to_owned(),
            (_, n) if place == 1 => format!("it is next; all {n} machines that can run it are busy"),
            (_, n) => format!("{} before it wait for the same machines ({n} in service)", place - 1),
        };
        let estimate_seconds = self.estimate(&machines, place, in_service).await;
        Some(Why { reason, place: Some(place), estimate_seconds, machines })
    }

    /// As many rounds of jobs of usual length as it takes until it is its turn; the first is under way.
    async fn estimate(&self, machines: &[WhyMachine], place: u32, in_service: u32) -> Option<f64> {
        if in_service == 0 {
            return None;
        }
        let mut lengths = Vec::new();
        for machine in machines.iter().filter(|m| serves(m.state)) {
            if let Ok(Some(seconds)) = self.shared.store.mean_seconds(Some(&machine.dut), LOOK_BACK).await {
                lengths.push(seconds);
            }
        }
        if lengths.is_empty() {
            return None;
        }
        let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
        let mut left = f64::MAX;
        for machine in machines.iter().filter(|m| serves(m.state)) {
            let since = self.shared.duts.get(&machine.dut).map(|h| h.shown.borrow().state_since);
            let spent = since.map_or(0.0, |since| Timestamp::now().since(since).as_secs_f64());
            left = left.min((mean - spent).max(0.0));
        }
        let rounds = f64::from(place.saturating_sub(1)) / f64::from(in_service);
        Some((left + rounds.floor() * mean).round())
    }
}

/// It takes jobs, now or when what it does is over.
fn serves(state: DutState) -> bool {
    matches!(state, DutState::Idle | DutState::Queued | DutState::Running | DutState::QuickCheck)
}
