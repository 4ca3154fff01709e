//! The systems that can be measured, and what to call them.

use std::str::FromStr;

use super::drive::{self, Measured, Stop, Timing};
use super::progress::Progress;
use super::system::Failure;
use super::tenure::Tenure;
use super::work::Plan;
use crate::settings::Access;

/// A system and where it is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The cluster that the command line is for.
    Tenure(Access),
    /// etcd, by its gRPC API.
    #[cfg(feature = "etcd")]
    Etcd(Vec<String>),
}

impl Target {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Target::Tenure(_) => "tenure",
            #[cfg(feature = "etcd")]
            Target::Etcd(_) => "etcd",
        }
    }

    /// Connects and runs; answers the name and the version of what was measured, too.
    pub(crate) async fn run(
        &self,
        connections: usize,
        plan: Plan,
        timing: Timing,
        stop: &Stop,
        progress: &Progress,
    ) -> Result<(String, Measured), Failure> {
        let clients = plan.clients;
        match self {
            Target::Tenure(access) => {
                let system = Tenure::connect(access, clients, connections).await?;
                let title = format!("tenure {}", system.version);
                let measured = drive::run(system, plan, timing, stop, progress).await?;
                Ok((title, measured))
            }
            #[cfg(feature = "etcd")]
            Target::Etcd(urls) => {
                let system = super::etcd::Etcd::connect(urls, clients, connections).await?;
                let title = format!("etcd {}", system.version);
                let measured = drive::run(system, plan, timing, stop, progress).await?;
                Ok((title, measured))
            }
        }
    }
}

/// What stands after `--against`.
#[derive(Clone, Debug)]
pub(crate) struct Against(Target);

impl Against {
    pub(crate) fn target(&self) -> Target {
        self.0.clone()
    }
}

impl FromStr for Against {
    type Err = String;

    fn from_str(text: &str) -> Result<Against, String> {
        let urls = text
            .split_once('=')
            .filter(|(system, urls)| *system == "etcd" && !urls.is_empty())
            .map(|(_, urls)| urls.split(',').map(str::to_owned).collect())
            .ok_or("etcd=URL,URL,… is accepted")?;
        etcd(urls)
    }
}

#[cfg(feature = "etcd")]
fn etcd(urls: Vec<String>) -> Result<Against, String> {
    Ok(Against(Target::Etcd(urls)))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: Vec<String>) -> Result<Against, String> {
    let how = "this build does not know etcd: it needs `cargo build --release -p tenure-cli --features etcd`, \
        and that needs protobuf-compiler";
    Err(how.into())
}
