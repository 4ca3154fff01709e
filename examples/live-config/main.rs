//! An HTTP service whose settings are changed while it runs: it greets, at most so often a second.
//!
//! Each setting is a key. A value that is wrong changes nothing: the last good one stays in force, and the service says
//! what is wrong with the new one. So it does while the cluster is away.

mod pace;
mod service;
mod settings;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tenure_examples::{Members, ended, listen, terminated};
use tokio::time::timeout;

use crate::service::Service;
use crate::settings::{Running, Setting};

/// A service that greets, and takes its settings from keys.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    members: Members,
    /// What the names of the keys begin with: `greeting` and `limits` follow it
    #[arg(long, default_value = "config/live/")]
    prefix: String,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// How long to wait for the cluster at the start, in milliseconds, before beginning with the defaults
    #[arg(long, default_value_t = 5_000)]
    wait_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    ended("live-config", run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), String> {
    let client = options
        .members
        .client()
        .map_err(|error| error.to_string())?;
    let listener = listen(options.listen).await?;
    let mirror = client
        .mirror::<serde_json::Value>(&options.prefix)
        .decode_with(Setting::read)
        .begin();
    // A service that waited for its configuration for ever would be down whenever the cluster is.
    match timeout(Duration::from_millis(options.wait_ms), mirror.ready()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => eprintln!("live-config: beginning with the defaults: {error}"),
        Err(_) => eprintln!("live-config: beginning with the defaults: the cluster is away"),
    }
    let service = Arc::new(Service::new(mirror));
    let telling = tokio::spawn(tell_of_changes(Arc::clone(&service)));
    println!("ready: http://{}", options.listen);
    let server = axum::serve(listener, service::router(service));
    tokio::select! {
        ended = server.into_future() => ended.map_err(|error| error.to_string())?,
        asked = terminated() => asked?,
    }
    telling.abort();
    Ok(())
}

/// Says what has changed, for whoever reads the log. Requests do not wait for this: they look for themselves.
async fn tell_of_changes(service: Arc<Service>) {
    let mut views = service.mirror.watch();
    let mut before = Running::default();
    loop {
        let view = views.borrow_and_update().clone();
        if let Some(view) = view {
            let running = Running::of(&view);
            if running != before {
                println!("revision {}: running with {running:?}", view.revision);
            }
            for (name, bad) in &view.bad {
                let put_by = bad.mod_revision;
                if put_by == view.revision {
                    println!("revision {put_by}: {name} stays as it was: {}", bad.why);
                }
            }
            before = running;
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}
