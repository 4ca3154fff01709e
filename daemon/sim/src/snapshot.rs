//! The simulator's snapshot files: rows one after the other, behind the digest of the state.
//!
//! Owns the bytes. What they must do is what those of production do: be the same file for the same state, and show
//! any damage.

use bytes::{Buf, BufMut, Bytes};
use tenure_raft::{SnapshotFile, SnapshotMeta};
use tenure_state::Table;

use crate::disk::{DurableState, Rows};
use crate::trace::Hash;

/// Writes the file of a state.
pub(crate) fn encode(state: &DurableState) -> (SnapshotFile, Bytes) {
    let mut bytes = Vec::new();
    bytes.put_u128(state.digest);
    for ((table, key), value) in &state.rows {
        bytes.put_u8(*table as u8);
        bytes.put_u32(u32::try_from(key.len()).expect("keys are short"));
        bytes.put_u32(u32::try_from(value.len()).expect("values are short"));
        bytes.put_slice(key);
        bytes.put_slice(value);
    }
    let file = SnapshotFile {
        meta: state.meta.clone(),
        size: bytes.len() as u64,
        digest: digest(&bytes),
    };
    (file, bytes.into())
}

/// Reads a file back; `None` where it is damaged.
pub(crate) fn decode(file: &SnapshotFile, bytes: &[u8]) -> Option<DurableState> {
    if bytes.len() as u64 != file.size || digest(bytes) != file.digest {
        return None;
    }
    read(file.meta.clone(), bytes)
}

fn read(meta: SnapshotMeta, mut bytes: &[u8]) -> Option<DurableState> {
    let state_digest = bytes.try_get_u128().ok()?;
    let mut rows = Rows::new();
    while bytes.has_remaining() {
        let table = Table::from_number(bytes.try_get_u8().ok()?)?;
        let key = bytes.try_get_u32().ok()? as usize;
        let value = bytes.try_get_u32().ok()? as usize;
        if bytes.remaining() < key + value {
            return None;
        }
        let key = bytes.copy_to_bytes(key);
        rows.insert((table, key), bytes.copy_to_bytes(value));
    }
    Some(DurableState {
        meta,
        digest: state_digest,
        rows,
    })
}

fn digest(bytes: &[u8]) -> u128 {
    let mut hash = Hash::default();
    hash.bytes(bytes);
    u128::from(hash.value())
}
