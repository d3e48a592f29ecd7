//! Who listens to a run, and what it means when the last one leaves: the published client's job ends with its
//! connection; ours may come back for a while; a detached one goes on by itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

/// How long a client that can resume has to come back.
pub(crate) const COME_BACK: Duration = Duration::from_secs(30);

/// What the submitter's client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// It cannot come back: the run ends when it leaves.
    Bound,
    /// It can come back within [`COME_BACK`].
    Resumable,
    /// The run needs nobody.
    Detached,
}

/// Who listens to one run.
#[derive(Debug)]
pub(crate) struct Attendance {
    state: watch::Sender<State>,
    policy: Mutex<Policy>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    present: u32,
    /// When the last one left; before that nobody has been there since the gateway started.
    left: Option<Instant>,
}

impl Attendance {
    /// Of a run whose submitter is about to be served, or was lost with a gateway that died: that never cancels.
    pub fn new(policy: Policy) -> Self {
        Self { state: watch::channel(State { present: 0, left: None }).0, policy: Mutex::new(policy) }
    }

    /// What the submitter's client is.
    pub fn policy(&self) -> Policy {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The submitter said that the run shall go on without it.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
        self.state.send_modify(|_| {});
    }

    /// How many listen now.
    pub fn present(&self) -> u32 {
        self.state.borrow().present
    }

    /// One more, until what is returned is dropped.
    pub fn arrive(self: &Arc<Self>) -> Present {
        self.state.send_modify(|state| state.present += 1);
        Present { attendance: Arc::clone(self) }
    }

    /// Returns when the run's client is gone and will not come back. Cancel safe.
    pub async fn gone(&self) {
        let mut states = self.state.subscribe();
        loop {
            let now = *states.borrow_and_update();
            let until = match (now.present, now.left, self.policy()) {
                (0, Some(_), Policy::Bound) => return,
                (0, Some(left), Policy::Resumable) => Some(left + COME_BACK),
                _ => None,
            };
            let changed = states.changed();
            match until {
                None => {
                    if changed.await.is_err() {
                        // The sender is a field of this value: it cannot be gone.
                        std::future::pending::<()>().await;
                    }
                }
                Some(until) => {
                    if tokio::time::timeout_at(until, changed).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Somebody who listens.
#[derive(Debug)]
pub(crate) struct Present {
    attendance: Arc<Attendance>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.attendance.state.send_modify(|state| {
            state.present = state.present.saturating_sub(1);
            state.left = Some(Instant::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_gone_within(attendance: &Attendance, seconds: u64) -> bool {
        tokio::time::timeout(Duration::from_secs(seconds), attendance.gone()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_client_is_gone_when_it_leaves_and_not_before_it_came() {
        let attendance = Arc::new(Attendance::new(Policy::Bound));
        assert!(!is_gone_within(&attendance, 3600).await);
        let present = attendance.arrive();
        assert!(!is_gone_within(&attendance, 3600).await);
        drop(present);
        assert!(is_gone_within(&attendance, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_can_resume_has_half_a_minute() {
        let attendance = Arc::new(Attendance::new(Policy::Resumable));
        drop(attendance.arrive());
        assert!(!is_gone_within(&attendance, 29).await);
        let back = attendance.arrive();
        assert!(!is_gone_within(&attendance, 3600).await);
        drop(back);
        assert!(is_gone_within(&attendance, 31).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_detached_run_needs_nobody_and_a_second_listener_is_enough() {
        let attendance = Arc::new(Attendance::new(Policy::Detached));
        drop(attendance.arrive());
        assert!(!is_gone_within(&attendance, 3600).await);
        let bound = Arc::new(Attendance::new(Policy::Bound));
        let (one, two) = (bound.arrive(), bound.arrive());
        drop(one);
        assert!(!is_gone_within(&bound, 3600).await);
        drop(two);
        assert!(is_gone_within(&bound, 1).await);
    }
}
