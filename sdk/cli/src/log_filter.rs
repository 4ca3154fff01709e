//! `tenure log-filter`: which log lines members write.

use serde_json::json;
use tenure::Error;

use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Session;

/// Changes which log lines members write
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It lasts until a member is started again or its settings are read again (`tenured reload`), which sets it back to what they say. \
Each change is told in the audit of the member.

Examples:
  tenure log-filter debug --member n1
  tenure log-filter info,tenured::transport=trace
  tenure log-filter info")]
pub(crate) struct LogFilter {
    /// Levels (off, error, warn, info, debug, trace), each for all lines or after TARGET=, separated by commas
    filter: String,
    /// Only this member, by its name or id (repeat for more) [default: all]
    #[arg(long = "member", value_name = "NAME")]
    members: Vec<String>,
}

impl LogFilter {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let client = &session.client;
        // A member that has lost its leader is one whose lines are wanted.
        let cluster = match client.local_cluster().await {
            Ok(cluster) => cluster,
            Err(error) => return Err(error.into()),
        };
        let mut meant = Vec::new();
        for wanted in &self.members {
            let mut found = cluster.members.iter();
            let member = found.find(|member| member.name == *wanted || member.id == *wanted);
            meant.push(member.ok_or_else(|| {
                let names = cluster.members.iter().map(|member| member.name.as_str());
                let names: Vec<&str> = names.collect();
                let what = format!("no member is called {wanted:?}");
                Trouble::new(Exit::ABSENT, what).then(format!("these are: {}", names.join(", ")))
            })?);
        }
        if self.members.is_empty() {
            meant.extend(&cluster.members);
        }
        let mut failed: Option<Error> = None;
        for member in meant {
            let set = client.set_log_filter_of(&member.client_url, &self.filter);
            match set.await {
                Ok(status) => tell(session.output, &member.name, &status.log_filter)?,
                Err(error) => {
                    output::note(format!("{}: {error}", member.name));
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(Exit::DONE), |error| Err(error.into()))
    }
}

fn tell(output: Output, member: &str, filter: &str) -> Result<(), Trouble> {
    match output {
        Output::Json => output::json(&json!({"member": member, "log_filter": filter}))?,
        Output::Table => {
            let line = format!("{member}: {filter}");
            output::text(&format!("{}\n", output::shown(&line)))?;
        }
    }
    Ok(())
}
