//! An HTTP service of several instances, one of which is active: it counts, and the others send clients to it.
//!
//! The active instance leads an election and says there where it is reached. What it writes is guarded by its fence,
//! so that an instance that does not know yet that it was replaced changes nothing.

mod counter;
mod instance;
mod service;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tenure_examples::{Members, ended, listen, terminated};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::instance::Instance;

/// How long one call to the cluster goes on; requests wait for it, and so does the end of the program.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the last requests may take.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// One of several instances of a service; the one that leads is active.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    members: Members,
    /// The election that decides which instance is active
    #[arg(long, default_value = "service/counter")]
    election: String,
    /// The name of this instance; no other may have it
    #[arg(long)]
    name: String,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where clients reach this instance; `http://` and the address to listen on, unless told otherwise
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// For how long nobody is active after the active instance has died, in milliseconds
    #[arg(long, default_value_t = 5_000)]
    ttl_ms: u64,
    /// How long to go on redirecting after a hand-over, in milliseconds, so that clients learn of it
    #[arg(long, default_value_t = 1_000)]
    linger_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    ended("leader", run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), String> {
    let url = options
        .advertise
        .unwrap_or_else(|| format!("http://{}", options.listen));
    if !service::is_url(&url) {
        return Err(format!(
            "--advertise is {url:?}; it is a URL that begins with `http://` or `https://`"
        ));
    }
    let client = options
        .members
        .client()
        .map_err(|error| error.to_string())?;
    let client = client.with_patience(PATIENCE);
    let listener = listen(options.listen).await?;
    let (stop, stopped) = watch::channel(false);
    let (close, closed) = watch::channel(false);
    let ttl = Duration::from_millis(options.ttl_ms);
    let instance = Arc::new(Instance::new(
        client,
        options.election,
        options.name,
        url.clone(),
    ));

    let observing = tokio::spawn(Arc::clone(&instance).observe());
    let standing = tokio::spawn(Arc::clone(&instance).stand(ttl, stopped));
    let server =
        axum::serve(listener, service::router(instance)).with_graceful_shutdown(on(closed));
    let serving = tokio::spawn(server.into_future());
    println!("ready: {url}");

    terminated().await?;
    // First another instance becomes active, then this one goes.
    stop.send_replace(true);
    standing.await.map_err(|error| error.to_string())?;
    tokio::time::sleep(Duration::from_millis(options.linger_ms)).await;
    close.send_replace(true);
    // A client that never ends its request keeps nobody from ending.
    let _ = timeout(LAST_REQUESTS, serving).await;
    observing.abort();
    Ok(())
}

/// Waits until it is set.
async fn on(mut flag: watch::Receiver<bool>) {
    // An error says that whoever sets it is gone: then it is time, too.
    let _ = flag.wait_for(|set| *set).await;
}
