//! What consensus promises, a file for each matter: one program, since each has to be built.
#![allow(clippy::unwrap_used, reason = "tests alone")]

mod common;
mod garbage;
mod membership;
mod paper_elections;
mod paper_replication;
mod random;
mod scenarios;
mod thesis;
