//! The replicated state machine: leases, locks, elections and keys; pure and deterministic.
//!
//! [`State::apply`] is the only thing that changes it, and looks at nothing but the entry and the state.

mod codec;
mod command;
mod record;

mod access;
mod access_record;
mod authorize;

mod acquire;
mod change_access;
mod claim;
mod compact;
mod elections;
mod ends;
mod intervene;
mod repeats;
mod restore;
mod state;
mod transact;

mod answer;
mod event;
mod history;
mod pages;
mod reads;

mod counted;
mod keys;
mod parts;
mod standing;
mod tally;
mod usage;

mod invariants;
mod load;
mod row;
mod rows;
mod verdicts;

mod ids;
mod limits;
mod version;

pub use access::{
    ANONYMOUS, Access, AccessChange, Denied, Identity, MAX_ACCESS_NAME_BYTES, MAX_GRANTS_PER_ROLE,
    MAX_IDENTITIES, MAX_ROLES, MAX_ROLES_PER_IDENTITY, MAX_TOKENS, Need, Principal, Quota,
    RoleGrant, RootToken, Scope, Token, TokenId, Verb,
};
pub use answer::{
    Answer, Applied, Attached, Contention, Decision, HoldView, HolderView, KeyEntry, LeaseView,
    OperationResult, Outcome, QueueView, QueuedView, Refusal, WaiterView,
};
pub use change_access::Administered;
pub use codec::{CodecError, decode_batch, decode_request, encode_batch, encode_request};
pub use command::{
    Acquire, Batch, Break, Claim, Command, Compare, Condition, Field, Guard, HandOver,
    IdempotencyKey, NewLease, Operation, Proclaim, Put, Release, Renewal, Request, Share,
    Transaction, Wanted,
};
pub use event::{
    Change, Collection, DeleteReason, EndReason, Event, Grant, LeaveReason, Place, ReleaseReason,
    Resource, Selector, prefix_end, resource_of,
};
pub use history::Span;
pub use ids::{Clock, Fence, Kind, LeaseId, Origin, Revision};
pub use limits::{
    ENDED_LEASES, ENDED_RETENTION_MS, Genesis, LimitError, Limits, MAX_ELECTION_VALUE_BYTES,
    MAX_ENDED_THINGS_PER_ENTRY, MAX_ENDS_PER_ENTRY, MAX_IDEMPOTENCY_KEY_BYTES, MAX_LOCK_DELAY_MS,
    MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_NAMES_TOGETHER, MAX_PRIORITY, MAX_TTL_MS, MAX_WAIT_MS,
    MIN_TTL_MS, SHOWN,
};
pub use load::LoadError;
pub use pages::{CountPiece, KeyRange, KeysPiece, Order, QueuesPage};
pub use reads::{Changes, ReadError, Standing};
pub use restore::{MAX_REVISION, RestoreError, Restored, revision_base};
pub use row::{Row, RowChange, Table};
pub use state::State;
pub use tally::{QueueTally, Spread, Tally};
pub use version::{ACCESS_STATE_VERSION, FIRST_STATE_VERSION, STATE_VERSION};
