//! One simulated outlet: what it is told, what it does about it, and the machine behind it. Faults change what comes
//! of a command; every command and every real transition is in the journal.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use farmgate_protocol::vpdu::Reply;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::{World, machine};

/// What is wrong with an outlet or its machine. What is not named is fine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// So many ON commands are answered and not carried out.
    pub ignore_on: u32,
    /// So many OFF commands are answered and not carried out.
    pub ignore_off: u32,
    /// So many commands are answered by an error.
    pub refuse: u32,
    /// No command is carried out any more, though each is answered.
    pub stuck: bool,
    /// So many boots do not come to network boot.
    pub noboot: u32,
    /// The firmware does not try again what it did not get.
    pub fragile: bool,
    /// Milliseconds before an OFF is carried out and answered.
    pub slow_off: u64,
    /// Milliseconds that the firmware waits between kernel and initrd.
    pub slow_boot: u64,
}

/// An outlet.
#[derive(Debug, Default)]
pub(super) struct Outlet(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    on: bool,
    /// Times that it was switched on.
    boots: u64,
    faults: Faults,
    machine: Option<JoinHandle<()>>,
}

/// What comes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It is carried out; it may be so already.
    Done,
    Ignored,
    Refused,
}

impl Effect {
    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

impl Faults {
    /// What comes of a command; a fault that is counted is used up by it.
    fn take(&mut self, on: bool) -> Effect {
        let mut use_up = |what: fn(&mut Self) -> &mut u32| {
            let left = what(self);
            let any = *left > 0;
            *left = left.saturating_sub(1);
            any
        };
        if use_up(|f| &mut f.refuse) {
            return Effect::Refused;
        }
        let ignored = if on { use_up(|f| &mut f.ignore_on) } else { use_up(|f| &mut f.ignore_off) };
        if ignored || self.stuck { Effect::Ignored } else { Effect::Done }
    }
}

impl Outlet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it gives power.
    pub fn is_on(&self) -> bool {
        self.state().on
    }

    /// Puts these faults in the place of those that it had.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Takes one of the boots that shall not come to network boot.
    pub fn takes_noboot(&self) -> bool {
        let mut state = self.state();
        let any = state.faults.noboot > 0;
        state.faults.noboot = state.faults.noboot.saturating_sub(1);
        any
    }

    /// Its faults now.
    pub fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Carries out a command, or what its faults make of it.
    pub async fn command(&self, world: &Arc<World>, dut: u32, on: bool) -> Reply {
        let slow = if on { 0 } else { self.state().faults.slow_off };
        if slow > 0 {
            world.journal.note(dut, "holds", &[("ms", slow.into())]);
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
        let (effect, before) = {
            let mut state = self.state();
            (state.faults.take(on), state.on)
        };
        let more = [("on", on.into()), ("was", before.into()), ("effect", effect.word().into())];
        world.journal.note(dut, "command", &more);
        match effect {
            Effect::Refused => return Reply::Error,
            Effect::Ignored => return Reply::Ok,
            Effect::Done => {}
        }
        if on {
            self.switch_on(world, dut)
        } else {
            self.switch_off(world, dut).await
        }
        Reply::Ok
    }

    fn switch_on(&self, world: &Arc<World>, dut: u32) {
        let mut state = self.state();
        if std::mem::replace(&mut state.on, true) {
            return;
        }
        state.boots += 1;
        world.journal.note(dut, "on", &[("boot", state.boots.into())]);
        state.machine = Some(tokio::spawn(machine::live(Arc::clone(world), dut, state.boots)));
    }

    /// Off; its machine is gone, with its console, when this returns.
    pub async fn switch_off(&self, world: &Arc<World>, dut: u32) {
        let machine = {
            let mut state = self.state();
            if std::mem::replace(&mut state.on, false) {
                world.journal.note(dut, "off", &[("boot", state.boots.into())]);
            }
            state.machine.take()
        };
        if let Some(machine) = machine {
            machine.abort();
            if let Err(error) = machine.await
                && error.is_panic()
            {
                tracing::error!(dut, %error, "a simulated machine ended by a bug");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_faults_are_used_up_and_a_stuck_outlet_stays_so() {
        let mut faults = Faults { ignore_on: 1, refuse: 1, ..Faults::default() };
        let row: Vec<Effect> = [true, false, true, true].into_iter().map(|on| faults.take(on)).collect();
        assert_eq!(row, [Effect::Refused, Effect::Done, Effect::Ignored, Effect::Done]);
        let mut stuck = Faults { stuck: true, ..Faults::default() };
        assert!((0..9).all(|n| stuck.take(n % 2 == 0) == Effect::Ignored));
    }
}
