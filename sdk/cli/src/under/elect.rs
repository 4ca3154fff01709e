//! `tenure elect`.

use super::{CONTRACT, Run, What, label, run_under};
use crate::exit::{Exit, Trouble};
use crate::settings::Session;

/// Runs a command while this host leads
#[derive(clap::Args, Debug)]
#[command(
    after_help = format!("{ABOUT}\n\n{CONTRACT}\n\n{EXAMPLES}"),
)]
pub(crate) struct Elect {
    /// The name of the election, as services/api
    name: String,
    /// The name by which others know this candidate [default: host:process]
    #[arg(long, value_name = "NAME")]
    candidate: Option<String>,
    /// What the leadership says to those who look, such as where to reach it
    #[arg(long, value_name = "TEXT", default_value = "")]
    value: String,
    #[command(flatten)]
    run: Run,
}

const ABOUT: &str =
    "The name of the election is in TENURE_ELECTION, that of the candidate in TENURE_CANDIDATE.";

const EXAMPLES: &str = "\
Examples:
  tenure elect services/api --value http://10.0.0.7:8080 -- ./api --port 8080
  tenure elect services/api --candidate host-a --priority 10 -- ./api
  tenure elect cron --wait 0s -- ./tick || [ $? -eq 75 ]     # or not at all
  tenure elections services/api     # who leads, with its value";

impl Elect {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let candidate = self.candidate.unwrap_or_else(label);
        let what = What {
            word: "election",
            environment: vec![
                ("TENURE_ELECTION", self.name.clone().into()),
                ("TENURE_CANDIDATE", candidate.clone().into()),
            ],
            name: self.name,
        };
        let name = what.name.clone();
        let (value, priority) = (self.value, self.run.priority);
        run_under(session, &self.run, what, async |lease, wait| {
            let campaign = session.client.campaign(&name, &candidate).value(&value);
            campaign
                .priority(priority)
                .wait(wait)
                .on(lease)
                .lead()
                .await
        })
        .await
    }
}
