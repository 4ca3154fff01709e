//! One request: from its head to its answer.
//!
//! Owns the order of the checks, which handler serves which call, the headers that every answer has, and the line in
//! the log. Must never log a name, a value or a header of a caller.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tenure_api::{Code, Outcome, Retry, header};
use tenure_replica::{AdminRequest, Decided, Operated};
use tenure_state::{Clock, Command, IdempotencyKey, Kind, LeaseId, Limits, Revision, State};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch as channel};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::Settings;
use super::audit::Refused;
use super::body::{self, Arriving, Body};
use super::caller::{Caller, Changes, Gate, Paced};
use super::failure::{Asked, Failure, Purpose};
use super::following::Watchers;
use super::guard;
use super::idempotency::Recording;
use super::key_ranges::Counts;
use super::manners::{self, OwnHosts};
use super::probe::{self, Probe};
use super::query::Query;
use super::reply::{Reply, Sent, Unsent};
use super::rights::{self, Needed, Right};
use super::route::{self, Call, Family, Target};
use super::shares::{Share, Shares};
use super::{
    access, administration, backup, cluster, elections, key_ranges, keys, leases, locks, members,
    metrics, openapi, semaphores, together, transactions, watch,
};
use crate::logging::LogFilter;
use crate::node::{Handle, LeaderView};
use crate::telemetry::{self, Metrics, Span};
use crate::tls::Tls;
use crate::transport::{DialError, Hello};

/// A turn that has not come by then does not come: like every open read, one that waits here ends within a second
/// (`api.md` §2).
const TURN_PATIENCE: Duration = Duration::from_millis(900);

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

/// What a handler works with.
pub(super) struct Context<'a> {
    service: &'a Service,
    /// The headers of the request.
    pub(super) headers: &'a HeaderMap,
    /// Its parameters that nobody has taken yet.
    pub(super) query: Query,
    body: &'a mut Body,
    /// Who asks.
    caller: &'a Caller,
    own_turn: OwnTurn,
    /// What of it but its body decides the result, if it carries a key.
    recording: Option<Recording>,
    /// Where its decision is recorded, if it carries a key. The body is not kept for that: a request may wait for long.
    recorded_at: Option<IdempotencyKey>,
    /// What became of it on the way.
    course: &'a Course,
    /// In which it is traced, if it is.
    span: Option<&'a Span>,
    /// When its head had arrived.
    pub(super) arrived: Instant,
    /// Whether it is a `HEAD`, which never waits.
    pub(super) head: bool,
    /// A number that differs from request to request.
    pub(super) seed: u64,
    /// The id of the request.
    pub(super) id: &'a str,
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

/// What is to be known of a request when its answer is sent, or cannot be.
#[derive(Default)]
struct Course {
    /// Something was proposed for it.
    proposed: AtomicBool,
    /// Something that must not be proposed twice.
    once: AtomicBool,
    /// A decision made before is being told.
    replayed: AtomicBool,
    /// It may be asked again, but not at once.
    pause: AtomicBool,
}

impl Course {
    fn proposes(&self, purpose: Purpose) {
        match purpose {
            Purpose::Read => return,
            Purpose::Write => self.once.store(true, Ordering::Relaxed),
            Purpose::RepeatableWrite => {}
        }
        self.proposed.store(true, Ordering::Relaxed);
    }

    /// What whoever does not get the answer has to know.
    fn unsent(&self, reply: &Reply) -> Unsent {
        match &reply.unsent {
            Some(known) => *known,
            None if !self.proposed.load(Ordering::Relaxed) => Unsent::NOT_APPLIED,
            None => Unsent {
                outcome: Outcome::Unknown,
                retry: match self.once.load(Ordering::Relaxed) {
                    true => Retry::Never,
                    false => Retry::Same,
                },
            },
        }
    }
}

/// An answer beside itself: what is said where there is no room for it, and its line in the log.
pub(super) struct Answered {
    id: HeaderValue,
    method: Method,
    route: &'static str,
    arrived: Instant,
    code: Option<Code>,
    unsent: Unsent,
    span: Option<Span>,
    tells: Tells,
}

/// What the headers of an answer tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tells {
    /// Which member of which cluster answers, who leads it, and how far it is.
    OfTheCluster,
    /// Nothing of that.
    Nothing,
}

/// What the headers of an answer tell: nothing of the cluster where somebody has to prove who asks, and has not.
fn tells(caller: &Caller, is_open: bool, code: Option<Code>) -> Tells {
    let is_known = is_open || caller.principal().identity().is_some();
    match code {
        Some(Code::Unauthenticated) => Tells::Nothing,
        _ if !is_known => Tells::Nothing,
        _ => Tells::OfTheCluster,
    }
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
        if let (Some(code), Some(why)) = (reply.code, &reply.refused) {
            let refused = Refused {
                caller: caller.principal().identity().map(|_| &caller),
                address,
                request: id.to_str().unwrap_or(""),
                call: (known(&head.method), route),
            };
            // While nobody proves anything, only where it was asked makes a difference, and that is no matter of rights.
            if code == Code::Unauthenticated || refused.caller.is_some() {
                self.gate.denials.tell(&refused, code, why);
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
        let keeps = |target: Target<'_>| target.family.keeps(&head.method, head.uri.query());
        let pace = match target.is_some_and(keeps) {
            true => Paced::Free,
            false => Paced::Counted,
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
        let mut reply = serve(call, cx).await.unwrap_or_else(Failure::into_reply);
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

impl Context<'_> {
    /// The member.
    pub(super) fn handle(&self) -> &Handle {
        &self.service.handle
    }

    /// Who asks.
    pub(super) fn caller(&self) -> &Caller {
        self.caller
    }

    /// Changes of rights that concern who asks, from now on.
    pub(super) fn changes(&self) -> Changes {
        self.service.gate.changes(self.caller)
    }

    /// What tells of refusals.
    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.service.gate)
    }

    /// Whether clients on other machines may reach this member.
    pub(super) fn is_exposed(&self) -> bool {
        self.service.exposed
    }

    /// Looks at the state, where whoever asks has these rights in that same state: what is answered of it is what the
    /// caller may see when it is seen.
    ///
    /// # Errors
    ///
    /// `unauthenticated` and `forbidden`.
    pub(super) fn read<T>(
        &self,
        needed: &Needed<'_>,
        look: impl FnOnce(&State) -> T,
    ) -> Result<T, Failure> {
        self.handle().read(|state| {
            self.caller.may(state, needed)?;
            Ok(look(state))
        })
    }

    /// Refuses whoever has not these rights, before anything is done for it. A right that this member does not know of
    /// may have been given a moment ago: that is looked at once more behind a read barrier, but for a read of this member's
    /// own state.
    ///
    /// # Errors
    ///
    /// `unauthenticated` and `forbidden`; `no-leader` where no leader confirms either.
    pub(super) async fn may(&self, needed: &Needed<'_>, is_local: bool) -> Result<(), Failure> {
        let judge = |state: &State| self.caller.may(state, needed);
        self.judged(judge, is_local).await
    }

    /// The same for leases that whoever asks is to have been granted, before a renewal of them is proposed: of each,
    /// whether it may be.
    async fn may_renew(&self, leases: &[LeaseId]) -> Result<Vec<bool>, Failure> {
        if self.is_let_through() {
            return Ok(vec![true; leases.len()]);
        }
        let judge = |state: &State| self.caller.may_use(state, leases);
        match self.handle().read(judge) {
            Ok(may) if may.iter().all(|may| *may) => Ok(may),
            // What is refused is looked at once more, as all else.
            Ok(_) | Err(_) => {
                self.barrier().await?;
                self.handle().read(judge)
            }
        }
    }

    /// The same for a command, before it is proposed.
    async fn may_propose(&self, command: &Command) -> Result<(), Failure> {
        match self.is_let_through() {
            true => Ok(()),
            false => self.may_submit(command).await,
        }
    }

    /// Whether a command is proposed unseen: while nobody proves who asks, what each may do is not looked at before where it
    /// counts, which is where it is applied.
    fn is_let_through(&self) -> bool {
        self.caller.principal().identity().is_none()
    }

    /// The same for a command. What is decided in the end is decided where it is applied.
    ///
    /// # Errors
    ///
    /// As [`Context::may`].
    pub(super) async fn may_submit(&self, command: &Command) -> Result<(), Failure> {
        let judge = |state: &State| self.caller.may_submit(state, command);
        self.judged(judge, false).await
    }

    async fn judged(
        &self,
        judge: impl Fn(&State) -> Result<(), Failure>,
        is_local: bool,
    ) -> Result<(), Failure> {
        match self.handle().read(&judge) {
            Ok(()) => Ok(()),
            Err(failure) if is_local => Err(failure),
            Err(_) => {
                self.barrier().await?;
                self.handle().read(&judge)
            }
        }
    }

    /// What secures connections.
    pub(super) fn tls(&self) -> &Tls {
        &self.service.tls
    }

    /// Refuses parameters that the handler has not taken.
    ///
    /// # Errors
    ///
    /// `invalid-request`, naming the first.
    pub(super) fn finish_query(&mut self) -> Result<(), Failure> {
        std::mem::take(&mut self.query).finish()
    }

    /// Reads a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Body::read`] and [`body::json`].
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let sent = self
            .read_body("request_bytes", |limits| limits.request_bytes)
            .await?;
        body::json(self.headers, &sent)
    }

    /// Reads a body that may be left out, and has no fields.
    ///
    /// # Errors
    ///
    /// As [`Context::json`].
    pub(super) async fn no_fields(&mut self) -> Result<(), Failure> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let sent = self
            .read_body("request_bytes", |limits| limits.request_bytes)
            .await?;
        if sent.is_empty() {
            Ok(())
        } else {
            body::json(self.headers, &sent).map(|Nothing {}| ())
        }
    }

    /// Reads a body that is the value of a key.
    ///
    /// # Errors
    ///
    /// As [`Body::read`].
    pub(super) async fn value(&mut self) -> Result<Bytes, Failure> {
        let value_first = self
            .handle()
            .read(|state| state.limits().value_bytes <= state.limits().request_bytes);
        if value_first {
            self.read_body("value_bytes", |limits| limits.value_bytes)
                .await
        } else {
            self.read_body("request_bytes", |limits| limits.request_bytes)
                .await
        }
    }

    /// Reads the body, within a limit of that name.
    async fn read_body(
        &mut self,
        name: &str,
        limit: impl Fn(&Limits) -> u64,
    ) -> Result<Bytes, Failure> {
        let mut allowed = self.handle().read(|state| limit(state.limits()));
        let fits = Body::told_length(self.headers).is_some_and(|told| told <= allowed);
        if !fits && self.is_decided().await? {
            allowed = limit(&Limits::most());
        }
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        let sent = self.body.read(self.headers, name, allowed).await?;
        let recording = self.recording.as_ref();
        self.recorded_at = recording.map(|recording| recording.with_body(&sent));
        Ok(sent)
    }

    /// Refuses a body.
    ///
    /// # Errors
    ///
    /// `invalid-request` where there is one.
    pub(super) async fn no_body(&mut self) -> Result<(), Failure> {
        self.body.refuse(self.headers).await
    }

    /// Whether something was decided under the key of this request. Then it is to be told that, and must not be refused
    /// for what was changed since: limits, or how large a value is. To be asked where it would be refused.
    ///
    /// # Errors
    ///
    /// `no-leader` where no leader confirms that this member knows all that was decided.
    pub(super) async fn is_decided(&self) -> Result<bool, Failure> {
        let Some(at) = &self.recorded_at else {
            return Ok(false);
        };
        self.barrier().await?;
        Ok(self.handle().read(|state| state.is_decided(at)))
    }

    /// Carries out a command; where the request carries a key and the command is one that records, exactly once. Read
    /// the body first: it is a part of what makes a request the same as another.
    ///
    /// # Errors
    ///
    /// Where it got no outcome, or was refused for a reason that only what was asked explains.
    pub(super) async fn submit(
        &self,
        command: Command,
        purpose: Purpose,
    ) -> Result<Decided, Failure> {
        self.may_propose(&command).await?;
        let recorded_at = self.recorded_at.as_ref();
        let idempotency = recorded_at.filter(|_| command.is_recorded()).cloned();
        let asked = Asked::of(&command).under(idempotency.as_ref().map(|at| at.key.as_str()));
        // A call whose decision is recorded may be sent again as it is.
        let purpose = match (&idempotency, purpose) {
            (Some(_), Purpose::Write) => Purpose::RepeatableWrite,
            (_, purpose) => purpose,
        };
        self.course.proposes(purpose);
        let decided = self
            .handle()
            .submit(
                self.caller.principal().clone(),
                command,
                idempotency,
                self.span,
            )
            .await
            .map_err(|unserved| Failure::unserved(unserved, purpose))?;
        if decided.replayed {
            self.course.replayed.store(true, Ordering::Relaxed);
        }
        match asked.refused(&decided) {
            Some(failure) => Err(failure),
            None => Ok(decided),
        }
    }

    /// Tells the caller, who will ask again, to do so after a pause: there is no room to let it wait here.
    pub(super) fn ask_for_a_pause(&self) {
        self.course.pause.store(true, Ordering::Relaxed);
    }

    /// Whether a decision made before is being told.
    pub(super) fn is_replayed(&self) -> bool {
        self.course.replayed.load(Ordering::Relaxed)
    }

    /// Renews a lease.
    ///
    /// # Errors
    ///
    /// Where it got no outcome.
    pub(super) async fn renew(&self, lease: LeaseId) -> Result<Decided, Failure> {
        self.may_renew(&[lease]).await?;
        self.course.proposes(Purpose::RepeatableWrite);
        self.handle()
            .renew(self.caller.principal().clone(), lease, self.span)
            .await
            .map_err(|unserved| Failure::unserved(unserved, Purpose::RepeatableWrite))
    }

    /// Renews leases together; what came of each, and nothing of those that the caller may not renew: one that is not its
    /// own is no reason to lose the others.
    ///
    /// # Errors
    ///
    /// `forbidden` where it may renew none of them; where they got no outcome.
    pub(super) async fn renew_many(
        &self,
        leases: &[LeaseId],
    ) -> Result<Vec<Option<Decided>>, Failure> {
        let may = self.may_renew(leases).await?;
        let asked = leases.iter().zip(&may).filter(|(_, may)| **may);
        let allowed: Vec<LeaseId> = asked.map(|(lease, _)| *lease).collect();
        self.course.proposes(Purpose::RepeatableWrite);
        let decided = self
            .handle()
            .renew_many(self.caller.principal().clone(), &allowed, self.span)
            .await
            .map_err(|unserved| Failure::unserved(unserved, Purpose::RepeatableWrite))?;
        let mut decided = decided.into_iter();
        let of = |may: bool| may.then(|| decided.next()).flatten();
        Ok(may.into_iter().map(of).collect())
    }

    /// Has the leader do something; what came of it. Asking again for the same is harmless, by what members are made
    /// to be and not by a record. Judged once more by a state that is no older than this moment: a body, or the member that
    /// is to be reached, may have taken long, and the leader is not told who asks.
    ///
    /// # Errors
    ///
    /// `unauthenticated` or `forbidden` where the caller administers no longer; `no-leader`.
    pub(super) async fn operate(&self, operation: AdminRequest) -> Result<Operated, Failure> {
        self.barrier().await?;
        self.handle()
            .read(|state| self.caller.may(state, &rights::admin()))?;
        self.course.proposes(Purpose::RepeatableWrite);
        Ok(self.handle().operate(operation).await)
    }

    /// Asks whoever is reached at a peer URL who it is.
    ///
    /// # Errors
    ///
    /// Where nobody is reached, or it is no member.
    pub(super) async fn probe(&self, peer_url: &str) -> Result<Hello, DialError> {
        (self.service.probe)(peer_url.to_owned(), self.tls().members.clone()).await
    }

    /// Waits until a read of this member's state is linearizable; the leader's clock.
    ///
    /// # Errors
    ///
    /// `no-leader` within a second where no leader confirms it.
    pub(super) async fn barrier(&self) -> Result<Clock, Failure> {
        let _traced = self
            .span
            .map(|span| span.child(telemetry::Kind::Internal, "confirm a read"));
        self.handle()
            .barrier()
            .await
            .map_err(|unserved| Failure::unserved(unserved, Purpose::Read))
    }

    /// Waits for a turn at making a page, first come first served; it ends when this is dropped. A connection has one at
    /// a time, so that nobody who asks for hundreds of pages makes all the others wait for them.
    ///
    /// # Errors
    ///
    /// `overloaded` where it does not come within the patience of a read: nobody who waits here notices anything else.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Failure> {
        self.turn_of(true).await
    }

    /// A turn at making an answer that is mostly short: a connection has one at a time, so that hundreds of them that are
    /// not short do not grow at once, and others are not waited for.
    ///
    /// # Errors
    ///
    /// As [`Context::turn`].
    pub(super) async fn short_turn(&self) -> Result<Turn<'_>, Failure> {
        self.turn_of(false).await
    }

    async fn turn_of(&self, is_long: bool) -> Result<Turn<'_>, Failure> {
        let taken = async {
            let of_connection = Arc::clone(&self.own_turn.0).acquire_owned().await.ok();
            let of_member = match is_long {
                true => self.service.pages.acquire().await.ok(),
                false => None,
            };
            Turn {
                _of_connection: of_connection,
                _of_member: of_member,
            }
        };
        timeout(TURN_PATIENCE, taken).await.map_err(|_| {
            let detail = "others make pages and snapshots of this member's state, and the turn of this request did \
                not come within a second; ask again later, or another member, and for fewer at a time";
            Failure::new(Code::Overloaded, detail)
        })
    }

    /// Whether this member is in contact with a leader.
    pub(super) fn knows_leader(&self) -> bool {
        self.service.leader.borrow().leader.is_some()
    }

    /// What the lists of keys of this member share.
    pub(super) fn counts(&self) -> &Counts {
        &self.service.counts
    }

    /// Which log lines this process writes.
    pub(super) fn log_filter(&self) -> &LogFilter {
        &self.service.log_filter
    }

    /// What the watchers of this member share.
    pub(super) fn watchers(&self) -> &Arc<Watchers> {
        &self.service.watchers
    }

    /// How many requests wait at this member.
    pub(super) fn waiting_requests(&self) -> u64 {
        let free = self.service.waits.available_permits();
        self.service.most_waits.saturating_sub(free) as u64
    }

    /// A place among the requests that wait.
    ///
    /// # Errors
    ///
    /// `too-many-waiters`.
    pub(super) fn wait_permit(&self) -> Result<WaitPermit, Failure> {
        let all = (self.service.most_waits as u64, "waiting_requests");
        let shares = &self.service.wait_shares;
        let share = self.sharer().map(|identity| shares.take(identity, all));
        let share = share.transpose()?;
        let place = Arc::clone(&self.service.waits)
            .try_acquire_owned()
            .map_err(|_| {
                let most = self.service.most_waits;
                let detail =
                    format!("{most} requests wait at this member already; ask another, or later");
                Failure::new(Code::TooManyWaiters, detail)
            })?;
        Ok(WaitPermit {
            _place: place,
            _share: share,
        })
    }

    /// Who asks, where it has a share only of what all have.
    pub(super) fn sharer(&self) -> Option<&str> {
        let identity = self.caller.principal().identity()?;
        let shares = |state: &State| self.caller.shares(state.access());
        self.handle().read(shares).then_some(identity)
    }
}

/// A place among the requests that wait, given back when it is dropped.
pub(super) struct WaitPermit {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// What a connection has of turns at making pages.
#[derive(Clone)]
pub(super) struct OwnTurn(Arc<Semaphore>);

impl OwnTurn {
    /// One turn at a time.
    pub(super) fn new() -> OwnTurn {
        OwnTurn(Arc::new(Semaphore::new(1)))
    }
}

/// A turn at making a page, until it is dropped. The semaphores are never closed.
pub(super) struct Turn<'a> {
    _of_connection: Option<OwnedSemaphorePermit>,
    _of_member: Option<SemaphorePermit<'a>>,
}

/// Pages are made by half of the threads at most: a page of 4 MiB keeps one busy for milliseconds, and whoever asks for
/// hundreds of them must not make everybody else wait for all.
fn pages_at_a_time() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| (threads.get() / 2).max(1))
}

/// The method, if any path takes it: there must not be as many as callers think of.
fn known(method: &Method) -> &'static str {
    const KNOWN: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    const NAMES: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let at = KNOWN.iter().position(|known| known == method);
    at.map_or("other", |at| NAMES[at])
}

/// An id for a request that brought none.
pub(super) fn made_id(seed: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{seed:016x}")).expect("hex digits are a header")
}

impl Answered {
    /// Counts it, and writes one line for it; what a server's fault is, an operator sees without asking for it.
    pub(super) fn note(&mut self, status: StatusCode, metrics: &Metrics) {
        let (id, method, route) = (self.id.to_str().unwrap_or(""), &self.method, self.route);
        let took = self.arrived.elapsed();
        let request = telemetry::Request {
            route,
            method: known(method),
            status: status.as_u16(),
        };
        metrics.answered(&request, took);
        let code = self.code.map_or("", Code::as_str);
        let status = status.as_u16();
        let trace = self.span.as_ref().map(Span::trace_id);
        if let Some(mut span) = self.span.take() {
            span.set("http.request.method", known(method));
            span.set("http.route", route);
            span.set("http.response.status_code", i64::from(status));
            if !code.is_empty() {
                span.set("tenure.problem", code);
            }
            // What a caller did wrong is no failure of a server (OpenTelemetry, HTTP spans).
            if status >= 500 {
                span.fail(code);
            }
        }
        // A probe that finds a member not ready has its answer; nobody was refused.
        if status >= 500 && self.code.is_some() {
            tracing::warn!(request = id, %method, route, status, code, ?took, trace, "request was not served");
        } else {
            tracing::debug!(request = id, %method, route, status, code, ?took, trace, "request was answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tenure_state::{
        AccessChange, Genesis, Identity, Principal, Quota, RoleGrant, TokenId, Verb,
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
