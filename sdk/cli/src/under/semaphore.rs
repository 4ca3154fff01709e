//! `tenure semaphore`.

use super::{CONTRACT, Manner, Run, What, run_under};
use crate::exit::{Exit, Trouble};
use crate::settings::Session;

/// Runs a command while permits of a semaphore are held
#[derive(clap::Args, Debug)]
#[command(
    after_help = format!("{ABOUT}\n\n{CONTRACT}\n\n{EXAMPLES}"),
)]
pub(crate) struct Semaphore {
    /// The name of the semaphore, as downloads
    name: String,
    /// How many permits there are; that of the first holder stands until all are free
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// How many of them the command takes
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    permits: u64,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    run: Run,
}

const ABOUT: &str =
    "The name of the semaphore is in TENURE_SEMAPHORE, the number of permits in TENURE_PERMITS.";

const EXAMPLES: &str = "\
Examples:
  tenure semaphore downloads --limit 10 -- ./download http://example.org/file
  tenure semaphore build --limit 8 --permits 4 --wait 10m -- make -j4
  tenure semaphore licences --limit 3 --wait 0s -- ./simulate || [ $? -eq 75 ]     # or not at all";

impl Semaphore {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        if self.permits > self.limit {
            let told = format!(
                "--permits {} is more than --limit {}",
                self.permits, self.limit
            );
            return Err(Trouble::usage(told).then("take at most as many as there are"));
        }
        let what = What {
            word: "semaphore",
            environment: vec![
                ("TENURE_SEMAPHORE", self.name.clone().into()),
                ("TENURE_PERMITS", self.permits.to_string().into()),
            ],
            name: self.name,
        };
        let name = what.name.clone();
        let (limit, permits, priority) = (self.limit, self.permits, self.run.priority);
        run_under(session, &self.run, what, async |lease, wait| {
            let asked = session.client.semaphore(&name, limit).permits(permits);
            let asked = self.manner.of(asked);
            asked
                .priority(priority)
                .wait(wait)
                .on(lease)
                .acquire()
                .await
        })
        .await
    }
}
