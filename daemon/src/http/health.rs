//! What an operator should know of this member, in words: what is wrong, and what to do about it.
//!
//! Owns the bounds beyond which something is worth a word. Nothing here makes a member unready: it serves all the same.

use std::time::Duration;

use tenure_raft::{PeerState, RoleName};
use tenure_state::State;

use super::metrics::free_bytes;
use super::versions;
use crate::node::Handle;
use crate::telemetry::{Lately, TOO_FAST};
use crate::tls::Tls;

/// A follower that has not answered for so long is missing.
const MISSING_AFTER: Duration = Duration::from_secs(5);
/// So many entries behind is worth a word: a member that is further back is soon sent a snapshot.
const MANY_ENTRIES: u64 = 5_000;
/// A member stops when it cannot write, and a checkpoint may need as much again as the state.
const LITTLE_ROOM: u64 = 1 << 30;

/// A change of voters needs a majority of those before and of those to be, and nothing else: it takes milliseconds.
const LONG_CHANGE: Duration = Duration::from_secs(10);
/// A learner that has not caught up after this time is perhaps never going to.
const LONG_CATCH_UP: Duration = Duration::from_secs(300);

/// What is looked at.
struct Facts {
    lately: Lately,
    apply_lag: u64,
    free_bytes: Option<u64>,
    followers: Option<Followers>,
    /// Of each limit that fills up its name, what counts, how much there is, and how much is allowed.
    filling: [(&'static str, &'static str, u64, u64); 5],
}

/// What a leader knows.
struct Followers {
    voters: usize,
    changing_for: Option<Duration>,
    each: Vec<Follower>,
}

struct Follower {
    name: String,
    is_voter: bool,
    /// How long it has been a learner that is to vote.
    promoting_for: Option<Duration>,
    silent_for: Duration,
    lag: u64,
    state: PeerState,
}

/// What is wrong with this member or, where it leads, with the cluster, and what to do.
pub(super) fn warnings(handle: &Handle, tls: &Tls, is_exposed: bool) -> Vec<String> {
    let mut words = Facts::of(handle).in_words();
    words.extend(versions::warning(handle));
    words.extend(tls.warnings());
    words.extend(unproven_members(handle, tls));
    words.extend(unused_certificates(handle, tls));
    words.extend(known_elsewhere(handle));
    words.extend(
        is_exposed
            .then(|| exposure(handle, tls))
            .into_iter()
            .flatten(),
    );
    words
}

/// Members say for whom they ask: where they do not prove who they are, access control ends at their port.
fn unproven_members(handle: &Handle, tls: &Tls) -> Option<String> {
    let is_on = handle.read(|state| state.access().enabled());
    (is_on && tls.members.is_none()).then(|| {
        "access control can be passed by: members speak to each other without TLS, and whoever reaches the port of members asks as \
         any identity; give peer_cert_file, peer_key_file and peer_ca_file, or let nobody else reach that port"
            .to_owned()
    })
}

/// Administrators may have nothing but certificates, which open nothing at a member that takes none.
fn unused_certificates(handle: &Handle, tls: &Tls) -> Option<String> {
    let takes_them = tls.clients.as_ref().is_some_and(|port| port.verifies());
    let needs_them = handle.read(|state| {
        let access = state.access();
        access.enabled() && access.administered(None).needs_certificates()
    });
    (needs_them && !takes_them).then(|| {
        "not administered here: administrators prove who they are by client certificates alone, and this member takes none; give it \
         client_ca_file, or give one of them a token that does not expire, at a member that takes certificates"
            .to_owned()
    })
}

/// The others dial a member where the cluster knows it to be.
fn known_elsewhere(handle: &Handle) -> Option<String> {
    let (member, members) = (handle.member(), handle.members());
    let known = members.info.get(&member.id)?;
    (known.peer_url != member.peer_url).then(|| {
        format!(
            "known elsewhere: the cluster has {} as the peer URL of this member, and its settings say {}; that is taken over when a \
             leader hears of it, within seconds, unless the certificate of this member is not good for both places (give it one with \
             the URI tenure://member/{}), a loopback address would take the place of another, or another member has that URL \
             (correct peer_advertise)",
            known.peer_url, member.peer_url, member.name
        )
    })
}

/// What clients on other machines may do or see, though they should not.
fn exposure(handle: &Handle, tls: &Tls) -> Vec<String> {
    let mut words = Vec::new();
    if !handle.read(|state| state.access().enabled()) {
        words.push(
            "open to everybody: clients on other machines reach this member, and access control is off; give identities their \
             roles and turn it on by PATCH /v1/access, or listen on loopback"
                .to_owned(),
        );
    }
    if tls.clients.is_none() {
        words.push(
            "not encrypted: clients on other machines reach this member without TLS, so that tokens and values are read on the \
             way; give client_cert_file and client_key_file, or listen on loopback"
                .to_owned(),
        );
    }
    words
}

impl Facts {
    fn of(handle: &Handle) -> Facts {
        let status = handle.status();
        let (core, configuration) = handle.consensus();
        let under_way = handle.under_way();
        let follower = |peer: &tenure_raft::PeerStatus| Follower {
            name: match configuration.info.get(&peer.id) {
                Some(info) => info.name.clone(),
                None => peer.id.to_string(),
            },
            // Of those who vote when what is under way is done.
            is_voter: configuration.voters.contains(&peer.id),
            promoting_for: under_way.promoting_for(peer.id),
            // Who never answered this leader is silent since its election.
            silent_for: peer.silent_for.or(core.leads_for).unwrap_or_default(),
            // A leader that has just been elected knows nothing of how far the others are.
            lag: match peer.matched.0 {
                0 => 0,
                matched => core.last.index.0.saturating_sub(matched),
            },
            state: peer.state,
        };
        let followers = (core.role == RoleName::Leader).then(|| Followers {
            voters: configuration.voters.len(),
            changing_for: under_way.changing_for(),
            each: core.progress.iter().map(follower).collect(),
        });
        let filling = handle.read(filling);
        Facts {
            lately: handle.metrics().lately(),
            apply_lag: status.commit.0.saturating_sub(status.applied.0),
            free_bytes: handle.files().log.parent().and_then(free_bytes),
            followers,
            filling,
        }
    }

    fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(took) = self.lately.slow_sync {
            words.push(format!(
                "disk slow: a synced write of the log took {} ms within the last five minutes; give the member a disk of its own, or find who else writes to this one",
                took.as_millis()
            ));
        }
        if let Some(paused) = self.lately.pause {
            words.push(format!(
                "paused: this process, or the whole machine, did not run for {} ms within the last five minutes; look for an overcommitted host, a suspend or swapping",
                paused.as_millis()
            ));
        }
        if TOO_FAST < self.lately.leader_clock_rate {
            words.push(format!(
                "clock: the leader's clock runs {:.1} % faster than the one of this member, so leases may end before their holders expect it; compare both with a third and stop the member whose clock is wrong",
                (self.lately.leader_clock_rate - 1.0) * 100.0
            ));
        }
        if MANY_ENTRIES < self.apply_lag {
            words.push(format!(
                "applying lags: {} committed entries are not applied yet; this machine's processor has too much to do",
                self.apply_lag
            ));
        }
        if let Some(free) = self.free_bytes.filter(|free| *free < LITTLE_ROOM) {
            words.push(format!(
                "disk nearly full: {} MiB are left, and a member that cannot write stops; make room",
                free >> 20
            ));
        }
        for (limit, what, used, allowed) in self.filling {
            if allowed / 10 * 9 < used {
                words.push(format!(
                    "near a limit: {used} {what} of {allowed}; find who leaves them behind, or raise `{limit}` by PATCH /v1/limits"
                ));
            }
        }
        if let Some(followers) = &self.followers {
            followers.in_words(&mut words);
        }
        words
    }
}

/// What fills up until something is refused.
fn filling(state: &State) -> [(&'static str, &'static str, u64, u64); 5] {
    let limits = state.limits();
    [
        ("leases", "leases", state.lease_count(), limits.leases),
        (
            "standing_bytes",
            "bytes of leases, holds and places",
            state.standing_bytes(),
            limits.standing_bytes,
        ),
        ("keys", "keys", state.key_count(), limits.keys),
        (
            "key_bytes",
            "bytes of keys and values",
            state.key_bytes(),
            limits.key_bytes,
        ),
        (
            "idempotency_records",
            "idempotency records",
            state.repeats_kept(),
            limits.idempotency_records,
        ),
    ]
}

impl Followers {
    fn in_words(&self, words: &mut Vec<String>) {
        let is_missing = |follower: &&Follower| MISSING_AFTER < follower.silent_for;
        let missing: Vec<&Follower> = self.each.iter().filter(is_missing).collect();
        for follower in &missing {
            words.push(format!(
                "member missing: {} has not answered for {} s; look whether it runs, and whether its peer port is reached",
                follower.name,
                follower.silent_for.as_secs()
            ));
        }
        let lost = missing.iter().filter(|follower| follower.is_voter).count();
        if 0 < lost && self.voters - lost == self.voters / 2 + 1 {
            words.push(format!(
                "one from losing quorum: {} of {} voters answer, and the loss of one more stops the cluster; restart no other member before the missing ones are back",
                self.voters - lost,
                self.voters
            ));
        }
        if let Some(hangs) = self.changing_for.filter(|time| LONG_CHANGE < *time) {
            words.push(format!(
                "change of members hangs: the voters have been changing for {} s, which needs a majority of those before and of those to be; bring back whoever does not answer",
                hangs.as_secs()
            ));
        }
        for follower in self.each.iter().filter(|follower| !is_missing(follower)) {
            if let Some(long) = follower.promoting_for.filter(|time| LONG_CATCH_UP < *time) {
                words.push(format!(
                    "learner does not catch up: {} was added {} s ago, is {} entries behind and does not vote yet; its disk or its network is slower than the cluster is written to, or it is restarted again and again",
                    follower.name,
                    long.as_secs(),
                    follower.lag
                ));
            } else if follower.state == PeerState::Snapshot {
                words.push(format!(
                    "member catching up: {} was away for longer than the log reaches back and is sent a snapshot; wait for it",
                    follower.name
                ));
            } else if MANY_ENTRIES < follower.lag {
                words.push(format!(
                    "member lagging: {} is {} entries behind; its disk or its network is slower than the leader's",
                    follower.name, follower.lag
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tenure_state::{
        AccessChange, Batch, Clock, Command, Genesis, Identity, Origin, Principal, Request,
        RootToken, TokenId,
    };

    use super::*;
    use crate::node::Desk;

    #[test]
    fn a_member_that_others_reach_is_warned_of_until_everybody_proves_who_asks() {
        let with = |root: Option<RootToken>, is_exposed: bool| {
            let genesis = Genesis {
                root,
                ..Genesis::default()
            };
            let desk = Desk::new(State::genesis(genesis));
            let words = warnings(&desk.handle(), &Tls::default(), is_exposed);
            let begins = |word: &str| words.iter().any(|words| words.starts_with(word));
            (begins("open to everybody: "), begins("not encrypted: "))
        };
        let root = RootToken {
            id: TokenId(1),
            hash: [1; 32],
        };
        assert_eq!(with(None, true), (true, true));
        assert_eq!(with(Some(root.clone()), true), (false, true));
        assert_eq!(with(None, false), (false, false));
    }

    #[test]
    fn a_member_that_takes_no_certificates_says_that_nobody_else_administers_it() {
        let root = RootToken {
            id: TokenId(1),
            hash: [1; 32],
        };
        let mut state = State::genesis(Genesis {
            root: Some(root),
            ..Genesis::default()
        });
        let warns = |state: &State| {
            let desk = Desk::new(state.clone());
            let words = warnings(&desk.handle(), &Tls::default(), false);
            let mut words = words.iter();
            words.any(|words| words.starts_with("not administered here: "))
        };
        let change = |state: &mut State, change: AccessChange| {
            let request = Request {
                origin: Origin {
                    member: 1,
                    token: 1,
                },
                principal: Principal::of("root", Some(TokenId(1))),
                idempotency: None,
                command: Command::ChangeAccess(change),
            };
            let batch = Batch {
                requests: vec![request],
                ..Batch::default()
            };
            let applied = state.apply(Clock(1), &batch);
            assert!(applied.outcomes[0].outcome.is_ok());
        };
        let certified = AccessChange::PutIdentity {
            name: "root".to_owned(),
            identity: Identity {
                roles: vec!["root".to_owned()],
                certificate: Some("root.example".to_owned()),
                ..Identity::default()
            },
        };
        change(&mut state, certified);
        assert!(!warns(&state), "the token is left");
        change(&mut state, AccessChange::DeleteToken { id: TokenId(1) });
        assert!(warns(&state));
    }

    fn well() -> Facts {
        Facts {
            lately: Lately::default(),
            apply_lag: 0,
            free_bytes: Some(1 << 40),
            followers: Some(Followers {
                voters: 3,
                changing_for: Some(Duration::from_secs(1)),
                each: vec![follower("n2", 1), follower("n3", 1)],
            }),
            filling: [
                ("leases", "leases", 5, 1000),
                ("standing_bytes", "bytes", 500, 100_000),
                ("keys", "keys", 5, 1000),
                ("key_bytes", "bytes", 5, 1000),
                ("idempotency_records", "records", 5, 1000),
            ],
        }
    }

    fn follower(name: &str, silent_s: u64) -> Follower {
        Follower {
            name: name.to_owned(),
            is_voter: true,
            promoting_for: None,
            silent_for: Duration::from_secs(silent_s),
            lag: 3,
            state: PeerState::Replicate,
        }
    }

    /// What is said where something is changed begins like this, and nothing else is said.
    fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
        let mut facts = well();
        change(&mut facts);
        let words = facts.in_words();
        let begins: Vec<&str> = words
            .iter()
            .map(|words| words.split(':').next().unwrap_or_default())
            .collect();
        assert_eq!(begins, expected, "{words:#?}");
    }

    fn followers(facts: &mut Facts) -> &mut Followers {
        facts.followers.as_mut().expect("it leads")
    }

    #[test]
    fn a_member_that_is_well_says_nothing() {
        check(|_| {}, &[]);
        check(|facts| facts.followers = None, &[]);
    }

    #[test]
    fn what_happened_lately_is_said() {
        let slow = Some(Duration::from_millis(700));
        check(|facts| facts.lately.slow_sync = slow, &["disk slow"]);
        check(|facts| facts.lately.pause = slow, &["paused"]);
        check(|facts| facts.lately.leader_clock_rate = 1.011, &["clock"]);
        check(|facts| facts.lately.leader_clock_rate = 1.009, &[]);
    }

    #[test]
    fn what_runs_out_is_said() {
        check(
            |facts| facts.free_bytes = Some(LITTLE_ROOM - 1),
            &["disk nearly full"],
        );
        check(|facts| facts.filling[0].2 = 901, &["near a limit"]);
        check(|facts| facts.filling[0].2 = 900, &[]);
        check(|facts| facts.filling[1].2 = 90_001, &["near a limit"]);
        check(|facts| facts.filling[4].2 = 901, &["near a limit"]);
        check(
            |facts| facts.apply_lag = MANY_ENTRIES + 1,
            &["applying lags"],
        );
    }

    #[test]
    fn a_missing_voter_of_three_leaves_none_to_lose() {
        let missing = ["member missing", "one from losing quorum"];
        check(
            |facts| followers(facts).each[0].silent_for = Duration::from_secs(6),
            &missing,
        );
        check(
            |facts| followers(facts).each[1].silent_for = Duration::from_secs(7),
            &missing,
        );
        // Of five there is one more to lose, and a learner never counts.
        check(
            |facts| {
                followers(facts).voters = 5;
                followers(facts)
                    .each
                    .extend([follower("n4", 0), follower("n5", 9)]);
            },
            &["member missing"],
        );
        check(
            |facts| {
                followers(facts).each[0].is_voter = false;
                followers(facts).each[0].silent_for = Duration::from_secs(6);
            },
            &["member missing"],
        );
    }

    #[test]
    fn what_is_under_way_for_too_long_is_said() {
        let long = Some(Duration::from_secs(301));
        check(
            |facts| followers(facts).changing_for = long,
            &["change of members hangs"],
        );
        let learns = |facts: &mut Facts, time| {
            let learner = &mut followers(facts).each[0];
            (learner.is_voter, learner.promoting_for) = (false, time);
        };
        check(|facts| learns(facts, long), &["learner does not catch up"]);
        check(|facts| learns(facts, Some(Duration::from_secs(299))), &[]);
    }

    #[test]
    fn a_member_that_is_behind_is_named() {
        check(
            |facts| followers(facts).each[0].lag = MANY_ENTRIES + 1,
            &["member lagging"],
        );
        check(
            |facts| followers(facts).each[0].state = PeerState::Snapshot,
            &["member catching up"],
        );
    }
}
