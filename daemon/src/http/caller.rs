//! Who asks: proven before anything else of a request is looked at.
//!
//! Owns the ways in which somebody proves who it is, a token or a client certificate, and what it costs to try. Whether
//! a proof is right is answered by this member's own state, which knows a token by the hash of its secret; a proof that it
//! does not know is looked for once more behind a read barrier, so that a token works on every member as soon as it was
//! created. An unknown id and a wrong secret cost the same and are told alike. Must never let a secret into a sentence.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap};
use tenure_api::{Code, Retry};
use tenure_state::{
    Access, Collection, Command, Denied, LeaseId, Need, Principal, Scope, State, TokenId,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, interval};

use super::audit::Denials;
use super::failure::{Failure, Purpose};
use super::rights::{Needed, READ};
use super::throttle::{ByAddress, ByIdentity, Rate};
use crate::node::Handle;
use crate::tls::ClientCertificate;
use crate::token::{TOKEN_FORM, Token};

/// Proofs that fail, from one address: so many at once, and then one in each interval.
const FAILURES: Rate = Rate::new(Duration::from_secs(1), 20);
/// So many unknown proofs are looked for at a time: nobody who guesses makes this member ask its leader all the time.
const LOOKUPS: usize = 4;
/// How often it is looked whether rights have changed, for the sake of what is open: it ends within a second.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Who asks, as this member has found it out.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    principal: Principal,
    address: IpAddr,
    /// When its token or its certificate expires.
    expires: Option<Instant>,
    /// The name in its certificate by which it is known, where it has no token.
    certificate: Option<Arc<str>>,
}

impl Caller {
    /// Whoever asks while nobody has to prove anything.
    pub(super) fn anonymous(address: IpAddr) -> Caller {
        Caller {
            principal: Principal::anonymous(),
            address,
            expires: None,
            certificate: None,
        }
    }

    /// As the state machine knows it.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// From where.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// How much longer its token or its certificate proves who it is; `None` where there is no end.
    pub(super) fn expires_in(&self) -> Option<Duration> {
        let expires = self.expires?;
        Some(expires.saturating_duration_since(Instant::now()))
    }

    fn is_expired(&self) -> bool {
        self.expires_in().is_some_and(|left| left.is_zero())
    }

    /// Whether it has these rights in this state.
    ///
    /// # Errors
    ///
    /// `unauthenticated` where it is nobody any more, `forbidden` with the right that is missing.
    pub(super) fn may(&self, state: &State, needed: &Needed<'_>) -> Result<(), Failure> {
        self.judged(state, |state| match needed {
            Needed::All(needs) => state.authorize(&self.principal, needs),
            Needed::Lease(lease) if self.owns(state, *lease) => Ok(()),
            Needed::Lease(lease) => {
                let name = lease.to_string();
                let scope = Scope::One(Collection::Leases, name.as_bytes());
                state.authorize(&self.principal, &[Need::new(READ[0], scope)])
            }
        })
    }

    /// Whether a command may be carried out for it in this state.
    ///
    /// # Errors
    ///
    /// As [`Caller::may`].
    pub(super) fn may_submit(&self, state: &State, command: &Command) -> Result<(), Failure> {
        self.judged(state, |state| {
            state.authorize_command(&self.principal, command)
        })
    }

    /// Of each of these leases, whether it may use it in this state.
    ///
    /// # Errors
    ///
    /// `unauthenticated` where it is nobody any more, `forbidden` where they are there, and it may use none of them.
    pub(super) fn may_use(&self, state: &State, leases: &[LeaseId]) -> Result<Vec<Use>, Failure> {
        let mut refused = None;
        let mut uses = Vec::with_capacity(leases.len());
        for lease in leases {
            let judged = self.judged(state, |state| {
                state.authorize_lease(&self.principal, *lease)
            });
            uses.push(match &judged {
                Ok(()) if state.has_lease(*lease) => Use::Allowed,
                Ok(()) => Use::Absent,
                Err(_) => Use::Refused,
            });
            match judged {
                Err(failure) if failure.code == Code::Unauthenticated => return Err(failure),
                judged => refused = refused.or(judged.err()),
            }
        }
        refused
            .filter(|_| uses.iter().all(|found| *found == Use::Refused))
            .map_or(Ok(uses), Err)
    }

    /// Whether it has a share only of what all have: who administers the cluster is not kept out of it by himself.
    pub(super) fn shares(&self, access: &Access) -> bool {
        let of = |name| access.identity(name);
        let identity = self.principal.identity().and_then(of);
        access.enabled() && !identity.is_some_and(|identity| access.is_admin(identity))
    }

    /// Whether a lease is its own, or nobody is anybody.
    pub(super) fn owns(&self, state: &State, lease: LeaseId) -> bool {
        state.authorize_lease(&self.principal, lease).is_ok()
    }

    /// Whether it has a lease: one that is there, and that it may use.
    pub(super) fn has(&self, state: &State, lease: LeaseId) -> bool {
        state.has_lease(lease) && self.owns(state, lease)
    }

    /// Whether the name in its certificate is still that of its identity, where it is known by one.
    fn is_of_its_certificate(&self, access: &Access) -> bool {
        let Some(name) = self.certificate.as_ref().filter(|_| access.enabled()) else {
            return true;
        };
        access.identity_of_certificate(name) == self.principal.identity()
    }

    /// Said only to whoever has the secret of the token or the key of the certificate.
    fn expired(&self) -> Failure {
        let detail = match self.certificate {
            None => "the token has expired; have a new one created by POST /v1/tokens",
            Some(_) => "the client certificate has expired; connect with a new one",
        };
        unauthenticated(detail).retried(Retry::Never)
    }

    fn judged(
        &self,
        state: &State,
        judge: impl FnOnce(&State) -> Result<(), Denied>,
    ) -> Result<(), Failure> {
        if self.is_expired() && state.access().enabled() {
            return Err(self.expired());
        }
        if !self.is_of_its_certificate(state.access()) {
            return Err(Failure::denied(&Denied::Unauthenticated));
        }
        judge(state).map_err(|denied| Failure::denied(&denied))
    }
}

/// What somebody may do with a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Use {
    /// Use it.
    Allowed,
    /// Nothing: it is not there.
    Absent,
    /// Nothing: it is somebody else's.
    Refused,
}

/// Ends when rights may have changed since it was made or last ended, or when the caller's token or certificate has expired.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    seen: watch::Receiver<u64>,
    expires: Option<Instant>,
}

impl Changes {
    /// Waits. Cancellation loses nothing.
    pub(super) async fn next(&mut self) {
        let changed = async {
            if self.seen.changed().await.is_err() {
                // The member stops, which ends what waits by itself.
                std::future::pending::<()>().await;
            }
        };
        let Some(expires) = self.expires else {
            return changed.await;
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(expires) => self.expires = None,
        }
    }
}

/// What a request brings to prove who asks.
enum Proof {
    Token(Token),
    Certificate(ClientCertificate),
}

/// Whether a request counts as one of those that an identity may ask in a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paced {
    /// It does.
    Counted,
    /// It keeps or gives back this lease, or what hangs on it, and counts unless that is its identity's: were it refused,
    /// other programs of that identity would lose their locks to one that asks too often.
    UnlessItsOwn(LeaseId),
    /// The same of leases that its body names: whoever has read that counts it.
    Later,
}

/// Where everybody proves who it is.
pub(super) struct Gate {
    failures: ByAddress,
    lookups: Semaphore,
    rates: ByIdentity,
    /// What it refused.
    pub(super) denials: Denials,
    changes: watch::Sender<u64>,
}

impl Gate {
    pub(super) fn new() -> Gate {
        Gate {
            failures: ByAddress::new(FAILURES),
            lookups: Semaphore::new(LOOKUPS),
            rates: ByIdentity::default(),
            denials: Denials::new(),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells what is open when rights have changed. It never ends.
    pub(super) async fn follow(&self, handle: &Handle) {
        let mut ticks = interval(LOOK_AGAIN);
        loop {
            ticks.tick().await;
            self.denials.tell_left_out();
            let present = handle.read(|state| state.access().changes());
            self.changes.send_if_modified(|told| {
                let is_new = *told != present;
                *told = present;
                is_new
            });
        }
    }

    /// Changes that concern a caller, from now on.
    pub(super) fn changes(&self, caller: &Caller) -> Changes {
        Changes {
            seen: self.changes.subscribe(),
            expires: caller.expires,
        }
    }

    /// Who asks, and whether it is let in: who is known may be refused, and is told of as who it is.
    ///
    /// # Errors
    ///
    /// `unauthenticated` where that is not proven, `too-many-requests` where it was tried too often from there, or the
    /// identity asks more often than it may; `no-leader` where it is not known here and no leader says what is.
    pub(super) async fn admit(
        &self,
        handle: &Handle,
        (headers, extensions): (&HeaderMap, &Extensions),
        address: IpAddr,
        pace: Paced,
    ) -> (Result<(), Failure>, Caller) {
        if !handle.read(|state| state.access().enabled()) {
            return (Ok(()), Caller::anonymous(address));
        }
        let caller = match self.find(handle, (headers, extensions), address).await {
            Ok(caller) => caller,
            Err(failure) => return (Err(failure), Caller::anonymous(address)),
        };
        let admitted = match (caller.is_expired(), pace) {
            (true, _) => Err(caller.expired()),
            (false, Paced::Counted) => self.within_its_rate(handle, &caller),
            (false, Paced::UnlessItsOwn(lease)) => {
                self.count_unless_own(handle, &caller, &[lease]).await
            }
            (false, Paced::Later) => Ok(()),
        };
        (admitted, caller)
    }

    /// Counts a request that keeps or gives back leases, or what hangs on them, unless all of them are the caller's. Where
    /// it asks too often it is let in all the same with one that is, also where this member hears of that lease only now:
    /// nothing that is held may be lost for that.
    ///
    /// # Errors
    ///
    /// `too-many-requests`; `no-leader` where it cannot be found out whether a lease is there.
    pub(super) async fn count_unless_own(
        &self,
        handle: &Handle,
        caller: &Caller,
        leases: &[LeaseId],
    ) -> Result<(), Failure> {
        let own = || {
            handle.read(|state| {
                let own = leases.iter().filter(|lease| caller.has(state, **lease));
                own.count()
            })
        };
        if !leases.is_empty() && own() == leases.len() {
            return Ok(());
        }
        let Err(refused) = self.within_its_rate(handle, caller) else {
            return Ok(());
        };
        if 0 < own() {
            return Ok(());
        }
        let is_absent = |state: &State| leases.iter().any(|lease| !state.has_lease(*lease));
        if handle.read(is_absent) {
            let barrier = handle.barrier().await;
            // Where no leader is heard another member may know that lease: a caller is not to wait for its turn here.
            barrier.map_err(|unserved| Failure::unserved(unserved, Purpose::Read))?;
        }
        (0 < own()).then_some(()).ok_or(refused)
    }

    /// Whose the proof is that a request brings, also where it is right and comes too late.
    async fn find(
        &self,
        handle: &Handle,
        (headers, extensions): (&HeaderMap, &Extensions),
        address: IpAddr,
    ) -> Result<Caller, Failure> {
        let proof = proof(headers, extensions).or_else(|failure| {
            // Who brings nothing is told what to bring, however often.
            if headers.contains_key(AUTHORIZATION) {
                self.count_failure(address)?;
            }
            Err(failure)
        })?;
        let look = || handle.read(|state| proof.look(state.access(), address));
        let mut looked = look();
        // Who has the right secret does not guess, also where it comes too late.
        if looked.is_none() {
            // Counted also where it is right in the end: that happens once for each token and member.
            self.count_failure(address)?;
            let _lookup = self.lookups.try_acquire().map_err(|_| {
                let detail = "other unknown proofs are being looked for; ask again later";
                Failure::new(Code::TooManyRequests, detail)
            })?;
            let barrier = handle.barrier().await;
            barrier.map_err(|unserved| Failure::unserved(unserved, Purpose::Read))?;
            looked = look();
        }
        looked.ok_or_else(|| proof.unknown())
    }

    fn count_failure(&self, address: IpAddr) -> Result<(), Failure> {
        self.failures.take(address).map_err(|wait| {
            let detail =
                "attempts to prove who asks failed too often from this address; ask again later";
            Failure::new(Code::TooManyRequests, detail).retried_after(wait)
        })
    }

    fn within_its_rate(&self, handle: &Handle, caller: &Caller) -> Result<(), Failure> {
        let name = caller.principal.name();
        let most = handle.read(|state| {
            let identity = state.access().identity(name)?;
            identity.quota.requests_per_second
        });
        let Some(most) = most else {
            return Ok(());
        };
        let taken = self.rates.take(name, Rate::per_second(most));
        taken.map_err(|wait| {
            let detail = format!(
                "requests_per_second of {name:?} is {most} at each member; ask more slowly, or have the quota raised"
            );
            Failure::new(Code::TooManyRequests, detail)
                .with("limit", "requests_per_second")
                .with("allowed", most)
                .retried_after(wait)
        })
    }
}

impl Proof {
    /// Whose it is, if it is right.
    fn look(&self, access: &Access, address: IpAddr) -> Option<Caller> {
        match self {
            Proof::Token(token) => {
                let found = access.token(token.id());
                // Of an unknown id a hash is compared too: it takes as long as a wrong secret.
                let hash = found.map_or(&[0; 32], |found| &found.hash);
                let is_right = token.has_hash(hash);
                let found = found.filter(|_| is_right)?;
                let left = found.expires_unix_ms.map(|at| left_until(at, unix_ms()));
                Some(Caller {
                    principal: Principal::of(&found.identity, Some(token.id())),
                    address,
                    expires: left.map(|left| Instant::now() + left),
                    certificate: None,
                })
            }
            Proof::Certificate(certificate) => {
                let left = certificate.not_after.map(|at| left_until(at, unix_ms()));
                let mut known = certificate.names.iter().filter_map(|name| {
                    let identity = access.identity_of_certificate(name)?;
                    Some((name, identity))
                });
                known.next().map(|(name, identity)| Caller {
                    principal: Principal::of(identity, None),
                    address,
                    expires: left.map(|left| Instant::now() + left),
                    certificate: Some(name.as_str().into()),
                })
            }
        }
    }

    fn unknown(&self) -> Failure {
        match self {
            Proof::Token(_) => unauthenticated(
                "the token in the header `Authorization` is not known here: it was deleted, has expired and was \
                 forgotten, or was never created; accepted is one that POST /v1/tokens has answered",
            ),
            Proof::Certificate(certificate) => {
                let names = certificate.names.iter();
                let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
                unauthenticated(format!(
                    "no identity has the certificate {}; accepted is a name that an identity has as `certificate`, or a \
                     token",
                    match names.as_slice() {
                        [] => "of this connection, which has no name".to_owned(),
                        names => names.join(" or "),
                    }
                ))
            }
        }
    }
}

/// The proof that a request brings. Where it brings a token, that one counts.
fn proof(headers: &HeaderMap, extensions: &Extensions) -> Result<Proof, Failure> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let accepted = |what: &str| {
        let detail =
            format!("the header `Authorization` {what}; accepted is `Bearer ` and {TOKEN_FORM}");
        unauthenticated(detail)
    };
    match (given.next(), given.next()) {
        (Some(value), None) => bearer(value)
            .map(Proof::Token)
            .ok_or_else(|| accepted("is given in another form")),
        (Some(_), Some(_)) => Err(accepted("is given more than once")),
        (None, _) => match extensions.get::<ClientCertificate>() {
            Some(certificate) => Ok(Proof::Certificate(certificate.clone())),
            None => Err(accepted("is missing")),
        },
    }
}

fn bearer(value: &HeaderValue) -> Option<Token> {
    let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    Token::parse(token.trim_ascii()).ok()
}

fn unauthenticated(detail: impl Into<String>) -> Failure {
    Failure::new(Code::Unauthenticated, detail)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// The time of this machine, by which tokens expire.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What is left until a time, and never so much that timers cannot hold it.
pub(super) fn left_until(at_ms: u64, now_ms: u64) -> Duration {
    const MOST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Duration::from_millis(at_ms.saturating_sub(now_ms)).min(MOST)
}

/// A token as it is written in logs.
pub(super) fn token_shown(token: Option<TokenId>) -> Option<String> {
    token.map(|token| token.to_string())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tenure_state::{
        AccessChange, Batch, Clock, Genesis, Identity, Origin, Quota, Request, RootToken,
    };

    use super::*;
    use crate::node::Desk;

    const ADDRESS: [u8; 4] = [127, 0, 0, 1];

    /// A member of a cluster in which `root` has a token and `deploy` a certificate and a quota.
    fn member(root: &Token) -> Desk {
        member_with(root, "spiffe://example/deploy")
    }

    /// The same with a certificate of another name.
    fn member_with(root: &Token, certificate: &str) -> Desk {
        let mut state = State::genesis(Genesis {
            root: Some(RootToken {
                id: root.id(),
                hash: root.hash(),
            }),
            ..Genesis::default()
        });
        let change = AccessChange::PutIdentity {
            name: "deploy".into(),
            identity: Identity {
                roles: Vec::new(),
                certificate: Some(certificate.into()),
                quota: Quota {
                    requests_per_second: Some(1),
                    ..Quota::default()
                },
            },
        };
        let request = Request {
            origin: Origin {
                member: 1,
                token: 0,
            },
            principal: Principal::of("root", Some(root.id())),
            idempotency: None,
            command: Command::ChangeAccess(change),
        };
        let batch = Batch {
            requests: vec![request],
            ..Batch::default()
        };
        let applied = state.apply(Clock(1), &batch);
        assert!(applied.outcomes[0].outcome.is_ok());
        Desk::new(state)
    }

    /// Who is let in with this header and these names in a certificate; the member works meanwhile.
    async fn admitted(
        desk: &mut Desk,
        gate: &Gate,
        token: Option<&str>,
        names: &[&str],
    ) -> Result<Caller, Code> {
        let headers = token.map_or(HeaderMap::new(), |token| {
            headers(&[&format!("Bearer {token}")])
        });
        let mut extensions = Extensions::new();
        if !names.is_empty() {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let not_after = None;
            extensions.insert(ClientCertificate { names, not_after });
        }
        let handle = desk.handle();
        let proof = (&headers, &extensions);
        let mut asking = pin!(gate.admit(&handle, proof, ADDRESS.into(), Paced::Counted));
        loop {
            tokio::select! {
                biased;
                (admitted, caller) = &mut asking => {
                    return admitted.map(|()| caller).map_err(|failure| failure.code);
                }
                () = tokio::task::yield_now() => { desk.work(); }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_counts_before_a_certificate_and_a_certificate_where_there_is_no_token() {
        let root = Token::parse(TOKEN.as_bytes()).expect("a token");
        let (mut desk, gate) = (member(&root), Gate::new());
        let name = |caller: Result<Caller, Code>| {
            caller.map(|caller| caller.principal().name().to_owned())
        };
        let deploy = &["dns.example", "spiffe://example/deploy"][..];
        let by_token = admitted(&mut desk, &gate, Some(TOKEN), deploy).await;
        assert_eq!(name(by_token), Ok("root".into()));
        let by_name = admitted(&mut desk, &gate, None, deploy).await;
        let opened = by_name.clone().expect("it is let in");
        assert_eq!(name(by_name), Ok("deploy".into()));
        // What is open ends when the certificate is nobody's any more.
        let may = |state: &State| opened.may(state, &Needed::NOTHING).is_ok();
        assert!(desk.handle().read(may));
        let renamed = member_with(&root, "spiffe://example/another");
        assert!(!renamed.handle().read(may));
        // Its quota is one in a second.
        let soon = admitted(&mut desk, &gate, None, deploy).await;
        assert_eq!(name(soon), Err(Code::TooManyRequests));
        let wrong = TOKEN.replace("0001", "0000");
        let with_wrong = admitted(&mut desk, &gate, Some(&wrong), deploy).await;
        assert_eq!(
            name(with_wrong),
            Err(Code::Unauthenticated),
            "what is given must be right"
        );
        let unknown = admitted(&mut desk, &gate, None, &["spiffe://example/other"]).await;
        assert_eq!(name(unknown), Err(Code::Unauthenticated));
        let nobody = admitted(&mut desk, &gate, None, &[]).await;
        assert_eq!(name(nobody), Err(Code::Unauthenticated));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_slowed_down_by_address_and_the_right_token_never_is() {
        let root = Token::parse(TOKEN.as_bytes()).expect("a token");
        let (mut desk, gate) = (member(&root), Gate::new());
        let mut refused = Vec::new();
        for guess in 0..30 {
            let guess = format!("{guess:016x}.{}", "00".repeat(32));
            refused.push(admitted(&mut desk, &gate, Some(&guess), &[]).await.err());
        }
        let (first, rest) = refused.split_at(20);
        assert!(
            first
                .iter()
                .all(|code| *code == Some(Code::Unauthenticated))
        );
        assert!(rest.iter().all(|code| *code == Some(Code::TooManyRequests)));
        assert!(admitted(&mut desk, &gate, Some(TOKEN), &[]).await.is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        let guess = format!("{:016x}.{}", 7, "00".repeat(32));
        let later = admitted(&mut desk, &gate, Some(&guess), &[]);
        assert_eq!(later.await.err(), Some(Code::Unauthenticated));
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_ends_ends_what_it_opened_and_what_is_asked_over_its_connection() {
        let root = Token::parse(TOKEN.as_bytes()).expect("a token");
        let (mut desk, gate) = (member(&root), Gate::new());
        let handle = desk.handle();
        let ask = |ends_in_ms: i64| {
            let not_after = unix_ms().saturating_add_signed(ends_in_ms);
            let mut extensions = Extensions::new();
            extensions.insert(ClientCertificate {
                names: vec!["spiffe://example/deploy".into()],
                not_after: Some(not_after),
            });
            let (gate, handle) = (&gate, &handle);
            async move {
                let proof = (&HeaderMap::new(), &extensions);
                gate.admit(handle, proof, ADDRESS.into(), Paced::Later)
                    .await
            }
        };
        let (admitted, opened) = ask(60_000).await;
        assert!(admitted.is_ok());
        let may = |state: &State| opened.may(state, &Needed::NOTHING);
        assert!(handle.read(may).is_ok());
        let mut changes = gate.changes(&opened);
        let begun = Instant::now();
        changes.next().await;
        assert!((59..=60).contains(&begun.elapsed().as_secs()));
        let ended = handle.read(may).expect_err("it has ended");
        assert_eq!(ended.code, Code::Unauthenticated);
        assert!(
            ended.detail.contains("certificate has expired"),
            "{}",
            ended.detail
        );
        // Nobody looks at the certificate of a connection again but here. It is known whose it was, and was no guess.
        for _ in 0..30 {
            let (refused, caller) = ask(-1).await;
            assert_eq!(
                refused.map_err(|failure| failure.code),
                Err(Code::Unauthenticated)
            );
            assert_eq!(caller.principal().name(), "deploy");
        }
        assert!(!desk.work(), "no leader is asked for it");
    }

    const TOKEN: &str =
        "00000000000000a1.000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn headers(values: &[&String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(AUTHORIZATION, value);
        }
        headers
    }

    #[test]
    fn a_header_in_another_form_is_refused_without_an_echo_of_it() {
        let bearer = format!("Bearer {TOKEN}");
        let canary = format!("Bearer {TOKEN}c0ffee");
        let basic = format!("Basic {TOKEN}");
        for given in [
            &[][..],
            &[&canary],
            &[&basic],
            &[&TOKEN.to_owned()],
            &[&"Bearer ".to_owned()],
            &[&bearer, &bearer],
        ] {
            let Err(failure) = proof(&headers(given), &Extensions::new()) else {
                panic!("{given:?} is no proof");
            };
            assert_eq!(failure.code, Code::Unauthenticated);
            assert!(failure.detail.contains("Bearer "), "{}", failure.detail);
            assert!(!failure.detail.contains("000102"), "{}", failure.detail);
        }
        for given in [
            &bearer,
            &format!("bearer  {TOKEN}"),
            &format!("BEARER {TOKEN} "),
        ] {
            assert!(matches!(
                proof(&headers(&[given]), &Extensions::new()),
                Ok(Proof::Token(_))
            ));
        }
    }

    #[test]
    fn a_certificate_counts_where_there_is_no_token() {
        let mut extensions = Extensions::new();
        extensions.insert(ClientCertificate {
            names: vec!["spiffe://example/deploy".into()],
            not_after: None,
        });
        let by_name = proof(&headers(&[]), &extensions);
        assert!(
            matches!(by_name, Ok(Proof::Certificate(shown)) if shown.names == ["spiffe://example/deploy"])
        );
        let both = proof(&headers(&[&format!("Bearer {TOKEN}")]), &extensions);
        assert!(matches!(both, Ok(Proof::Token(_))));
        let wrong = proof(&headers(&[&"Bearer nonsense".to_owned()]), &extensions);
        assert!(wrong.is_err(), "a token that is given must be right");
    }
}
