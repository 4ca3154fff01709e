//! A job that only one host runs: the inventory of a directory, once a night, kept where stale writes are refused.
//!
//! Every host starts it, as cron does. The lock lets one of them work; the store has the last word: it takes nothing
//! from a holder that was paused until its lock was another's. What a dead holder has done is not done again.

mod database;
mod files;
mod inventory;
mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tenure::api::Code;
use tenure::{Client, Lock};
use tenure_examples::Members;

use crate::database::Database;
use crate::files::Files;
use crate::inventory::{Item, items};
use crate::store::{Store, StoreError};

const EXIT_USAGE: u8 = 2;
const EXIT_LOST: u8 = 76;
const EXIT_HELD_BY_ANOTHER: u8 = 75;

/// Writes down which files a directory has, with their sizes and checksums, on one host of many.
///
/// Exit codes: 0 done, now or before; 1 failed; 2 wrong usage; 75 another host is at it; 76 the lock was lost,
/// or the store has refused a stale fence.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    members: Members,
    /// The lock; each store has one, whose fences it knows
    #[arg(long, default_value = "jobs/inventory")]
    lock: String,
    /// For how long others wait after this host has died, in milliseconds
    #[arg(long, default_value_t = 15_000)]
    ttl_ms: u64,
    /// How long to wait while another host is at it, in milliseconds
    #[arg(long, default_value_t = 0)]
    wait_ms: u64,
    /// Which night this is the inventory of, such as 2026-11-30: each is made once
    #[arg(long)]
    night: String,
    /// The directory
    #[arg(long, value_name = "DIR")]
    source: PathBuf,
    /// Where to keep it: `file:DIR`, or `postgres://USER@HOST:PORT/DATABASE`
    #[arg(long)]
    store: String,
    /// Take so long for each file at least, so that there is time to pause the program
    #[arg(long, default_value_t = 0)]
    at_least_ms: u64,
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("another host is at it: {0}")]
    HeldByAnother(String),
    #[error(transparent)]
    Tenure(#[from] tenure::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Source(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(EXIT_USAGE),
            Failure::HeldByAnother(_) => ExitCode::from(EXIT_HELD_BY_ANOTHER),
            Failure::Tenure(tenure::Error::Lost(_)) | Failure::Store(StoreError::Stale { .. }) => {
                ExitCode::from(EXIT_LOST)
            }
            Failure::Tenure(_) | Failure::Store(_) | Failure::Source(_) => ExitCode::FAILURE,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nightly-job: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let client = options.members.client()?;
    match options.store.split_once(':') {
        Some(("file", directory)) => {
            let store = Files::open(directory.into())?;
            under_lock(options, &client, store).await
        }
        Some(("postgres" | "postgresql", _)) => {
            let store = Database::connect(&options.store, &options.lock).await?;
            under_lock(options, &client, store).await
        }
        _ => Err(Failure::Usage(format!(
            "--store is {:?}; it is `file:DIR` or `postgres://USER@HOST:PORT/DATABASE`",
            options.store
        ))),
    }
}

async fn under_lock(
    options: &Options,
    client: &Client,
    mut store: impl Store,
) -> Result<(), Failure> {
    let asked = client
        .lock(&options.lock)
        .ttl(Duration::from_millis(options.ttl_ms))
        .wait(Duration::from_millis(options.wait_ms))
        .metadata("pid", std::process::id().to_string())
        .acquire();
    let lock = match asked.await {
        Ok(lock) => lock,
        Err(error) if matches!(error.code(), Some(Code::LockHeld | Code::WaitExpired)) => {
            return Err(Failure::HeldByAnother(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    println!("lock {} held with fence {}", options.lock, lock.fence());
    let done = make(options, &lock, &mut store).await;
    match lock.release().await {
        // It was lost: what matters has been said by whoever noticed.
        Ok(()) | Err(tenure::Error::Lost(_)) => {}
        // The night is done all the same; the lock is free when its lease ends.
        Err(error) => eprintln!("nightly-job: the lock could not be released: {error}"),
    }
    done
}

/// The job. Whoever starts it again, after a crash or on another host, goes on where it was left.
async fn make(options: &Options, lock: &Lock, store: &mut impl Store) -> Result<(), Failure> {
    // First of all the store is told of the fence: from here on no earlier holder changes what is read next.
    let progress = store.begin(&options.night, lock.fence()).await?;
    if progress.finished {
        println!("night {}: done before", options.night);
        return Ok(());
    }
    let at_least = Duration::from_millis(options.at_least_ms);
    for path in still_to_do(options, &progress.done)? {
        // Not begun any more once the lock is lost. Reading a file does not yield, though: a host that is suspended in
        // the middle of it finds out only when it writes.
        let item = lock.run(async {
            println!("reading {path}");
            tokio::task::block_in_place(|| Item::read(&options.source, &path, at_least))
        });
        let item = item.await?.map_err(Failure::Source)?;
        // To ask here once more whether the lock is held would prove nothing, since the pause may come right after
        // it. That the write carries the fence does, and it is not cut short, so that its outcome is known.
        store.write(&options.night, lock.fence(), &item).await?;
        println!(
            "{}: {} bytes, crc32c {:08x}",
            item.name, item.bytes, item.checksum
        );
    }
    store.finish(&options.night, lock.fence()).await?;
    println!("night {}: done", options.night);
    Ok(())
}

fn still_to_do(options: &Options, done: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let mut names = items(&options.source).map_err(Failure::Source)?;
    names.retain(|name| !done.contains(name));
    Ok(names)
}
