//! Members that come and go, and who leads (`api.md` §8).
//!
//! Owns the calls: what is looked at before the leader is asked, and what its answer is told as. Every call may be
//! repeated: it answers what is so where that is as asked. Must never decide by itself whether a change is safe.

use std::sync::Arc;
use std::time::Duration;

use tenure_api::{
    AddMember, Code, LeadershipTransferred, MemberChanged, MemberRemoved, Retry, TransferLeadership,
};
use tenure_raft::{Change, Configuration, MemberId};
use tenure_replica::{AdminRequest, Operated};
use tokio::time::timeout;

use super::audit::{Act, Audit};
use super::cluster::{UNREACHABLE_AFTER, member};
use super::failure::{Failure, Purpose};
use super::membership::{self, Meant, Probed};
use super::reply::Reply;
use super::service::Context;
use super::versions;
use crate::node::Unserved;
use crate::transport::ClusterId;

/// Whoever is to lead does so within this time, or it is not known: an election takes less, and a leader that hands
/// over gives up sooner.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(4);

/// `POST /v1/cluster/members`
pub(super) async fn add(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: AddMember = cx.json().await?;
    membership::check(&asked)?;
    let audit = change_of(&cx, format!("add {}", in_words(&asked)));
    let added = added(&cx, &asked).await;
    audit.tell(&added, &[]);
    changed(&cx, 201, added?, Some(&asked)).await
}

async fn added(cx: &Context<'_>, asked: &AddMember) -> Result<MemberId, Failure> {
    let configuration = settled(cx).await?;
    let (probed, follows) = probed(cx, asked, None, &configuration).await?;
    let (id, info) = match probed {
        Probed::New(id, info) => (id, info),
        Probed::Present(id) => return present(asked, &configuration, id),
    };
    let promote = asked.promote;
    let change = Change::Add { id, info, promote };
    operate(cx, AdminRequest::Admit { change, follows }).await?;
    Ok(id)
}

/// Of a member that is there already: a member that joins asks for itself, so whoever was added as a learner stays one; but
/// nobody is told that a member is kept without a vote that it has, or is given.
fn present(
    asked: &AddMember,
    configuration: &Configuration,
    id: MemberId,
) -> Result<MemberId, Failure> {
    let stays_learner =
        configuration.learners.contains(&id) && !configuration.promoting.contains_key(&id);
    if asked.promote || stays_learner {
        return Ok(id);
    }
    Err(membership::not_safe(format!(
        "promote is false, and {} has a vote, or is given one once it has caught up; remove it, and add another as a learner",
        membership::called(configuration, id)
    )))
}

/// `POST /v1/cluster/members/{id}/replace`
pub(super) async fn replace(mut cx: Context<'_>, old: &str) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: AddMember = cx.json().await?;
    membership::check(&asked)?;
    if !asked.promote {
        let detail = "promote is false: whoever takes a member's place is given its vote; leave it out, or add a learner";
        return Err(Failure::invalid(detail));
    }
    let audit = change_of(&cx, format!("replace {old:?} by {}", in_words(&asked)));
    let replaced = replaced(&cx, old, &asked).await;
    audit.tell(&replaced, &[]);
    changed(&cx, 201, replaced?, Some(&asked)).await
}

async fn replaced(cx: &Context<'_>, old: &str, asked: &AddMember) -> Result<MemberId, Failure> {
    let configuration = settled(cx).await?;
    let meant = membership::find(&configuration, old)?;
    let (Meant::Member(old_id) | Meant::Removed(old_id)) = meant;
    let (probed, follows) = probed(cx, asked, Some(old_id), &configuration).await?;
    match (meant, probed) {
        (Meant::Member(old), Probed::New(id, info)) => {
            let change = Change::Replace { old, id, info };
            operate(cx, AdminRequest::Admit { change, follows }).await?;
            Ok(id)
        }
        // It was begun, or is done, and is asked for again.
        (Meant::Member(old), Probed::Present(id))
            if membership::takes_the_place(&configuration, old, id) =>
        {
            Ok(id)
        }
        (Meant::Removed(_), Probed::Present(id)) => Ok(id),
        (Meant::Member(old), Probed::Present(id)) if old == id => {
            Err(membership::not_safe(format!(
                "the member at {} is {} itself, with its data; stop it and start it with an empty data directory, or give \
             the addresses of the one that is to take its place",
                asked.peer_url,
                membership::called(&configuration, id)
            )))
        }
        (Meant::Member(old), Probed::Present(id)) => Err(membership::not_safe(format!(
            "{} is a member already and does not take the place of {}; remove that one when it is not needed any more",
            membership::called(&configuration, id),
            membership::called(&configuration, old)
        ))),
        (Meant::Removed(_), Probed::New(..)) => Err(membership::not_found(&configuration, old)),
    }
}

/// `POST /v1/cluster/members/{id}/promote`
pub(super) async fn promote(mut cx: Context<'_>, who: &str) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_fields().await?;
    let audit = change_of(&cx, format!("promote {who:?}"));
    let promoted = promoted(&cx, who).await;
    audit.tell(&promoted, &[]);
    changed(&cx, 200, promoted?, None).await
}

async fn promoted(cx: &Context<'_>, who: &str) -> Result<MemberId, Failure> {
    let configuration = settled(cx).await?;
    let Meant::Member(id) = membership::find(&configuration, who)? else {
        return Err(membership::not_found(&configuration, who));
    };
    let has_vote = configuration.voters.contains(&id) && !configuration.is_joint();
    if !has_vote {
        change(cx, Change::Promote(id)).await?;
    }
    Ok(id)
}

/// `DELETE /v1/cluster/members/{id}`
pub(super) async fn remove(mut cx: Context<'_>, who: &str) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let audit = change_of(&cx, format!("remove {who:?}"));
    let removed = removed(&cx, who).await;
    audit.tell(&removed, &[]);
    let removed = removed?;
    let revision = cx.handle().read(|state| state.revision());
    let told = MemberRemoved {
        removed: removed.to_string(),
        revision: revision.0,
    };
    Reply::json(200, revision, &told)
}

async fn removed(cx: &Context<'_>, who: &str) -> Result<MemberId, Failure> {
    let configuration = settled(cx).await?;
    match membership::find(&configuration, who)? {
        Meant::Member(id) => change(cx, Change::Remove(id)).await.map(|()| id),
        Meant::Removed(id) => Ok(id),
    }
}

/// `POST /v1/cluster/leader`
pub(super) async fn transfer(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: TransferLeadership = cx.json().await?;
    let to = asked.member.as_deref();
    let act = Act::Change {
        what: "leader",
        asked: to.map_or_else(|| "anybody else".to_owned(), |to| format!("{to:?}")),
    };
    let audit = Audit::of(&cx, act);
    let transferred = transferred(&cx, to).await;
    // Asked again, whoever leads by then would hand over as well.
    let transferred = match to {
        Some(_) => transferred,
        None => transferred.map_err(Failure::not_twice),
    };
    audit.tell(&transferred, &[]);
    let (leader, term) = transferred?;
    let revision = cx.handle().read(|state| state.revision());
    let told = LeadershipTransferred {
        leader: leader.to_string(),
        term,
        revision: revision.0,
    };
    Reply::json(200, revision, &told)
}

/// Has the leader hand over, and waits until it has: who leads then, and in which term.
async fn transferred(cx: &Context<'_>, to: Option<&str>) -> Result<(MemberId, u64), Failure> {
    let configuration = settled(cx).await?;
    let to = match to.map(|to| membership::find(&configuration, to)) {
        None => None,
        Some(meant) => match meant? {
            Meant::Member(id) => Some(id),
            Meant::Removed(id) => {
                return Err(membership::not_found(&configuration, &id.to_string()));
            }
        },
    };
    let report = cx.handle().progress().await;
    let report = report.map_err(|unserved| Failure::unserved(unserved, Purpose::Read))?;
    if to == Some(report.leader) {
        return Ok((report.leader, report.term.0));
    }
    let is_silent = |id: MemberId| silent(&report).any(|silent| silent == id);
    if let Some(to) = to.filter(|to| is_silent(*to)) {
        return Err(membership::not_safe(format!(
            "{} does not answer the leader, so leadership stays where it is",
            membership::called(&configuration, to)
        )));
    }
    let mut leader = cx.handle().leader_watch();
    match cx.operate(AdminRequest::Transfer(to)).await? {
        Operated::HandedTo(to) => {
            let arrived = leader.wait_for(|view| view.leader == Some(to));
            match timeout(TAKEN_OVER_WITHIN, arrived).await {
                Ok(Ok(view)) => Ok((to, view.term.0)),
                Ok(Err(_)) | Err(_) => Err(doubtful(format!(
                    "leadership was on its way to {} and did not arrive in time; GET /v1/cluster shows who leads",
                    membership::called(&configuration, to)
                ))),
            }
        }
        Operated::Changed => Err(Failure::unexpected()),
        refused => Err(not_done(cx, refused, &configuration).await),
    }
}

/// The audit line of a change of members.
fn change_of<'a, 'c>(cx: &'a Context<'c>, asked: String) -> Audit<'a, 'c> {
    let what = "members";
    Audit::of(cx, Act::Change { what, asked })
}

fn in_words(asked: &AddMember) -> String {
    let role = if asked.promote { "" } else { " as a learner" };
    format!(
        "{} at {} for members and {} for clients{role}",
        asked.name, asked.peer_url, asked.client_url
    )
}

/// Who is a member, no older than this call.
async fn settled(cx: &Context<'_>) -> Result<Arc<Configuration>, Failure> {
    cx.barrier().await?;
    Ok(cx.handle().members())
}

/// Asks whoever is at the peer URL who it is, and judges that. Says also which rules it can follow: the leader judges by it
/// again, since others may be in force by then.
async fn probed(
    cx: &Context<'_>,
    asked: &AddMember,
    old: Option<MemberId>,
    configuration: &Configuration,
) -> Result<(Probed, u64), Failure> {
    let me = cx.handle().member();
    membership::check_scheme(&asked.peer_url, cx.tls().members.is_some())?;
    let hello = cx.probe(&asked.peer_url).await;
    let hello = hello.map_err(|error| membership::unreached(asked, &me.name, &error))?;
    versions::check_can_follow(&hello, cx.handle().state_version().0)?;
    let probed = membership::judge(&hello, asked, old, (ClusterId(me.cluster), configuration))?;
    Ok((probed, hello.state_version_at_most))
}

/// Has the leader change the membership by this change of those that are there.
async fn change(cx: &Context<'_>, change: Change) -> Result<(), Failure> {
    operate(cx, AdminRequest::Change(change)).await
}

/// Has the leader change the membership.
async fn operate(cx: &Context<'_>, operation: AdminRequest) -> Result<(), Failure> {
    match cx.operate(operation).await? {
        Operated::Changed => Ok(()),
        Operated::HandedTo(_) => Err(Failure::unexpected()),
        refused => {
            let configuration = cx.handle().members();
            Err(not_done(cx, refused, &configuration).await)
        }
    }
}

/// The failure of an operation that the leader has not done, or of which nothing was heard.
async fn not_done(cx: &Context<'_>, operated: Operated, configuration: &Configuration) -> Failure {
    let with_names = |sentence: &str| membership::with_names(configuration, sentence);
    match operated {
        Operated::Busy(reason) => {
            let detail = format!("{}; ask again when that is done", with_names(&reason));
            Failure::new(Code::MembershipBusy, detail)
        }
        Operated::Unsafe(reason) => {
            let missing = missing(cx, configuration).await;
            membership::not_safe(with_names(&reason) + &missing)
        }
        Operated::NoSuchMember(id) => membership::not_found(configuration, &id.to_string()),
        Operated::NoLeader => Failure::unserved(Unserved::NoLeader, Purpose::RepeatableWrite),
        Operated::Unknown => doubtful(
            "the leader has not said in time what came of it; GET /v1/cluster shows who is a member, and asking again \
             for the same is harmless"
                .to_owned(),
        ),
        // They are handled by whoever asked for them.
        Operated::Changed | Operated::HandedTo(_) => Failure::unexpected(),
    }
}

/// Which voters the leader misses, as the end of a sentence: that is mostly why a change is not safe.
async fn missing(cx: &Context<'_>, configuration: &Configuration) -> String {
    let Ok(report) = cx.handle().progress().await else {
        return String::new();
    };
    let silent: Vec<String> = silent(&report)
        .filter(|id| configuration.is_voter(*id))
        .map(|id| membership::called(configuration, id))
        .collect();
    match silent.len() {
        0 => String::new(),
        1 => format!(
            "; the leader misses {}: bring it back, or remove or replace it before all others",
            silent[0]
        ),
        _ => format!(
            "; the leader misses {}: bring them back first",
            silent.join(", ")
        ),
    }
}

/// Who has not answered the leader for a while.
fn silent(report: &tenure_replica::ProgressReport) -> impl Iterator<Item = MemberId> {
    let is_silent = |peer: &&tenure_raft::PeerStatus| {
        peer.silent_for
            .is_none_or(|silent| UNREACHABLE_AFTER < silent)
    };
    report.peers.iter().filter(is_silent).map(|peer| peer.id)
}

/// An outcome that is not known; asking again is harmless.
fn doubtful(detail: String) -> Failure {
    Failure::new(Code::OutcomeUnknown, detail).retried(Retry::Same)
}

/// A member as it is after it was changed. One that this member has not heard of yet is shown as it was `asked` for.
async fn changed(
    cx: &Context<'_>,
    status: u16,
    id: MemberId,
    asked: Option<&AddMember>,
) -> Result<Reply, Failure> {
    // It is done: where this member cannot learn how it looks by now, it shows what it knows.
    let _ = cx.barrier().await;
    let report = cx.handle().progress().await.ok();
    let configuration = cx.handle().members();
    let revision = cx.handle().read(|state| state.revision());
    let mut shown = member(&configuration, report.as_ref(), id);
    if let Some(asked) = asked.filter(|_| !configuration.info.contains_key(&id)) {
        shown.name.clone_from(&asked.name);
        shown.peer_url.clone_from(&asked.peer_url);
        shown.client_url.clone_from(&asked.client_url);
        shown.promote = asked.promote;
    }
    let told = MemberChanged {
        member: shown,
        revision: revision.0,
    };
    Reply::json(status, revision, &told)
}
