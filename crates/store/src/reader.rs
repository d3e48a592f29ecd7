//! The reading threads: each has a connection of its own and takes the next question from one queue. In WAL mode
//! neither waits for the writer.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    error::StoreError,
    open,
    reads::{Read, ReadError},
};

/// So many questions are answered at the same time.
const THREADS: usize = 2;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The queue to the reading threads. They end when it is dropped, after what was asked before.
#[derive(Debug)]
pub(crate) struct Readers {
    questions: mpsc::Sender<Question>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    pub(crate) fn start(path: &Path) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let (questions, queue) = mpsc::channel::<Question>();
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (connection, queue) = (open::reader(path)?, Arc::clone(&queue));
            let thread = thread::Builder::new().name(format!("state-read-{number}"));
            let thread = thread.spawn(move || {
                // The lock is held while waiting: whoever has it gets the next question, and lets go to answer it.
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(question) = next() {
                    question(&connection);
                }
            });
            threads.push(thread.map_err(|source| StoreError::Open {
                operation: "start a reading thread for",
                path: path.to_owned(),
                source: Arc::new(source),
            })?);
        }
        Ok((Self { questions }, threads))
    }

    /// Asks, without waiting: the answer arrives at the receiver, which fails when the threads have ended.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        path: &Arc<Path>,
        operation: &'static str,
        question: impl FnOnce(&Connection) -> Read<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(path);
        let asked: Question = Box::new(move |connection| {
            // Nobody waits any more: a client has gone.
            if reply.is_closed() {
                return;
            }
            let result = question(connection).map_err(|error| match error {
                ReadError::Sqlite(error) => StoreError::sqlite(operation, &path, error),
                ReadError::Unreadable { what, text, reason } => StoreError::Unreadable { what, text, reason },
            });
            // The same: then the answer is of no interest.
            let _ = reply.send(result);
        });
        // If the threads have ended, the question is dropped, and with it the sender of the answer.
        let _ = self.questions.send(asked);
        answer
    }
}
