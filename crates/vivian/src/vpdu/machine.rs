//! What an outlet switches: something that can be started, stopped, and that may die on its own.

use std::{future::Future, io, path::PathBuf};

/// Why a machine could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file of the outlet cannot be made.
    #[error("cannot prepare {}: {source}", path.display())]
    Files {
        /// Which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The network behind the outlet is not there.
    #[error(transparent)]
    Network(#[from] super::tap::TapError),
    /// The guard could not be started.
    #[error("cannot start QEMU: {0}")]
    Spawn(#[source] io::Error),
    /// QEMU ended at once. The text is what it said.
    #[error("QEMU did not start: {said}{remedy}")]
    Refused {
        /// The end of QEMU's own output.
        said: String,
        /// What to do, where the output is known.
        remedy: &'static str,
    },
    /// QEMU runs but does not answer on its control socket.
    #[error("QEMU did not become ready within {0} s; is this computer overloaded?")]
    NotReady(u64),
    /// A process is still there.
    #[error("the machine's processes are not gone: {0}")]
    NotGone(#[source] io::Error),
}

/// A machine behind an outlet. One task owns it and calls one method at a time.
pub trait Machine: Send + 'static {
    /// Gives it power. After an error nothing of it is left running.
    fn start(&mut self) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Takes its power and returns when nothing of it runs any more. Fine for a machine that died or never started.
    fn stop(&mut self) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Waits until a started machine dies though nobody stopped it, and says how. Never returns for a machine that is
    /// not started or is known to be dead. May be dropped and called again.
    fn died(&mut self) -> impl Future<Output = String> + Send;
}
