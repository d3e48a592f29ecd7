//! The tasks of all DUTs, by id. The executor's keeper puts them in and takes them out; others look.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use farmgate_protocol::DutId;

use crate::dut::DutHandle;

/// See above.
#[derive(Default)]
pub(crate) struct DutTable {
    duts: Mutex<BTreeMap<DutId, DutHandle>>,
}

impl DutTable {
    /// All, also those that are ending.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<DutId, DutHandle>> {
        self.duts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the farm file.
    pub fn present(&self) -> Vec<DutHandle> {
        self.lock().values().filter(|handle| !handle.stop.is_cancelled()).cloned().collect()
    }

    /// The task of one, if it is of the farm file.
    pub fn get(&self, id: &DutId) -> Option<DutHandle> {
        self.lock().get(id).filter(|handle| !handle.stop.is_cancelled()).cloned()
    }
}
