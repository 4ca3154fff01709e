//! Access control: whether it is on, who asks, and the roles, identities and tokens (`api.md` §10).
//!
//! Owns the calls. What a role grants is judged in the state machine; all of it is replicated, and changed by entries that
//! no revision counts. A change is not recorded for repeats: putting and deleting the same again is harmless, and a token
//! cannot be shown twice, so that creating one refuses an `Idempotency-Key`.

pub(super) mod identities;
pub(super) mod roles;
pub(super) mod tokens;

use tenure_api::{self as api, AccessSwitch};
use tenure_state::{AccessChange, Answer, Command, Refusal, Revision};

use super::audit::{Act, Audit};
use super::caller::token_shown;
use super::failure::{Failure, Purpose};
use super::reading::{Reading, Settled};
use super::reply::Reply;
use super::rights::{self, Needed};
use super::service::Context;
use super::text;
use super::versions;

/// On a page unless it is asked for otherwise, and at most. A page is made in one hold of the state.
const PAGE_DEFAULT: u64 = 100;
const PAGE_MOST: u64 = 1_000;
/// Not a page of many thousand grants either.
const PAGE_GRANTS: usize = 4_096;

/// `GET /v1/whoami`
pub(super) async fn who_am_i(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let settled = reading.settle(&cx, &Needed::NOTHING).await?;
    let (principal, expires_in) = (cx.caller().principal(), cx.caller().expires_in());
    let shown = cx.read(&Needed::NOTHING, |state| {
        let access = state.access();
        let identity = access.identity(principal.name());
        let switch = match access.enabled() {
            true => AccessSwitch::On,
            false => AccessSwitch::Off,
        };
        api::WhoAmI {
            identity: principal.name().to_owned(),
            roles: identity.map_or(Vec::new(), |identity| identity.roles.clone()),
            access: switch,
            token: token_shown(principal.token()),
            expires_in_ms: expires_in.map(|left| u64::try_from(left.as_millis()).unwrap_or(0)),
            revision: state.revision().0,
        }
    })?;
    Ok(settled.mark(Reply::json(200, Revision(shown.revision), &shown)?))
}

/// `GET /v1/access`
pub(super) async fn read(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let settled = admin(&cx, reading).await?;
    let shown = cx.handle().read(|state| api::Access {
        enabled: state.access().enabled(),
        revision: state.revision().0,
    });
    Ok(settled.mark(Reply::json(200, Revision(shown.revision), &shown)?))
}

/// `PATCH /v1/access`
pub(super) async fn change(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::ChangeAccess = cx.json().await?;
    let enabled = asked.enabled;
    let words = match enabled {
        true => "on",
        false => "off",
    };
    let change = AccessChange::Enable { enabled };
    let revision = changed(&cx, "access control", words.to_owned(), change).await?;
    let shown = api::Access {
        enabled,
        revision: revision.0,
    };
    Reply::json(200, revision, &shown)
}

/// Brings this member to a state that an administrator may read.
async fn admin(cx: &Context<'_>, reading: Reading) -> Result<Settled, Failure> {
    let needed = rights::admin();
    let settled = reading.settle(cx, &needed).await?;
    cx.read(&needed, |_| ())?;
    Ok(settled)
}

/// Has something changed, and tells the audit; the present revision.
async fn changed(
    cx: &Context<'_>,
    what: &'static str,
    asked: String,
    change: AccessChange,
) -> Result<Revision, Failure> {
    let audit = Audit::of(cx, Act::Change { what, asked });
    let result = submitted(cx, change).await.map_err(Unchanged::into_failure);
    audit.tell(&result, &[]);
    result
}

/// Why something was not changed.
enum Unchanged {
    /// The id that was drawn is in use.
    Taken,
    /// Anything else.
    Failure(Failure),
}

impl Unchanged {
    fn into_failure(self) -> Failure {
        match self {
            Unchanged::Taken => Failure::new(
                api::Code::Overloaded,
                "no free id was drawn for the token; ask again",
            ),
            Unchanged::Failure(failure) => failure,
        }
    }
}

async fn submitted(cx: &Context<'_>, change: AccessChange) -> Result<Revision, Unchanged> {
    versions::check_access_is_known(cx)
        .await
        .map_err(Unchanged::Failure)?;
    check_proofs(cx, &change).map_err(Unchanged::Failure)?;
    // Made twice it is the same as once, but for a token, whose secret would be lost with the answer.
    let purpose = match &change {
        AccessChange::CreateToken { .. } => Purpose::Write,
        AccessChange::PutRole { .. }
        | AccessChange::DeleteRole { .. }
        | AccessChange::PutIdentity { .. }
        | AccessChange::DeleteIdentity { .. }
        | AccessChange::DeleteToken { .. }
        | AccessChange::Enable { .. } => Purpose::RepeatableWrite,
    };
    let decided = cx.submit(Command::ChangeAccess(change), purpose).await;
    let decided = decided.map_err(Unchanged::Failure)?;
    match decided.outcome {
        Ok(Answer::AccessChanged { revision }) => Ok(revision),
        Ok(_) => Err(Unchanged::Failure(Failure::unexpected())),
        Err(Refusal::TokenIdTaken) => Err(Unchanged::Taken),
        Err(refusal) => Err(Unchanged::Failure(Failure::refused(
            refusal,
            decided.clock,
            decided.revision,
        ))),
    }
}

/// Refuses a change after which administrators could prove who they are by certificates alone, where this member takes none:
/// they count in the replicated state, and would open nothing. Of other members it knows nothing; one that takes certificates
/// may be asked. Where it has been so before, every change would be refused, and none is.
fn check_proofs(cx: &Context<'_>, change: &AccessChange) -> Result<(), Failure> {
    let takes_certificates = cx
        .tls()
        .clients
        .as_ref()
        .is_some_and(|port| port.verifies());
    if takes_certificates {
        return Ok(());
    }
    let locks_out = cx.handle().read(|state| {
        let access = state.access();
        let is_on_then = match change {
            AccessChange::Enable { enabled } => *enabled,
            _ => access.enabled(),
        };
        let was_so = access.enabled() && access.administered(None).needs_certificates();
        is_on_then && !was_so && access.administered(Some(change)).needs_certificates()
    });
    match locks_out {
        false => Ok(()),
        true => Err(Failure::new(
            api::Code::AccessConflict,
            "administrators could prove who they are by client certificates alone, and this member takes none: its setting \
             client_ca_file is missing; give one of them a token that does not expire, or ask a member that takes certificates",
        )),
    }
}

/// Which page is asked for.
struct Paging {
    reading: Reading,
    limit: usize,
    start_after: Option<String>,
}

/// A page, and what follows it.
struct Paged<T> {
    items: Vec<T>,
    next: Option<String>,
    count: u64,
    revision: Revision,
    settled: Settled,
}

impl Paging {
    fn of(cx: &mut Context<'_>) -> Result<Paging, Failure> {
        let reading = Reading::of(cx)?;
        let limit = cx.query.take("limit")?;
        let limit = limit.map(|text| text::number("limit", &text, 1, PAGE_MOST));
        let limit = limit.transpose()?.unwrap_or(PAGE_DEFAULT);
        let start_after = cx.query.take("start_after")?;
        let start_after = start_after.map(|name| text::prefix("start_after", name));
        let paging = Paging {
            reading,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            start_after: start_after.transpose()?,
        };
        cx.finish_query()?;
        Ok(paging)
    }

    /// Reads the page. `all` shows everything in order, each beside what it is found by and how much it adds to a page.
    async fn read<T>(
        self,
        cx: &mut Context<'_>,
        all: impl FnOnce(&tenure_state::Access, Option<&str>) -> (u64, Vec<(String, usize, T)>),
    ) -> Result<Paged<T>, Failure> {
        cx.no_body().await?;
        let settled = admin(cx, self.reading).await?;
        let after = self.start_after.as_deref();
        let (count, found, revision) = cx.handle().read(|state| {
            let (count, found) = all(state.access(), after);
            (count, found, state.revision())
        });
        let mut weight = 0;
        let fitting = found.iter().take(self.limit).take_while(|(_, adds, _)| {
            let is_first = weight == 0;
            weight += adds + 1;
            is_first || weight <= PAGE_GRANTS
        });
        let fitting = fitting.count();
        let more = fitting < found.len();
        let next = found[..fitting].last().filter(|_| more);
        Ok(Paged {
            next: next.map(|(name, ..)| name.clone()),
            items: found
                .into_iter()
                .take(fitting)
                .map(|(_, _, item)| item)
                .collect(),
            count,
            revision,
            settled,
        })
    }
}

impl<T> Paged<T> {
    fn answer(&self, shown: &impl serde::Serialize) -> Result<Reply, Failure> {
        Ok(self.settled.mark(Reply::json(200, self.revision, shown)?))
    }
}

/// One more than a page has shows that there is more.
const READ_MOST: usize = PAGE_MOST as usize + 1;

/// Those behind a name, as many as a page may have and one more.
fn behind<'a, T>(
    all: impl Iterator<Item = (&'a str, T)>,
    after: Option<&str>,
) -> impl Iterator<Item = (&'a str, T)> {
    all.skip_while(move |(name, _)| after.is_some_and(|after| *name <= after))
        .take(READ_MOST)
}
