//! What two members make sure of before a message passes between them.
//!
//! Owns the headers of a stream's request and the refusals: a member takes messages only of its own cluster, meant for
//! itself, from a member that it knows. Two clusters that got crossed, or a member in another's place, therefore
//! refuse each other, in words that say what to do.

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tenure_raft::{MemberId, MemberInfo};
use tenure_replica::Lane;

use super::codec::{KIND_OF_BEFORE, NEWEST_KIND};
use super::dial::check_peer_url;
use super::directory::{ClusterId, Directory, Membership, parse_member_id};
use super::frame::WIRE_VERSION;
use crate::tls::MemberCertificate;

const CLUSTER: &str = "tenure-cluster";
const FROM: &str = "tenure-from";
const TO: &str = "tenure-to";
const VERSION: &str = "tenure-wire-version";
/// In an answer: the newest kind of frame that whoever takes the stream knows.
const NEWEST: &str = "tenure-newest-frame";
/// What a member that is not known here is called, and where it is reached.
const NAME: &str = "tenure-name";
const PEER_URL: &str = "tenure-peer-url";

/// Longest detail of a refusal that is repeated in a log of ours.
const DETAIL_CHARS: usize = 512;

/// What a dialer says of itself and of whom it means to reach.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Handshake {
    pub(super) cluster: ClusterId,
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    /// What the dialer is called.
    pub(super) name: String,
    /// Where the dialer is reached.
    pub(super) peer_url: String,
}

/// Why a member takes no messages from a dialer, as JSON in the body of its answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// A word for programs: `wrong-cluster`, `wrong-member`, `wrong-certificate`, `unknown-member`, `unsupported-wire-version`,
    /// `not-formed`, `invalid-handshake`, `corrupt-frame`, `superseded`, `stopping` and the like.
    pub code: String,
    /// A sentence for people that says what is wrong and what to do.
    pub detail: String,
}

impl Refusal {
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Refusal {
        Refusal {
            code: code.to_owned(),
            detail: detail.into(),
        }
    }

    /// A refusal as it arrived, made safe to be logged.
    pub(super) fn from_peer(status: StatusCode, body: &[u8]) -> Refusal {
        let refusal = serde_json::from_slice(body).unwrap_or_else(|_| {
            Refusal::new(
                "not-a-member",
                format!("it answers {status} and is perhaps no member of Tenure at all"),
            )
        });
        Refusal {
            code: printable(&refusal.code),
            detail: printable(&refusal.detail),
        }
    }

    /// Whether time alone is expected to heal it, so that it is not worth a warning.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.code.as_str(), "not-formed" | "stopping" | "superseded")
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// Text from the network without what could forge a line of a log, and bounded.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(DETAIL_CHARS)
        .collect()
}

/// The path of a lane's stream.
pub(super) fn lane_path(lane: Lane) -> &'static str {
    match lane {
        Lane::Urgent => "/raft/urgent",
        Lane::Append => "/raft/append",
        Lane::Snapshot => "/raft/snapshot",
    }
}

/// The lane of a path.
pub(super) fn lane_of(path: &str) -> Option<Lane> {
    [Lane::Urgent, Lane::Append, Lane::Snapshot]
        .into_iter()
        .find(|lane| lane_path(*lane) == path)
}

/// Writes the headers of a dialer's request.
pub(super) fn write(headers: &mut HeaderMap, handshake: &Handshake) {
    let texts = [
        (CLUSTER, handshake.cluster.to_string()),
        (FROM, handshake.from.to_string()),
        (TO, handshake.to.to_string()),
        (VERSION, WIRE_VERSION.to_string()),
    ];
    for (name, text) in texts {
        headers.insert(
            name,
            HeaderValue::from_str(&text).expect("digits are legal in headers"),
        );
    }
    for (name, text) in [(NAME, &handshake.name), (PEER_URL, &handshake.peer_url)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

/// Says in the answer to a dialer which frames are known here.
pub(super) fn tell_newest_kind(headers: &mut HeaderMap) {
    headers.insert(NEWEST, HeaderValue::from(u16::from(NEWEST_KIND)));
}

/// The newest kind of frame that whoever answers so knows.
pub(super) fn newest_kind(headers: &HeaderMap) -> u8 {
    let told = headers.get(NEWEST).and_then(|value| value.to_str().ok());
    let told = told.and_then(|text| text.parse().ok());
    told.unwrap_or(KIND_OF_BEFORE)
}

/// Decides about a dialer that has shown this certificate, or none where nothing is secured: who it is, or why it is refused.
pub(super) fn admit(
    headers: &HeaderMap,
    shown: Option<&MemberCertificate>,
    directory: &Directory,
) -> Result<MemberId, (StatusCode, Refusal)> {
    let version = text(headers, VERSION)?;
    if version != WIRE_VERSION.to_string() {
        return Err(unsupported_version(version));
    }
    let handshake = Handshake {
        cluster: parsed(headers, CLUSTER, |text| text.parse().ok())?,
        from: parsed(headers, FROM, |text| parse_member_id(text).ok())?,
        to: parsed(headers, TO, |text| parse_member_id(text).ok())?,
        name: text(headers, NAME).unwrap_or_default().to_owned(),
        peer_url: text(headers, PEER_URL).unwrap_or_default().to_owned(),
    };
    check(&handshake, shown, directory)
        .map_err(|refusal| (StatusCode::MISDIRECTED_REQUEST, refusal))?;
    Ok(handshake.from)
}

/// A member of which this one has not heard may come all the same, if it says where it is reached, or another has said so:
/// what it sends is judged by terms and logs, not by who sends it.
fn welcome(handshake: &Handshake, vouched: Option<MemberInfo>, directory: &Directory) -> bool {
    let info = vouched.unwrap_or_else(|| MemberInfo {
        name: handshake.name.clone(),
        peer_url: handshake.peer_url.clone(),
        ..MemberInfo::default()
    });
    let named = (1..=tenure_api::MAX_MEMBER_NAME_BYTES).contains(&info.name.len());
    named && check_peer_url(&info.peer_url).is_ok() && directory.welcome(handshake.from, info)
}

fn check(
    handshake: &Handshake,
    shown: Option<&MemberCertificate>,
    directory: &Directory,
) -> Result<(), Refusal> {
    let identity = directory.identity();
    let Some(membership) = directory.membership() else {
        return Err(Refusal::new(
            "not-formed",
            format!(
                "{} ({}) has no data and belongs to no cluster",
                identity.name, identity.member
            ),
        ));
    };
    if handshake.cluster != membership.cluster {
        return Err(Refusal::new(
            "wrong-cluster",
            format!(
                "{} ({}) belongs to cluster {}, the caller to cluster {}: correct the peer URLs, or the data directory of one of them",
                identity.name, identity.member, membership.cluster, handshake.cluster
            ),
        ));
    }
    // Also where another has taken over this member's address: whoever was removed must hear so from somebody.
    if membership.removed.contains(&handshake.from) {
        return Err(removed(handshake.from, membership.cluster));
    }
    if handshake.to != identity.member {
        return Err(Refusal::new(
            "wrong-member",
            format!(
                "the caller means member {}, at this address is {} ({}): correct the peer URL, or replace the member if its data was lost",
                handshake.to, identity.name, identity.member
            ),
        ));
    }
    let known = membership.members.get(&handshake.from);
    let vouched = directory.vouched(handshake.from);
    if let Some(shown) = shown {
        is_certified(handshake, shown, known.or(vouched.as_ref()))?;
    }
    let is_admitted = known.is_some() || welcome(handshake, vouched, directory);
    if handshake.from == identity.member || !is_admitted {
        return Err(unknown_member(handshake.from, membership.cluster));
    }
    if known.is_some() {
        directory.note_said(handshake.from, said(handshake, shown));
    }
    Ok(())
}

/// Where a member says that it is reached, if others may go by it: where members show certificates, its own must be good
/// for that place, too.
fn said(handshake: &Handshake, shown: Option<&MemberCertificate>) -> Option<String> {
    let (name, url) = (&handshake.name, &handshake.peer_url);
    let is_its_own = shown.is_none_or(|shown| shown.is_of(name, url).is_ok());
    (is_its_own && check_peer_url(url).is_ok()).then(|| url.clone())
}

/// The code for a dialer that shows the certificate of somebody else.
pub(super) const WRONG_CERTIFICATE: &str = "wrong-certificate";

/// The code for a dialer that is not known here, and whose certificate does not say by itself that it is a member.
pub(super) const UNVOUCHED: &str = "unvouched-member";

/// A dialer must have the certificate of the member that it says it is, as that is known: to this member, or to one that has
/// vouched for it. Where it is not, it needs the URI of the member that it says it is: any machine whose certificate the same
/// authority has signed is at home at some host.
fn is_certified(
    handshake: &Handshake,
    shown: &MemberCertificate,
    known: Option<&MemberInfo>,
) -> Result<(), Refusal> {
    let claimed = (&handshake.name, &handshake.peer_url);
    let (name, peer_url) = known.map_or(claimed, |info| (&info.name, &info.peer_url));
    shown.is_of(name, peer_url).map_err(|why| {
        let detail = format!(
            "the caller says that it is {} ({}), and {}",
            printable(name),
            handshake.from,
            printable(&why)
        );
        Refusal::new(WRONG_CERTIFICATE, detail)
    })?;
    if known.is_some() || shown.has_uri_of(name) {
        return Ok(());
    }
    let detail = format!(
        "no member {} ({}) is known here, and its certificate has not the URI of one: it is let in when a member that is known here knows it, too; if it is no member, look who holds its certificate",
        printable(name),
        handshake.from
    );
    Err(Refusal::new(UNVOUCHED, detail))
}

/// The name and id of a stranger, as it says itself.
pub(super) fn stranger(headers: &HeaderMap) -> Option<(MemberId, String)> {
    let id = parse_member_id(text(headers, FROM).ok()?).ok()?;
    Some((id, text(headers, NAME).ok()?.to_owned()))
}

/// The code for a member that the cluster has removed: it ends when it hears it.
pub(super) const REMOVED: &str = "removed";

fn removed(member: MemberId, cluster: ClusterId) -> Refusal {
    Refusal::new(
        REMOVED,
        format!(
            "{member} was removed from cluster {cluster}: it can come back only as a new member, with an empty data directory"
        ),
    )
}

/// What a member is told whose streams are ended.
pub(super) fn ended(member: MemberId, membership: &Membership) -> Refusal {
    match membership.removed.contains(&member) {
        true => removed(member, membership.cluster),
        false => unknown_member(member, membership.cluster),
    }
}

/// What a member is told that is not of the cluster.
fn unknown_member(member: MemberId, cluster: ClusterId) -> Refusal {
    Refusal::new(
        "unknown-member",
        format!(
            "{member} is not a member of cluster {cluster}: add it with an empty data directory"
        ),
    )
}

fn unsupported_version(found: &str) -> (StatusCode, Refusal) {
    let detail = format!(
        "this member speaks wire version {WIRE_VERSION}, the caller {}: run versions of tenured that are next to each other",
        printable(found)
    );
    (
        StatusCode::MISDIRECTED_REQUEST,
        Refusal::new("unsupported-wire-version", detail),
    )
}

fn parsed<T>(
    headers: &HeaderMap,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, (StatusCode, Refusal)> {
    parse(text(headers, name)?).ok_or_else(|| invalid(format!("header {name} is not an id")))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, (StatusCode, Refusal)> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(text)), None) => Ok(text),
        (None, _) => Err(invalid(format!("header {name} is missing"))),
        (Some(_), _) => Err(invalid(format!("header {name} is not one line of text"))),
    }
}

fn invalid(detail: String) -> (StatusCode, Refusal) {
    (
        StatusCode::BAD_REQUEST,
        Refusal::new("invalid-handshake", detail),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::directory::Identity;
    use super::*;

    fn directory() -> Directory {
        let identity = Identity {
            member: MemberId(2),
            name: "n2".into(),
            client_url: String::new(),
            peer_url: String::new(),
            initial_members: None,
            state_version_at_most: 2,
        };
        let directory = Directory::new(identity);
        let members: BTreeMap<_, _> = [1, 2]
            .map(|id| (MemberId(id), MemberInfo::default()))
            .into();
        directory.set_membership(Arc::new(Membership {
            cluster: ClusterId(9),
            members,
            learners: [].into(),
            removed: [MemberId(4)].into(),
        }));
        directory
    }

    fn check(change: impl FnOnce(&mut HeaderMap), expected: Result<u64, &str>) {
        let mut headers = HeaderMap::new();
        write(
            &mut headers,
            &Handshake {
                cluster: ClusterId(9),
                from: MemberId(1),
                to: MemberId(2),
                name: "n1".into(),
                peer_url: String::new(),
            },
        );
        change(&mut headers);
        let result = admit(&headers, None, &directory());
        let result = result.map(|id| id.0).map_err(|(_, refusal)| refusal.code);
        assert_eq!(result, expected.map_err(str::to_owned));
    }

    #[test]
    fn a_member_of_the_same_cluster_is_admitted() {
        check(|_| (), Ok(1));
    }

    #[test]
    fn a_member_that_came_while_this_one_was_away_is_let_in_where_it_says_how_it_is_reached() {
        let from = |h: &mut HeaderMap, url: &str| {
            let value = |text: &str| HeaderValue::from_str(text).expect("legal");
            h.insert(FROM, value(&MemberId(3).to_string()));
            h.insert(PEER_URL, value(url));
        };
        check(|h| from(h, "http://10.0.0.3:7380"), Ok(3));
        check(|h| from(h, "10.0.0.3"), Err("unknown-member"));
        let directory = directory();
        for id in 10..10 + 20 {
            directory.welcome(MemberId(id), MemberInfo::default());
        }
        assert_eq!(directory.guests().len(), 16);
        assert!(directory.is_admitted(MemberId(10)) && !directory.is_admitted(MemberId(29)));
        let membership = directory.membership().expect("it belongs to a cluster");
        let removed = Membership {
            removed: [MemberId(10)].into(),
            ..Membership::clone(&membership)
        };
        directory.set_membership(Arc::new(removed));
        assert!(!directory.is_admitted(MemberId(10)));
    }

    #[test]
    fn a_dialer_shows_the_certificate_of_the_member_that_it_says_it_is() {
        let check = |certificate: &MemberCertificate, from: u64, said: (&str, &str), expected| {
            let directory = directory();
            let mut membership = Membership::clone(&directory.membership().expect("it has one"));
            let known = MemberInfo {
                name: "n1".into(),
                peer_url: "https://n1.example:7380".into(),
                ..MemberInfo::default()
            };
            membership.members.insert(MemberId(1), known);
            directory.set_membership(Arc::new(membership));
            let mut headers = HeaderMap::new();
            write(
                &mut headers,
                &Handshake {
                    cluster: ClusterId(9),
                    from: MemberId(from),
                    to: MemberId(2),
                    name: said.0.to_owned(),
                    peer_url: said.1.to_owned(),
                },
            );
            let result = admit(&headers, Some(certificate), &directory);
            let result = result.map(|id| id.0).map_err(|(_, refusal)| refusal.code);
            assert_eq!(result, expected, "{certificate:?}");
            // Who is refused is no guest, either.
            let guests = directory.guests().len();
            assert_eq!(guests, usize::from(from == 7 && expected == Ok(7)));
        };
        let wrong = || Err("wrong-certificate".to_owned());
        let (n1, n7) = ("tenure://member/n1", "tenure://member/n7");
        let by_uri = MemberCertificate::named(&[n1], &[]);
        let by_host = MemberCertificate::named(&[], &["n1.example"]);
        let other = MemberCertificate::named(&[n7], &["n1.example"]);
        let own = ("n1", "https://n1.example:7380");
        check(&by_uri, 1, own, Ok(1));
        check(&by_host, 1, own, Ok(1));
        check(&other, 1, own, wrong());
        // What a member says of itself does not count where it is known otherwise,
        check(&other, 1, ("n7", "https://n7.example:7380"), wrong());
        check(&by_uri, 1, ("n7", "https://n7.example:7380"), Ok(1));
        // and does where it is not known.
        check(&other, 7, ("n7", "https://n7.example:7380"), Ok(7));
        check(&by_uri, 7, ("n7", "https://n7.example:7380"), wrong());
        // But whoever is at home at some host is no member by that alone.
        check(
            &by_host,
            7,
            ("n7", "https://n1.example:7380"),
            Err("unvouched-member".to_owned()),
        );
        check(
            &MemberCertificate::named(&[], &[]),
            7,
            ("n7", "https://n7.example:7380"),
            wrong(),
        );
    }

    #[test]
    fn where_a_member_says_that_it_is_counts_where_its_certificate_is_good_for_both_places() {
        let (old, new) = ("https://n1.example:7380", "https://n1.elsewhere:7380");
        let told = |shown: Option<&MemberCertificate>, url: &str| {
            let directory = directory();
            let mut membership = Membership::clone(&directory.membership().expect("it has one"));
            let known = MemberInfo {
                name: "n1".into(),
                peer_url: old.into(),
                ..MemberInfo::default()
            };
            membership.members.insert(MemberId(1), known.clone());
            directory.set_membership(Arc::new(membership.clone()));
            let handshake = Handshake {
                cluster: ClusterId(9),
                from: MemberId(1),
                to: MemberId(2),
                name: "n1".to_owned(),
                peer_url: url.to_owned(),
            };
            // Whether it is let in is another question.
            let _ = super::check(&handshake, shown, &directory);
            let place = |failures| directory.place(MemberId(1), &known, None, failures);
            let mut urls = vec![place(0), place(1)];
            urls.dedup();
            membership.members.remove(&MemberId(1));
            directory.set_membership(Arc::new(membership));
            assert_eq!(directory.said(MemberId(1)), None);
            urls
        };
        let named = MemberCertificate::named;
        let by_uri = named(&["tenure://member/n1"], &[]);
        let of_both = named(&[], &["n1.example", "n1.elsewhere"]);
        let (of_old, of_new) = (named(&[], &["n1.example"]), named(&[], &["n1.elsewhere"]));
        for trusted in [None, Some(&by_uri), Some(&of_both)] {
            assert_eq!(told(trusted, new), [old, new], "{trusted:?}");
            assert_eq!(told(trusted, old), [old], "{trusted:?}");
        }
        for distrusted in [&of_old, &of_new] {
            assert_eq!(told(Some(distrusted), new), [old], "{distrusted:?}");
        }
        assert_eq!(told(None, "n1.elsewhere"), [old]);
    }

    #[test]
    fn a_stranger_for_whom_a_member_vouches_is_let_in_by_that_name_until_it_is_removed() {
        let directory = directory();
        let shown = MemberCertificate::named(&[], &["n7.example"]);
        let admitted = |from: u64, name: &str| {
            let handshake = Handshake {
                cluster: ClusterId(9),
                from: MemberId(from),
                to: MemberId(2),
                name: name.to_owned(),
                peer_url: "https://n7.example:7380".to_owned(),
            };
            check_against(&handshake, &shown, &directory)
        };
        let refused = |code: &str| Err(code.to_owned());
        assert_eq!(admitted(7, "n7"), refused(UNVOUCHED));
        // What the other member knows of it counts, and not what it says.
        let described = |host: &str| MemberInfo {
            name: "n7".into(),
            peer_url: format!("https://{host}:7380"),
            ..MemberInfo::default()
        };
        directory.vouch(MemberId(7), described("elsewhere.example"));
        assert_eq!(admitted(7, "n7"), refused(WRONG_CERTIFICATE));
        assert!(directory.guests().is_empty());
        directory.vouch(MemberId(7), described("n7.example"));
        assert_eq!(admitted(7, "n7"), Ok(()));
        assert_eq!(directory.guests().len(), 1);
        assert_eq!(admitted(8, "n7"), refused(UNVOUCHED));
        let mut membership = Membership::clone(&directory.membership().expect("it has one"));
        membership.removed.insert(MemberId(7));
        directory.set_membership(Arc::new(membership));
        assert_eq!(directory.vouched(MemberId(7)), None);
        assert_eq!(admitted(7, "n7"), refused(REMOVED));
    }

    fn check_against(
        handshake: &Handshake,
        shown: &MemberCertificate,
        directory: &Directory,
    ) -> Result<(), String> {
        super::check(handshake, Some(shown), directory).map_err(|refusal| refusal.code)
    }

    #[test]
    fn every_other_dialer_is_refused_for_its_own_reason() {
        let value = |text: &str| HeaderValue::from_str(text).expect("legal");
        check(
            |h| drop(h.insert(CLUSTER, value(&ClusterId(8).to_string()))),
            Err("wrong-cluster"),
        );
        check(
            |h| drop(h.insert(TO, value(&MemberId(3).to_string()))),
            Err("wrong-member"),
        );
        check(
            |h| drop(h.insert(FROM, value(&MemberId(3).to_string()))),
            Err("unknown-member"),
        );
        check(
            |h| drop(h.insert(FROM, value(&MemberId(2).to_string()))),
            Err("unknown-member"),
        );
        check(
            |h| drop(h.insert(FROM, value(&MemberId(4).to_string()))),
            Err("removed"),
        );
        check(
            |h| drop(h.insert(VERSION, value("2"))),
            Err("unsupported-wire-version"),
        );
        check(|h| drop(h.remove(TO)), Err("invalid-handshake"));
        check(
            |h| assert!(h.append(TO, value("x"))),
            Err("invalid-handshake"),
        );
        check(
            |h| drop(h.insert(CLUSTER, value("9"))),
            Err("invalid-handshake"),
        );
    }

    #[test]
    fn a_refusal_from_the_network_cannot_forge_a_line() {
        let body = serde_json::json!({"code": "x\ny", "detail": "a".repeat(10_000)}).to_string();
        let refusal = Refusal::from_peer(StatusCode::BAD_REQUEST, body.as_bytes());
        assert_eq!(refusal.code, "x\u{fffd}y");
        assert_eq!(refusal.detail.len(), DETAIL_CHARS);
        assert_eq!(
            Refusal::from_peer(StatusCode::NOT_FOUND, b"<html>").code,
            "not-a-member"
        );
    }
}
