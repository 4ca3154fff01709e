//! Real `tenured` processes on real sockets and disks: what clients and operators were promised.
//!
//! Each test starts its own members on loopback addresses of its own and ends them. Tests that need root, `strace` or
//! a mountable file system are skipped by name where these are missing; `TENURE_TESTS_STRICT` makes that a failure.

mod chaos;
mod codes;
mod common;
mod disk;
mod first_start;
mod followers;
mod hostile;
mod leases;
mod locks;
mod overload;
mod readme;
mod snapshots;
mod stopping;
mod survival;
mod watching;
