//! What the job needs of a store: to have seen a fence is to refuse lesser ones, for ever.

use std::collections::BTreeSet;

use crate::inventory::Item;

/// What a night has so far.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    pub(crate) done: BTreeSet<String>,
    pub(crate) finished: bool,
}

/// Keeps inventories. Each call looks at the fence and does its work in one step, or the look would be in vain.
pub(crate) trait Store {
    /// Tells the store of the fence, then reads what a night has.
    async fn begin(&mut self, night: &str, fence: u64) -> Result<Progress, StoreError>;
    /// Adds an item to a night.
    async fn write(&mut self, night: &str, fence: u64, item: &Item) -> Result<(), StoreError>;
    /// Marks a night as done.
    async fn finish(&mut self, night: &str, fence: u64) -> Result<(), StoreError>;
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A later holder of the lock was here.
    #[error("refused: fence {fence} is stale, {highest} has been here")]
    Stale { fence: u64, highest: u64 },
    /// A name that the store cannot keep.
    #[error("{0}")]
    Name(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        path: String,
        source: std::io::Error,
    },
    /// The database did not do it.
    #[error("the database: {0}")]
    Database(String),
}
