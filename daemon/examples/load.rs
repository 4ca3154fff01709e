//! Drives a running cluster with a number of connections and says how many writes a second it answers, and how fast.
//!
//! `cargo run --release --example load -- [--clients 1,64] [--seconds 10] [--bytes 256] URL...` with the client URLs of
//! the members, such as those that `tenured dev --nodes 3` prints. Connection i goes to member i modulo their number.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

/// What to do to which cluster.
#[derive(Parser)]
struct Arguments {
    /// How many connections write at once; a run for each number
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    clients: Vec<usize>,
    /// How long each run lasts
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The size of a value
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Read in place of writing
    #[arg(long)]
    reads: bool,
    /// The client URLs of the members
    #[arg(required = true)]
    urls: Vec<Uri>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arc::new(Arguments::parse());
    for clients in &arguments.clients {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for client in 0..*clients {
            tasks.spawn(drive(Arc::clone(&arguments), client));
        }
        let mut latencies = Vec::new();
        while let Some(client) = tasks.join_next().await {
            latencies.extend(client??);
        }
        report(*clients, &arguments, started.elapsed(), latencies);
    }
    Ok(())
}

/// Calls one member over one connection until the time is over; answers how long each call took.
async fn drive(arguments: Arc<Arguments>, client: usize) -> Result<Vec<Duration>, Failure> {
    let url = &arguments.urls[client % arguments.urls.len()];
    let authority = url
        .authority()
        .ok_or("a URL needs a host and a port")?
        .as_str();
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let value = Bytes::from(vec![b'x'; arguments.bytes]);
    let path = format!("/v1/keys/load/{client}");
    call(&mut sender, authority, "PUT", &path, value.clone()).await?;
    let method = if arguments.reads { "GET" } else { "PUT" };
    let body = if arguments.reads { Bytes::new() } else { value };
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let asked = Instant::now();
        call(&mut sender, authority, method, &path, body.clone()).await?;
        latencies.push(asked.elapsed());
    }
    drop(sender);
    connection.await??;
    Ok(latencies)
}

async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    authority: &str,
    method: &str,
    path: &str,
    body: Bytes,
) -> Result<(), Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", authority)
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return Ok(());
    }
    Err(format!(
        "{method} {path}: {status} {}",
        String::from_utf8_lossy(&body)
    )
    .into())
}

fn report(clients: usize, arguments: &Arguments, took: Duration, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |per_mille: usize| {
        let place = (latencies.len() * per_mille / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(place).copied().unwrap_or_default()
    };
    let what = if arguments.reads { "reads" } else { "writes" };
    println!(
        "{clients} clients, {} bytes: {:.0} {what}/s; p50 {:.2?}, p90 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, most {:.2?}",
        arguments.bytes,
        latencies.len() as f64 / took.as_secs_f64(),
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000),
    );
}
