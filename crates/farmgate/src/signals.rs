//! The signals that stop a process of ours.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `shutdown` on SIGTERM or SIGINT, and `hand_over` on SIGUSR2.
pub async fn stop_signals(shutdown: CancellationToken, hand_over: CancellationToken) {
    let watch = |kind| signal(kind);
    let (Ok(mut term), Ok(mut int), Ok(mut usr2)) =
        (watch(SignalKind::terminate()), watch(SignalKind::interrupt()), watch(SignalKind::user_defined2()))
    else {
        tracing::error!("signals cannot be handled: the gateway stops by kill -9 only");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = usr2.recv() => hand_over.cancel(),
        }
    }
    tracing::info!("stopping");
    shutdown.cancel();
}
