//! What the examples have in common that is not their point: which members they ask, listening, and ending.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tenure::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Which members a program asks.
#[derive(Args)]
pub struct Members {
    /// Client URLs of members, separated by commas
    #[arg(
        long,
        env = "TENURE_ENDPOINTS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7379"
    )]
    endpoints: Vec<String>,
    /// The file with the token by which this program says who it is; it may get another one at any time
    #[arg(long, env = "TENURE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Members {
    /// A client of them.
    ///
    /// # Errors
    ///
    /// Where one of them is no URL, or there is no token in its file.
    pub fn client(&self) -> Result<Client, tenure::Error> {
        let client = Client::builder(self.endpoints.clone());
        match &self.token_file {
            Some(file) => client.token_file(file).build(),
            None => client.build(),
        }
    }
}

/// Listens where `--listen` says.
///
/// # Errors
///
/// Where that is not possible, naming the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("--listen {address}: {error}"))
}

/// Waits for SIGTERM, or for Ctrl-C.
///
/// # Errors
///
/// Where the system does not let the program listen for signals.
pub async fn terminated() -> Result<(), String> {
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

/// How a program ends, which says why where it fails.
pub fn ended(program: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}
