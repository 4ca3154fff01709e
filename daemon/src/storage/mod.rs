//! A member's files.
mod codec;
mod data_dir;
mod database;
mod error;
mod files;
mod identity;
mod log_file;
mod record;
pub use data_dir::DataDir;
pub use error::StorageError;
pub use identity::{ClusterId, Identity};
pub use log_file::{LogContents, LogFile, Written};
mod incoming;
mod outgoing;
mod snapshot;
mod state_file;
