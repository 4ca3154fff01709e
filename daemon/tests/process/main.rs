//! Real `tenured` processes on real sockets and disks: what clients and operators were promised.
//!
//! Each test starts its own members on loopback addresses of its own and ends them. Tests that need root, `strace` or
//! a mountable file system are skipped by name where these are missing; `TENURE_TESTS_STRICT` makes that a failure.

mod access;
#[path = "../authority/mod.rs"]
mod authority;
mod backups;
mod burdened;
mod chaos;
mod common;
mod conformance;
mod disk;
mod diverged;
mod elections;
mod exactly_once;
mod first_start;
mod followers;
mod guards;
mod hostile;
mod keys;
mod leases;
mod limits;
mod locks;
mod log_filter;
mod members;
mod metrics;
mod monitoring;
mod overload;
mod queues;
mod readme;
mod reads;
mod recovering;
mod sdk;
mod sdk_calls;
mod sdk_kinds;
mod sdk_lasting;
mod sdk_rotation;
mod sdk_rounds;
mod semaphores;
mod snapshots;
mod stopping;
mod streams;
mod supervision;
mod survival;
mod tls;
mod together;
mod traces;
mod transactions;
mod versions;
mod watching;
