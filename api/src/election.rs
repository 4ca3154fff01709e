//! Elections on the wire.

use serde::{Deserialize, Serialize};

/// `POST /v1/elections/{name}`: a campaign.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// The lease it hangs on; this or `ttl_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The TTL of a lease that is granted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// With the lease, the identity of the candidacy: what others know it by.
    pub candidate: String,
    /// What the leadership says to those who look, at most 64 KiB.
    #[serde(default)]
    pub value: String,
    /// The whole wait by the cluster clock; 0 tries and never queues.
    #[serde(default)]
    pub wait_ms: u64,
    /// How long this request is held open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u64>,
    /// Higher goes first among those who wait; it deposes nobody.
    #[serde(default)]
    pub priority: i32,
}

/// `PUT /v1/elections/{name}`: a new value of a leadership.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Proclaim {
    /// The leader's lease.
    pub lease: String,
    /// The leader.
    pub candidate: String,
    /// The fence of its leadership.
    pub fence: u64,
    /// The new value, at most 64 KiB.
    pub value: String,
}

/// `PATCH /v1/elections/{name}`: a leadership passed on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// The leader's lease.
    pub lease: String,
    /// The leader.
    pub candidate: String,
    /// The fence of its leadership.
    pub fence: u64,
    /// Who is to lead: the first candidate that waits under this name.
    pub handover_to: String,
}

/// Whether a campaign leads or waits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CampaignState {
    /// It leads.
    Leader,
    /// It waits.
    Candidate,
}

/// The `200` of a campaign, and of a proclaim.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Elected {
    /// The name.
    pub election: String,
    /// `leader`.
    pub state: CampaignState,
    /// Who leads, with `lease`.
    pub candidate: String,
    /// The fence of the leadership: its term.
    pub fence: u64,
    /// What the leadership says.
    pub value: String,
    /// What is left of the lease.
    pub remaining_ms: u64,
    /// On which lease.
    pub lease: String,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The `202` of a campaign: the place is kept, ask again with the same body.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CandidateQueued {
    /// The name.
    pub election: String,
    /// `candidate`.
    pub state: CampaignState,
    /// Who waits, with `lease`.
    pub candidate: String,
    /// On which lease.
    pub lease: String,
    /// From 1; exact to 100.
    pub position: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The revision of the place.
    pub queued_revision: u64,
    /// Who leads.
    pub leader: Option<Leader>,
    /// What is left of the whole wait.
    pub wait_remaining_ms: u64,
    /// What is left of the lease.
    pub remaining_ms: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// A leader as others see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Leader {
    /// Who.
    pub candidate: String,
    /// What its leadership says.
    pub value: String,
    /// Its lease.
    pub lease: String,
    /// The label of the lease.
    pub lease_name: String,
    /// The fence of its leadership.
    pub fence: u64,
    /// The revision of its election.
    pub elected_revision: u64,
    /// How long it has been held by the cluster clock, which stands still while nobody leads; `null` where the member
    /// that granted it did not keep that.
    #[serde(default)]
    pub held_ms: Option<u64>,
    /// What is left of its lease.
    pub remaining_ms: u64,
}

/// A candidate that waits, as others see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// From 1.
    pub position: u64,
    /// Who.
    pub candidate: String,
    /// Its lease.
    pub lease: String,
    /// The label of the lease.
    pub lease_name: String,
    /// What its leadership would say.
    pub value: String,
    /// Its priority.
    pub priority: i32,
    /// The revision of the place.
    pub queued_revision: u64,
    /// How long it has waited by the cluster clock; `null` as for a hold.
    #[serde(default)]
    pub queued_ms: Option<u64>,
    /// What is left of the whole wait.
    pub wait_remaining_ms: u64,
}

/// The answer of `GET /v1/elections/{name}`. A vacancy is a state.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Election {
    /// The name.
    pub election: String,
    /// Who leads.
    pub leader: Option<Leader>,
    /// The first 100 candidates that wait.
    pub candidates: Vec<Candidate>,
    /// How many wait.
    pub candidate_count: u64,
    /// How long nobody is elected, because a broken leader may still believe.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of its last change; 0 while unused.
    pub mod_revision: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// An election in a list: with a leader or candidates.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ElectionSummary {
    /// The name.
    pub election: String,
    /// Who leads.
    pub leader: Option<Leader>,
    /// How many wait.
    pub candidate_count: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
}

/// A page of elections.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ElectionPage {
    /// The elections, in the order of names.
    pub elections: Vec<ElectionSummary>,
    /// Whether there are more behind them.
    pub more: bool,
    /// What to send as `start_after` for those.
    pub next: Option<String>,
    /// How many match in all, not on the page.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The fields of its own of a `409` to a campaign.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ElectionContention {
    /// Who leads.
    pub leader: Option<Leader>,
    /// The same as a list, as a `409` of a lock has it.
    pub holders: Vec<Leader>,
    /// How many lead: 0 or 1.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// How long nobody is elected, because a broken leader may still believe.
    pub delay_remaining_ms: Option<u64>,
    /// The lease that the campaign hung on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The answer of resigning.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resigned {
    /// The name.
    pub election: String,
    /// `true`.
    pub resigned: bool,
    /// The revision of the resignation.
    pub revision: u64,
}

/// The answer of withdrawing a candidacy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Withdrawn {
    /// The name.
    pub election: String,
    /// `true`.
    pub left: bool,
    /// The revision of the departure.
    pub revision: u64,
}

/// The answer of a handover.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HandedOver {
    /// The name.
    pub election: String,
    /// Who leads now.
    pub leader: Leader,
    /// The revision at which it passed.
    pub revision: u64,
}

/// The answer of a break.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ElectionBroken {
    /// The name.
    pub election: String,
    /// The leaderships that were ended, as they were: one.
    pub broken: Vec<Leader>,
    /// How long nobody is elected, because the broken leader may still believe.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of their end.
    pub revision: u64,
}
