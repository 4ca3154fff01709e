//! TLS for clients and for members, by rustls.
//!
//! Owns certificates: reading their files, the configurations made of them, taking new ones without a restart, and who
//! a certificate says that somebody is. What is said on a connection is its caller's.

mod names;

pub use names::{ClientCertificate, Names};
