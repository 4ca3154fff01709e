//! The end of a backup file, by which whoever reads it knows that it has all of it.

/// The last bytes of every backup.
const MARK: [u8; 8] = *b"TENUREOB";

/// How many bytes the end has.
pub const BACKUP_END_BYTES: usize = 32;

/// The end of a backup that has so many bytes before it, of this XXH3-128: the length (8 bytes, little-endian), the digest
/// as it is written (16 bytes), and `TENUREOB`.
pub fn backup_end(length: u64, digest: u128) -> [u8; BACKUP_END_BYTES] {
    let mut end = [0; BACKUP_END_BYTES];
    end[..8].copy_from_slice(&length.to_le_bytes());
    end[8..24].copy_from_slice(&digest.to_be_bytes());
    end[24..].copy_from_slice(&MARK);
    end
}
