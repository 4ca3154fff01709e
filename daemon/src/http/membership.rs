//! Who may be a member, as far as it is seen before the leader is asked: whom a request means, and whether the one at a
//! peer URL is who it is said to be.
//!
//! Owns the sentences that operators read where members do not change. Whether a change could cost the quorum is the
//! leader's to say: its reasons are only told here, with the names of members beside their ids.

use std::collections::BTreeSet;

use tenure_api::{AddMember, Code};
use tenure_raft::{Configuration, MemberId, MemberInfo};

use super::failure::Failure;
use super::text;
use crate::config;
use crate::tls::is_secure;
use crate::transport::{ClusterId, DialError, Hello, WIRE_VERSION, parse_member_id};

/// So many members are named where somebody asks for one that is none.
const MOST_NAMED: usize = 16;

/// Whom an id or a name means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Meant {
    /// A member.
    Member(MemberId),
    /// One that was removed: its id is remembered.
    Removed(MemberId),
}

/// Who is reached at the peer URL of somebody who is to be a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Probed {
    /// It can be added like this.
    New(MemberId, MemberInfo),
    /// It is a member already, as asked.
    Present(MemberId),
}

/// Whom a text means.
///
/// # Errors
///
/// `member-not-found` where it is neither the id nor the name of a member; `invalid-request` where it may mean two.
pub(super) fn find(configuration: &Configuration, text: &str) -> Result<Meant, Failure> {
    let id = parse_member_id(text).ok();
    let named = configuration.info.iter();
    let named = named
        .filter(|(_, info)| info.name == text)
        .map(|(id, _)| *id);
    let by_id = id.filter(|id| configuration.contains(*id));
    let meant: BTreeSet<MemberId> = named.chain(by_id).collect();
    let mut meant = meant.into_iter();
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(Meant::Member(one)),
        (Some(one), Some(other)) => Err(Failure::invalid(format!(
            "{} may mean member {one} or {other}; give the id, 16 hex digits, of the one that is meant",
            text::shown(text)
        ))),
        (None, _) => match id.filter(|id| configuration.removed.contains(id)) {
            Some(removed) => Ok(Meant::Removed(removed)),
            None => Err(not_found(configuration, text)),
        },
    }
}

/// `member-not-found`, with the members that there are.
pub(super) fn not_found(configuration: &Configuration, text: &str) -> Failure {
    let members = configuration.members();
    let shown = members.iter().take(MOST_NAMED);
    let shown: Vec<String> = shown.map(|id| called(configuration, *id)).collect();
    let more = match members.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let detail = format!(
        "{} is no member; accepted are the id of a member, 16 hex digits, or its name: {}{more}",
        text::shown(text),
        shown.join(", ")
    );
    Failure::new(Code::MemberNotFound, detail)
}

/// A member as it is spoken of: `n2 (9c1b7d20e4a35f68)`.
pub(super) fn called(configuration: &Configuration, id: MemberId) -> String {
    match configuration.info.get(&id) {
        Some(info) => format!("{} ({id})", info.name),
        None => id.to_string(),
    }
}

/// A sentence with the names of members beside their ids.
pub(super) fn with_names(configuration: &Configuration, sentence: &str) -> String {
    let mut told = sentence.to_owned();
    for id in configuration.info.keys() {
        told = told.replace(&id.to_string(), &called(configuration, *id));
    }
    told
}

/// Holds what is said of a new member to what settings are held to.
///
/// # Errors
///
/// `invalid-request`, naming the field.
pub(super) fn check(asked: &AddMember) -> Result<(), Failure> {
    let AddMember {
        name,
        peer_url,
        client_url,
        promote: _,
    } = asked;
    for (field, text) in [
        ("name", name),
        ("peer_url", peer_url),
        ("client_url", client_url),
    ] {
        text::label(field, text)?;
    }
    config::check_name("name", name)
        .and_then(|()| config::check_url("peer_url", peer_url))
        .and_then(|()| config::check_url("client_url", client_url))
        .map_err(|error| Failure::invalid(error.to_string()))
}

/// Whoever is to be a member speaks to the others as they speak to each other.
///
/// # Errors
///
/// `membership-unsafe`, saying what is needed.
pub(super) fn check_scheme(peer_url: &str, by_tls: bool) -> Result<(), Failure> {
    if is_secure(peer_url) == by_tls {
        return Ok(());
    }
    let needed = match by_tls {
        true => {
            "members of this cluster speak TLS with one another: start that member with peer certificates, and give its https URL"
        }
        false => {
            "members of this cluster speak with one another without TLS: an http URL is needed"
        }
    };
    let peer_url = text::shown(peer_url);
    Err(not_safe(format!("peer_url is {peer_url}: {needed}")))
}

/// A URL less the slash that may stand behind it.
fn trimmed(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// What is wrong where nobody is reached who could be a member.
pub(super) fn unreached(asked: &AddMember, by: &str, error: &DialError) -> Failure {
    let url = &asked.peer_url;
    let detail = match error {
        DialError::Connect(_) | DialError::TimedOut(_) => format!(
            "{by} does not reach {} at {url}: {error}; check that tenured runs there with this peer address, and that \
             the network lets members through in both directions",
            asked.name
        ),
        DialError::Distrust(why) => format!(
            "{by} and whoever answers at {url} do not trust each other's certificates: {why}; every member needs a \
             certificate of the authorities of the cluster, with its own name in it"
        ),
        DialError::Url { .. }
        | DialError::Http(_)
        | DialError::Refused(_)
        | DialError::Answer(_)
        | DialError::Closed => format!(
            "what answers at {url} is no member that could be added: {error}; `peer_url` is the address at which members \
             talk to each other, not the one of clients"
        ),
    };
    not_safe(detail)
}

/// Judges whoever is reached at the peer URL; `old` is whose place it is to take.
///
/// # Errors
///
/// `membership-unsafe`, saying why it cannot be a member as asked.
pub(super) fn judge(
    hello: &Hello,
    asked: &AddMember,
    old: Option<MemberId>,
    (cluster, configuration): (ClusterId, &Configuration),
) -> Result<Probed, Failure> {
    let url = &asked.peer_url;
    let id = hello.member;
    if hello.wire_version != WIRE_VERSION {
        return Err(not_safe(format!(
            "the member at {url} speaks version {} of the language between members, and this cluster version \
             {WIRE_VERSION}; run the version of tenured there that runs here",
            hello.wire_version
        )));
    }
    if let Some(other) = hello.cluster.filter(|other| *other != cluster) {
        return Err(not_safe(format!(
            "the member at {url} belongs to cluster {other}, and this is {cluster}; only one with an empty data \
             directory can be added"
        )));
    }
    let info = MemberInfo {
        name: asked.name.clone(),
        peer_url: trimmed(url).to_owned(),
        client_url: trimmed(&asked.client_url).to_owned(),
        start: None,
    };
    if let Some(present) = configuration.info.get(&id) {
        return present_as_asked(id, present, &info);
    }
    if configuration.removed.contains(&id) {
        return Err(not_safe(format!(
            "the member at {url}, {id}, was a member and was removed, and an id is never used again; stop it, empty its \
             data directory, and start it again: it draws another id"
        )));
    }
    if hello.name != asked.name {
        return Err(not_safe(format!(
            "the member at {url} calls itself {}, not {}; give the name that it has, or start it with that one",
            text::shown(&hello.name),
            asked.name
        )));
    }
    if trimmed(&hello.client_url) != info.client_url {
        return Err(not_safe(format!(
            "{} says that clients reach it at {}, not at {}; give that URL, or start it with another `client_advertise`",
            asked.name,
            text::shown(&hello.client_url),
            info.client_url
        )));
    }
    match taken(configuration, &info, old) {
        Some(failure) => Err(failure),
        None => Ok(Probed::New(id, info)),
    }
}

/// A request that is repeated changes nothing; one that contradicts what is known is refused.
fn present_as_asked(
    id: MemberId,
    present: &MemberInfo,
    asked: &MemberInfo,
) -> Result<Probed, Failure> {
    let same = present.name == asked.name
        && trimmed(&present.peer_url) == asked.peer_url
        && trimmed(&present.client_url) == asked.client_url;
    if same {
        return Ok(Probed::Present(id));
    }
    Err(not_safe(format!(
        "the member at {} is {id}, which is a member already, as {} with the peer URL {} and the client URL {}",
        asked.peer_url, present.name, present.peer_url, present.client_url
    )))
}

/// Names and peer URLs are one member's each, but for whose place is taken.
fn taken(
    configuration: &Configuration,
    asked: &MemberInfo,
    old: Option<MemberId>,
) -> Option<Failure> {
    // Who was on the way into that place gives way as well.
    let is_on_the_way =
        |id: &MemberId| old.is_some() && configuration.promotions().get(id) == Some(&old);
    let mut others = configuration
        .info
        .iter()
        .filter(|(id, _)| Some(**id) != old && !is_on_the_way(id));
    let (id, what) = others.find_map(|(id, info)| {
        if info.name == asked.name {
            return Some((id, format!("is called {}", info.name)));
        }
        let same_url = trimmed(&info.peer_url) == asked.peer_url;
        same_url.then(|| (id, format!("has the peer URL {}", info.peer_url)))
    })?;
    let detail = format!(
        "member {id} {what} already; where this one is to take its place, use POST /v1/cluster/members/{id}/replace"
    );
    Some(not_safe(detail).with("member", id.to_string()))
}

/// Whether one member is on its way into the place of another: still catching up, or while the voters are being changed,
/// in which the new one counts and the old one does, too.
pub(super) fn takes_the_place(configuration: &Configuration, old: MemberId, new: MemberId) -> bool {
    let (voters, outgoing) = (&configuration.voters, &configuration.outgoing);
    let comes = voters.contains(&new) && !outgoing.contains(&new);
    let leaves = outgoing.contains(&old) && !voters.contains(&old);
    configuration.promotions().get(&new) == Some(&Some(old)) || comes && leaves
}

/// A change that could cost the quorum, or that members would not bear.
pub(super) fn not_safe(detail: String) -> Failure {
    Failure::new(Code::MembershipUnsafe, detail)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::transport::Refusal;

    const CLUSTER: ClusterId = ClusterId(7);

    fn info(name: &str) -> MemberInfo {
        MemberInfo {
            name: name.to_owned(),
            peer_url: format!("http://{name}:7380"),
            client_url: format!("http://{name}:7379"),
            start: None,
        }
    }

    fn configuration() -> Configuration {
        let ids = [(0xa1, "n1"), (0xa2, "n2"), (0xa3, "n3")];
        Configuration {
            voters: ids.iter().map(|(id, _)| MemberId(*id)).collect(),
            removed: [MemberId(0xdead)].into(),
            info: ids
                .iter()
                .map(|(id, name)| (MemberId(*id), info(name)))
                .collect(),
            ..Configuration::default()
        }
    }

    fn asked(name: &str) -> AddMember {
        let info = info(name);
        AddMember {
            name: info.name,
            peer_url: info.peer_url,
            client_url: info.client_url,
            promote: true,
        }
    }

    fn hello(id: u64, name: &str) -> Hello {
        Hello {
            wire_version: WIRE_VERSION,
            name: name.to_owned(),
            member: MemberId(id),
            client_url: info(name).client_url,
            cluster: None,
            initial_members: None,
            state_version_at_most: 2,
            known_names: BTreeMap::new(),
            known_urls: BTreeMap::new(),
        }
    }

    fn judged(hello: &Hello, asked: &AddMember, old: Option<u64>) -> Result<Probed, Failure> {
        judge(hello, asked, old.map(MemberId), (CLUSTER, &configuration()))
    }

    #[test]
    fn a_member_is_meant_by_its_id_or_its_name() {
        let mut members = configuration();
        let check = |members: &Configuration, text: &str, meant| {
            assert_eq!(find(members, text).expect(text), meant, "{text}");
        };
        check(&members, "n2", Meant::Member(MemberId(0xa2)));
        check(&members, "00000000000000a2", Meant::Member(MemberId(0xa2)));
        check(
            &members,
            "000000000000dead",
            Meant::Removed(MemberId(0xdead)),
        );
        let lost = find(&members, "n9").expect_err("nobody is called so");
        assert_eq!(lost.code, Code::MemberNotFound);
        for part in ["`n9`", "16 hex digits", "n3 (00000000000000a3)"] {
            assert!(lost.detail.contains(part), "{part} is in {}", lost.detail);
        }
        // A name that looks like the id of another member, and a name that two have.
        for name in ["00000000000000a2", "n1"] {
            let third = members.info.get_mut(&MemberId(0xa3)).expect("it is there");
            third.name = name.to_owned();
            let either = find(&members, name).expect_err("it may be either");
            assert_eq!(either.code, Code::InvalidRequest, "{}", either.detail);
        }
    }

    #[test]
    fn whoever_is_empty_and_as_asked_can_be_added() {
        let new = Ok::<_, ()>(Probed::New(MemberId(9), info("n4")));
        let slashed = AddMember {
            peer_url: "http://n4:7380/".to_owned(),
            ..asked("n4")
        };
        for asked in [asked("n4"), slashed] {
            assert_eq!(judged(&hello(9, "n4"), &asked, None).map_err(drop), new);
        }
        let mut joined = hello(9, "n4");
        joined.cluster = Some(CLUSTER);
        assert_eq!(judged(&joined, &asked("n4"), None).map_err(drop), new);
    }

    #[test]
    fn whoever_is_a_member_as_asked_is_left_as_it_is() {
        let present = judged(&hello(0xa2, "n2"), &asked("n2"), None);
        assert_eq!(present.map_err(drop), Ok(Probed::Present(MemberId(0xa2))));
    }

    fn check_refused(hello: &Hello, asked: &AddMember, old: Option<u64>, parts: &[&str]) {
        let failure = judged(hello, asked, old).expect_err("it cannot be added");
        assert_eq!(failure.code, Code::MembershipUnsafe);
        for part in parts {
            assert!(failure.detail.contains(part), "{part}: {}", failure.detail);
        }
    }

    #[test]
    fn whoever_is_not_as_asked_is_refused_with_the_reason() {
        let mut other = hello(9, "n4");
        other.wire_version = WIRE_VERSION + 1;
        check_refused(&other, &asked("n4"), None, &["speaks version"]);
        let mut other = hello(9, "n4");
        other.cluster = Some(ClusterId(8));
        let parts = [&*ClusterId(8).to_string(), &*CLUSTER.to_string(), "empty"];
        check_refused(&other, &asked("n4"), None, &parts);
        check_refused(
            &hello(0xdead, "n4"),
            &asked("n4"),
            None,
            &["000000000000dead", "never used again"],
        );
        check_refused(
            &hello(9, "n5"),
            &asked("n4"),
            None,
            &["calls itself `n5`, not n4"],
        );
        let mut other = hello(9, "n4");
        other.client_url = "http://elsewhere:1".to_owned();
        check_refused(&other, &asked("n4"), None, &["http://elsewhere:1"]);
        let mut moved = asked("n2");
        moved.client_url = "http://elsewhere:1".to_owned();
        let parts = ["00000000000000a2", "http://n2:7379"];
        check_refused(&hello(0xa2, "n2"), &moved, None, &parts);
    }

    #[test]
    fn a_name_and_a_peer_url_belong_to_one_member_but_for_whose_place_is_taken() {
        let replace = "POST /v1/cluster/members/00000000000000a2/replace";
        check_refused(&hello(9, "n2"), &asked("n2"), None, &[replace]);
        let same_url = AddMember {
            peer_url: "http://n2:7380".to_owned(),
            ..asked("n4")
        };
        check_refused(&hello(9, "n4"), &same_url, None, &[replace]);
        check_refused(&hello(9, "n2"), &asked("n2"), Some(0xa1), &[replace]);
        let new = judged(&hello(9, "n2"), &asked("n2"), Some(0xa2));
        assert_eq!(new.map_err(drop), Ok(Probed::New(MemberId(9), info("n2"))));
    }

    #[test]
    fn a_replacement_that_is_asked_for_again_is_known_also_while_both_count() {
        let (old, new) = (MemberId(0xa2), MemberId(9));
        let mut members = configuration();
        assert!(!takes_the_place(&members, old, new));
        members.learners.insert(new);
        members.promoting.insert(new, Some(old));
        assert!(takes_the_place(&members, old, new));
        assert!(!takes_the_place(&members, MemberId(0xa1), new));
        let mut joint = configuration();
        joint.outgoing = joint.voters.clone();
        joint.voters.remove(&old);
        joint.voters.insert(new);
        assert!(takes_the_place(&joint, old, new));
        assert!(!takes_the_place(&joint, MemberId(0xa1), new));
        assert!(!takes_the_place(&joint, old, MemberId(0xa3)));
    }

    #[test]
    fn what_is_asked_is_held_to_the_rules_of_settings() {
        let check_wrong = |change: fn(&mut AddMember), parts: &[&str]| {
            let mut asked = asked("n4");
            change(&mut asked);
            let failure = check(&asked).expect_err("it is refused");
            assert_eq!(failure.code, Code::InvalidRequest);
            for part in parts {
                assert!(failure.detail.contains(part), "{part}: {}", failure.detail);
            }
        };
        assert!(check(&asked("n4")).is_ok());
        check_wrong(|asked| asked.name = "n 4".into(), &["name", "\"n 4\""]);
        check_wrong(|asked| asked.name = String::new(), &["name"]);
        check_wrong(
            |asked| asked.peer_url = "n4".into(),
            &["peer_url", "\"n4\""],
        );
        check_wrong(
            |asked| asked.client_url = "http://n4".into(),
            &["client_url", "http://HOST:PORT"],
        );
        let scheme = |url, by_tls| check_scheme(url, by_tls).err().map(|failure| failure.code);
        assert_eq!(scheme("http://n4:7380", false), None);
        assert_eq!(scheme("HTTPS://n4:7380", true), None);
        assert_eq!(scheme("http://n4:7380", true), Some(Code::MembershipUnsafe));
        assert_eq!(
            scheme("https://n4:7380", false),
            Some(Code::MembershipUnsafe)
        );
        check_wrong(
            |asked| asked.peer_url = "x".repeat(2000),
            &["peer_url has 2000 bytes"],
        );
    }

    #[test]
    fn who_is_not_reached_is_told_apart_from_who_is_no_member() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let unreached = |error| unreached(&asked("n4"), "n1", &error).detail;
        let nobody = unreached(DialError::Connect(refused));
        assert!(nobody.contains("n1 does not reach n4 at http://n4:7380"));
        let refusal = Refusal {
            code: "not-a-member".to_owned(),
            detail: "it answers 404".to_owned(),
        };
        let stranger = unreached(DialError::Refused(refusal));
        assert!(stranger.contains("no member that could be added"));
    }

    #[test]
    fn reasons_of_the_leader_are_told_with_names() {
        let told = with_names(&configuration(), "00000000000000a3 does not answer");
        assert_eq!(told, "n3 (00000000000000a3) does not answer");
    }
}
