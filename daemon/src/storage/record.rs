//! One entry of the log as it stands in the file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | version of the record, 1 |
//! | 1..5 | CRC32C, little-endian, over the log index (8 bytes, little-endian), the version and all that follows |
//! | 5 | kind: 0 empty, 1 command, 2 configuration |
//! | 6..14 | term, little-endian |
//! | 14..22 | stamp, little-endian |
//! | 22.. | payload: nothing, the command's bytes, or a configuration in protobuf |
//!
//! The library below verifies no page when it reads, so this sum is what finds a bad disk.

use std::sync::Arc;

use bytes::Bytes;
use tenure_raft::{Entry, LogIndex, Payload, Stamp, Term};

use super::codec::{decode_configuration, encode_configuration};

const VERSION: u8 = 1;
const HEADER: usize = 22;
const EMPTY: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

/// Writes the record of `entry` to `out`, in place of what is there.
pub(super) fn encode_into(out: &mut Vec<u8>, entry: &Entry) {
    let configuration;
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        Payload::Empty => (EMPTY, &[]),
        Payload::Command(bytes) => (COMMAND, bytes),
        Payload::Configuration(value) => {
            configuration = encode_configuration(value);
            (CONFIGURATION, &configuration)
        }
    };
    out.clear();
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, kind]);
    out.extend_from_slice(&entry.term.0.to_le_bytes());
    out.extend_from_slice(&entry.stamp.0.to_le_bytes());
    out.extend_from_slice(payload);
    let sum = checksum(entry.index, out);
    out[1..5].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the record at `index`, or says in a few words what is wrong with it.
pub(super) fn decode(index: LogIndex, record: &[u8]) -> Result<Entry, &'static str> {
    if record.len() < HEADER {
        return Err("is too short");
    }
    if record[1..5] != checksum(index, record).to_le_bytes() {
        return Err("has a bad checksum");
    }
    if record[0] != VERSION {
        return Err("has an unknown version");
    }
    let payload = &record[HEADER..];
    let payload = match record[5] {
        EMPTY if payload.is_empty() => Payload::Empty,
        COMMAND => Payload::Command(Bytes::copy_from_slice(payload)),
        CONFIGURATION => {
            let configuration = decode_configuration(payload).ok_or("holds no configuration")?;
            Payload::Configuration(Arc::new(configuration))
        }
        _ => return Err("has an unknown kind"),
    };
    Ok(Entry {
        index,
        term: Term(number(record, 6)),
        stamp: Stamp(number(record, 14)),
        payload,
    })
}

fn checksum(index: LogIndex, record: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&index.0.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &record[..1]);
    crc32c::crc32c_append(sum, &record[5..])
}

fn number(record: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_raft::{Configuration, MemberId};

    fn entries() -> Vec<Entry> {
        let configuration = Configuration {
            voters: [MemberId(5)].into(),
            info: [(MemberId(5), Default::default())].into(),
            ..Default::default()
        };
        [
            Payload::Empty,
            Payload::Command(Bytes::from_static(b"put a 1")),
            Payload::Command(Bytes::new()),
            Payload::Configuration(Arc::new(configuration)),
        ]
        .into_iter()
        .zip(3..)
        .map(|(payload, n)| Entry {
            index: LogIndex(n),
            term: Term(n + 10),
            stamp: Stamp(n * 1000),
            payload,
        })
        .collect()
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was() {
        let mut record = Vec::new();
        for entry in entries() {
            encode_into(&mut record, &entry);
            assert_eq!(decode(entry.index, &record), Ok(entry));
        }
    }

    #[test]
    fn record_is_refused_with_any_bit_changed_cut_short_or_at_another_index() {
        let mut record = Vec::new();
        for entry in entries() {
            encode_into(&mut record, &entry);
            for bit in 0..record.len() * 8 {
                let mut flipped = record.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    decode(entry.index, &flipped).is_err(),
                    "{entry:?}, bit {bit}"
                );
            }
            for length in 0..record.len() {
                assert!(
                    decode(entry.index, &record[..length]).is_err(),
                    "{entry:?} cut to {length} bytes"
                );
            }
            assert!(decode(entry.index.next(), &record).is_err());
        }
    }

    #[test]
    fn sound_record_of_an_unknown_version_or_kind_is_refused() {
        let mut record = Vec::new();
        encode_into(&mut record, &entries()[0]);
        for (place, value, reason) in [
            (0, 2, "has an unknown version"),
            (5, 9, "has an unknown kind"),
        ] {
            let mut other = record.clone();
            other[place] = value;
            let sum = checksum(LogIndex(3), &other);
            other[1..5].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(decode(LogIndex(3), &other), Err(reason));
        }
    }
}
