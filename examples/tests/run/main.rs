//! The examples, run as their README says, against real members: what each shows, and the failure to try with it.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the tests of the daemon, which use all of it"
)]
#[path = "../../../daemon/tests/process/common/mod.rs"]
mod common;
mod leader;
mod live_config;
mod nightly;
mod postgres;
mod programs;
mod readme;
#[path = "../../../sdk/cli/tests/commands/rights.rs"]
mod rights;
mod scripts;
