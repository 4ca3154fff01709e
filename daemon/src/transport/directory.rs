//! Who this member is, which cluster it belongs to and who else does.
//!
//! Owns the answer to every handshake's question "are you who I mean, and do I know you?". The driver updates it when
//! the configuration changes; the transport only reads it. Never decides membership.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use tenure_raft::{Configuration, MemberId, MemberInfo};

/// The identity of a cluster, drawn at random when it is formed; shown as 32 hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<ClusterId, IdError> {
        hex(text, 32).map(ClusterId)
    }
}

/// Reads a member id as it is shown: 16 lower-case hex digits.
///
/// # Errors
/// Where the text is anything else.
pub fn parse_member_id(text: &str) -> Result<MemberId, IdError> {
    hex(text, 16).map(|id| MemberId(id as u64))
}

/// A text that is no id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an id is {digits} lower-case hex digits")]
pub struct IdError {
    digits: usize,
}

fn hex(text: &str, digits: usize) -> Result<u128, IdError> {
    let plain = text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !plain {
        return Err(IdError { digits });
    }
    u128::from_str_radix(text, 16).map_err(|_| IdError { digits })
}

/// What a member knows of itself from its first start on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Its id.
    pub member: MemberId,
    /// Its name, a label for people.
    pub name: String,
    /// Where clients reach it, as it tells the others when they form a cluster.
    pub client_url: String,
    /// Where other members reach it, as it tells those who do not know it yet.
    pub peer_url: String,
    /// The members that are to form a cluster, names to peer URLs, where it was told of any.
    pub initial_members: Option<BTreeMap<String, String>>,
    /// The newest version of the rules that it can follow.
    pub state_version_at_most: u64,
}

/// The cluster that a member belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership {
    /// Which one.
    pub cluster: ClusterId,
    /// Who belongs to it, this member included.
    pub members: BTreeMap<MemberId, MemberInfo>,
    /// Those of them who have no vote yet.
    pub learners: BTreeSet<MemberId>,
    /// Who was removed from it, for certain.
    pub removed: BTreeSet<MemberId>,
}

impl Membership {
    /// The members of a configuration, committed or not, and those of the last that is committed; and who was removed by
    /// that.
    pub fn new(
        cluster: ClusterId,
        configuration: &Configuration,
        committed: &Configuration,
    ) -> Membership {
        Membership {
            cluster,
            // Whoever is on the way out counts until that is committed.
            members: committed
                .info
                .iter()
                .chain(&configuration.info)
                .map(|(id, info)| (*id, info.clone()))
                .collect(),
            learners: configuration.learners.clone(),
            removed: committed.removed.clone(),
        }
    }
}

/// The shared, always current answer to who belongs to what. Cheap to clone; no lock is held while anything waits.
#[derive(Clone, Debug)]
pub struct Directory {
    identity: Arc<Identity>,
    membership: Arc<RwLock<Option<Arc<Membership>>>>,
    /// Members of the same cluster, as they say, of whom this one has not heard.
    guests: Arc<RwLock<BTreeMap<MemberId, MemberInfo>>>,
    /// Members of which this one has not heard, as members that it knows describe them.
    vouched: Arc<RwLock<BTreeMap<MemberId, MemberInfo>>>,
    /// Where members that are known said last that they are reached.
    said: Arc<RwLock<BTreeMap<MemberId, String>>>,
}

/// The most guests at a time: as many as a cluster has members that were all replaced while this one was away.
const GUESTS: usize = 16;

/// How many attempts to reach a member have one where only the settings have it.
const LAST_RESORT_EVERY: usize = 4;

impl Directory {
    /// A member that belongs to no cluster yet, as far as this process knows.
    pub fn new(identity: Identity) -> Directory {
        Directory {
            identity: Arc::new(identity),
            membership: Arc::default(),
            guests: Arc::default(),
            vouched: Arc::default(),
            said: Arc::default(),
        }
    }

    /// This member.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its cluster, if it belongs to one.
    pub fn membership(&self) -> Option<Arc<Membership>> {
        self.membership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets a member in of which this one has not heard, since it may have been away when that one came (thesis §4.1): a
    /// new leader could not tell it otherwise. Says no where there are too many.
    pub(super) fn welcome(&self, id: MemberId, info: MemberInfo) -> bool {
        let mut guests = self.guests.write().unwrap_or_else(PoisonError::into_inner);
        if guests.len() >= GUESTS && !guests.contains_key(&id) {
            return false;
        }
        guests.insert(id, info);
        true
    }

    /// A member that is known says that this one is a member, and describes it.
    pub(super) fn vouch(&self, id: MemberId, info: MemberInfo) {
        let mut vouched = self.vouched.write().unwrap_or_else(PoisonError::into_inner);
        if vouched.len() < GUESTS {
            vouched.insert(id, info);
        }
    }

    /// What a member that is known has said of one that is not.
    pub(super) fn vouched(&self, id: MemberId) -> Option<MemberInfo> {
        let vouched = self.vouched.read().unwrap_or_else(PoisonError::into_inner);
        vouched.get(&id).cloned()
    }

    /// A member that is known says where it is reached now, which may be elsewhere than where it is known to be: it may
    /// have moved while it was away, and could hear of no leader to have that logged. `None` where what it says is nothing
    /// to go by.
    pub(super) fn note_said(&self, id: MemberId, peer_url: Option<String>) {
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        match peer_url {
            Some(url) => drop(said.insert(id, url)),
            None => drop(said.remove(&id)),
        }
    }

    /// Where a member that is known said last that it is reached.
    pub(super) fn said(&self, id: MemberId) -> Option<String> {
        let said = self.said.read().unwrap_or_else(PoisonError::into_inner);
        said.get(&id).cloned()
    }

    /// Where a member is dialled after so many failures in a row: first where it was `reached` last, and in turn where it is
    /// known to be and where it says that it is. At every [`LAST_RESORT_EVERY`]th attempt where the settings of this member
    /// have it, since all may have moved at once; no oftener, since settings grow old, and a place that does not answer
    /// takes long. Whether it is there, the handshake shows.
    pub(super) fn place(
        &self,
        id: MemberId,
        known: &MemberInfo,
        reached: Option<&str>,
        failures: usize,
    ) -> String {
        let mut urls = vec![known.peer_url.clone()];
        urls.extend(self.said(id).filter(|said| *said != known.peer_url));
        let last_resort = self.configured(id, known).filter(|url| !urls.contains(url));
        if let Some(url) = last_resort {
            if reached == Some(&url) {
                urls.push(url);
            } else if failures % LAST_RESORT_EVERY == LAST_RESORT_EVERY - 1 {
                return url;
            }
        }
        let first = urls.iter().position(|url| Some(url.as_str()) == reached);
        urls.rotate_left(first.unwrap_or(0));
        let at = failures % urls.len();
        urls.swap_remove(at)
    }

    /// Where the settings have a member of this name, unless that is known to be the place of another.
    fn configured(&self, id: MemberId, known: &MemberInfo) -> Option<String> {
        let url = self.identity.initial_members.as_ref()?.get(&known.name)?;
        let url = url.trim_end_matches('/');
        let membership = self.membership()?;
        let is_there = |(other, info): (&MemberId, &MemberInfo)| {
            *other != id && info.peer_url.trim_end_matches('/') == url
        };
        let is_anothers = membership.members.iter().any(is_there);
        let is_where_it_is_known = known.peer_url.trim_end_matches('/') == url;
        (!is_anothers && !is_where_it_is_known).then(|| url.to_owned())
    }

    /// The members of which this one has not heard otherwise.
    pub(super) fn guests(&self) -> BTreeMap<MemberId, MemberInfo> {
        self.guests
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether messages are taken from, and sent to, this member.
    pub(super) fn is_admitted(&self, id: MemberId) -> bool {
        let known = self.membership();
        known.is_some_and(|known| known.members.contains_key(&id))
            || self
                .guests
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(&id)
    }

    /// Replaces what is known of the cluster.
    pub(super) fn set_membership(&self, membership: Arc<Membership>) {
        let is_a_guest = |id: &MemberId| {
            !membership.members.contains_key(id) && !membership.removed.contains(id)
        };
        self.guests
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, _| is_a_guest(id));
        self.vouched
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, _| is_a_guest(id));
        self.said
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, _| membership.members.contains_key(id));
        *self
            .membership
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(membership);
    }

    /// How a member is called in logs: its name, or its id where the name is not known.
    pub fn label(&self, member: MemberId) -> String {
        let known = self
            .membership()
            .and_then(|membership| membership.members.get(&member).cloned());
        known.map_or_else(|| member.to_string(), |info| info.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str, name: &str) -> MemberInfo {
        MemberInfo {
            name: name.to_owned(),
            peer_url: url.to_owned(),
            ..MemberInfo::default()
        }
    }

    #[test]
    fn a_member_is_looked_for_where_it_is_known_then_where_it_says_and_at_last_where_settings_have_it()
     {
        let settings = [
            ("n2", "http://c:1/"),
            ("n3", "http://b:1"),
            ("n9", "http://z:1"),
        ];
        let settings = settings.map(|(name, url)| (name.to_owned(), url.to_owned()));
        let directory = Directory::new(Identity {
            member: MemberId(1),
            name: "n1".to_owned(),
            client_url: String::new(),
            peer_url: String::new(),
            initial_members: Some(settings.into()),
            state_version_at_most: 2,
        });
        let (second, third) = (at("http://b:1", "n2"), at("http://d:1", "n3"));
        directory.set_membership(Arc::new(Membership {
            cluster: ClusterId(1),
            members: [(MemberId(2), second.clone()), (MemberId(3), third.clone())].into(),
            learners: [].into(),
            removed: [].into(),
        }));
        let after = |id: u64, known: &MemberInfo, reached: Option<&str>| {
            (0..5)
                .map(|failures| directory.place(MemberId(id), known, reached, failures))
                .map(|url| url.trim_start_matches("http://").to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(after(2, &second, None), "b:1 b:1 b:1 c:1 b:1");
        // Where the settings have the third, the second is.
        assert_eq!(after(3, &third, None), "d:1 d:1 d:1 d:1 d:1");
        directory.note_said(MemberId(2), Some("http://e:1".to_owned()));
        assert_eq!(after(2, &second, None), "b:1 e:1 b:1 c:1 b:1");
        assert_eq!(after(2, &second, Some("http://e:1")), "e:1 b:1 e:1 c:1 e:1");
        assert_eq!(after(2, &second, Some("http://c:1")), "c:1 b:1 e:1 c:1 b:1");
        directory.note_said(MemberId(2), Some("http://c:1".to_owned()));
        assert_eq!(after(2, &second, None), "b:1 c:1 b:1 c:1 b:1");
    }

    #[test]
    fn ids_are_read_as_they_are_shown_and_nothing_else_is() {
        let cluster = ClusterId(0x00ab << 96 | 7);
        assert_eq!(cluster.to_string().parse(), Ok(cluster));
        let member = MemberId(0xfeed);
        assert_eq!(parse_member_id(&member.to_string()), Ok(member));
        for wrong in [
            "",
            "feed",
            "000000000000FEED",
            "+00000000000feed",
            "000000000000feed0",
            "0x0000000000feed",
        ] {
            assert_eq!(
                parse_member_id(wrong),
                Err(IdError { digits: 16 }),
                "{wrong}"
            );
        }
    }
}
