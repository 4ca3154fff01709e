//! `tenure log-filter`: which log lines members write.

use serde_json::json;
use tenure::Client;
use tenure::api::{Member, Status};

use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Session;
use crate::status;

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
        let mut failed: Option<Trouble> = None;
        let mut some_done = false;
        for member in meant {
            match set(client, (member, &cluster.cluster), &self.filter).await {
                Ok(status) => {
                    some_done = true;
                    tell(session.output, &member.name, &status.log_filter)?;
                }
                Err(trouble) => {
                    let what = format!("{}: {trouble}", output::shown(&member.name));
                    output::note(&what);
                    failed = Some(graver(failed, trouble.saying(what)));
                }
            }
        }
        failed.map_or(Ok(Exit::DONE), |trouble| Err(trouble.after(some_done)))
    }
}

/// Changes the filter of a member, at whose URL somebody else may answer: that is asked before anything is changed there,
/// and seen again in the answer, since behind one URL there may be several.
async fn set(
    client: &Client,
    (member, cluster): (&Member, &str),
    filter: &str,
) -> Result<Status, Trouble> {
    let url = &member.client_url;
    let strange = |itself: &Status| {
        let (_, why) = status::strange(itself, &member.id, cluster)?;
        Some(Trouble::new(Exit::FAILED, why).then("`tenure status` shows who answers where"))
    };
    if let Some(trouble) = strange(&client.status_of(url).await?) {
        return Err(trouble);
    }
    let set = client.set_log_filter_of(url, filter).await?;
    // It was changed, though of another.
    strange(&set).map_or(Ok(set), |trouble| Err(trouble.afterwards()))
}

/// Of two troubles the one to end with: what is in doubt with one member is not told as if nothing had been done.
fn graver(before: Option<Trouble>, trouble: Trouble) -> Trouble {
    match before {
        Some(before) if !before.is_certain() => before,
        _ => trouble,
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
