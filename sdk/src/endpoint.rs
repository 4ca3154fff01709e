//! The members that a client knows, and which of them to ask next.
//!
//! Owns who failed lately, who leads, and whom a client may ask at all. A member that failed rests for a while that grows and is drawn by lot, so that
//! clients do not come back together; when all rest, the one that is due first is asked all the same.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Failure};

const FIRST_REST: Duration = Duration::from_millis(50);
/// A member that comes back is found again within this time.
const LONGEST_REST: Duration = Duration::from_secs(3);
/// Leaders that were not among the URLs given are remembered up to this number of URLs in all.
const MAX_URLS: usize = 32;

/// Whom a call asks first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Prefer {
    /// The leader: another member would forward to it.
    Leader,
    /// The member that this client reads from: what waits long need not wait at the leader.
    Any,
}

/// A member as a call uses it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Chosen(usize);

pub(crate) struct Endpoints {
    known: Mutex<Known>,
    /// Whether requests say who asks by something that nobody else may read.
    has_secret: bool,
}

struct Known {
    members: Vec<Member>,
    leader: Option<usize>,
    /// Where reads go; moves on when that member fails.
    current: usize,
    /// How many were given; those that were learnt come after them.
    given: usize,
    /// How many there may be with those that are learnt.
    most: usize,
    /// Whether none are to be asked but those that were given.
    stays: bool,
}

struct Member {
    url: String,
    failures: u32,
    rests_until: Option<Instant>,
    /// What it answered last it answered as a member of another cluster.
    is_stranger: bool,
}

impl Endpoints {
    /// # Errors
    ///
    /// Where there is no URL, or one that is not `http://host:port`.
    pub(crate) fn new(
        urls: impl IntoIterator<Item = String>,
        has_secret: bool,
    ) -> Result<Endpoints, Error> {
        let members: Result<Vec<Member>, Error> =
            urls.into_iter().map(|url| member(&url)).collect();
        let members = members?;
        if members.is_empty() {
            let none =
                "no URL of a member was given; at least one as http://127.0.0.1:7379 is needed";
            return Err(Error::NotApplied(Failure::local(none)));
        }
        let given = members.len();
        let current = fastrand::usize(..given);
        let known = Mutex::new(Known {
            members,
            leader: None,
            current,
            given,
            most: MAX_URLS,
            stays: false,
        });
        Ok(Endpoints { known, has_secret })
    }

    /// Whether a member may be asked at this URL, which others may have told: with the token of this client, where it
    /// has one.
    ///
    /// # Errors
    ///
    /// Where it may not, with the reason.
    pub(crate) fn may_ask(&self, url: &str) -> Result<(), Error> {
        match self.known().refusal(url, self.has_secret) {
            None => Ok(()),
            Some(why) => Err(Error::NotApplied(Failure::local(format!(
                "{url} is not asked: {why}"
            )))),
        }
    }

    /// All that are known.
    pub(crate) fn urls(&self) -> Vec<String> {
        let known = self.known();
        known
            .asked()
            .iter()
            .map(|member| member.url.clone())
            .collect()
    }

    /// Leaders that were not given are not asked from now on, also those that were learnt already. They stay in the
    /// list, since a call that is under way names its member by its place.
    pub(crate) fn stay(&self) {
        let mut known = self.known();
        (known.most, known.stays) = (known.given, true);
        let given = known.given;
        known.leader = known.leader.filter(|leader| *leader < given);
        if given <= known.current {
            known.current = 0;
        }
    }

    /// Whom to ask now.
    pub(crate) fn choose(&self, prefer: Prefer, now: Instant) -> (Chosen, String) {
        let known = self.known();
        let chosen = known.choose(prefer, now);
        (Chosen(chosen), known.members[chosen].url.clone())
    }

    /// Whether somebody who does not rest could be asked.
    pub(crate) fn any_is_rested(&self, now: Instant) -> bool {
        self.known()
            .asked()
            .iter()
            .any(|member| member.is_rested(now))
    }

    /// It has answered: as one of another cluster, or not.
    pub(crate) fn set_stranger(&self, chosen: Chosen, is_stranger: bool) {
        self.known().members[chosen.0].is_stranger = is_stranger;
    }

    /// Whether nobody is left who could be of our cluster: all that were given answered last as members of another, and what
    /// was learnt did so too or does not answer. One that was given and is silent may be ours, and elect.
    pub(crate) fn all_are_strangers(&self) -> bool {
        let known = self.known();
        let mut members = known.asked().iter().enumerate();
        members.all(|(place, member)| {
            member.is_stranger || known.given <= place && member.failures > 0
        })
    }

    /// It answered, and said who leads.
    pub(crate) fn answered(&self, chosen: Chosen, leader: Option<&str>) {
        let mut known = self.known();
        let member = &mut known.members[chosen.0];
        member.failures = 0;
        member.rests_until = None;
        member.is_stranger = false;
        if let Some(leader) = leader {
            known.leader = known.place_of(leader, self.has_secret);
        }
    }

    /// It failed, or has no use for requests now.
    pub(crate) fn failed(&self, chosen: Chosen, at_least: Duration, now: Instant) {
        let mut known = self.known();
        let member = &mut known.members[chosen.0];
        let rest = backoff(FIRST_REST, member.failures, LONGEST_REST).max(at_least);
        member.failures = member.failures.saturating_add(1);
        member.rests_until = Some(now + rest);
        if known.leader == Some(chosen.0) {
            known.leader = None;
        }
        if known.current == chosen.0 {
            known.current = (chosen.0 + 1) % known.asked().len();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The members that may be asked.
    fn asked(&self) -> &[Member] {
        &self.members[..self.members.len().min(self.most)]
    }

    fn choose(&self, prefer: Prefer, now: Instant) -> usize {
        let leader = self.leader.filter(|_| prefer == Prefer::Leader);
        if let Some(leader) = leader.filter(|leader| self.members[*leader].is_rested(now)) {
            return leader;
        }
        let count = self.asked().len();
        let mut turns = (0..count).map(|step| (self.current + step) % count);
        turns
            .find(|turn| self.members[*turn].is_rested(now))
            .or_else(|| (0..count).min_by_key(|place| self.members[*place].rests_until))
            .expect("there is at least one member")
    }

    /// Why a URL that others told is not asked; none where it is. Who was told to speak TLS, or not to, is not led to do
    /// otherwise, and a token is shown to nobody on the way to a member that others named.
    fn refusal(&self, url: &str, has_secret: bool) -> Option<&'static str> {
        let given = &self.members[..self.given];
        let knows = |secure: bool| given.iter().any(|member| is_secure(&member.url) == secure);
        if given.iter().any(|member| member.url == url) {
            return None;
        }
        if self.stays {
            return Some("only the URLs that were given are, and it is none of them");
        }
        match is_secure(url) {
            secure if !knows(secure) && secure => Some("only http URLs were given"),
            secure if !knows(secure) => Some("only https URLs were given"),
            false if has_secret => {
                Some("a token is sent by http only to URLs that were given, and it is none of them")
            }
            _ => None,
        }
    }

    /// Where a leader is in the list, put there where there is room.
    fn place_of(&mut self, leader: &str, has_secret: bool) -> Option<usize> {
        let found = member(leader).ok()?;
        if self.refusal(&found.url, has_secret).is_some() {
            return None;
        }
        let place = self
            .members
            .iter()
            .position(|member| member.url == found.url);
        place.or_else(|| {
            let place = self.members.len();
            (place < self.most).then(|| {
                self.members.push(found);
                place
            })
        })
    }
}

impl Member {
    fn is_rested(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| until <= now)
    }
}

fn is_secure(url: &str) -> bool {
    url.starts_with("https:")
}

fn member(url: &str) -> Result<Member, Error> {
    let refuse = |why: &str| {
        let detail = format!("{url:?} is not the URL of a member: {why}");
        Err(Error::NotApplied(Failure::local(detail)))
    };
    let Ok(uri) = url.parse::<http::Uri>() else {
        return refuse("http://host:port or https://host:port is expected");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return refuse("http://host:port or https://host:port is expected");
    }
    if uri.authority().is_none() || uri.path() != "/" || uri.query().is_some() {
        return refuse("nothing may follow http://host:port or https://host:port");
    }
    Ok(Member {
        url: url.trim_end_matches('/').to_owned(),
        failures: 0,
        rests_until: None,
        is_stranger: false,
    })
}

/// The URL of a member as it is written in requests.
///
/// # Errors
///
/// Where it is none.
pub(crate) fn checked(url: &str) -> Result<String, Error> {
    member(url).map(|member| member.url)
}

/// A time that doubles with each failure up to a limit; drawn from its upper half.
pub(crate) fn backoff(first: Duration, failures: u32, limit: Duration) -> Duration {
    let whole = first.saturating_mul(1 << failures.min(16)).min(limit);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Endpoints {
        Endpoints::new(
            ["http://a:1", "http://b:1/", "http://c:1"].map(String::from),
            false,
        )
        .expect("they are URLs")
    }

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        let check = |url: &str, why: &str| {
            let error = Endpoints::new([url.to_owned()], false)
                .err()
                .expect("it is refused");
            assert!(error.to_string().contains(why), "{error}");
        };
        check("127.0.0.1:7379", "http");
        check("ftp://a:1", "https://host:port is expected");
        check("http://a:1/v1", "nothing may follow");
        assert!(Endpoints::new([], false).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_failed_rests_and_the_others_are_asked() {
        let endpoints = three();
        let now = Instant::now();
        let (first, url) = endpoints.choose(Prefer::Any, now);
        endpoints.failed(first, Duration::ZERO, now);
        let (second, other) = endpoints.choose(Prefer::Any, now);
        assert_ne!(url, other);
        endpoints.failed(second, Duration::ZERO, now);
        let (third, _) = endpoints.choose(Prefer::Any, now);
        assert!(third != first && third != second);
        endpoints.failed(third, Duration::from_secs(9), now);
        assert!(!endpoints.any_is_rested(now));
        let (again, _) = endpoints.choose(Prefer::Any, now);
        assert_ne!(again, third, "of those that rest, it is the last to be due");
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_is_asked_first_until_it_fails_also_one_that_was_not_given() {
        let endpoints = three();
        let now = Instant::now();
        let (any, _) = endpoints.choose(Prefer::Any, now);
        endpoints.answered(any, Some("http://d:1"));
        let (leader, url) = endpoints.choose(Prefer::Leader, now);
        assert_eq!(url, "http://d:1");
        endpoints.failed(leader, Duration::ZERO, now);
        assert_ne!(endpoints.choose(Prefer::Leader, now).1, "http://d:1");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_stay_asks_no_leader_that_was_not_given() {
        let endpoints = three();
        endpoints.stay();
        let now = Instant::now();
        let (any, url) = endpoints.choose(Prefer::Any, now);
        endpoints.answered(any, Some("http://d:1"));
        assert_eq!(endpoints.choose(Prefer::Leader, now).1, url);
        endpoints.answered(any, Some("http://c:1"));
        assert_eq!(endpoints.choose(Prefer::Leader, now).1, "http://c:1");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_stay_asks_no_leader_that_was_learnt_before() {
        let endpoints = three();
        let now = Instant::now();
        let (any, _) = endpoints.choose(Prefer::Any, now);
        endpoints.answered(any, Some("http://d:1"));
        let (learnt, url) = endpoints.choose(Prefer::Leader, now);
        assert_eq!(url, "http://d:1");
        endpoints.stay();
        assert_ne!(endpoints.choose(Prefer::Leader, now).1, "http://d:1");
        // A call to it that was under way ends, and says that it leads.
        endpoints.answered(learnt, Some("http://d:1"));
        for _ in 0..8 {
            let (chosen, url) = endpoints.choose(Prefer::Leader, now);
            assert_ne!(url, "http://d:1");
            endpoints.failed(chosen, Duration::ZERO, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_tls_is_not_followed_by_who_was_given_members_with_it() {
        let endpoints = Endpoints::new(["https://a:1".to_owned()], false).expect("it is a URL");
        let now = Instant::now();
        let (any, url) = endpoints.choose(Prefer::Any, now);
        endpoints.answered(any, Some("http://d:1"));
        assert_eq!(endpoints.choose(Prefer::Leader, now).1, url);
        endpoints.answered(any, Some("https://d:1"));
        assert_eq!(endpoints.choose(Prefer::Leader, now).1, "https://d:1");
    }

    #[test]
    fn a_token_is_sent_over_http_only_to_urls_that_were_given() {
        let check = |given: &[&str], has_secret: bool, url: &str, why: Option<&str>| {
            let given = given.iter().map(|url| (*url).to_owned());
            let endpoints = Endpoints::new(given, has_secret).expect("they are URLs");
            let told = endpoints.may_ask(url).map_err(|error| error.to_string());
            let is_told = |why: &str| told.as_ref().is_err_and(|told| told.contains(why));
            assert!(why.map_or(told.is_ok(), is_told), "{url}: {told:?}");
            let (any, first) = endpoints.choose(Prefer::Leader, Instant::now());
            endpoints.answered(any, Some(url));
            let (_, asked) = endpoints.choose(Prefer::Leader, Instant::now());
            let leads = if why.is_none() { url } else { &first };
            assert_eq!(asked, leads, "{url}");
        };
        check(&["http://a:1"], true, "http://a:1", None);
        check(&["http://a:1"], true, "http://d:1", Some("a token is sent"));
        check(&["http://a:1"], false, "http://d:1", None);
        check(&["https://a:1"], false, "http://d:1", Some("only https"));
        check(&["http://a:1"], false, "https://d:1", Some("only http "));
        check(&["https://a:1"], true, "https://d:1", None);
        let mixed = ["http://a:1", "https://b:1"];
        check(&mixed, true, "http://d:1", Some("a token is sent"));
        check(&mixed, true, "https://d:1", None);
    }

    #[test]
    fn backoff_doubles_up_to_its_limit_and_is_never_the_whole_of_it_for_all() {
        let first = Duration::from_millis(100);
        for (failures, whole) in [(0, 100), (1, 200), (2, 400), (10, 1_000), (99, 1_000)] {
            let whole = Duration::from_millis(whole);
            let draw = || backoff(first, failures, Duration::from_secs(1));
            let drawn: Vec<Duration> = std::iter::repeat_with(draw).take(100).collect();
            let is_within = |one: &Duration| *one >= whole / 2 && *one <= whole;
            assert!(drawn.iter().all(is_within), "{failures}: {drawn:?}");
            // By lot: that a hundred are all in one half of the range is seen once in 2^99 times.
            let different: std::collections::BTreeSet<_> = drawn.iter().collect();
            assert!(different.len() > 10, "{failures}: {drawn:?}");
            let short = drawn.iter().filter(|one| **one < whole * 3 / 4).count();
            assert!(short > 0 && short < 100, "{failures}: {drawn:?}");
        }
    }
}
