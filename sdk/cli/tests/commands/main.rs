//! `tenure` as users run it, against real members.

#[path = "../../../../daemon/tests/process/common/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the harness of the daemon's tests has more than these need"
)]
mod common;

mod access;
#[path = "../../../tests/authority/mod.rs"]
mod authority;
mod backing;
mod benching;
mod escaping;
mod holding;
mod losing;
mod members;
mod printing;
mod revoking;
mod rights;
mod secure;
mod shells;
mod signals;
mod support;
mod terminal;
mod wardens;
mod watching;
mod wrong;
