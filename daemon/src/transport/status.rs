//! How this member stands with each other one: for status pages, and the log lines an operator acts on.
//!
//! Owns who is found, lost or refusing, and says each change once. Reconnecting is not its business.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenure_raft::MemberId;
use tenure_replica::Lane;

use super::dial::DialError;
use super::handshake::Refusal;

/// How this member stands with another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerLink {
    /// The other member.
    pub member: MemberId,
    /// What it is called.
    pub name: String,
    /// Where it is dialled.
    pub peer_url: String,
    /// The lanes that are connected, and for how long.
    pub connected_for: BTreeMap<Lane, Duration>,
    /// Why it refuses this member, if it does.
    pub refusal: Option<Refusal>,
    /// What the last connection that failed or broke said.
    pub last_error: Option<String>,
}

/// The record behind [`PeerLink`].
#[derive(Debug)]
pub(super) struct Contact {
    member: MemberId,
    name: String,
    peer_url: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connected: BTreeMap<Lane, Instant>,
    refusal: Option<Refusal>,
    /// Why it was not trusted, or did not trust this member, as it was said.
    distrust: Option<String>,
    last_error: Option<String>,
    /// What the log says of it: found or lost; nothing yet before the first attempt has ended.
    said: Option<Said>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    Found,
    Lost,
}

impl Contact {
    pub(super) fn new(member: MemberId, name: &str, peer_url: &str) -> Contact {
        Contact {
            member,
            name: name.to_owned(),
            peer_url: peer_url.to_owned(),
            state: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The other side takes messages on this lane now, and was dialled at this URL.
    pub(super) fn connected(&self, lane: Lane, url: &str) {
        let mut state = self.lock();
        state.connected.insert(lane, Instant::now());
        state.refusal = None;
        state.distrust = None;
        tracing::debug!(peer = %self.name, member = %self.member, ?lane, "lane to peer connected");
        // The lane of heartbeats decides what is said: without it a peer is as good as gone, with it the others follow.
        if lane == Lane::Urgent && state.said != Some(Said::Found) {
            state.said = Some(Said::Found);
            tracing::info!(peer = %self.name, member = %self.member, %url, "found peer");
        }
    }

    /// An attempt failed, or a connection that stood is gone.
    pub(super) fn failed(&self, lane: Lane, error: &DialError) {
        let mut state = self.lock();
        state.connected.remove(&lane);
        state.last_error = Some(error.to_string());
        tracing::debug!(peer = %self.name, member = %self.member, ?lane, %error, "no lane to peer");
        match error {
            DialError::Refused(refusal) => self.refused(&mut state, refusal),
            DialError::Distrust(why) => self.distrusted(&mut state, why),
            _ => {}
        }
        if lane == Lane::Urgent && state.said != Some(Said::Lost) {
            let again = if state.said == Some(Said::Found) {
                "lost peer"
            } else {
                "peer not reached yet"
            };
            state.said = Some(Said::Lost);
            tracing::warn!(peer = %self.name, member = %self.member, url = %self.peer_url, %error, "{again}");
        }
    }

    fn distrusted(&self, state: &mut State, why: &str) {
        if state.distrust.as_deref() != Some(why) {
            state.distrust = Some(why.to_owned());
            tracing::error!(
                peer = %self.name, member = %self.member, url = %self.peer_url, "no trust between this member and {}: {why}", self.name
            );
        }
    }

    fn refused(&self, state: &mut State, refusal: &Refusal) {
        let news = state
            .refusal
            .as_ref()
            .is_none_or(|before| before.code != refusal.code);
        state.refusal = Some(refusal.clone());
        if news && !refusal.is_passing() {
            tracing::error!(
                peer = %self.name, member = %self.member, url = %self.peer_url, code = %refusal.code, "peer refuses this member: {}", refusal.detail
            );
        }
    }

    pub(super) fn link(&self) -> PeerLink {
        let state = self.lock();
        PeerLink {
            member: self.member,
            name: self.name.clone(),
            peer_url: self.peer_url.clone(),
            connected_for: state
                .connected
                .iter()
                .map(|(lane, since)| (*lane, since.elapsed()))
                .collect(),
            refusal: state.refusal.clone(),
            last_error: state.last_error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
