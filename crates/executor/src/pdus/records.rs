//! What is remembered of a PDU's ports in the state file, in the space `port`, by PDU and port. Off times are those of
//! one device: when its settings point elsewhere, or only changed, they are not believed. Cycles are kept, because
//! a corrected password is no new relay.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use async_trait::async_trait;
use farmgate_mars::PduEntry;
use farmgate_pdu::{Journal, JournalError, PortRecord};
use farmgate_protocol::PortId;
use farmgate_store::{Change, Store, StoreError};
use serde::{Deserialize, Serialize};

const SPACE: &str = "port";

/// As it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// Which device it is about.
    device: String,
    #[serde(flatten)]
    record: PortRecord,
}

/// The records of one PDU.
#[derive(Debug)]
pub(super) struct Records {
    store: Store,
    /// `NAME/`: what its keys begin with.
    prefix: String,
    device: String,
}

impl Records {
    pub fn new(store: &Store, name: &str, entry: &PduEntry) -> Self {
        let mut hasher = DefaultHasher::new();
        (&entry.driver, entry.config.to_string()).hash(&mut hasher);
        // Another release may hash otherwise: then nothing is believed, which is safe.
        let device = format!("{:016x}", hasher.finish());
        Self { store: store.clone(), prefix: format!("{name}/"), device }
    }

    fn change(&self, port: &PortId, record: &PortRecord) -> Change {
        let stored = Stored { device: self.device.clone(), record: record.clone() };
        Change::Value {
            space: SPACE.to_owned(),
            key: format!("{}{port}", self.prefix),
            value: serde_json::to_value(stored).ok(),
        }
    }
}

fn failed(operation: &'static str) -> impl FnOnce(StoreError) -> JournalError {
    move |error| JournalError { operation, source: Arc::new(error) }
}

#[async_trait]
impl Journal for Records {
    async fn load(&self) -> Result<BTreeMap<PortId, PortRecord>, JournalError> {
        let values = self.store.values(SPACE).await.map_err(failed("read the records"))?;
        let ours = values.into_iter().filter_map(|(key, value)| {
            let port = PortId::new(key.strip_prefix(&self.prefix)?).ok()?;
            // Of another release: as if it were not there, which is safe.
            let mut stored: Stored = serde_json::from_value(value).ok()?;
            if stored.device != self.device {
                stored.record.off_since = None;
            }
            Some((port, stored.record))
        });
        Ok(ours.collect())
    }

    fn save_soon(&self, port: &PortId, record: &PortRecord) {
        self.store.write_soon(vec![self.change(port, record)]);
    }

    async fn save(&self, port: &PortId, record: &PortRecord) -> Result<(), JournalError> {
        self.store.write(vec![self.change(port, record)]).await.map_err(failed("store the record"))
    }
}

#[cfg(test)]
mod tests {
    use farmgate_pdu::Moment;
    use farmgate_store::Retention;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn records_come_back_for_the_same_device_and_only_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), Retention::default()).unwrap();
        let entry =
            |host: &str| PduEntry { driver: "x".into(), config: json!({"h": host}), ..PduEntry::default() };
        let record = PortRecord { off_since: Some(Moment::now()), cycles: 3 };
        let journal = Records::new(&store, "A", &entry("a"));
        journal.save_soon(&1.into(), &PortRecord::default());
        journal.save(&1.into(), &record).await.unwrap();
        let only = |record: PortRecord| BTreeMap::from([(PortId::from(1), record)]);
        assert_eq!(Records::new(&store, "A", &entry("a")).load().await.unwrap(), only(record.clone()));
        let moved = Records::new(&store, "A", &entry("b")).load().await.unwrap();
        assert_eq!(moved, only(PortRecord { off_since: None, ..record }));
        assert!(Records::new(&store, "AB", &entry("a")).load().await.unwrap().is_empty());
        store.clone().close().await;
        assert!(Records::new(&store, "A", &entry("a")).load().await.is_err());
    }
}
