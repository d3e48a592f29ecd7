//! Who did what: the audit log. Entries are stored soon and nobody waits for them; one that is lost on a full disk is
//! logged. Secrets and job texts do not stand in it.

use std::sync::{Mutex, PoisonError};

use farmgate_protocol::Timestamp;
use farmgate_store::{AuditRow, Change, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    callers::Who,
    failures::{Failures, Verdict},
};

/// The longest text of a stranger's (a path, a query) that an entry keeps, in characters.
const LONGEST: usize = 200;

/// GET `audit`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditPage {
    /// The newest first.
    pub entries: Vec<AuditRow>,
}

/// What a handler adds to the entry of its request; it travels in the answer's extensions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Details(pub Value);

/// Writes entries.
#[derive(Debug)]
pub struct Audit {
    store: Store,
    failures: Mutex<Failures>,
}

impl Audit {
    /// Into that state.
    pub fn new(store: Store) -> Self {
        Self { store, failures: Mutex::default() }
    }

    /// Somebody did something, or tried to.
    pub fn note(&self, who: &Who, what: &str, details: Value) {
        let entry = Change::Audit {
            at: Timestamp::now(),
            who: who.name.clone(),
            from: who.from.to_string(),
            what: what.to_owned(),
            details,
        };
        self.store.write_soon(vec![entry]);
    }

    /// Somebody was refused. Those that knock too often are written down once, and then told when to come again.
    pub fn refused(&self, who: &Who, request: &str, why: &str) -> Verdict {
        let verdict = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.add(who.from, Timestamp::now())
        };
        let request = shortened(request);
        match verdict {
            Verdict::Noted => self.note(who, "refused", json!({"request": request, "why": why})),
            Verdict::Last => {
                let more = "more of them follow too fast to be written down";
                self.note(who, "refused", json!({"request": request, "why": why, "note": more}));
            }
            // Not into the log either.
            Verdict::TooMany(_) => return verdict,
        }
        tracing::warn!(who = who.name, from = %who.from, request, why, "refused");
        verdict
    }

    /// A page, newest first.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn page(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, farmgate_store::StoreError> {
        // What was just done is in it.
        self.store.write(Vec::new()).await?;
        Ok(AuditPage { entries: self.store.audit(before, limit).await? })
    }
}

/// What a stranger sent, short and on one line.
pub fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use farmgate_store::Retention;

    use super::*;
    use crate::api::roles::Role;

    #[tokio::test]
    async fn who_knocks_a_thousand_times_is_written_down_ten_times() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), Retention::default()).unwrap();
        let audit = Audit::new(store);
        let who = Who { name: "192.0.2.1".to_owned(), role: None, from: "192.0.2.1".parse().unwrap() };
        for _ in 0..1000 {
            audit.refused(&who, &format!("GET /{}\n", "x".repeat(5000)), "no token");
        }
        let admin = Who { name: "local".to_owned(), role: Some(Role::Admin), from: [127, 0, 0, 1].into() };
        audit.note(&admin, "retire", json!({"dut": "a"}));
        let page = audit.page(None, 1000).await.unwrap();
        // An eleventh where the test took more than six seconds.
        assert!((11..20).contains(&page.entries.len()), "{}", page.entries.len());
        assert_eq!((page.entries[0].what.as_str(), page.entries[0].who.as_str()), ("retire", "local"));
        assert!(page.entries.iter().any(|e| e.details["note"].is_string()));
        assert!(page.entries.iter().all(|e| e.details.to_string().len() < 600));
        let older = audit.page(Some(page.entries[0].id), 3).await.unwrap();
        assert_eq!(older.entries.len(), 3);
        assert!(older.entries.iter().all(|e| e.what == "refused"));
    }
}
