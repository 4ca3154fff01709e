//! The first start of a cluster: members without data find each other and agree on who they are.
//!
//! Owns the one moment at which a cluster comes to be. All members are told the same list of names and peer URLs. The
//! one with the least name writes the first configuration, once it has reached every other and each says that it is
//! empty and was told the same list; it offers it to the others until they have it. The limits that the cluster begins
//! with are part of it: those of the one that writes it, so that no two members can begin with different ones. Never forms beside a cluster that
//! knows this member's name: a member that lost its data has lost its votes too, and one that voted again could
//! elect a second leader for a term, or commit what a majority never had. It waits until an operator has it replaced, and
//! is then admitted as a newcomer (`joining`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_raft::{Configuration, MemberId, MemberInfo};
use tenure_replica::remedy;
use tenure_state::{ACCESS_STATE_VERSION, Limits, RootToken, STATE_VERSION};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::joining::{Joined, admitted};
use crate::tls::{Calling, Port};
use crate::transport::{
    ClusterId, DialError, Form, FormMember, Hello, Offer, Refusal, Transport, WIRE_VERSION,
    ask_hello, check_peer_url, offer_form,
};

/// Pause between rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(250);
/// After so many rounds in which a cluster could not be looked at, that is said.
const BLIND_ROUNDS: u32 = 6;

/// How often the log says who is still missing.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// How often a member that must be replaced says so.
const REPLACE_INTERVAL: Duration = Duration::from_secs(30);

/// Pause between offers to members that do not have the first configuration yet.
const OFFER_PAUSE: Duration = Duration::from_secs(1);

/// The same, for members that cannot be reached at all or must not have it: nothing is lost by asking rarely.
const OFFER_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A cluster that was formed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Formed {
    /// Its id.
    pub cluster: ClusterId,
    /// Its first configuration.
    pub configuration: Configuration,
    /// The limits it begins with.
    pub limits: Limits,
    /// The token that may do everything, where it begins with access control on.
    pub root: Option<RootToken>,
    /// The version of the rules it begins with: the newest that all of its first members can follow.
    pub state_version: u64,
}

/// What a cluster begins with whose first configuration a member writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Beginning {
    /// Its limits.
    pub limits: Limits,
    /// The token that may do everything, where it is to begin with access control on. A member that was told one takes
    /// part in no cluster that begins with another, or without.
    pub root: Option<RootToken>,
    /// The newest version of the rules that this member can follow.
    pub state_version_at_most: u64,
}

impl Default for Beginning {
    fn default() -> Beginning {
        Beginning {
            limits: Limits::default(),
            root: None,
            state_version_at_most: STATE_VERSION,
        }
    }
}

impl Formed {
    /// As it is kept, to be offered again in the same words: by then an entry may have changed the limits.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.form()).expect("ids, texts and numbers are JSON")
    }

    /// What [`Formed::to_bytes`] kept; `None` where a member of another version kept something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Formed> {
        let form: Form = serde_json::from_slice(bytes).ok()?;
        Formed::of(&form).ok()
    }

    fn of(form: &Form) -> Result<Formed, String> {
        Ok(Formed {
            cluster: form.cluster,
            configuration: form.configuration(),
            limits: form.limits()?,
            root: form.root()?,
            state_version: form.state_version,
        })
    }

    fn form(&self) -> Form {
        Form::new(
            self.cluster,
            &self.configuration,
            &self.limits,
            (self.root.as_ref(), self.state_version),
        )
    }
}

/// What a member has become part of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Belonging {
    /// A cluster that was formed with it.
    Formed(Formed),
    /// A cluster that runs, and has admitted it in the place of a member of its name.
    Joined(Joined),
}

impl Belonging {
    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        match self {
            Belonging::Formed(formed) => formed.cluster,
            Belonging::Joined(joined) => joined.cluster,
        }
    }

    /// Who belongs to it, as far as this member knows.
    pub fn configuration(&self) -> &Configuration {
        match self {
            Belonging::Formed(formed) => &formed.configuration,
            Belonging::Joined(joined) => &joined.configuration,
        }
    }
}

/// Why no cluster can be formed or waited for.
#[derive(Debug, thiserror::Error)]
pub enum FormingError<E> {
    /// The list of initial members cannot be used.
    #[error("initial_members: {0}")]
    Members(String),
    /// The first configuration could not be written to disk.
    #[error("the first configuration could not be written: {0}")]
    Persist(E),
    /// The member is stopping.
    #[error("stopped before a cluster was formed")]
    Stopped,
}

/// Forms a cluster with the initial members of this member's identity, or waits until it is part of one. Only for a
/// member without data. Where this member writes the first configuration, the cluster begins with `beginning`. `persist` writes what the member belongs to to disk and returns when it is synced; it is called at
/// most once, on a thread where it may block. When this returns, the transport is connecting.
///
/// # Errors
/// Where the list of members is unusable, `persist` fails, or the transport is stopped.
///
/// Cancelling it leaves nothing half done: either the first configuration is on disk, or it is not.
pub async fn form_or_wait<E, P>(
    transport: &Transport,
    calling: &Calling,
    beginning: Beginning,
    persist: P,
) -> Result<Belonging, FormingError<E>>
where
    E: std::fmt::Display + Send + 'static,
    P: FnOnce(&Belonging) -> Result<(), E> + Send + 'static,
{
    let mut forming = Forming::new(transport, beginning)?;
    let mut offers = transport.take_offers().ok_or(FormingError::Stopped)?;
    let decision = tokio::select! {
        () = transport.stopped() => return Err(FormingError::Stopped),
        decision = forming.decide(&mut offers, calling) => decision,
    };
    let belonging = decision.belonging;
    let result = persist_blocking(belonging.clone(), persist).await;
    if result.is_ok() {
        let configuration = belonging.configuration();
        transport.update(belonging.cluster(), configuration, configuration);
        match &belonging {
            Belonging::Formed(formed) => {
                tracing::info!(cluster = %formed.cluster, members = configuration.info.len(), "cluster formed");
                forming.report_limits(&formed.limits);
            }
            Belonging::Joined(joined) => {
                tracing::info!(cluster = %joined.cluster, "admitted in the place of a member that lost its data");
            }
        }
    }
    if let Some(reply) = decision.reply {
        let refusal = |error: &FormingError<E>| Refusal {
            code: "not-written".to_owned(),
            detail: error.to_string(),
        };
        let told = result
            .as_ref()
            .err()
            .map_or(Ok(()), |error| Err(refusal(error)));
        // Where the one that offered is gone, it asks again and finds out.
        let _ = reply.send(told);
    }
    result.map(|()| belonging)
}

async fn persist_blocking<E, P>(belonging: Belonging, persist: P) -> Result<(), FormingError<E>>
where
    E: std::fmt::Display + Send + 'static,
    P: FnOnce(&Belonging) -> Result<(), E> + Send + 'static,
{
    match tokio::task::spawn_blocking(move || persist(&belonging)).await {
        Ok(written) => written.map_err(FormingError::Persist),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(FormingError::Stopped),
        },
    }
}

/// What this member is to persist, and who waits for it to have done so.
struct Decision {
    belonging: Belonging,
    reply: Option<tokio::sync::oneshot::Sender<Result<(), Refusal>>>,
}

/// A member without data, on its way to a cluster.
struct Forming {
    name: String,
    member: MemberId,
    client_url: String,
    /// What secures connections with them.
    tls: Option<Arc<Port>>,
    /// Names to peer URLs, this member included.
    members: BTreeMap<String, String>,
    /// What a cluster begins with whose first configuration this member writes.
    beginning: Beginning,
    /// What the log said last about each member, so that it says each change once.
    said: BTreeMap<String, String>,
    progress_said: Instant,
    replace_said: Option<Instant>,
    /// In so many rounds a cluster that counts on this member could not be looked at.
    blind_rounds: u32,
}

/// What one member is to another that wants to form.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Finding {
    /// It is empty, was told the same, and has this id and client URL.
    Ready {
        member: MemberId,
        client_url: String,
        state_version_at_most: u64,
    },
    /// It is not there, yet.
    Missing(String),
    /// It belongs to a cluster that counts on this very member, which has not received its first configuration yet.
    Awaited,
    /// It belongs to a cluster that knows this name under another id: this member lost its data.
    Known { cluster: ClusterId, id: MemberId },
    /// No cluster can be formed with it as things are; says what is wrong.
    Unfit(String),
}

impl Forming {
    fn new<E>(transport: &Transport, beginning: Beginning) -> Result<Forming, FormingError<E>> {
        let identity = transport.directory().identity();
        let members = identity.initial_members.clone().unwrap_or_default();
        check_members(&identity.name, &members).map_err(FormingError::Members)?;
        Ok(Forming {
            name: identity.name.clone(),
            member: identity.member,
            client_url: identity.client_url.clone(),
            tls: transport.tls().cloned(),
            members,
            beginning,
            said: BTreeMap::new(),
            progress_said: Instant::now(),
            replace_said: None,
            blind_rounds: 0,
        })
    }

    /// Asks around until there is a first configuration: one to write, or one that was offered.
    async fn decide(&mut self, offers: &mut mpsc::Receiver<Offer>, calling: &Calling) -> Decision {
        loop {
            let asking = ask_all(self.tls.as_ref(), self.others());
            tokio::select! {
                biased;
                Some(offer) = offers.recv() => {
                    if let Some(decision) = self.consider(offer) {
                        return decision;
                    }
                }
                answers = asking => {
                    let awaiting = self.awaiting(&answers);
                    if let Some(formed) = self.look_at(answers) {
                        let belonging = Belonging::Formed(formed);
                        return Decision { belonging, reply: None };
                    }
                    if let Some(joined) = self.admitted_by(calling, awaiting).await {
                        let belonging = Belonging::Joined(joined);
                        return Decision { belonging, reply: None };
                    }
                    if let Some(decision) = self.pause(offers).await {
                        return decision;
                    }
                }
            }
        }
    }

    /// Says that the cluster which counts on this member cannot be looked at: not at once, since a cluster that has just been
    /// formed soon offers what it has, and then again and again.
    fn cannot_look(&mut self, url: &str, error: &str) {
        self.blind_rounds += 1;
        if self.blind_rounds == BLIND_ROUNDS || self.blind_rounds.is_multiple_of(10 * BLIND_ROUNDS)
        {
            tracing::warn!(
                cluster = url,
                "a cluster counts on {}, which cannot look at it at {url} as clients do: {error}; where that is about \
                 certificates or rights, give this member join_ca_file and join_token_file",
                self.name
            );
        }
    }

    /// Where clients reach the members whose cluster counts on this one, under the id that it has now.
    fn awaiting(&self, answers: &BTreeMap<String, Result<Hello, DialError>>) -> Vec<String> {
        let counts = |hello: &&Hello| {
            hello.cluster.is_some()
                && hello.known_names.get(&self.name).map(|known| known.0) == Some(self.member)
        };
        let hellos = answers.values().flatten().filter(counts);
        hellos.map(|hello| hello.client_url.clone()).collect()
    }

    /// The cluster of which this member is a learner, as the first of these shows it that does. One that does not show it
    /// may not have heard of it yet.
    async fn admitted_by(&mut self, calling: &Calling, urls: Vec<String>) -> Option<Joined> {
        let mut blind = None;
        for url in urls {
            match admitted(calling, &url, self.member).await {
                Ok(Some(joined)) => return Some(joined),
                Ok(None) => {}
                Err(error) => blind = Some((url, error)),
            }
        }
        match blind {
            Some((url, error)) => self.cannot_look(&url, &error),
            None => self.blind_rounds = 0,
        }
        None
    }

    /// Waits a little for an offer.
    async fn pause(&self, offers: &mut mpsc::Receiver<Offer>) -> Option<Decision> {
        let offer = tokio::time::timeout(ROUND_PAUSE, offers.recv())
            .await
            .ok()
            .flatten()?;
        self.consider(offer)
    }

    fn others(&self) -> Vec<(String, String)> {
        let others = self.members.iter().filter(|(name, _)| **name != self.name);
        others
            .map(|(name, url)| (name.clone(), url.clone()))
            .collect()
    }

    /// Judges one round of answers: the first configuration, where it is this member's to write and all are ready.
    fn look_at(&mut self, answers: BTreeMap<String, Result<Hello, DialError>>) -> Option<Formed> {
        let findings: BTreeMap<_, _> = answers
            .into_iter()
            .map(|(name, answer)| (name.clone(), self.judge(&name, answer)))
            .collect();
        self.report(&findings);
        if findings.keys().any(|other| *other < self.name) {
            return None;
        }
        let mut members = vec![self.describe(&self.name, self.member, &self.client_url)];
        let mut state_version = self.beginning.state_version_at_most;
        for (name, finding) in &findings {
            let Finding::Ready {
                member,
                client_url,
                state_version_at_most,
            } = finding
            else {
                return None;
            };
            state_version = state_version.min(*state_version_at_most);
            members.push(self.describe(name, *member, client_url));
        }
        members.sort_by_key(|member| member.id);
        let Beginning { limits, root, .. } = &self.beginning;
        let form = Form {
            members,
            ..Form::new(
                draw_cluster_id()?,
                &Configuration::default(),
                limits,
                (root.as_ref(), state_version),
            )
        };
        // Two members of one id can only be two copies of one data directory.
        form.check()
            .and_then(|()| Formed::of(&form))
            .inspect_err(|problem| tracing::error!("no cluster can be formed: {problem}"))
            .ok()
    }

    fn describe(&self, name: &str, id: MemberId, client_url: &str) -> FormMember {
        let peer_url = self.members.get(name).cloned().unwrap_or_default();
        FormMember {
            id,
            name: name.to_owned(),
            peer_url,
            client_url: client_url.to_owned(),
        }
    }

    fn judge(&self, name: &str, answer: Result<Hello, DialError>) -> Finding {
        let hello = match answer {
            Ok(hello) => hello,
            Err(DialError::Refused(refusal)) => {
                return Finding::Unfit(format!("it answers {refusal}"));
            }
            Err(error) => return Finding::Missing(error.to_string()),
        };
        if hello.wire_version != WIRE_VERSION {
            return Finding::Unfit(format!(
                "it speaks wire version {}, this member {WIRE_VERSION}",
                hello.wire_version
            ));
        }
        if let Some(cluster) = hello.cluster {
            return self.judge_formed(cluster, &hello);
        }
        if hello.name != name {
            return Finding::Unfit(format!(
                "at its URL is {}, correct the URL or the name",
                hello.name
            ));
        }
        if hello.member == self.member {
            return Finding::Unfit(
                "it has this member's id: its URL leads here, or a data directory was copied"
                    .to_owned(),
            );
        }
        match hello.initial_members {
            Some(theirs) if same_members(&theirs, &self.members) => self.judge_ready(
                name,
                hello.member,
                hello.client_url,
                hello.state_version_at_most,
            ),
            theirs => Finding::Unfit(format!(
                "it was told other initial members: {name} has {}, {} has {}; make them equal",
                show(theirs.as_ref()),
                self.name,
                show(Some(&self.members))
            )),
        }
    }

    /// A member that is empty and was told the same.
    fn judge_ready(
        &self,
        name: &str,
        member: MemberId,
        client_url: String,
        state_version_at_most: u64,
    ) -> Finding {
        if self.beginning.root.is_some() && state_version_at_most < ACCESS_STATE_VERSION {
            return Finding::Unfit(format!(
                "a cluster that begins with root_token_file follows state version {ACCESS_STATE_VERSION}, and {name} can follow up to \
                 {state_version_at_most}: give it a newer program, or take state_version_at_most out of its settings"
            ));
        }
        Finding::Ready {
            member,
            client_url,
            state_version_at_most,
        }
    }

    fn judge_formed(&self, cluster: ClusterId, hello: &Hello) -> Finding {
        match hello.known_names.get(&self.name) {
            Some(known) if known.0 == self.member => Finding::Awaited,
            Some(known) => Finding::Known {
                cluster,
                id: known.0,
            },
            None => Finding::Unfit(format!(
                "{} belongs to cluster {cluster}, which has no member called {}: add this member to it, or correct the URL",
                hello.name, self.name
            )),
        }
    }

    /// Says what changed, and every few seconds who is missing.
    fn report(&mut self, findings: &BTreeMap<String, Finding>) {
        for (name, finding) in findings {
            match finding {
                Finding::Unfit(problem) => self.say_once(name, problem),
                Finding::Known { cluster, id } => self.say_known(*cluster, *id),
                Finding::Ready { .. } | Finding::Missing(_) | Finding::Awaited => {
                    self.said.remove(name);
                }
            }
        }
        if self.progress_said.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.progress_said = Instant::now();
        let missing = findings.iter().filter_map(|(name, finding)| match finding {
            Finding::Missing(reason) => {
                Some(format!("{name} at {} ({reason})", self.members.get(name)?))
            }
            Finding::Ready { .. }
            | Finding::Awaited
            | Finding::Known { .. }
            | Finding::Unfit(_) => None,
        });
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            tracing::info!(
                "waiting for the first configuration from {}",
                self.members.keys().next().unwrap_or(&self.name)
            );
        } else {
            tracing::info!(
                "waiting to form the cluster: not reached {}",
                missing.join(", ")
            );
        }
    }

    fn say_once(&mut self, name: &str, problem: &str) {
        if self.said.get(name).is_none_or(|said| said != problem) {
            tracing::error!(peer = name, "cannot form a cluster with {name}: {problem}");
            self.said.insert(name.to_owned(), problem.to_owned());
        }
    }

    fn say_known(&mut self, cluster: ClusterId, id: MemberId) {
        if self
            .replace_said
            .is_some_and(|said| said.elapsed() < REPLACE_INTERVAL)
        {
            return;
        }
        self.replace_said = Some(Instant::now());
        tracing::error!(
            %cluster,
            "cluster {cluster} knows {} as member {id}, but this data directory is empty (it drew {}): its votes are lost, so it \
             neither votes nor forms a cluster; restore the directory of {id}, or replace that member; waiting",
            self.name, self.member
        );
    }

    /// Takes an offer, if it is for this member as it is.
    fn consider(&self, offer: Offer) -> Option<Decision> {
        match self.check_offer(&offer.form) {
            Ok(formed) => Some(Decision {
                belonging: Belonging::Formed(formed),
                reply: Some(offer.reply),
            }),
            Err(detail) => {
                tracing::warn!(cluster = %offer.form.cluster, "first configuration refused: {detail}");
                let _ = offer.reply.send(Err(Refusal {
                    code: "not-for-me".to_owned(),
                    detail,
                }));
                None
            }
        }
    }

    fn check_offer(&self, form: &Form) -> Result<Formed, String> {
        let Some(me) = form.members.iter().find(|member| member.id == self.member) else {
            return Err(format!(
                "it has no member {}, which {} is",
                self.member, self.name
            ));
        };
        if me.name != self.name {
            return Err(format!(
                "it calls {} {}, which is called {}",
                self.member, me.name, self.name
            ));
        }
        let offered = form
            .members
            .iter()
            .map(|member| (member.name.clone(), member.peer_url.clone()))
            .collect();
        if !same_members(&offered, &self.members) {
            return Err(format!(
                "its members are {}, {} was told {}",
                show(Some(&offered)),
                self.name,
                show(Some(&self.members))
            ));
        }
        let formed = Formed::of(form)?;
        let most = self.beginning.state_version_at_most;
        if most < formed.state_version {
            return Err(format!(
                "it begins with state version {}, and {} can follow up to {most}: {}",
                formed.state_version,
                self.name,
                remedy(most)
            ));
        }
        match &self.beginning.root {
            Some(told) if formed.root.as_ref() != Some(told) => Err(format!(
                "{} was told to begin with access control and the root token {}, and it begins with {}; give every member \
                 the same root_token_file",
                self.name,
                told.id,
                match &formed.root {
                    Some(root) if root.id == told.id => "another secret of that token".to_owned(),
                    Some(root) => format!("the root token {}", root.id),
                    None => "neither".to_owned(),
                }
            )),
            _ => Ok(formed),
        }
    }

    /// Says which of this member's settings were not asked for, because another member wrote the first configuration.
    fn report_limits(&self, limits: &Limits) {
        for ((name, value), (_, here)) in limits.named().zip(self.beginning.limits.named()) {
            if value != here {
                tracing::warn!(
                    "the new cluster begins with {name} {value}, as {} was told; {} was told {here}, which changes nothing",
                    self.members.keys().next().unwrap_or(&self.name),
                    self.name
                );
            }
        }
    }
}

/// Asks every member at once.
async fn ask_all(
    tls: Option<&Arc<Port>>,
    others: Vec<(String, String)>,
) -> BTreeMap<String, Result<Hello, DialError>> {
    let mut asking = JoinSet::new();
    for (name, url) in others {
        let tls = tls.cloned();
        asking.spawn(async move { (name, ask_hello(tls.as_deref(), &url).await) });
    }
    asking.join_all().await.into_iter().collect()
}

/// Offers the first configuration to each of these members that is still empty, until all have it or the transport stops.
///
/// Every member that has it does so, whoever wrote it and also after a restart: were it one member's task alone, its
/// loss would leave the others waiting for ever. In the words in which it was given it: what it has now is no guide, an
/// entry may have changed the limits since.
pub async fn keep_offering(
    transport: &Transport,
    formed: &Formed,
    members: &BTreeMap<MemberId, MemberInfo>,
) {
    let form = formed.form();
    let own = transport.directory().identity().member;
    let mut offering = JoinSet::new();
    for (id, info) in members.iter().filter(|(id, _)| **id != own) {
        offering.spawn(offer_until_taken(
            transport.tls().cloned(),
            form.clone(),
            *id,
            info.clone(),
        ));
    }
    tokio::select! {
        () = transport.stopped() => {}
        () = async { while offering.join_next().await.is_some() {} } => {}
    }
}

async fn offer_until_taken(tls: Option<Arc<Port>>, form: Form, id: MemberId, info: MemberInfo) {
    let mut pause = OFFER_PAUSE / 4;
    let mut said = None;
    loop {
        match offer_once(tls.as_deref(), &form, id, &info).await {
            Ok(()) => return,
            Err(problem) => {
                if let Some(problem) = problem
                    && said.as_ref() != Some(&problem)
                {
                    tracing::error!(peer = %info.name, member = %id, "first configuration not given to {}: {problem}", info.name);
                    said = Some(problem);
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(if said.is_some() {
            OFFER_PAUSE_MAX
        } else {
            OFFER_PAUSE
        });
    }
}

/// Returns `Ok` when the member has the configuration; otherwise what an operator should know, if anything.
async fn offer_once(
    tls: Option<&Port>,
    form: &Form,
    id: MemberId,
    info: &MemberInfo,
) -> Result<(), Option<String>> {
    let hello = ask_hello(tls, &info.peer_url).await.map_err(|_| None)?;
    match hello.cluster {
        Some(cluster) if cluster == form.cluster => return Ok(()),
        Some(cluster) => {
            return Err(Some(format!(
                "it belongs to cluster {cluster}, not to {}",
                form.cluster
            )));
        }
        None => {}
    }
    if hello.member != id {
        // It had a vote under its old id and may not get another: only replacing it is safe.
        return Err(Some(format!(
            "it is empty and has drawn id {}, so it lost the data of {id}: replace that member",
            hello.member
        )));
    }
    match offer_form(tls, (&info.name, &info.peer_url), form).await {
        Ok(()) => Ok(()),
        Err(DialError::Refused(refusal)) if refusal.code != "not-forming" => {
            Err(Some(refusal.to_string()))
        }
        Err(_) => Err(None),
    }
}

fn check_members(name: &str, members: &BTreeMap<String, String>) -> Result<(), String> {
    if !members.contains_key(name) {
        return Err(format!(
            "this member, {name}, is not among them: {}",
            show(Some(members))
        ));
    }
    for (name, url) in members {
        check_peer_url(url).map_err(|error| format!("{name}: {error}"))?;
    }
    let urls: std::collections::BTreeSet<_> = members.values().map(|url| trimmed(url)).collect();
    match urls.len() == members.len() {
        true => Ok(()),
        false => Err(format!(
            "two of them have the same URL: {}",
            show(Some(members))
        )),
    }
}

/// Whether two lists mean the same members.
fn same_members(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) -> bool {
    let plain = |(name, url): (&String, &String)| (name.clone(), trimmed(url).to_owned());
    left.iter().map(plain).eq(right.iter().map(plain))
}

fn trimmed(url: &str) -> &str {
    url.trim_end_matches('/')
}

fn show(members: Option<&BTreeMap<String, String>>) -> String {
    let list = members
        .into_iter()
        .flatten()
        .map(|(name, url)| format!("{name}={url}"))
        .collect::<Vec<_>>();
    if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(",")
    }
}

/// A random id; `None` where the system has no randomness to give, which the next round may change.
fn draw_cluster_id() -> Option<ClusterId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .inspect_err(|error| tracing::error!(%error, "no randomness for a cluster id"))
        .ok()?;
    Some(ClusterId(u128::from_be_bytes(bytes).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::KnownMember;
    use tenure_state::TokenId;

    fn list(members: &[(&str, &str)]) -> BTreeMap<String, String> {
        members
            .iter()
            .map(|(name, url)| ((*name).to_owned(), (*url).to_owned()))
            .collect()
    }

    fn forming() -> Forming {
        Forming {
            name: "n2".to_owned(),
            member: MemberId(2),
            client_url: "http://c2".to_owned(),
            tls: None,
            members: list(&[("n1", "http://a"), ("n2", "http://b")]),
            beginning: Beginning::default(),
            said: BTreeMap::new(),
            progress_said: Instant::now(),
            replace_said: None,
            blind_rounds: 0,
        }
    }

    fn hello() -> Hello {
        Hello {
            wire_version: WIRE_VERSION,
            name: "n1".to_owned(),
            member: MemberId(1),
            client_url: "http://c1".to_owned(),
            cluster: None,
            initial_members: Some(list(&[("n1", "http://a/"), ("n2", "http://b")])),
            known_names: BTreeMap::new(),
            known_urls: BTreeMap::new(),
            state_version_at_most: STATE_VERSION,
        }
    }

    fn judged(change: impl FnOnce(&mut Hello)) -> Finding {
        let mut hello = hello();
        change(&mut hello);
        forming().judge("n1", Ok(hello))
    }

    fn check_unfit(change: impl FnOnce(&mut Hello), names: &[&str]) {
        let Finding::Unfit(problem) = judged(change) else {
            panic!("must be unfit")
        };
        assert!(names.iter().all(|name| problem.contains(name)), "{problem}");
    }

    #[test]
    fn an_empty_member_with_the_same_list_is_ready() {
        let ready = Finding::Ready {
            member: MemberId(1),
            client_url: "http://c1".to_owned(),
            state_version_at_most: STATE_VERSION,
        };
        assert_eq!(judged(|_| ()), ready);
    }

    #[test]
    fn lists_that_differ_are_both_shown() {
        let other = list(&[("n1", "http://a"), ("n3", "http://c")]);
        check_unfit(
            |h| h.initial_members = Some(other),
            &["n3=http://c", "n2=http://b"],
        );
        check_unfit(|h| h.initial_members = None, &["none", "n2=http://b"]);
    }

    #[test]
    fn a_url_that_leads_elsewhere_is_reported() {
        check_unfit(|h| h.name = "n9".to_owned(), &["n9"]);
        check_unfit(|h| h.member = MemberId(2), &["copied"]);
        check_unfit(|h| h.wire_version = 9, &["9"]);
    }

    #[test]
    fn a_cluster_that_knows_the_name_is_never_formed_beside() {
        let cluster = ClusterId(7);
        let formed = |id| {
            move |h: &mut Hello| {
                h.cluster = Some(cluster);
                h.known_names
                    .insert("n2".to_owned(), KnownMember(MemberId(id)));
            }
        };
        assert_eq!(judged(formed(2)), Finding::Awaited);
        assert_eq!(
            judged(formed(5)),
            Finding::Known {
                cluster,
                id: MemberId(5)
            }
        );
        check_unfit(|h| h.cluster = Some(cluster), &[&cluster.to_string(), "n2"]);
    }

    fn offer(members: &[(u64, &str, &str)]) -> Form {
        let members = members.iter().map(|(id, name, url)| FormMember {
            id: MemberId(*id),
            name: (*name).to_owned(),
            peer_url: (*url).to_owned(),
            client_url: String::new(),
        });
        let formed = Formed {
            cluster: ClusterId(7),
            configuration: Configuration::default(),
            limits: Limits::default(),
            root: None,
            state_version: STATE_VERSION,
        };
        Form {
            members: members.collect(),
            ..formed.form()
        }
    }

    const BOTH: [(u64, &str, &str); 2] = [(1, "n1", "http://a"), (2, "n2", "http://b")];

    #[test]
    fn the_limits_of_an_offer_are_taken_and_kept_whatever_this_member_was_told() {
        let mut form = offer(&BOTH);
        form.limits.insert("keys".to_owned(), 77);
        let formed = forming().check_offer(&form).expect("it is for this member");
        assert_eq!(formed.limits.keys, 77);
        assert_eq!(Formed::from_bytes(&formed.to_bytes()), Some(formed));
    }

    #[test]
    fn whoever_was_told_a_root_token_takes_part_in_no_cluster_that_begins_otherwise() {
        let token = |id, byte| RootToken {
            id: TokenId(id),
            hash: [byte; 32],
        };
        let check = |told: Option<RootToken>, offered: Option<RootToken>, problem: Option<&str>| {
            let mut me = forming();
            me.beginning.root = told;
            let formed = Formed {
                root: offered.clone(),
                ..Formed::of(&offer(&BOTH)).expect("an offer")
            };
            assert_eq!(Formed::from_bytes(&formed.to_bytes()), Some(formed.clone()));
            let form = Form {
                members: offer(&BOTH).members,
                ..formed.form()
            };
            match (me.check_offer(&form), problem) {
                (Ok(taken), None) => assert_eq!(taken.root, offered),
                (Err(text), Some(problem)) => {
                    assert!(
                        text.contains(problem) && text.contains("root_token_file"),
                        "{text}"
                    );
                }
                (taken, _) => panic!("{taken:?}"),
            }
        };
        check(Some(token(5, 1)), Some(token(5, 1)), None);
        check(None, Some(token(5, 1)), None);
        check(None, None, None);
        check(Some(token(5, 1)), None, Some("begins with neither"));
        check(
            Some(token(5, 1)),
            Some(token(6, 1)),
            Some("token 0000000000000006"),
        );
        check(Some(token(5, 1)), Some(token(5, 2)), Some("another secret"));
    }

    /// What the first of two members writes, when the other says so and it was told so.
    fn first_of(theirs: u64, beginning: Beginning) -> (Finding, Option<Formed>) {
        let mut first = Forming {
            name: "n1".to_owned(),
            member: MemberId(1),
            beginning,
            ..forming()
        };
        let hello = Hello {
            name: "n2".to_owned(),
            member: MemberId(2),
            state_version_at_most: theirs,
            ..hello()
        };
        let finding = first.judge("n2", Ok(hello.clone()));
        let formed = first.look_at([("n2".to_owned(), Ok(hello))].into());
        (finding, formed)
    }

    #[test]
    fn a_cluster_begins_with_the_newest_rules_that_all_of_its_first_members_can_follow() {
        for (mine, theirs, begins) in [(2, 2, 2), (2, 1, 1), (1, 2, 1), (1, 1, 1)] {
            let beginning = Beginning {
                state_version_at_most: mine,
                ..Beginning::default()
            };
            let (_, formed) = first_of(theirs, beginning);
            let formed = formed.expect("both are ready");
            assert_eq!(formed.state_version, begins, "{mine} and {theirs}");
            assert_eq!(Formed::from_bytes(&formed.to_bytes()), Some(formed));
        }
    }

    #[test]
    fn a_root_token_and_a_member_that_cannot_follow_do_not_go_together() {
        let beginning = Beginning {
            root: Some(RootToken {
                id: TokenId(5),
                hash: [1; 32],
            }),
            ..Beginning::default()
        };
        let (finding, formed) = first_of(1, beginning);
        assert_eq!(formed, None);
        let Finding::Unfit(problem) = finding else {
            panic!("{finding:?}");
        };
        let named = ["root_token_file", "n2", "up to 1", "state_version_at_most"];
        assert!(named.iter().all(|part| problem.contains(part)), "{problem}");
    }

    #[test]
    fn members_of_before_there_were_versions_say_nothing_and_mean_the_first() {
        let mut said = serde_json::to_value(hello()).expect("it is JSON");
        said.as_object_mut()
            .expect("an object")
            .remove("state_version_at_most")
            .expect("it is said");
        let hello: Hello = serde_json::from_value(said).expect("it is one");
        assert_eq!(hello.state_version_at_most, 1);
        let mut form = serde_json::to_value(offer(&BOTH)).expect("it is JSON");
        form.as_object_mut()
            .expect("an object")
            .remove("state_version")
            .expect("it is said");
        let form: Form = serde_json::from_value(form).expect("it is one");
        let formed = forming().check_offer(&form).expect("it is taken");
        assert_eq!(formed.state_version, 1);
    }

    #[test]
    fn an_offer_with_rules_that_this_member_cannot_follow_is_refused() {
        let check = |most, offered, remedy: &str| {
            let mut me = forming();
            me.beginning.state_version_at_most = most;
            let form = Form {
                state_version: offered,
                ..offer(&BOTH)
            };
            let problem = me.check_offer(&form).expect_err("it is refused");
            let named = [&offered.to_string(), &most.to_string(), remedy];
            assert!(named.iter().all(|part| problem.contains(part)), "{problem}");
        };
        check(1, 2, "state_version_at_most");
        check(2, 3, "newer program");
    }

    #[test]
    fn an_offer_whose_root_token_is_none_is_refused_and_one_of_before_there_were_any_is_taken() {
        let json = |root: serde_json::Value| {
            let mut form = serde_json::to_value(offer(&BOTH)).expect("it is JSON");
            assert!(form.get("root").is_none(), "as before there were any");
            form["root"] = root;
            serde_json::from_value::<Form>(form)
        };
        let hash = "0a".repeat(32);
        let good = json(serde_json::json!({"id": "00000000000000a1", "sha256": hash}));
        let root = good.expect("its shape is right").root().expect("a token");
        assert_eq!(root.map(|root| root.id), Some(TokenId(0xa1)));
        for (id, sha256) in [
            ("a1", &hash[..]),
            ("00000000000000a1", "0a"),
            ("00000000000000A1", &hash),
        ] {
            let form =
                json(serde_json::json!({"id": id, "sha256": sha256})).expect("its shape is right");
            let problem = form.check().expect_err("it is refused");
            assert!(problem.contains("root token"), "{problem}");
            forming().check_offer(&form).expect_err("it is refused");
        }
    }

    #[test]
    fn an_offer_with_other_limits_than_this_member_has_is_refused() {
        let check = |name: &str, value: Option<u64>, problem: &str| {
            let mut form = offer(&BOTH);
            match value {
                Some(value) => form.limits.insert(name.to_owned(), value),
                None => form.limits.remove(name),
            };
            let found = form.check().expect_err("it is refused");
            assert!(found.contains(problem), "{found}");
            forming().check_offer(&form).expect_err("it is refused");
        };
        check("keys", None, "no limit keys");
        check("moons", Some(1), "moons");
        check("keys", Some(0), "keys is 0");
        check("value_bytes", Some(8 << 20), "request_bytes");
    }

    #[test]
    fn only_an_offer_for_this_member_as_it_is_is_taken() {
        let check = |members: &[_], taken: bool| {
            let result = forming().check_offer(&offer(members));
            assert_eq!(result.is_ok(), taken, "{members:?}: {result:?}");
        };
        check(&BOTH, true);
        check(&[(1, "n1", "http://a"), (5, "n2", "http://b")], false);
        check(&[(1, "n1", "http://a"), (2, "n9", "http://b")], false);
        check(&[(1, "n1", "http://x"), (2, "n2", "http://b")], false);
        check(&[(2, "n2", "http://b")], false);
    }

    #[test]
    fn lists_that_no_cluster_can_be_formed_of_are_refused() {
        let check = |members, problem: &str| {
            let found = check_members("n1", &list(members)).expect_err("must be refused");
            assert!(found.contains(problem), "{found}");
        };
        check(&[], "not among them: none");
        check(&[("n2", "http://b")], "not among them: n2=http://b");
        check(&[("n1", "a:1")], "http://host:port");
        check(&[("n1", "http://a"), ("n2", "http://a/")], "same URL");
    }
}
