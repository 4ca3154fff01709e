//! Under construction.
pub mod forming;
pub mod transport;
