//! TLS for clients and members.
