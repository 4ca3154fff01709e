//! One request: from its head to its answer.
//!
//! Owns the order of the checks, which handler serves which call, and the headers that every answer has.

mod answered;
mod context;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tenure_api::{Code, Outcome, header};
use tenure_state::{Kind, Revision, State};
use tokio::sync::{Semaphore, watch as channel};
use tokio::time::Instant;
use tracing::Instrument as _;

pub(super) use self::answered::Answered;
use self::answered::{Tells, known, tells};
pub(super) use self::context::{Context, OwnTurn, WaitPermit};
use self::context::{Course, pages_at_a_time};
use super::Settings;
use super::audit::Refused;
use super::body::{Arriving, Body};
use super::caller::{Caller, Gate, Paced};
use super::failure::{Failure, Purpose};
use super::following::Watchers;
use super::guard;
use super::idempotency::Recording;
use super::key_ranges::Counts;
use super::manners::{self, OwnHosts};
use super::probe::{self, Probe};
use super::query::Query;
use super::reply::{Reply, Sent, Unsent};
use super::rights::{self, Right};
use super::route::{self, Call, Family, Keeps, Target};
use super::shares::Shares;
use super::{
    access, administration, backup, cluster, elections, key_ranges, keys, leases, locks, members,
    metrics, openapi, semaphores, together, transactions, watch,
};
use crate::logging::LogFilter;
use crate::node::{Handle, LeaderView};
use crate::telemetry::{Metrics, Span};
use crate::tls::Tls;

/// Who cannot be let wait is told to ask again after so many seconds.
const PAUSE_SECONDS: u64 = 1;

/// Answers requests; shared by all connections.
pub(super) struct Service {
    handle: Handle,
    hosts: OwnHosts,
    waits: Arc<Semaphore>,
    most_waits: usize,
    wait_shares: Arc<Shares>,
    /// Turns at making pages.
    pages: Semaphore,
    counts: Counts,
    watchers: Arc<Watchers>,
    probe: Probe,
    tls: Tls,
    leader: channel::Receiver<LeaderView>,
    log_filter: LogFilter,
    /// Who is let in.
    gate: Arc<Gate>,
    /// Clients on other machines may reach this member.
    exposed: bool,
    cluster: String,
    cluster_header: HeaderValue,
    member_header: HeaderValue,
    /// Numbers requests, from a random beginning.
    next: AtomicU64,
}

/// By what one request is told from another.
struct Marks<'a> {
    arrived: Instant,
    seed: u64,
    id: &'a str,
    span: Option<&'a Span>,
    caller: &'a Caller,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// Ours.
    pub(super) local: SocketAddr,
    /// The client's.
    pub(super) client: SocketAddr,
}

/// What is asked again and again by machines that watch over a member: nobody wants to see a trace of it.
const PROBES: [Family; 3] = [Family::Live, Family::Ready, Family::Metrics];

impl Service {
    /// A service for the member behind `handle`.
    pub(super) fn new(handle: Handle, settings: &Settings) -> Service {
        let member = handle.member();
        let cluster = cluster::cluster_id(member.cluster);
        let hex = |text: String| HeaderValue::try_from(text).expect("hex digits are a header");
        Service {
            hosts: OwnHosts::new(&settings.client_hosts, &member.client_url),
            waits: Arc::new(Semaphore::new(settings.waits)),
            most_waits: settings.waits,
            wait_shares: Arc::default(),
            log_filter: settings.log_filter.clone(),
            gate: Arc::new(Gate::new()),
            exposed: false,
            pages: Semaphore::new(pages_at_a_time()),
            counts: Counts::default(),
            watchers: Arc::default(),
            probe: probe::ask,
            tls: settings.tls.clone(),
            leader: handle.leader_watch(),
            cluster_header: hex(cluster.clone()),
            member_header: hex(member.id.to_string()),
            cluster,
            next: AtomicU64::new(getrandom::u64().unwrap_or_default()),
            handle,
        }
    }

    /// The same, which clients on other machines may reach.
    pub(super) fn reached_by_others(self, exposed: bool) -> Service {
        Service { exposed, ..self }
    }

    /// The same, which asks those who are to be members in another way.
    #[cfg(any(test, fuzzing))]
    pub(super) fn with_probe(self, probe: Probe) -> Service {
        Service { probe, ..self }
    }

    /// Answers a request that came over a connection between these ends. It is for the caller to log it, when it is settled
    /// what is sent.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        arriving: Arriving,
        ends: Ends,
    ) -> (Response<Sent<()>>, Answered) {
        let arrived = Instant::now();
        let (head, incoming) = request.into_parts();
        let mut body = Body::new(incoming, &head.headers, arriving);
        let seed = self.draw();
        let given_id = manners::request_id(&head.headers);
        let id = match &given_id {
            Ok(Some(id)) => id.clone(),
            Ok(None) | Err(_) => made_id(seed),
        };
        let target = route::find(head.uri.path());
        let route = target.map_or("none", |target| target.family.template());
        let of_log = tracing::debug_span!("request", id = id.to_str().unwrap_or(""), method = %head.method, route);
        let is_probe = target.is_some_and(|target| PROBES.contains(&target.family));
        let name = || format!("{} {route}", known(&head.method));
        let span = self.handle.traces().request(&head.headers, is_probe, name);
        let address = ends.client.ip();
        let (admitted, caller) = self.admit(&head, target, address).await;
        // As it was when it was let in: whoever turns access control on is answered as all before.
        let is_open = self.handle.read(|state| !state.access().enabled());
        let served = async {
            // Nothing else of it is looked at before it is known who asks.
            admitted?;
            given_id?;
            self.check(&head, target, (ends.local, &caller))?;
            let asked = Marks {
                arrived,
                seed,
                id: id.to_str().unwrap_or(""),
                span: span.as_ref(),
                caller: &caller,
            };
            self.dispatch(&head, target, &mut body, asked).await
        };
        let reply = served
            .instrument(of_log)
            .await
            .unwrap_or_else(Failure::into_reply);
        if let Some((code, why)) = &reply.refused {
            let refused = Refused {
                caller: caller.principal().identity().map(|_| &caller),
                address,
                request: id.to_str().unwrap_or(""),
                call: (known(&head.method), route),
            };
            // While nobody proves anything, only where it was asked makes a difference, and that is no matter of rights.
            if *code == Code::Unauthenticated || refused.caller.is_some() {
                self.gate.denials.tell(&refused, *code, why);
            }
        }
        body.drain().await;
        let answered = Answered {
            id: id.clone(),
            method: head.method,
            route,
            arrived,
            code: reply.code,
            unsent: reply.unsent.unwrap_or(Unsent::NOT_APPLIED),
            span,
            tells: tells(&caller, is_open, reply.code),
        };
        let response = self.respond(reply, (&answered.method, answered.tells), id);
        (response, answered)
    }

    /// What this member counts.
    pub(super) fn metrics(&self) -> &Metrics {
        self.handle.metrics()
    }

    /// What is said in place of an answer for which there is no room: too many that were asked for are not taken.
    pub(super) fn without_room(
        &self,
        answer: &Response<Sent<()>>,
        answered: &mut Answered,
    ) -> Response<Sent<()>> {
        let code = match answered.unsent.outcome {
            Outcome::NotApplied => Code::Overloaded,
            // It was decided, and what was decided is what cannot be told.
            Outcome::Unknown => Code::OutcomeUnknown,
        };
        answered.code = Some(code);
        let detail = "answers that were asked for and are not read take all the room there is; read them, and ask again";
        let failure = Failure::new(code, detail).retried(answered.unsent.retry);
        let mut reply = failure.into_reply();
        let name = HeaderName::from_static(header::IDEMPOTENCY_REPLAYED);
        if let Some(replayed) = answer.headers().get(&name) {
            reply = reply.with(name, replayed.clone());
        }
        let how = (&Method::GET, answered.tells);
        self.respond(reply, how, answered.id.clone())
    }

    /// Who asks. Of whoever asks only whether this member is well, nothing is wanted.
    async fn admit(
        &self,
        head: &Parts,
        target: Option<Target<'_>>,
        address: IpAddr,
    ) -> (Result<(), Failure>, Caller) {
        if target.is_some_and(|target| target.family.is_open()) {
            return (Ok(()), Caller::anonymous(address));
        }
        let keeps = |target: Target<'_>| target.keeps(&head.method, head.uri.query());
        let pace = match target.map_or(Keeps::Nothing, keeps) {
            Keeps::Lease(lease) => Paced::UnlessItsOwn(lease),
            Keeps::Named => Paced::Later,
            Keeps::Nothing => Paced::Counted,
        };
        let proof = (&head.headers, &head.extensions);
        self.gate.admit(&self.handle, proof, address, pace).await
    }

    /// Tells what is open when rights have changed. It never ends.
    pub(super) async fn follow_rights(&self) {
        self.gate.follow(&self.handle).await;
    }

    /// What is asked of every request, whatever it wants.
    fn check(
        &self,
        head: &Parts,
        target: Option<Target<'_>>,
        (local, caller): (SocketAddr, &Caller),
    ) -> Result<(), Failure> {
        manners::check_form(head.version, &head.headers)?;
        manners::check_one_host(&head.headers)?;
        // Who proves something is no page of a stranger, whatever name it was led here by. Nobody is anonymous but where
        // nobody proves anything, or nothing is asked for.
        let is_open = target.is_some_and(|target| target.family.is_open());
        let is_anonymous = caller.principal().identity().is_none();
        let is_off = || !self.handle.read(|state| state.access().enabled());
        if is_anonymous && (!is_open || is_off()) {
            manners::check_host(&self.hosts, &head.uri, &head.headers, local)?;
        }
        manners::check_origin(&head.uri, &head.headers)?;
        manners::check_cluster(&self.cluster, &head.headers)
    }

    async fn dispatch(
        &self,
        head: &Parts,
        target: Option<Target<'_>>,
        body: &mut Body,
        asked: Marks<'_>,
    ) -> Result<Reply, Failure> {
        let target = target.ok_or_else(|| {
            Failure::new(
                Code::RouteNotFound,
                "the path leads nowhere; those of this version begin with /v1/",
            )
        })?;
        let allow = || (ALLOW, HeaderValue::from_static(target.family.allow()));
        if head.method == Method::OPTIONS {
            let (name, value) = allow();
            return Ok(Reply::empty(204).with(name, value));
        }
        if !target.family.allows(&head.method) {
            let detail = format!("this path takes {}", target.family.allow());
            let (name, value) = allow();
            return Err(Failure::new(Code::MethodNotAllowed, detail).with_header(name, value));
        }
        let mut query = Query::parse(head.uri.query())?;
        let call = target.call(&head.method, &mut query)?;
        if let Right::Admin = call.right() {
            self.check_admin(&call, &query, asked.caller).await?;
        }
        check_accepts(&call, target.family, &head.headers)?;
        if !call.writes_keys() {
            guard::refuse(&head.headers)?;
        }
        // A read decides nothing that could be told twice: there the key means nothing.
        let recording = match call.writes() {
            true => Recording::of(&head.method, &call, &query, (&head.headers, asked.caller))?,
            false => None,
        };
        let course = Course::default();
        let cx = Context {
            service: self,
            method: known(&head.method),
            headers: &head.headers,
            query,
            body,
            caller: asked.caller,
            own_turn: own_turn(&head.extensions),
            recorded_at: recording.as_ref().map(|recording| recording.with_body(&[])),
            recording,
            course: &course,
            span: asked.span,
            arrived: asked.arrived,
            head: head.method == Method::HEAD,
            seed: asked.seed,
            id: asked.id,
        };
        let mut reply = serve(call, cx).await.unwrap_or_else(|failure| {
            let shares = |state: &State| asked.caller.shares(state.access());
            let failure = match self.handle.read(shares) {
                true => failure.without_counts(),
                false => failure,
            };
            failure.into_reply()
        });
        reply.unsent = Some(course.unsent(&reply));
        if course.replayed.into_inner() {
            let name = HeaderName::from_static(header::IDEMPOTENCY_REPLAYED);
            reply = reply.with(name, HeaderValue::from_static("true"));
        }
        if course.pause.into_inner() {
            reply = reply.with(RETRY_AFTER, HeaderValue::from(PAUSE_SECONDS));
        }
        Ok(reply)
    }

    /// Refuses what is for administrators before anything of it is carried out or told. What concerns this member only, and
    /// what is read of its own state, is allowed by that state, also where there is no leader; all else by one that is no
    /// older than the request.
    async fn check_admin(
        &self,
        call: &Call,
        query: &Query,
        caller: &Caller,
    ) -> Result<(), Failure> {
        let is_local = matches!(call, Call::ChangeStatus) || (!call.writes() && query.is_local());
        // Also where access control seems to be off: a member that has just joined, or was down, may not know better.
        if !is_local {
            let barrier = self.handle.barrier().await;
            barrier.map_err(|unserved| Failure::unserved(unserved, Purpose::Read))?;
        }
        self.handle
            .read(|state| caller.may(state, &rights::admin()))
    }

    fn respond(
        &self,
        reply: Reply,
        (method, tells): (&Method, Tells),
        id: HeaderValue,
    ) -> Response<Sent<()>> {
        let mut headers = HeaderMap::with_capacity(16);
        if let Some(content_type) = reply.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if tells == Tells::OfTheCluster {
            self.tell_of_the_cluster(&mut headers, reply.revision);
        }
        headers.insert(HeaderName::from_static(header::REQUEST_ID), id);
        headers.extend(reply.headers);
        let body = match (reply.stream, *method == Method::HEAD) {
            (None, false) => Sent::whole(reply.body),
            (None, true) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
                Sent::whole(Bytes::new())
            }
            (Some(made), false) => Sent::made(made),
            (Some(_), true) => Sent::whole(Bytes::new()),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = headers;
        response
    }

    fn tell_of_the_cluster(&self, headers: &mut HeaderMap, revision: Option<Revision>) {
        let revision = revision.unwrap_or_else(|| self.handle.read(State::revision));
        let (term, leader) = {
            let view = self.leader.borrow();
            (
                view.term.0,
                view.client_url
                    .as_deref()
                    .and_then(|url| HeaderValue::from_str(url).ok()),
            )
        };
        headers.insert(
            HeaderName::from_static(header::REVISION),
            HeaderValue::from(revision.0),
        );
        headers.insert(
            HeaderName::from_static(header::TERM),
            HeaderValue::from(term),
        );
        if let Some(leader) = leader {
            headers.insert(HeaderName::from_static(header::LEADER), leader);
        }
        headers.insert(
            HeaderName::from_static(header::MEMBER),
            self.member_header.clone(),
        );
        headers.insert(
            HeaderName::from_static(header::CLUSTER),
            self.cluster_header.clone(),
        );
    }

    fn draw(&self) -> u64 {
        // A number that differs in all its digits from the one before (Knuth, vol. 3 §6.4: the golden ratio).
        self.next
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32)
    }
}

/// The turns of the connection over which a request came.
fn own_turn(extensions: &Extensions) -> OwnTurn {
    extensions.get().cloned().unwrap_or_else(OwnTurn::new)
}

/// Refuses what the caller does not accept, before anything is carried out.
fn check_accepts(call: &Call, family: Family, headers: &HeaderMap) -> Result<(), Failure> {
    // A value is given as it was put, whatever is accepted (`api.md` §6); `ok` is too short to negotiate,
    // and metrics and backups have one form.
    let has_one_form = matches!(
        call,
        Call::ReadKey(_) | Call::ReadMetrics | Call::TakeBackup
    );
    if has_one_form || family == Family::Live {
        return Ok(());
    }
    if matches!(call, Call::Watch | Call::WatchMany) && manners::wants_events(headers) {
        return Ok(());
    }
    manners::check_accepts_json(headers)
}

async fn serve(call: Call, cx: Context<'_>) -> Result<Reply, Failure> {
    match call {
        Call::GrantLease => leases::grant(cx).await,
        Call::ListLeases => leases::list(cx).await,
        Call::RenewLeases => leases::renew_many(cx).await,
        Call::ReadLease(id) => leases::read(cx, id).await,
        Call::RenewLease(id) => leases::renew(cx, id).await,
        Call::ChangeLease(id) => leases::change(cx, id).await,
        Call::RevokeLease(id) => leases::revoke(cx, id).await,
        Call::AcquireTogether => together::acquire(cx).await,
        Call::Acquire(Kind::Lock, name) => locks::acquire(cx, name).await,
        Call::Acquire(Kind::Semaphore, name) => semaphores::acquire(cx, name).await,
        Call::Acquire(Kind::Election, name) => elections::campaign(cx, name).await,
        Call::ReadQueue(Kind::Lock, name) => locks::read(cx, name).await,
        Call::ReadQueue(Kind::Semaphore, name) => semaphores::read(cx, name).await,
        Call::ReadQueue(Kind::Election, name) => elections::read(cx, name).await,
        Call::ListQueues(Kind::Lock) => locks::list(cx).await,
        Call::ListQueues(Kind::Semaphore) => semaphores::list(cx).await,
        Call::ListQueues(Kind::Election) => elections::list(cx).await,
        Call::Release(Kind::Lock, name) => locks::release(cx, name).await,
        Call::Release(Kind::Semaphore, name) => semaphores::release(cx, name).await,
        Call::Release(Kind::Election, name) => elections::resign(cx, name).await,
        Call::Proclaim(name) => elections::proclaim(cx, name).await,
        Call::HandOver(name) => elections::hand_over(cx, name).await,
        Call::PutKey(name) => keys::put(cx, name).await,
        Call::ReadKey(name) => keys::read(cx, name).await,
        Call::ListKeys => key_ranges::list(cx).await,
        Call::DeleteKey(name) => keys::delete(cx, name).await,
        Call::DeleteKeys => key_ranges::delete(cx).await,
        Call::Transact => transactions::transact(cx).await,
        Call::Watch => watch::watch(cx).await,
        Call::WatchMany => watch::watch_many(cx).await,
        Call::ReadCluster => cluster::read(cx).await,
        Call::AddMember => members::add(cx).await,
        Call::RemoveMember(member) => members::remove(cx, &member).await,
        Call::ReplaceMember(member) => members::replace(cx, &member).await,
        Call::PromoteMember(member) => members::promote(cx, &member).await,
        Call::TransferLeadership => members::transfer(cx).await,
        Call::ReadLimits => administration::read_limits(cx).await,
        Call::ChangeLimits => administration::change_limits(cx).await,
        Call::Compact => administration::compact(cx).await,
        Call::TakeBackup => backup::take(cx).await,
        Call::ReadStatus => cluster::status(cx).await,
        Call::ChangeStatus => cluster::change_status(cx).await,
        Call::ReadOpenApi => openapi::read(cx).await,
        Call::ListRoles => access::roles::list(cx).await,
        Call::ReadRole(name) => access::roles::read(cx, &name).await,
        Call::PutRole(name) => access::roles::put(cx, name).await,
        Call::DeleteRole(name) => access::roles::delete(cx, name).await,
        Call::ListIdentities => access::identities::list(cx).await,
        Call::ReadIdentity(name) => access::identities::read(cx, &name).await,
        Call::PutIdentity(name) => access::identities::put(cx, name).await,
        Call::DeleteIdentity(name) => access::identities::delete(cx, name).await,
        Call::ListTokens => access::tokens::list(cx).await,
        Call::CreateToken => access::tokens::create(cx).await,
        Call::DeleteToken(id) => access::tokens::delete(cx, id).await,
        Call::WhoAmI => access::who_am_i(cx).await,
        Call::ReadAccess => access::read(cx).await,
        Call::ChangeAccess => access::change(cx).await,
        Call::Live => cluster::live(cx).await,
        Call::Ready => cluster::ready(cx).await,
        Call::ReadMetrics => metrics::read(cx).await,
    }
}

/// An id for a request that brought none.
pub(super) fn made_id(seed: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{seed:016x}")).expect("hex digits are a header")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tenure_state::{
        AccessChange, Command, Genesis, Identity, Principal, Quota, RoleGrant, TokenId, Verb,
    };

    use super::*;
    use crate::node::Desk;

    /// What turns access control on.
    fn changes() -> [AccessChange; 4] {
        let grants = vec![RoleGrant {
            verbs: [Verb::Admin].into(),
            resource: String::new(),
            exact: false,
        }];
        let identity = Identity {
            roles: vec!["admin".to_owned()],
            certificate: None,
            quota: Quota::default(),
        };
        [
            AccessChange::PutRole {
                name: "admin".to_owned(),
                grants,
            },
            AccessChange::PutIdentity {
                name: "root".to_owned(),
                identity,
            },
            AccessChange::CreateToken {
                id: TokenId(1),
                identity: "root".to_owned(),
                hash: [1; 32],
                expires_unix_ms: None,
                now_unix_ms: 0,
            },
            AccessChange::Enable { enabled: true },
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_does_not_know_yet_that_access_control_is_on_lets_nobody_administer() {
        let mut desk = Desk::new(State::genesis(Genesis::default()));
        let handle = desk.handle();
        let service = Service::new(handle.clone(), &Settings::default());
        let nobody = Caller::anonymous([127, 0, 0, 1].into());
        let query = Query::default();
        let mut turned_on = pin!(async {
            for change in changes() {
                let command = Command::ChangeAccess(change);
                let decided = handle.submit(Principal::anonymous(), command, None, None);
                let decided = decided.await.expect("it is decided");
                assert!(decided.outcome.is_ok(), "{decided:?}");
            }
        });
        let mut turned = false;
        // It is decided, and not yet applied here, when the request comes: its barrier stands behind it in the queue.
        let mut asked = pin!(async {
            let is_on = handle.read(|state| state.access().enabled());
            assert!(!is_on, "this member does not know");
            service.check_admin(&Call::AddMember, &query, &nobody).await
        });
        while desk.handle().read(|state| state.access().changes()) < 3 {
            tokio::select! {
                biased;
                () = &mut turned_on, if !turned => turned = true,
                () = tokio::task::yield_now() => { desk.work(); }
            }
        }
        let refused = loop {
            tokio::select! {
                biased;
                () = &mut turned_on, if !turned => turned = true,
                refused = &mut asked => break refused,
                () = tokio::task::yield_now() => { desk.work(); }
            }
        };
        assert_eq!(
            refused.map_err(|failure| failure.code),
            Err(Code::Unauthenticated)
        );
    }
}
