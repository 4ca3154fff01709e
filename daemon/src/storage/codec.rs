//! The structs that stand on disk, and their conversion to those of the core.
//!
//! Owns the tags: a tag is never changed nor used again. Decoding is total: bytes that do not say something sensible
//! are `None`, and the caller knows which file to call damaged.

use std::sync::Arc;

use prost::Message;
use tenure_raft::{
    Configuration, HardState, LogIndex, LogPosition, MemberId, MemberInfo, SnapshotMeta, Stamp,
    Term,
};

use super::identity::{ClusterId, Identity};

/// A member in a configuration, with every role that it has.
#[derive(Clone, PartialEq, Message)]
struct MemberRecord {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(bool, tag = "2")]
    voter: bool,
    #[prost(bool, tag = "3")]
    outgoing: bool,
    #[prost(bool, tag = "4")]
    learner: bool,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(string, tag = "6")]
    peer_url: String,
    #[prost(string, tag = "7")]
    client_url: String,
    #[prost(fixed64, optional, tag = "8")]
    start: Option<u64>,
    /// A learner that becomes a voter by itself.
    #[prost(bool, tag = "9")]
    promoting: bool,
    /// Whom it replaces then.
    #[prost(fixed64, optional, tag = "10")]
    replaces: Option<u64>,
}

/// A configuration, members in the order of ids.
#[derive(Clone, PartialEq, Message)]
struct ConfigurationRecord {
    #[prost(message, repeated, tag = "1")]
    members: Vec<MemberRecord>,
    /// Ids that are never used again.
    #[prost(fixed64, repeated, tag = "2")]
    removed: Vec<u64>,
}

/// What a log begins behind, and what a checkpoint or snapshot covers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotMetaRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    stamp: u64,
    #[prost(message, optional, tag = "4")]
    configuration: Option<ConfigurationRecord>,
}

/// Term and vote.
#[derive(Clone, PartialEq, Message)]
struct HardStateRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(fixed64, optional, tag = "2")]
    vote: Option<u64>,
}

/// The numbers of a member's starts.
#[derive(Clone, PartialEq, Message)]
struct StartsRecord {
    #[prost(fixed64, repeated, tag = "1")]
    starts: Vec<u64>,
}

/// Which format a file has and whose it is.
#[derive(Clone, PartialEq, Message)]
struct IdentityRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    cluster: Vec<u8>,
    #[prost(fixed64, tag = "3")]
    member: u64,
}

impl From<&Configuration> for ConfigurationRecord {
    fn from(configuration: &Configuration) -> Self {
        let replaces = |id: &MemberId| Some(configuration.promoting.get(id).copied()??.0);
        let record = |id: MemberId| {
            let info = configuration.info.get(&id).cloned().unwrap_or_default();
            MemberRecord {
                id: id.0,
                voter: configuration.voters.contains(&id),
                outgoing: configuration.outgoing.contains(&id),
                learner: configuration.learners.contains(&id),
                name: info.name,
                peer_url: info.peer_url,
                client_url: info.client_url,
                start: info.start,
                promoting: configuration.promoting.contains_key(&id),
                replaces: replaces(&id),
            }
        };
        ConfigurationRecord {
            members: configuration.members().into_iter().map(record).collect(),
            removed: configuration.removed.iter().map(|id| id.0).collect(),
        }
    }
}

impl ConfigurationRecord {
    /// `None` where a member stands twice or has no role, or only a voter could have it.
    fn decode_into(self) -> Option<Configuration> {
        let mut configuration = Configuration {
            removed: self.removed.into_iter().map(MemberId).collect(),
            ..Configuration::default()
        };
        for member in self.members {
            let id = MemberId(member.id);
            let has_role = member.voter || member.outgoing || member.learner;
            let info = MemberInfo {
                name: member.name,
                peer_url: member.peer_url,
                client_url: member.client_url,
                start: member.start,
            };
            if member.promoting && !member.learner {
                return None;
            }
            if member.promoting {
                let replaces = member.replaces.map(MemberId);
                configuration.promoting.insert(id, replaces);
            }
            if !has_role || configuration.info.insert(id, info).is_some() {
                return None;
            }
            if member.voter {
                configuration.voters.insert(id);
            }
            if member.outgoing {
                configuration.outgoing.insert(id);
            }
            if member.learner {
                configuration.learners.insert(id);
            }
        }
        Some(configuration)
    }
}

impl From<&SnapshotMeta> for SnapshotMetaRecord {
    fn from(meta: &SnapshotMeta) -> Self {
        SnapshotMetaRecord {
            term: meta.position.term.0,
            index: meta.position.index.0,
            stamp: meta.stamp.0,
            configuration: Some(ConfigurationRecord::from(&*meta.configuration)),
        }
    }
}

impl SnapshotMetaRecord {
    pub(super) fn decode_into(self) -> Option<SnapshotMeta> {
        Some(SnapshotMeta {
            position: LogPosition {
                term: Term(self.term),
                index: LogIndex(self.index),
            },
            stamp: Stamp(self.stamp),
            configuration: Arc::new(self.configuration?.decode_into()?),
        })
    }
}

pub(super) fn encode_configuration(configuration: &Configuration) -> Vec<u8> {
    ConfigurationRecord::from(configuration).encode_to_vec()
}

pub(super) fn decode_configuration(bytes: &[u8]) -> Option<Configuration> {
    ConfigurationRecord::decode(bytes).ok()?.decode_into()
}

pub(super) fn encode_meta(meta: &SnapshotMeta) -> Vec<u8> {
    SnapshotMetaRecord::from(meta).encode_to_vec()
}

pub(super) fn decode_meta(bytes: &[u8]) -> Option<SnapshotMeta> {
    SnapshotMetaRecord::decode(bytes).ok()?.decode_into()
}

pub(super) fn encode_hard_state(state: HardState) -> Vec<u8> {
    HardStateRecord {
        term: state.term.0,
        vote: state.vote.map(|member| member.0),
    }
    .encode_to_vec()
}

pub(super) fn decode_hard_state(bytes: &[u8]) -> Option<HardState> {
    let record = HardStateRecord::decode(bytes).ok()?;
    Some(HardState {
        term: Term(record.term),
        vote: record.vote.map(MemberId),
    })
}

pub(super) fn encode_starts(starts: &[u64]) -> Vec<u8> {
    StartsRecord {
        starts: starts.to_vec(),
    }
    .encode_to_vec()
}

pub(super) fn decode_starts(bytes: &[u8]) -> Option<Vec<u64>> {
    Some(StartsRecord::decode(bytes).ok()?.starts)
}

pub(super) fn encode_identity(format: u32, identity: Identity) -> Vec<u8> {
    let cluster = encode_cluster(identity.cluster);
    IdentityRecord {
        format,
        cluster,
        member: identity.member.0,
    }
    .encode_to_vec()
}

pub(super) fn decode_identity(bytes: &[u8]) -> Option<(u32, Identity)> {
    let record = IdentityRecord::decode(bytes).ok()?;
    let cluster = decode_cluster(&record.cluster)?;
    Some((
        record.format,
        Identity {
            cluster,
            member: MemberId(record.member),
        },
    ))
}

pub(super) fn encode_cluster(cluster: ClusterId) -> Vec<u8> {
    cluster.0.to_be_bytes().to_vec()
}

pub(super) fn decode_cluster(bytes: &[u8]) -> Option<ClusterId> {
    Some(ClusterId(u128::from_be_bytes(bytes.try_into().ok()?)))
}

/// Bytes in front of everything sealed: a CRC32C.
pub(super) const SEAL: usize = 4;

/// Puts a checksum over `place` and `body` in front of `body`; the place keeps a value from being taken for that of
/// another key.
pub(super) fn seal_into(out: &mut Vec<u8>, place: &[&[u8]], body: &[u8]) {
    out.clear();
    out.extend_from_slice(&checksum(place, body).to_le_bytes());
    out.extend_from_slice(body);
}

/// The body of what was sealed for this place, or `None` where the checksum differs.
pub(super) fn unseal<'a>(place: &[&[u8]], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, body) = sealed.split_first_chunk::<SEAL>()?;
    (u32::from_le_bytes(*sum) == checksum(place, body)).then_some(body)
}

fn checksum(place: &[&[u8]], body: &[u8]) -> u32 {
    let place = place
        .iter()
        .fold(0, |sum, part| crc32c::crc32c_append(sum, part));
    crc32c::crc32c_append(place, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        let info = |n: &str| MemberInfo {
            name: n.to_owned(),
            peer_url: format!("http://{n}:7380"),
            client_url: format!("http://{n}:7379"),
            start: (n != "b").then_some(7),
        };
        Configuration {
            voters: [MemberId(1), MemberId(2)].into(),
            outgoing: [MemberId(2), MemberId(3)].into(),
            learners: [MemberId(u64::MAX)].into(),
            promoting: [(MemberId(u64::MAX), Some(MemberId(1)))].into(),
            removed: [MemberId(9)].into(),
            info: [(1, "a"), (2, "b"), (3, "c"), (u64::MAX, "d")]
                .map(|(id, name)| (MemberId(id), info(name)))
                .into(),
        }
    }

    #[test]
    fn joint_configuration_comes_back_as_it_was() {
        let configuration = configuration();
        assert_eq!(
            decode_configuration(&encode_configuration(&configuration)),
            Some(configuration)
        );
    }

    #[test]
    fn configuration_with_a_member_twice_or_without_role_is_refused() {
        let mut record = ConfigurationRecord::from(&configuration());
        record.members.push(record.members[0].clone());
        assert_eq!(decode_configuration(&record.encode_to_vec()), None);
        let idle = MemberRecord {
            id: 9,
            ..MemberRecord::default()
        };
        assert_eq!(
            decode_configuration(
                &ConfigurationRecord {
                    members: vec![idle],
                    removed: Vec::new(),
                }
                .encode_to_vec()
            ),
            None
        );
    }

    #[test]
    fn hard_state_without_a_vote_differs_from_a_vote_for_member_zero() {
        for vote in [None, Some(MemberId(0)), Some(MemberId(7))] {
            let state = HardState {
                term: Term(3),
                vote,
            };
            assert_eq!(decode_hard_state(&encode_hard_state(state)), Some(state));
        }
    }

    #[test]
    fn sealed_value_is_refused_at_another_place_and_with_any_bit_changed() {
        let mut sealed = Vec::new();
        seal_into(&mut sealed, &[b"table", b"key"], b"value");
        assert_eq!(unseal(&[b"table", b"key"], &sealed), Some(&b"value"[..]));
        assert_eq!(unseal(&[b"table", b"kex"], &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&[b"table", b"key"], &flipped), None, "bit {bit}");
        }
    }
}
