//! What the gateway before left: what was going on with each machine, the runs that machines had, and the jobs that
//! waited. Read once at the start, and handed over to the tasks that go on with it.

use std::{collections::BTreeMap, sync::Arc};

use farmgate_job::Cause;
use farmgate_protocol::DutId;
use farmgate_store::{RunState, Store, StoreError, StoredRun};

use crate::{
    dispatch::{Ask, Pending},
    dut::{Inherited, Remembered, Shared, lost, told},
};

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    memories: BTreeMap<DutId, Remembered>,
    running: BTreeMap<DutId, Box<StoredRun>>,
    waiting: Vec<StoredRun>,
    after_crash: bool,
}

impl Estate {
    /// Everything that is stored.
    pub async fn read(store: &Store, after_crash: bool) -> Result<Self, StoreError> {
        let mut estate = Self { after_crash, ..Self::default() };
        for (dut, memory) in store.dut_memories().await? {
            match serde_json::from_value(memory) {
                Ok(memory) => {
                    estate.memories.insert(dut, memory);
                }
                // Of another release: the machine begins anew, which is safe.
                Err(error) => tracing::warn!(%dut, %error, "what was going on with a machine cannot be read"),
            }
        }
        for run in store.open_runs().await? {
            match (run.row.state, run.row.dut.clone()) {
                (RunState::Active, Some(dut)) => {
                    estate.running.insert(dut, Box::new(run));
                }
                _ => estate.waiting.push(run),
            }
        }
        Ok(estate)
    }

    /// What a machine's task begins with.
    pub fn of(&mut self, id: &DutId) -> Inherited {
        Inherited {
            memory: self.memories.remove(id),
            run: self.running.remove(id),
            after_crash: self.after_crash,
        }
    }

    /// The rest: the jobs that waited wait again, and runs whose machine is gone end.
    pub async fn hand_over(&mut self, shared: &Arc<Shared>) {
        for run in std::mem::take(&mut self.running).into_values() {
            let why = "its machine was taken out of the farm file while the gateway was down";
            shared.events.emit(
                run.row.dut.as_ref(),
                "run",
                format!("job {} is over: {why}", run.row.number),
                serde_json::Map::new(),
            );
            shared.store.write_soon(vec![lost(&run, Cause::Infrastructure, why)]);
        }
        for run in std::mem::take(&mut self.waiting) {
            let said = told(&shared.store, run.row.number).await;
            match Pending::restore(&run, said) {
                Ok(pending) => {
                    shared.runs.insert(pending.number, pending.live.clone());
                    shared.queue.ask(Ask::Restore(Box::new(pending))).await;
                }
                Err(error) => {
                    let why = format!("what is stored of the job cannot be read: {error}");
                    shared.store.write_soon(vec![lost(&run, Cause::Bug, &why)]);
                }
            }
        }
    }
}
