//! The one owner of every background task of the server.
//!
//! Anything may ask for a task through a [`Spawner`]; all of them live in the [`Tasks`] that the running server
//! holds. So a panic in one is seen and logged, and dropping the server drops them all.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Asks for background tasks.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(mpsc::UnboundedSender<Task>);

impl Spawner {
    /// Runs the task from now on, or never when the server is gone. The callers bound how many there are: each
    /// task is a connection or a listener, and those are counted.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _server_gone = self.0.send(Box::pin(task));
    }
}

/// Owns the tasks.
#[derive(Debug)]
pub(crate) struct Tasks {
    wanted: mpsc::UnboundedReceiver<Task>,
    running: JoinSet<()>,
}

impl Tasks {
    /// No tasks yet, and the handle to ask for some.
    pub(crate) fn new() -> (Spawner, Self) {
        let (sender, wanted) = mpsc::unbounded_channel();
        (Spawner(sender), Self { wanted, running: JoinSet::new() })
    }

    /// Starts what is asked for and looks after what ends, for ever. Cancel safe.
    pub(crate) async fn look_after(&mut self) {
        loop {
            tokio::select! {
                Some(task) = self.wanted.recv() => { self.running.spawn(task); }
                Some(ended) = self.running.join_next() => report(ended),
                else => return,
            }
        }
    }

    /// Waits until all have ended.
    pub(crate) async fn drain(&mut self) {
        self.wanted.close();
        while let Some(ended) = self.running.join_next().await {
            report(ended);
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of SALAD panicked; this is a bug");
    }
}
