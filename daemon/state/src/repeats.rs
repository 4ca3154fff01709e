//! Repeats: a request that carries an idempotency key is decided once.
//!
//! Owns the records of what was decided, until their deadlines. A record holds no value of a user: what a repeat is
//! answered is the record, what the repeat itself says, and for whatever ages the present. Never keeps the cluster's
//! clock ticking: an expired record replays nothing, whenever it is forgotten.
//!
//! Which refusals are recorded: those that tell how the state stood (an absent key, a stale fence, an ended lease, …).
//! A request that may succeed when it is asked again with the same key (a quota, an id in use), or that a changed limit
//! would let pass, is judged afresh: nothing of it was applied, so nothing can be applied twice.
//!
//! How many are kept is bounded by their memory too: a record weighs one for each [`RECORD`] bytes, and the quota is of
//! weight. What expired has no weight, whether it is forgotten or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use tenure_mutants::{Mutant, mutated};

use crate::access::Principal;
use crate::acquire::check_control;
use crate::answer::{Answer, HoldView, HolderView, KeyEntry, OperationResult, Outcome, Refusal};
use crate::command::{
    Acquire, Claim, Command, HandOver, IdempotencyKey, Operation, Proclaim, Share, Transaction,
};
use crate::ends::check_size;
use crate::ids::{Clock, Fence, LeaseId, Revision};
use crate::limits::{
    Limits, MAX_IDEMPOTENCY_KEY_BYTES, MAX_NAME_BYTES, MAX_REPEATS_FORGOTTEN_PER_ENTRY,
};
use crate::parts::QueueId;
use crate::rows::RowId;
use crate::state::{LAST_CLOCK, State};

/// An identity and its key, as one run of bytes that is also the key of the row: the length of the identity, the
/// identity, the key.
pub(crate) type RepeatKey = Arc<[u8]>;

/// The bytes of memory for which a record counts one. The record of a write of one key under a short key is less.
pub(crate) const RECORD: usize = 512;
/// What a record takes beside its key and what it lists: its two entries, and the allocation of its key.
const FLAT: usize = 256;

/// What was decided, lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeats {
    pub by_key: BTreeMap<RepeatKey, Repeat>,
    /// With the weight of each.
    pub by_deadline: BTreeMap<(Clock, RepeatKey), u64>,
    /// Of all of them.
    pub weight: u64,
    /// Of those among them whose deadlines lie before `expired_before`.
    pub expired_weight: u64,
    pub expired_before: Clock,
}

/// A decision, and of which request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Repeat {
    pub digest: u128,
    pub deadline: Clock,
    pub verdict: Verdict,
}

/// A decision, less what a repeat says itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// A grant, or an acquire that granted a lease.
    Granted(LeaseId),
    Revoked {
        ended_count: u64,
        revision: Revision,
    },
    Written {
        succeeded: bool,
        done: Vec<Done>,
        revision: Revision,
    },
    Proclaimed {
        revision: Revision,
    },
    HandedOver {
        lease: LeaseId,
        revision: Revision,
    },
    Broken {
        broken: Vec<BrokenHold>,
        delay_until: Option<Clock>,
        revision: Revision,
    },
    Compacted {
        compact_revision: Revision,
        revision: Revision,
    },
    Limited {
        limits: Box<Limits>,
        revision: Revision,
    },
    Refused(Refused),
}

/// What an operation of a transaction did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Done {
    /// At the revision of the transaction.
    Put {
        create_revision: Revision,
        version: u64,
        created: bool,
    },
    Deleted(u64),
    Got(Option<Seen>),
}

/// What a get saw, less its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: u64,
    pub lease: Option<LeaseId>,
}

/// A hold that was broken, less its labels and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BrokenHold {
    pub owner: String,
    pub lease: LeaseId,
    pub lease_name: String,
    pub share: Share,
    pub fence: Fence,
    pub acquired_at: Option<Clock>,
    pub deadline: Clock,
}

/// A refusal that is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refused {
    LeaseNotFound(LeaseId),
    LeaseExpired(LeaseId),
    NotHeld,
    FenceStale(Option<Fence>),
    ConditionFailed(Revision),
    KeyOnOtherLease(LeaseId),
    KeyNotFound,
    RevisionAhead { asked: Revision, present: Revision },
}

impl State {
    /// Decides a request with an idempotency key, unless it was decided; says whether it was.
    pub(crate) fn decide_once(
        &mut self,
        key: &IdempotencyKey,
        command: &Command,
        who: &Principal,
    ) -> (Outcome, bool) {
        if self.access.enabled && key.identity != who.name() {
            // No member of ours asks so: what was decided is told to nobody else.
            let refusal = Refusal::Unsupported("an idempotency key of another identity");
            return (Err(refusal), false);
        }
        let id = match repeat_key(key) {
            Ok(id) => id,
            Err(refusal) => return (Err(refusal), false),
        };
        let known = self.repeats.by_key.get(&id);
        let is_kept = |repeat: &&Repeat| {
            (self.clock <= repeat.deadline || mutated(Mutant::ExpiredRecordReplays))
                && !mutated(Mutant::RepeatDecidedAgain)
        };
        if let Some(repeat) = known.filter(is_kept) {
            if repeat.digest != key.digest && !mutated(Mutant::OtherRequestReplayed) {
                return (Err(Refusal::IdempotencyMismatch), false);
            }
            let verdict = repeat.verdict.clone();
            return (self.replay(&verdict, command, who), true);
        }
        if let Err(refusal) = self.check_room_for_repeat() {
            return (Err(refusal), false);
        }
        let outcome = self.decide(command, who);
        if let Some(verdict) = verdict(command, &outcome) {
            self.remember(id, key.digest, verdict);
        }
        (outcome, false)
    }

    /// Whether a request with this key is told what was decided, and decides nothing itself.
    pub fn is_decided(&self, key: &IdempotencyKey) -> bool {
        let known = repeat_key(key)
            .ok()
            .and_then(|id| self.repeats.by_key.get(&id));
        known.is_some_and(|repeat| self.clock <= repeat.deadline)
    }

    /// What a record will weigh is known when it is decided, so the last one may reach over the quota.
    fn check_room_for_repeat(&mut self) -> Result<(), Refusal> {
        let allowed = self.limits.idempotency_records;
        if self.repeats.weight < allowed || mutated(Mutant::RecordsUnbounded) {
            return Ok(());
        }
        let live = self.repeats.live_weight(self.clock);
        match live < allowed {
            true => Ok(()),
            false => Err(Refusal::QuotaExceeded {
                limit: "idempotency_records",
                allowed,
                asked: live.saturating_add(1),
            }),
        }
    }

    fn remember(&mut self, id: RepeatKey, digest: u128, verdict: Verdict) {
        let retention_ms = self.limits.idempotency_retention_ms;
        let deadline = Clock(self.clock.0.saturating_add(retention_ms).min(LAST_CLOCK));
        self.forget_repeat(&id);
        if !mutated(Mutant::RepeatNotSaved) {
            self.touch(RowId::Repeat(Arc::clone(&id)));
        }
        self.repeats.add(
            id,
            Repeat {
                digest,
                deadline,
                verdict,
            },
        );
    }

    fn forget_repeat(&mut self, id: &RepeatKey) {
        if !self.repeats.by_key.contains_key(id) {
            return;
        }
        self.touch(RowId::Repeat(Arc::clone(id)));
        self.repeats.remove(id);
    }

    /// Forgets what expired, in the order of deadlines: more of it than an entry of `requests` can have added, so that
    /// expired records never pile up.
    pub(crate) fn forget_repeats(&mut self, requests: usize) {
        for _ in 0..MAX_REPEATS_FORGOTTEN_PER_ENTRY + requests {
            let first = self.repeats.by_deadline.first_key_value();
            let Some(((_, id), _)) = first.filter(|((deadline, _), _)| *deadline < self.clock)
            else {
                return;
            };
            let id = Arc::clone(id);
            self.forget_repeat(&id);
        }
    }

    /// What a repeat is answered. Nothing changes, but where an acquire asks again.
    fn replay(&mut self, verdict: &Verdict, command: &Command, who: &Principal) -> Outcome {
        match (verdict, command) {
            (Verdict::Granted(lease), Command::GrantLease(_)) => self
                .view_lease(*lease, self.clock)
                .map(Answer::Lease)
                .map_err(|_| Refusal::LeaseExpired(*lease)),
            (Verdict::Granted(lease), Command::Acquire(acquire)) => {
                self.ask_again(*lease, acquire, who)
            }
            (
                Verdict::Revoked {
                    ended_count,
                    revision,
                },
                Command::RevokeLease { lease },
            ) => Ok(Answer::LeaseEnded {
                lease: *lease,
                ended_count: *ended_count,
                revision: *revision,
            }),
            (
                Verdict::Written {
                    succeeded,
                    done,
                    revision,
                },
                Command::Transaction(transaction),
            ) => Ok(replay_transaction(transaction, *succeeded, done, *revision)),
            (Verdict::Proclaimed { revision }, Command::Proclaim(proclaim)) => {
                Ok(self.replay_proclaim(proclaim, *revision))
            }
            (Verdict::HandedOver { lease, revision }, Command::HandOver(hand_over)) => {
                Ok(Answer::HandedOver {
                    leader: self.replay_leader(hand_over, *lease, Fence::from(*revision)),
                    clock: self.clock,
                    revision: *revision,
                })
            }
            (
                Verdict::Broken {
                    broken,
                    delay_until,
                    revision,
                },
                Command::Break(_),
            ) => Ok(Answer::Broken {
                broken: broken.iter().map(BrokenHold::view).collect(),
                delay_until: delay_until.filter(|until| self.clock <= *until),
                clock: self.clock,
                revision: *revision,
            }),
            (
                Verdict::Compacted {
                    compact_revision,
                    revision,
                },
                Command::Compact { .. },
            ) => Ok(Answer::Compacted {
                compact_revision: *compact_revision,
                revision: *revision,
            }),
            (Verdict::Limited { limits, revision }, Command::ChangeLimits(_)) => {
                Ok(Answer::Limits {
                    limits: (**limits).clone(),
                    revision: *revision,
                })
            }
            (Verdict::Refused(refused), _) => Err(refused.refusal()),
            // Two commands of one digest: as good as another digest.
            _ => Err(Refusal::IdempotencyMismatch),
        }
    }

    /// An acquire that granted a lease asks again with that lease: its answer is of the present state. Nobody was asked about
    /// the lease when the request was judged, which names none.
    fn ask_again(&mut self, lease: LeaseId, acquire: &Acquire, who: &Principal) -> Outcome {
        self.authorize_lease(who, lease).map_err(Refusal::Denied)?;
        let claim = Claim::Lease(lease);
        let again = Acquire {
            claim,
            ..acquire.clone()
        };
        self.acquire(&again, who).map_err(|refusal| match refusal {
            Refusal::LeaseNotFound(lease) => Refusal::LeaseExpired(lease),
            other => other,
        })
    }

    fn replay_proclaim(&self, proclaim: &Proclaim, revision: Revision) -> Answer {
        Answer::Held(HoldView {
            kind: crate::ids::Kind::Election,
            name: proclaim.name.clone(),
            owner: proclaim.candidate.clone(),
            lease: proclaim.lease,
            share: Share::Exclusive,
            fence: proclaim.fence,
            // A lease that ended since has nothing left.
            deadline: self.deadline_of(proclaim.lease).unwrap_or_default(),
            clock: self.clock,
            value: proclaim.value.clone(),
            acquired_revision: Revision(proclaim.fence.0),
            revision,
        })
    }

    /// Whom a leadership was passed to: as it is, or by what is known of it where it has ended since.
    fn replay_leader(&self, hand_over: &HandOver, lease: LeaseId, fence: Fence) -> HolderView {
        let id = QueueId::new(crate::ids::Kind::Election, &hand_over.name);
        let asker = State::asker(lease, &hand_over.to);
        let hold = self
            .queues
            .get(&id)
            .and_then(|queue| queue.holds.get(&asker))
            .filter(|hold| hold.fence == fence);
        if let Some(hold) = hold {
            return self.holder_view(&asker, hold);
        }
        let name = self.leases.by_id.get(&lease).map(|lease| &lease.name);
        HolderView {
            owner: hand_over.to.clone(),
            lease,
            lease_name: name.cloned().unwrap_or_default(),
            metadata: Arc::default(),
            share: Share::Exclusive,
            fence,
            acquired_revision: Revision(fence.0),
            acquired_at: None,
            deadline: self.deadline_of(lease).unwrap_or_default(),
            value: String::new(),
        }
    }
}

impl Repeats {
    /// Adds a record of a key that has none.
    pub(crate) fn add(&mut self, id: RepeatKey, repeat: Repeat) {
        let weight = weight(&id, &repeat);
        self.weight = self.weight.saturating_add(weight);
        if repeat.deadline < self.expired_before {
            self.expired_weight = self.expired_weight.saturating_add(weight);
        }
        let at = (repeat.deadline, Arc::clone(&id));
        self.by_deadline.insert(at, weight);
        self.by_key.insert(id, repeat);
    }

    fn remove(&mut self, id: &RepeatKey) {
        let Some(repeat) = self.by_key.remove(id) else {
            return;
        };
        let at = (repeat.deadline, Arc::clone(id));
        let weight = self.by_deadline.remove(&at).unwrap_or(0);
        self.weight = self.weight.saturating_sub(weight);
        if repeat.deadline < self.expired_before {
            self.expired_weight = self.expired_weight.saturating_sub(weight);
        }
    }

    /// The weight of what has not expired. Each record is passed once, in the order in which they expire.
    fn live_weight(&mut self, now: Clock) -> u64 {
        let least = |clock| (clock, RepeatKey::from([]));
        if self.expired_before < now {
            let passed = least(self.expired_before)..least(now);
            self.expired_weight += self
                .by_deadline
                .range(passed)
                .map(|(_, weight)| weight)
                .sum::<u64>();
            self.expired_before = now;
        }
        self.weight.saturating_sub(self.expired_weight)
    }

    /// Checks that the accounts are those of the records.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(
            self.by_deadline.len(),
            self.by_key.len(),
            "idempotency records by key and by deadline"
        );
        for ((deadline, id), counted) in &self.by_deadline {
            let repeat = self.by_key.get(id);
            assert_eq!(
                repeat.map(|repeat| (repeat.deadline, weight(id, repeat))),
                Some((*deadline, *counted)),
                "the deadline and the weight of an idempotency record"
            );
        }
        assert_eq!(
            self.weight,
            self.by_deadline.values().sum::<u64>(),
            "the weight of idempotency records"
        );
        let expired = self
            .by_deadline
            .iter()
            .filter(|((deadline, _), _)| *deadline < self.expired_before);
        assert_eq!(
            self.expired_weight,
            expired.map(|(_, weight)| weight).sum::<u64>(),
            "the weight of expired idempotency records"
        );
    }
}

/// What a record counts for in `idempotency_records`.
fn weight(id: &RepeatKey, repeat: &Repeat) -> u64 {
    let listed = match &repeat.verdict {
        Verdict::Written { done, .. } => size_of_val(&done[..]),
        Verdict::Broken { broken, .. } => broken.iter().map(BrokenHold::bytes).sum(),
        Verdict::Limited { .. } => size_of::<Limits>(),
        Verdict::Granted(_)
        | Verdict::Revoked { .. }
        | Verdict::Proclaimed { .. }
        | Verdict::HandedOver { .. }
        | Verdict::Compacted { .. }
        | Verdict::Refused(_) => 0,
    };
    ((FLAT + id.len() + listed).div_ceil(RECORD)) as u64
}

impl BrokenHold {
    /// About the memory it takes.
    fn bytes(&self) -> usize {
        size_of::<BrokenHold>() + 32 + self.owner.len() + self.lease_name.len()
    }

    fn of(view: &HolderView) -> BrokenHold {
        BrokenHold {
            owner: view.owner.clone(),
            lease: view.lease,
            lease_name: view.lease_name.clone(),
            share: view.share,
            fence: view.fence,
            acquired_at: view.acquired_at,
            deadline: view.deadline,
        }
    }

    fn view(&self) -> HolderView {
        HolderView {
            owner: self.owner.clone(),
            lease: self.lease,
            lease_name: self.lease_name.clone(),
            metadata: Arc::default(),
            share: self.share,
            fence: self.fence,
            acquired_revision: Revision(self.fence.0),
            acquired_at: self.acquired_at,
            deadline: self.deadline,
            value: String::new(),
        }
    }
}

impl Refused {
    /// What is recorded of a refusal; `None` where a repeat is judged afresh.
    fn of(refusal: &Refusal) -> Option<Refused> {
        Some(match refusal {
            Refusal::LeaseNotFound(lease) => Refused::LeaseNotFound(*lease),
            Refusal::LeaseExpired(lease) => Refused::LeaseExpired(*lease),
            Refusal::NotHeld => Refused::NotHeld,
            Refusal::FenceStale { present } => Refused::FenceStale(*present),
            Refusal::ConditionFailed { mod_revision } => Refused::ConditionFailed(*mod_revision),
            Refusal::KeyOnOtherLease { lease } => Refused::KeyOnOtherLease(*lease),
            Refusal::KeyNotFound => Refused::KeyNotFound,
            Refusal::RevisionAhead { asked, present } => Refused::RevisionAhead {
                asked: *asked,
                present: *present,
            },
            // Might be accepted when it is asked again.
            Refusal::LeaseIdTaken(_)
            | Refusal::QuotaExceeded { .. }
            | Refusal::IdentityQuotaExceeded { .. } => return None,
            // Might be accepted when its sender has other rights; decided before a record is looked at.
            Refusal::Denied(_) => return None,
            // Of changes of access, which are not recorded.
            Refusal::RoleNotFound(_)
            | Refusal::IdentityNotFound(_)
            | Refusal::TokenNotFound(_)
            | Refusal::TokenIdTaken
            | Refusal::AccessInvalid(_) => return None,
            // Might be accepted under other limits or rules.
            Refusal::TtlOutOfRange { .. }
            | Refusal::TooLarge { .. }
            | Refusal::Limits(_)
            | Refusal::Unsupported(_) => return None,
            // Of acquires, which record nothing but a lease, and of repeats themselves.
            Refusal::LockHeld(_)
            | Refusal::WaitExpired(_)
            | Refusal::ModeMismatch { .. }
            | Refusal::LimitMismatch { .. }
            | Refusal::AlreadyHeld { .. }
            | Refusal::IdempotencyMismatch => return None,
        })
    }

    fn refusal(self) -> Refusal {
        match self {
            Refused::LeaseNotFound(lease) => Refusal::LeaseNotFound(lease),
            Refused::LeaseExpired(lease) => Refusal::LeaseExpired(lease),
            Refused::NotHeld => Refusal::NotHeld,
            Refused::FenceStale(present) => Refusal::FenceStale { present },
            Refused::ConditionFailed(mod_revision) => Refusal::ConditionFailed { mod_revision },
            Refused::KeyOnOtherLease(lease) => Refusal::KeyOnOtherLease { lease },
            Refused::KeyNotFound => Refusal::KeyNotFound,
            Refused::RevisionAhead { asked, present } => Refusal::RevisionAhead { asked, present },
        }
    }
}

impl Command {
    /// Whether what is decided on it is recorded for repeats. A key on the others is ignored: they are idempotent by who
    /// asks.
    pub fn is_recorded(&self) -> bool {
        match self {
            Command::GrantLease(_)
            | Command::RevokeLease { .. }
            | Command::Break(_)
            | Command::Proclaim(_)
            | Command::HandOver(_)
            | Command::Transaction(_)
            | Command::Compact { .. }
            | Command::ChangeLimits(_) => true,
            Command::Acquire(acquire) => matches!(acquire.claim, Claim::Grant(_)),
            Command::ChangeLease { .. } | Command::Release(_) => false,
            // A secret is told once and never recorded; the others are idempotent by what they say.
            Command::ChangeAccess(_) => false,
            // Nobody asks for it.
            Command::RaiseVersion { to: _ } => false,
        }
    }
}

fn repeat_key(key: &IdempotencyKey) -> Result<RepeatKey, Refusal> {
    check_size("identity_bytes", key.identity.len(), MAX_NAME_BYTES)?;
    check_size(
        "idempotency_key_bytes",
        key.key.len(),
        MAX_IDEMPOTENCY_KEY_BYTES,
    )?;
    check_control(&key.key, "an idempotency key with control characters")?;
    let length = u16::try_from(key.identity.len()).unwrap_or(u16::MAX);
    let parts = [
        &length.to_be_bytes(),
        key.identity.as_bytes(),
        key.key.as_bytes(),
    ];
    Ok(parts.concat().into())
}

/// What is recorded of an outcome.
fn verdict(command: &Command, outcome: &Outcome) -> Option<Verdict> {
    if let (Command::Acquire(acquire), outcome) = (command, outcome) {
        return outcome
            .is_ok()
            .then(|| Verdict::Granted(acquire.claim.lease()));
    }
    let answer = match outcome {
        Ok(answer) => answer,
        Err(_) if mutated(Mutant::RefusalsNotRecorded) => return None,
        Err(refusal) => return Refused::of(refusal).map(Verdict::Refused),
    };
    Some(match answer {
        Answer::Lease(view) => Verdict::Granted(view.lease),
        Answer::LeaseEnded {
            ended_count,
            revision,
            ..
        } => Verdict::Revoked {
            ended_count: *ended_count,
            revision: *revision,
        },
        Answer::Held(view) => Verdict::Proclaimed {
            revision: view.revision,
        },
        Answer::Broken {
            broken,
            delay_until,
            revision,
            ..
        } => Verdict::Broken {
            broken: broken.iter().map(BrokenHold::of).collect(),
            delay_until: *delay_until,
            revision: *revision,
        },
        Answer::HandedOver {
            leader, revision, ..
        } => Verdict::HandedOver {
            lease: leader.lease,
            revision: *revision,
        },
        Answer::Compacted {
            compact_revision,
            revision,
        } => Verdict::Compacted {
            compact_revision: *compact_revision,
            revision: *revision,
        },
        Answer::Limits { limits, revision } => Verdict::Limited {
            limits: Box::new(limits.clone()),
            revision: *revision,
        },
        Answer::Transaction {
            succeeded,
            results,
            revision,
        } => Verdict::Written {
            succeeded: *succeeded,
            done: results.iter().map(done).collect(),
            revision: *revision,
        },
        Answer::Queued(_)
        | Answer::HeldTogether(_)
        | Answer::QueuedTogether(_)
        | Answer::Released { .. }
        | Answer::Left { .. }
        | Answer::AccessChanged { .. }
        | Answer::VersionRaised { .. } => return None,
    })
}

fn done(result: &OperationResult) -> Done {
    match result {
        OperationResult::Put { entry, created } => Done::Put {
            create_revision: entry.create_revision,
            version: entry.version,
            created: *created,
        },
        OperationResult::Deleted(count) => Done::Deleted(*count),
        OperationResult::Got(entry) => Done::Got(entry.as_ref().map(|entry| Seen {
            create_revision: entry.create_revision,
            mod_revision: entry.mod_revision,
            version: entry.version,
            lease: entry.lease,
        })),
    }
}

/// The results of a transaction as they were, but without values.
fn replay_transaction(
    transaction: &Transaction,
    succeeded: bool,
    done: &[Done],
    revision: Revision,
) -> Answer {
    let operations = match succeeded {
        true => &transaction.then,
        false => &transaction.otherwise,
    };
    let result = |(operation, done): (&Operation, &Done)| match (operation, *done) {
        (
            Operation::Put(put),
            Done::Put {
                create_revision,
                version,
                created,
            },
        ) => Some(OperationResult::Put {
            entry: Arc::new(KeyEntry {
                key: Bytes::copy_from_slice(&put.key),
                value: Bytes::new(),
                content_type: put.content_type.clone(),
                create_revision,
                mod_revision: revision,
                version,
                lease: put.lease,
            }),
            created,
        }),
        (Operation::Get { key }, Done::Got(seen)) => {
            let entry = seen.map(|seen| {
                Arc::new(KeyEntry {
                    key: Bytes::copy_from_slice(key),
                    value: Bytes::new(),
                    content_type: None,
                    create_revision: seen.create_revision,
                    mod_revision: seen.mod_revision,
                    version: seen.version,
                    lease: seen.lease,
                })
            });
            Some(OperationResult::Got(entry))
        }
        (Operation::Delete { .. } | Operation::DeleteRange { .. }, Done::Deleted(count)) => {
            Some(OperationResult::Deleted(count))
        }
        _ => None,
    };
    Answer::Transaction {
        succeeded,
        results: operations.iter().zip(done).filter_map(result).collect(),
        revision,
    }
}
