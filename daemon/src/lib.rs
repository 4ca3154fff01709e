//! The Tenure daemon as a library: everything behind `tenured`, so that tests and benchmarks can hold its parts.
//!
//! From the edge to the core: `cli`, `config`, `dev` and `member` start and stop a member; `http` serves clients; `node` runs
//! the threads around the core and the applier; `transport`, `forming` and `joining` talk to other members; `storage` remembers;
//! `telemetry` counts. `offline` works on files while no member runs. `supervision` speaks with the service manager, to
//! which `pulse` shows which threads move; `logging`
//! writes lines; `tls` reads certificates and `token` what clients send in their place, out of files that `given_file` opens.

pub mod cli;
pub mod config;
pub mod dev;
pub mod forming;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod given_file;
pub mod http;
pub mod joining;
pub mod logging;
pub mod member;
mod network;
pub mod node;
pub mod offline;
pub mod pulse;
pub mod root_token;
pub mod storage;
pub mod supervision;
pub mod telemetry;
mod throttle;
pub mod tls;
pub mod token;
pub mod transport;
