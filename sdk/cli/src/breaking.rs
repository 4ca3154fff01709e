//! `tenure break`: ends somebody else's hold.
//!
//! Owns the two steps of it: who does not name a fence is shown who holds, and nothing is ended.

use serde_json::Value;

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Session;
use crate::standing::{Seat, free_in, seats, wire};

/// Ends the hold of somebody else
#[derive(clap::Args, Debug)]
#[command(
    after_help = format!("{ABOUT}\n\n{EXAMPLES}"),
)]
pub(crate) struct Break {
    /// What is held
    #[arg(value_enum)]
    kind: Kind,
    /// Its name
    name: String,
    /// The fence of the hold, so that nobody else's is ended; left out, it is only shown who holds it
    #[arg(long, value_name = "FENCE", requires = "reason")]
    fence: Option<u64>,
    /// Why, for the audit log; needed with --fence
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Others may hold it at once, though the broken holder may still work
    #[arg(long, requires = "fence")]
    now: bool,
}

const ABOUT: &str = "\
The next is granted it when the broken holder has stopped to believe in it: at the end of its lease as it stood. A holder that \
uses Tenure's clients stops earlier.";

const EXAMPLES: &str = "\
Examples:
  tenure break lock jobs/nightly                              who holds it, and how to end that
  tenure break lock jobs/nightly --fence 121 --reason 'host-a is on fire'
  tenure break election services/api --fence 130 --now --reason 'host-a is switched off'
It ends with 2 where nobody holds it, or not by this fence.";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    Lock,
    Semaphore,
    Election,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Election => "election",
        }
    }
}

impl Break {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let Some(fence) = self.fence else {
            return self.look(session).await;
        };
        let (client, name, reason) = (
            &session.client,
            &self.name,
            self.reason.clone().unwrap_or_default(),
        );
        macro_rules! ask {
            ($call:ident) => {{
                let asked = client.$call(name, fence, reason);
                let asked = if self.now { asked.now() } else { asked };
                let broken = asked.await?;
                let count = broken.broken.len();
                (
                    serde_json::to_value(&broken),
                    count,
                    broken.delay_remaining_ms,
                )
            }};
        }
        let (wire, count, delay) = match self.kind {
            Kind::Lock => ask!(break_lock),
            Kind::Semaphore => ask!(break_semaphore),
            Kind::Election => ask!(break_election),
        };
        match session.output {
            Output::Json => output::json(&wire.expect("wire types have a form in JSON"))?,
            Output::Table => {
                let holds = if count == 1 {
                    "1 hold".into()
                } else {
                    format!("{count} holds")
                };
                let next = match delay {
                    Some(delay) if delay > 0 => free_in(delay),
                    _ => "free for others".into(),
                };
                let told = format!(
                    "{} {}: {holds} ended, {next}\n",
                    self.kind.word(),
                    output::shown(name)
                );
                output::text(&told)?;
            }
        }
        Ok(Exit::DONE)
    }

    /// Shows those who did not say which hold they mean who holds it, and how that hold is ended.
    async fn look(&self, session: &Session) -> Result<Exit, Trouble> {
        let (client, name) = (&session.client, &self.name);
        let (whole, seats): (Value, Vec<Seat>) = match self.kind {
            Kind::Lock => {
                let lock = client.inspect_lock(name).await?;
                (wire(&lock), seats(lock.holders))
            }
            Kind::Semaphore => {
                let semaphore = client.inspect_semaphore(name).await?;
                (wire(&semaphore), seats(semaphore.holders))
            }
            Kind::Election => {
                let election = client.election(name).await?;
                (wire(&election), seats(election.leader))
            }
        };
        let (word, shown) = (self.kind.word(), output::shown(name));
        let Some(first) = seats.first() else {
            let told = format!("{word} {shown} is not held");
            let next = format!("`tenure {word}s` shows what is");
            return Err(Trouble::new(Exit::ABSENT, told).then(next));
        };
        if session.output == Output::Json {
            output::json(&whole)?;
            return Ok(Exit::DONE);
        }
        let told = seats.iter().map(|seat| {
            let fence = seat.fence.unwrap_or_default();
            let left = duration::shown_ms(seat.left_ms);
            format!("{} (fence {fence}, {left} left)", output::shown(&seat.who))
        });
        let told = told.collect::<Vec<_>>().join(", ");
        let fence = first.fence.unwrap_or_default();
        let quoted = shlex::try_quote(name).unwrap_or_default();
        output::text(&format!(
            "{word} {shown} is held by {told}; nothing was ended. This ends that hold:\n  \
             tenure break {word} {quoted} --fence {fence} --reason '…'\n"
        ))?;
        Ok(Exit::DONE)
    }
}
