//! Waiting until the program is asked to end.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM, or for Ctrl-C.
pub(crate) async fn terminated() -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
