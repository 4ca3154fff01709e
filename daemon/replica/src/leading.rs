//! What only a leader does: gathers requests into entries, and keeps the clock in the log going.
//!
//! Owns the requests and renewals that wait for an entry. Every entry carries all renewals that wait, so that none
//! can end a lease whose renewal has arrived. Never looks into the state: it knows the next deadline, no more.

use std::time::Duration;

use tenure_mutants::{Mutant, mutated};
use tenure_raft::{LogPosition, ProposeError, Raft, Stamp, Term};
use tenure_state::{Batch, Origin, Renewal, Request, encode_batch};

use crate::core::CoreSettings;
use crate::peer::Refused;
use crate::size::request_size;

/// While anything has a deadline, no two stamps in the log lie further apart (`design.md`, Time).
const CLOCK_ENTRY_AFTER_MS: u64 = 500;
/// Entries whose only purpose is to end what is due come no faster (`design.md`, State).
const END_ENTRY_EVERY: Duration = Duration::from_millis(50);

/// When the log takes nothing (leadership is being handed over, or too much is uncommitted), it is asked again so much
/// later: what waits would otherwise be due at once, again and again, and the core would turn without pause and encode
/// all of it in every turn.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// A leader's requests that are not yet in the log.
pub(crate) struct Leading {
    term: Term,
    requests: Vec<Request>,
    request_bytes: usize,
    /// When the oldest of `requests` came.
    oldest: Duration,
    renewals: Vec<Renewal>,
    /// When the first of `renewals` has waited long enough.
    company_until: Duration,
    last_stamp: Stamp,
    last_end_entry: Option<Duration>,
    /// When the log last took nothing, if it did since.
    refused_at: Option<Duration>,
}

/// What came of forming entries.
#[derive(Default)]
pub(crate) struct Formed {
    /// Entries appended, and whose requests they carry.
    pub(crate) appended: Vec<(LogPosition, Vec<Origin>)>,
    /// Requests that were not, and why.
    pub(crate) refused: Vec<(Origin, Refused)>,
}

impl Leading {
    pub(crate) fn new(term: Term, clock: Stamp) -> Leading {
        Leading {
            term,
            requests: Vec::new(),
            request_bytes: 0,
            oldest: Duration::ZERO,
            renewals: Vec::new(),
            company_until: Duration::ZERO,
            last_stamp: clock,
            last_end_entry: None,
            refused_at: None,
        }
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// How many requests wait, their bytes, and how many renewals.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        (self.requests.len(), self.request_bytes, self.renewals.len())
    }

    /// The origins of all that waits, when leadership is lost.
    pub(crate) fn into_waiting(self) -> Vec<Origin> {
        let renewals = self.renewals.into_iter().map(|renewal| renewal.origin);
        self.requests
            .into_iter()
            .map(|request| request.origin)
            .chain(renewals)
            .collect()
    }

    pub(crate) fn wait_for_entry(
        &mut self,
        request: Request,
        now: Duration,
        settings: &CoreSettings,
    ) -> Result<(), Refused> {
        let is_full = self.requests.len() >= settings.waiting_requests
            || self.request_bytes >= settings.waiting_bytes;
        if is_full && !mutated(Mutant::WaitingUnbounded) {
            return Err(Refused::Overloaded);
        }
        if self.requests.is_empty() {
            self.oldest = now;
        }
        self.request_bytes += request_size(&request);
        self.requests.push(request);
        Ok(())
    }

    /// Takes all of these renewals, or none where they are too many.
    pub(crate) fn wait_for_company(
        &mut self,
        renewals: impl ExactSizeIterator<Item = Renewal>,
        until: Duration,
        settings: &CoreSettings,
    ) -> Result<(), Refused> {
        if settings.waiting_renewals < self.renewals.len() + renewals.len() {
            return Err(Refused::Overloaded);
        }
        self.company_until = if self.renewals.is_empty() {
            until
        } else {
            self.company_until.min(until)
        };
        self.renewals.extend(renewals);
        Ok(())
    }

    /// Appends what is to be appended now: requests when the disk is free or they have waited for it long enough,
    /// renewals with them or when they have had their time, and a bare stamp when the clock must move.
    pub(crate) fn form_entries(
        &mut self,
        raft: &mut Raft,
        now: Duration,
        due: Option<Stamp>,
        disk_busy: bool,
        settings: &CoreSettings,
    ) -> Formed {
        let mut formed = Formed::default();
        // Every event is a turn: each would take up to a batch, encode it and put it back.
        if self.log_rests_until().is_some_and(|until| now < until) {
            return formed;
        }
        let held_back = disk_busy && now < self.oldest + settings.hold;
        while !self.requests.is_empty() && !held_back {
            if !self.append(raft, now, settings.batch_bytes, &mut formed) {
                return formed;
            }
        }
        let renewals_go = !self.renewals.is_empty() && now >= self.company_until;
        let Some(clock) = raft.clock() else {
            return formed;
        };
        let ending = self.ends_something(now, clock, due);
        let ticks = (ending || self.stamp_is_old(clock, due)) && !mutated(Mutant::NothingEnds);
        if renewals_go || ticks {
            if ending {
                self.last_end_entry = Some(now);
            }
            self.append(raft, now, settings.batch_bytes, &mut formed);
        }
        formed
    }

    /// Appends the renewals that wait, before an entry that is not formed here: its stamp may end their leases. Says
    /// whether none waits any more.
    pub(crate) fn append_renewals(
        &mut self,
        raft: &mut Raft,
        now: Duration,
        settings: &CoreSettings,
        formed: &mut Formed,
    ) -> bool {
        self.renewals.is_empty()
            || mutated(Mutant::ChangeBeforeRenewals)
            || self.append(raft, now, settings.batch_bytes, formed)
    }

    /// How long until `form_entries` has something to do by itself.
    pub(crate) fn next_turn(
        &self,
        now: Duration,
        clock: Stamp,
        due: Option<Stamp>,
        disk_busy: bool,
    ) -> Duration {
        let mut next = Duration::MAX;
        if !self.requests.is_empty() {
            // While the disk is busy its completion is the next turn; this bounds a disk that is slow.
            next = if disk_busy {
                Duration::from_millis(5)
            } else {
                Duration::ZERO
            };
        }
        if !self.renewals.is_empty() {
            next = next.min(self.company_until.saturating_sub(now));
        }
        if let Some(due) = due {
            let to_stamp = (self.last_stamp.0 + CLOCK_ENTRY_AFTER_MS).saturating_sub(clock.0);
            let to_end = (due.0 + 1).saturating_sub(clock.0);
            let gap = self.last_end_entry.map_or(Duration::ZERO, |at| {
                (at + END_ENTRY_EVERY).saturating_sub(now)
            });
            next = next
                .min(Duration::from_millis(to_stamp))
                .min(Duration::from_millis(to_end).max(gap));
        }
        let again = self
            .log_rests_until()
            .map_or(Duration::ZERO, |until| until.saturating_sub(now));
        next.max(again)
    }

    /// Until when a log that took nothing is not asked again.
    fn log_rests_until(&self) -> Option<Duration> {
        self.refused_at.map(|at| at + ASK_AGAIN_AFTER)
    }

    /// Whether an entry stamped now would end something, and the last such entry is long enough ago.
    fn ends_something(&self, now: Duration, clock: Stamp, due: Option<Stamp>) -> bool {
        let spaced = self
            .last_end_entry
            .is_none_or(|at| now >= at + END_ENTRY_EVERY);
        spaced && due.is_some_and(|due| clock > due)
    }

    fn stamp_is_old(&self, clock: Stamp, due: Option<Stamp>) -> bool {
        due.is_some() && clock.0 >= self.last_stamp.0 + CLOCK_ENTRY_AFTER_MS
    }

    /// Appends one entry with all renewals and as many requests as fit; says whether it could.
    fn append(
        &mut self,
        raft: &mut Raft,
        now: Duration,
        batch_bytes: usize,
        formed: &mut Formed,
    ) -> bool {
        let batch = self.take_batch(batch_bytes);
        let origins: Vec<Origin> = batch
            .renewals
            .iter()
            .map(|renewal| renewal.origin)
            .chain(batch.requests.iter().map(|request| request.origin))
            .collect();
        self.refused_at = Some(now);
        let proposed = if origins.is_empty() {
            raft.propose_empty()
        } else {
            raft.propose(encode_batch(&batch))
        };
        match proposed {
            Ok(position) => {
                self.refused_at = None;
                self.last_stamp = raft.clock().unwrap_or(self.last_stamp);
                formed.appended.push((position, origins));
                true
            }
            Err(
                ProposeError::TooMuchUncommitted { .. } | ProposeError::TooMuchUnwritten { .. },
            ) => {
                if mutated(Mutant::RefusedAndKept) {
                    let refused = origins.iter().map(|origin| (*origin, Refused::Overloaded));
                    formed.refused.extend(refused);
                }
                self.put_back(batch);
                false
            }
            Err(error) => {
                let reason = refusal(&error);
                formed
                    .refused
                    .extend(origins.into_iter().map(|origin| (origin, reason)));
                false
            }
        }
    }

    fn take_batch(&mut self, batch_bytes: usize) -> Batch {
        let mut bytes = 0;
        let mut count = 0;
        for request in &self.requests {
            bytes += request_size(request);
            if count > 0 && bytes > batch_bytes {
                break;
            }
            count += 1;
        }
        let rest = self.requests.split_off(count);
        let requests = std::mem::replace(&mut self.requests, rest);
        self.request_bytes = self.requests.iter().map(request_size).sum();
        let renewals = match mutated(Mutant::RenewalsLeftBehind) && !requests.is_empty() {
            true => Vec::new(),
            false => std::mem::take(&mut self.renewals),
        };
        Batch { renewals, requests }
    }

    /// The log takes no more just now: what was taken waits on, in its order.
    fn put_back(&mut self, mut batch: Batch) {
        self.request_bytes += batch.requests.iter().map(request_size).sum::<usize>();
        batch.requests.append(&mut self.requests);
        self.requests = batch.requests;
        batch.renewals.append(&mut self.renewals);
        self.renewals = batch.renewals;
    }
}

fn refusal(error: &ProposeError) -> Refused {
    match error {
        ProposeError::NotLeader { .. } => Refused::NoLeader,
        ProposeError::Transferring { .. } => Refused::Transferring,
        ProposeError::TooMuchUncommitted { .. } | ProposeError::TooMuchUnwritten { .. } => {
            Refused::Overloaded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use tenure_raft::{Configuration, MemberId, MemberInfo, Restored, Settings};
    use tenure_state::{Command, LeaseId, Principal};

    const ME: MemberId = MemberId(1);

    /// A member alone that leads, and whose log takes no more until its disk has written.
    fn full_leader() -> (Raft, Leading) {
        let info = MemberInfo {
            name: "n1".to_owned(),
            ..MemberInfo::default()
        };
        let configuration = Configuration {
            voters: BTreeSet::from([ME]),
            info: BTreeMap::from([(ME, info)]),
            ..Configuration::default()
        };
        let restored = Restored::genesis(configuration);
        let settings = Settings {
            max_unwritten_bytes: 1,
            ..Settings::default()
        };
        let mut raft = Raft::new(ME, settings, 1, restored).expect("it can start");
        while !raft.is_leader() {
            raft.tick(Duration::from_millis(10));
            if let Some(write) = raft.ready().write {
                raft.persisted(write.id);
            }
        }
        let leading = Leading::new(raft.term(), raft.clock().expect("it leads"));
        (raft, leading)
    }

    fn request(token: u64) -> Request {
        let lease = LeaseId::new(1).expect("it is positive");
        Request {
            origin: Origin {
                member: ME.0,
                token,
            },
            principal: Principal::anonymous(),
            idempotency: None,
            command: Command::RevokeLease { lease },
        }
    }

    #[test]
    fn a_log_that_takes_nothing_is_asked_every_few_milliseconds_however_many_events_there_are() {
        let (mut raft, mut leading) = full_leader();
        let settings = CoreSettings::default();
        let mut asked = BTreeSet::new();
        for token in 0..2000 {
            let now = Duration::from_micros(10 * token);
            let waits = leading.wait_for_entry(request(token), now, &settings);
            assert_eq!(waits, Ok(()));
            let formed = leading.form_entries(&mut raft, now, None, false, &settings);
            assert!(formed.refused.is_empty(), "what waits goes on waiting");
            asked.extend(leading.refused_at);
        }
        let times: Vec<u128> = asked.iter().map(Duration::as_millis).collect();
        assert_eq!(times, [0, 5, 10, 15]);

        // Its disk has written: the next time it is asked, everything goes, in its order.
        let written = raft.ready().write.expect("the first entry of the term").id;
        raft.persisted(written);
        let now = Duration::from_millis(20);
        let formed = leading.form_entries(&mut raft, now, None, false, &settings);
        let tokens = formed.appended[0].1.iter().map(|origin| origin.token);
        assert!(tokens.eq(0..2000));
    }
}
