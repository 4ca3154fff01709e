//! The files of a formed member: made whole by one rename, opened together.
//!
//! ```text
//! <data dir>/cluster/cluster.json   {"format":1,"cluster":"<32 hex digits>"}
//! <data dir>/cluster/log.redb       see `log_file`
//! <data dir>/cluster/state.redb     see `state_file`
//! ```
//!
//! A directory without `cluster/` belongs to a member that never joined one. All three are made in `cluster.new`,
//! synced, and get their place by one rename: a crash leaves all of them or none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tenure_raft::SnapshotMeta;
use tenure_state::Row;

use super::data_dir::DataDir;
use super::error::{REPLACE, StorageError};
use super::files;
use super::identity::{ClusterId, Identity};
use super::log_file::{LogContents, LogFile};
use super::state_file::{Loaded, StateFile};

const FORMAT: u32 = 1;

#[derive(Deserialize, Serialize)]
struct ClusterFile {
    format: u32,
    cluster: String,
}

/// The opened files of a member, and what they held.
#[derive(Debug)]
pub struct MemberFiles {
    /// Whose they are.
    pub identity: Identity,
    /// The log file.
    pub log: LogFile,
    /// What it held.
    pub contents: LogContents,
    /// The state file.
    pub state: StateFile,
    /// What it held.
    pub loaded: Loaded,
    /// Where the log file is.
    pub log_path: PathBuf,
    /// Where the state file is.
    pub state_path: PathBuf,
    /// Where snapshots in transit are.
    pub snapshots: PathBuf,
}

impl DataDir {
    /// Makes the files of a member that joins a cluster, with nothing in the log behind `base` and these rows as the
    /// state there. When it returns they are on the disk; a crash before leaves a member that never joined.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn form(
        &self,
        cluster: ClusterId,
        base: &SnapshotMeta,
        digest: u128,
        rows: &[Row],
    ) -> Result<(), StorageError> {
        let identity = Identity {
            cluster,
            member: self.member(),
        };
        let fresh = self.unfinished_cluster();
        files::remove_dir(&fresh)?;
        files::create_dir(&fresh)?;
        LogFile::create(&fresh.join("log.redb"), identity, base)?;
        StateFile::create(&fresh.join("state.redb"), identity, base, digest, rows)?;
        let file = ClusterFile {
            format: FORMAT,
            cluster: cluster.to_string(),
        };
        let json = serde_json::to_vec(&file).expect("a number and a text are always JSON");
        files::replace(&fresh.join("cluster.json"), &json)?;
        files::sync_dir(&fresh)?;
        files::rename(&fresh, &self.cluster())
    }

    /// Opens the files of a member that has joined a cluster; `None` where it never did.
    ///
    /// # Errors
    /// Damage, a newer format, or files of another cluster or member: each names the file and the remedy.
    pub fn open_member(&self) -> Result<Option<MemberFiles>, StorageError> {
        let dir = self.cluster();
        if !files::exists(&dir)? {
            return Ok(None);
        }
        let identity = Identity {
            cluster: self.read_cluster()?,
            member: self.member(),
        };
        let (log_path, state_path) = (dir.join("log.redb"), dir.join("state.redb"));
        let (log, contents) = LogFile::open(&log_path, identity)?;
        let (state, loaded) = StateFile::open(&state_path, identity)?;
        let snapshots = self.snapshots();
        files::create_dir(&snapshots)?;
        Ok(Some(MemberFiles {
            identity,
            log,
            contents,
            state,
            loaded,
            log_path,
            state_path,
            snapshots,
        }))
    }

    fn read_cluster(&self) -> Result<ClusterId, StorageError> {
        let path = self.cluster().join("cluster.json");
        let damaged = |reason: String| StorageError::Damaged {
            path: path.clone(),
            reason,
            remedy: REPLACE,
        };
        let bytes = files::read(&path)?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        let file: ClusterFile =
            serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if file.format > FORMAT {
            return Err(StorageError::Newer {
                path,
                found: file.format,
                supported: FORMAT,
            });
        }
        let plain = file.cluster.len() == 32 && !file.cluster.starts_with('+');
        let number = u128::from_str_radix(&file.cluster, 16)
            .ok()
            .filter(|_| plain);
        number
            .map(ClusterId)
            .ok_or_else(|| damaged(format!("`{}` is no cluster id", file.cluster)))
    }
}
