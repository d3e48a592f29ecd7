//! Where consoles come from. A source finds them and hands each to [`crate::console::serve`] as something to read
//! from and something to write to; it knows nothing of machines.
//!
//! There is one so far: [`tcp`].

pub(crate) mod tcp;

use std::io;
use std::time::Duration;

/// Says that a connection could not be accepted and waits a little: when descriptors have run out, trying again at
/// once would only burn a core.
pub(crate) async fn pause_after_failed_accept(listener: &'static str, error: &io::Error) {
    tracing::error!(listener, %error, "cannot accept a connection; is the limit of open files reached?");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
