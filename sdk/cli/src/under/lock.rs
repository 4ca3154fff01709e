//! `tenure lock`.

use super::{CONTRACT, Manner, Run, What, run_under};
use crate::exit::{Exit, Trouble};
use crate::settings::Session;

/// Runs a command while a lock is held
#[derive(clap::Args, Debug)]
#[command(
    after_help = format!("{ABOUT}\n\n{CONTRACT}\n\n{EXAMPLES}"),
)]
pub(crate) struct Lock {
    /// The name of the lock, as jobs/nightly
    name: String,
    /// Hold it together with others who ask for it shared
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    run: Run,
}

const ABOUT: &str = "\
The name of the lock is in TENURE_LOCK. The cluster keeps a place in the queue for 24 h: without --wait, it is asked for \
again then, at the end of the queue.";

const EXAMPLES: &str = "\
Examples:
  tenure lock jobs/nightly -- ./nightly.sh --full
  tenure lock jobs/nightly --wait 0s -- ./nightly.sh || [ $? -eq 75 ]     # or not at all
  tenure lock config/edit --ttl 1m --wait 5m --note 'adding host-b' -- vim /srv/config
  tenure lock reports --shared -- ./report
  tenure lock jobs/nightly --on-lost 'logger -p err \"nightly was lost\"' -- ./nightly.sh
  tenure lock jobs/nightly -- sh -c 'tenure put last/run \"$(date)\" --guard lock=$TENURE_LOCK'";

impl Lock {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let what = What {
            word: "lock",
            environment: vec![("TENURE_LOCK", self.name.clone().into())],
            name: self.name,
        };
        let name = what.name.clone();
        let (shared, priority) = (self.shared, self.run.priority);
        run_under(session, &self.run, what, async |lease, wait| {
            let lock = session.client.lock(&name).priority(priority).wait(wait);
            let lock = self.manner.of(lock);
            let lock = if shared { lock.shared() } else { lock };
            lock.on(lease).acquire().await
        })
        .await
    }
}
