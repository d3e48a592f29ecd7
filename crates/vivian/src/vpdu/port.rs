//! One outlet: a task that owns its machine and carries out one command after the other.
//!
//! The port behaves like a real outlet: what the machine does is its own affair. A guest that powers itself off, or
//! even a QEMU that crashes, leaves the port ON, and ON again changes nothing; only OFF and then ON starts it anew.

use farmgate_protocol::vpdu::Reply;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::machine::Machine;
use crate::outlet::Outlet;

/// What may be asked of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Give power.
    On,
    /// Take power.
    Off,
    /// Is there power?
    Status,
}

/// The way to a port's task. The task stops its machine and ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Port {
    outlet: Outlet,
    commands: mpsc::Sender<(Command, oneshot::Sender<Reply>)>,
}

impl Port {
    /// Which outlet this is.
    pub const fn outlet(&self) -> Outlet {
        self.outlet
    }

    /// Asks, and waits until it is done. Commands are carried out in the order they come, also when the asker leaves.
    pub async fn ask(&self, command: Command) -> Reply {
        let (answer, answered) = oneshot::channel();
        if self.commands.send((command, answer)).await.is_err() {
            return Reply::Error;
        }
        answered.await.unwrap_or(Reply::Error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Off,
    On,
    /// A stop failed: something may still run.
    Unknown,
}

/// Starts the task of a port, which is off at first.
pub fn spawn<M: Machine>(tasks: &mut JoinSet<()>, outlet: Outlet, machine: M) -> Port {
    // A few may wait; askers beyond that wait for room.
    let (commands, inbox) = mpsc::channel(8);
    tasks.spawn(run(outlet, machine, inbox));
    Port { outlet, commands }
}

async fn run<M: Machine>(
    outlet: Outlet,
    mut machine: M,
    mut inbox: mpsc::Receiver<(Command, oneshot::Sender<Reply>)>,
) {
    let mut power = Power::Off;
    loop {
        let (command, answer) = tokio::select! {
            asked = inbox.recv() => match asked {
                Some(asked) => asked,
                None => break,
            },
            how = machine.died() => {
                tracing::error!(%outlet, how, "the machine died; its port stays ON, switch it OFF and ON to start it again");
                continue;
            }
        };
        let reply = carry_out(outlet, &mut machine, &mut power, command).await;
        // An asker that left does not need the answer.
        let _ = answer.send(reply);
    }
    if power != Power::Off
        && let Err(e) = machine.stop().await
    {
        tracing::error!(%outlet, error = %e, "the machine could not be stopped");
    }
}

async fn carry_out<M: Machine>(
    outlet: Outlet,
    machine: &mut M,
    power: &mut Power,
    command: Command,
) -> Reply {
    match (command, *power) {
        (Command::Status, Power::On) => Reply::On,
        (Command::Status, Power::Off) => Reply::Off,
        (Command::Status, Power::Unknown) => Reply::Error,
        (Command::On, Power::On) | (Command::Off, Power::Off) => Reply::Ok,
        (Command::On, Power::Unknown) => {
            tracing::error!(%outlet, "not switched ON: its last OFF failed; switch it OFF again first");
            Reply::Error
        }
        (Command::On, Power::Off) => match machine.start().await {
            Ok(()) => {
                *power = Power::On;
                tracing::info!("{outlet}: ON");
                Reply::Ok
            }
            Err(e) => {
                tracing::error!("{outlet}: not switched ON: {e}");
                Reply::Error
            }
        },
        (Command::Off, Power::On | Power::Unknown) => match machine.stop().await {
            Ok(()) => {
                *power = Power::Off;
                tracing::info!("{outlet}: OFF");
                Reply::Ok
            }
            Err(e) => {
                *power = Power::Unknown;
                tracing::error!("{outlet}: not switched OFF: {e}");
                Reply::Error
            }
        },
    }
}
