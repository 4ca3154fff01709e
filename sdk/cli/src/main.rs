//! `tenure`: the command line of Tenure.
//!
//! Owns the tree of commands. Each command is in a module of its own and says by an exit code how it ended.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as Wrong;

use exit::{CODES, Exit, Trouble};
use settings::{Options, Session};

mod access;
mod backup;
mod bench;
mod breaking;
mod context;
mod duration;
mod events;
mod exit;
mod fresh;
mod identity;
mod input;
mod keys;
mod lease;
mod log_filter;
mod member;
mod output;
mod pages;
mod role;
mod settings;
mod standing;
mod status;
mod token;
mod txn;
mod under;
mod watch;
mod whoami;

/// Locks, elections, leases and watched keys of a Tenure cluster
#[derive(Parser)]
#[command(name = "tenure", version, after_help = format!("{AFTER}\n\n{CODES}"), max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "Examples:
  tenure lock jobs/nightly --wait 1m -- ./nightly.sh     run it on one host at a time
  tenure elect services/api -- ./api                     run it while this host leads
  tenure watch keys/config/ --exec 'systemctl reload api'
  tenure locks --watch                                   who holds what, and who waits
  tenure --endpoints http://10.0.0.1:7379,http://10.0.0.2:7379 status";

#[derive(clap::Subcommand)]
enum Command {
    Lock(under::Lock),
    Semaphore(under::Semaphore),
    Elect(under::Elect),
    Lease(lease::Lease),
    Get(keys::Get),
    Put(keys::Put),
    Del(keys::Del),
    Ls(keys::Ls),
    Watch(watch::Watch),
    Txn(txn::Txn),
    Locks(standing::Locks),
    Semaphores(standing::Semaphores),
    Elections(standing::Elections),
    Break(breaking::Break),
    Status(status::Status),
    Backup(backup::Backup),
    LogFilter(log_filter::LogFilter),
    Member(member::Member),
    Whoami(whoami::WhoAmI),
    Role(role::Role),
    Identity(identity::Identity),
    Token(token::Token),
    Access(access::Access),
    Context(context::Context),
    /// Measures a running cluster
    Bench(bench::Bench),
    Completion(pages::Completion),
    Man(pages::Man),
}

fn main() -> ExitCode {
    if under::warden::is_meant() {
        return under::warden::run();
    }
    if under::gate::is_meant() {
        return under::gate::run();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error).into(),
    };
    let output = cli.options.output;
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(trouble) => {
            trouble.tell(output);
            trouble.exit.into()
        }
    }
}

/// What parsers of numbers say, and what was to be given.
const NO_NUMBER: [(&str, &str); 3] = [
    (
        "invalid digit found in string",
        "a whole number is accepted",
    ),
    (
        "cannot parse integer from empty string",
        "a whole number is accepted",
    ),
    (
        "number too large to fit in target type",
        "a smaller number is accepted",
    ),
];

/// Help and version are no failures; what is wrong is told with its own exit code.
fn misread(error: &clap::Error) -> Exit {
    // Nobody is left to be told where this fails.
    let _ = match error.kind() {
        Wrong::ValueValidation => {
            let mut told = error.render().ansi().to_string();
            for (parser, meant) in NO_NUMBER {
                told = told.replace(parser, meant);
            }
            anstream::stderr().write_all(told.as_bytes())
        }
        _ => error.print(),
    };
    match error.kind() {
        Wrong::DisplayHelp | Wrong::DisplayVersion => Exit::DONE,
        _ => Exit::USAGE,
    }
}

fn run(cli: Cli) -> Result<Exit, Trouble> {
    let options = &cli.options;
    match cli.command {
        Command::Completion(completion) => completion.run(),
        Command::Man(man) => man.run(),
        Command::Context(context) => context.run(&options.chosen()?, options.output),
        Command::Bench(bench) => bench.run(options.access()?, options.output),
        command => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| Trouble::new(Exit::FAILED, format!("no threads: {error}")))?;
            let ended = runtime.block_on(async {
                let session = options.session()?;
                command.run(&session).await
            });
            // What still waits in the background is of no use to anybody.
            runtime.shutdown_background();
            ended
        }
    }
    .or_else(quietly)
}

/// A reader of stdout who has seen enough is no failure.
fn quietly(trouble: Trouble) -> Result<Exit, Trouble> {
    if trouble.is(ErrorKind::BrokenPipe) {
        Ok(Exit::DONE)
    } else {
        Err(trouble)
    }
}

impl Command {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self {
            Command::Lock(lock) => lock.run(session).await,
            Command::Semaphore(semaphore) => semaphore.run(session).await,
            Command::Elect(elect) => elect.run(session).await,
            Command::Lease(lease) => lease.run(session).await,
            Command::Get(get) => get.run(session).await,
            Command::Put(put) => put.run(session).await,
            Command::Del(del) => del.run(session).await,
            Command::Ls(ls) => ls.run(session).await,
            Command::Watch(watch) => watch.run(session).await,
            Command::Txn(txn) => txn.run(session).await,
            Command::Locks(locks) => locks.run(session).await,
            Command::Semaphores(semaphores) => semaphores.run(session).await,
            Command::Elections(elections) => elections.run(session).await,
            Command::Break(broken) => broken.run(session).await,
            Command::Status(status) => status.run(session).await,
            Command::Backup(backup) => backup.run(session).await,
            Command::LogFilter(filter) => filter.run(session).await,
            Command::Member(member) => member.run(session).await,
            Command::Whoami(whoami) => whoami.run(session).await,
            Command::Role(role) => role.run(session).await,
            Command::Identity(identity) => identity.run(session).await,
            Command::Token(token) => token.run(session).await,
            Command::Access(access) => access.run(session).await,
            Command::Context(_) | Command::Bench(_) | Command::Completion(_) | Command::Man(_) => {
                unreachable!("these need no runtime and were run without")
            }
        }
    }
}
