//! `tenure bench`: loads a running cluster and says how fast it answered.

use std::process::ExitCode;

/// What is measured, and how.
#[derive(clap::Args)]
pub(crate) struct Bench {}

impl Bench {
    /// Runs the workload against the members at `endpoints`.
    pub(crate) fn run(self, endpoints: &[String]) -> ExitCode {
        eprintln!("no workload is built in yet for {}", endpoints.join(", "));
        ExitCode::FAILURE
    }
}
