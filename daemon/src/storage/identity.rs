//! Whose files these are.

use std::path::Path;

use tenure_raft::MemberId;

use super::error::StorageError;
pub use crate::transport::ClusterId;

/// The member and the cluster that a file belongs to. Every file of a formed member carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

impl Identity {
    /// Fails where a file with `found` in it is not one of ours.
    pub(super) fn check(&self, path: &Path, found: Identity) -> Result<(), StorageError> {
        if found.cluster != self.cluster {
            return Err(foreign(
                path,
                "cluster",
                found.cluster.to_string(),
                self.cluster.to_string(),
            ));
        }
        if found.member != self.member {
            return Err(foreign(
                path,
                "member",
                found.member.to_string(),
                self.member.to_string(),
            ));
        }
        Ok(())
    }
}

fn foreign(path: &Path, kind: &'static str, found: String, expected: String) -> StorageError {
    StorageError::Foreign {
        path: path.to_owned(),
        kind,
        found,
        expected,
    }
}
