//! The cluster and its members on the wire.

use serde::{Deserialize, Serialize};

/// The answer of `GET /v1/cluster`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cluster {
    /// The id: 32 lower-case hex digits.
    pub cluster: String,
    /// The id of the member that leads.
    pub leader: Option<String>,
    /// The term of Raft.
    pub term: u64,
    /// The revision of the state.
    pub revision: u64,
    /// The commit index of the leader.
    pub commit_index: u64,
    /// Whether the voters are being changed: every decision needs a majority of those before and of those to be.
    #[serde(default)]
    pub changing: bool,
    /// The members.
    pub members: Vec<Member>,
}

/// A member.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// Its id: 16 lower-case hex digits.
    pub id: String,
    /// Its label.
    pub name: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Whether it has a vote.
    pub role: MemberRole,
    /// Whether it is a learner that is given a vote by itself once it has caught up.
    #[serde(default)]
    pub promote: bool,
    /// The id of the member whose place it takes once it has caught up.
    #[serde(default)]
    pub replaces: Option<String>,
    /// Whether it is on its way out: its vote counts until the change of voters that is under way is done.
    #[serde(default)]
    pub leaving: bool,
    /// How it is being replicated to.
    pub state: Option<MemberState>,
    /// The last log index known to be equal and durable there.
    pub match_index: Option<u64>,
    /// How many entries it is behind.
    pub lag: Option<u64>,
    /// The time since it last answered the leader.
    pub last_contact_ms: Option<u64>,
    /// How much of the snapshot that it is being sent it has.
    #[serde(default)]
    pub snapshot_sent: Option<SnapshotSent>,
}

/// How far a snapshot is on its way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotSent {
    /// Bytes that the member has stored.
    pub stored_bytes: u64,
    /// Bytes of the whole.
    pub bytes: u64,
}

/// The body of `POST /v1/cluster/members` and of `POST /v1/cluster/members/{id}/replace`: who comes. Its id is what the
/// member says at its peer URL.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// What it is called.
    pub name: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Whether it is given a vote by itself once it has caught up; whoever takes a member's place always is.
    #[serde(default = "yes")]
    pub promote: bool,
}

fn yes() -> bool {
    true
}

/// The answer where a member was added, promoted, or begins to take another's place.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberChanged {
    /// The member as it is now.
    pub member: Member,
    /// The revision of the state.
    pub revision: u64,
}

/// The answer of `DELETE /v1/cluster/members/{id}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberRemoved {
    /// The id, which is never a member's again.
    pub removed: String,
    /// The revision of the state.
    pub revision: u64,
}

/// The body of `POST /v1/cluster/leader`: who is to lead.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TransferLeadership {
    /// Its id or its name; left out, whoever of the others is furthest ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
}

/// The answer of `POST /v1/cluster/leader`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeadershipTransferred {
    /// The id of the member that leads now.
    pub leader: String,
    /// Its term.
    pub term: u64,
    /// The revision of the state.
    pub revision: u64,
}

/// Whether a member has a vote.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// It has.
    Voter,
    /// It only receives the log.
    Learner,
}

/// How a member is being replicated to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It leads.
    Leader,
    /// Entries are streamed to it.
    Replicating,
    /// The leader is looking for the place where the logs agree.
    Probing,
    /// It is being sent a snapshot.
    Snapshot,
    /// It does not answer.
    Unreachable,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote.
    Learner,
}

/// The answer of `GET /v1/status`: this member as it sees itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// The cluster's id.
    pub cluster: String,
    /// This member's id.
    pub member: String,
    /// Its label.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader that it has contact with.
    pub leader: Option<String>,
    /// Its commit index.
    pub commit_index: u64,
    /// The last log index that it has applied.
    pub applied_index: u64,
    /// The revision of its state.
    pub revision: u64,
    /// History up to here is gone.
    pub compact_revision: u64,
    /// The digest of its state: 32 hex digits.
    pub digest: String,
    /// The version of the rules that its state follows, which is that of the cluster; 0 from members that do not say.
    #[serde(default)]
    pub state_version: u64,
    /// The newest version of the rules that this member can follow; 0 from members that do not say. The cluster follows
    /// newer ones when every member can.
    #[serde(default)]
    pub state_version_at_most: u64,
    /// Whether it can serve.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What is wrong though it serves, and what to do about it, in words; of the whole cluster where it leads.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Which log lines it writes.
    #[serde(default)]
    pub log_filter: String,
    /// Bytes of the log that it keeps.
    pub log_bytes: u64,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// How long it has been running.
    pub uptime_ms: u64,
}

/// `PATCH /v1/status`: what is changed of this member, until it is started or its settings are read again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeStatus {
    /// Which log lines it writes: levels, each for all or after `TARGET=`, separated by commas. What becomes of the
    /// target `audit` only the settings say.
    pub log_filter: String,
}

/// The answer of `GET /readyz`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    /// Whether it can serve linearizable reads.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}
