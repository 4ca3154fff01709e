//! `tenured recover`: a cluster of one member out of what one member has left, when the quorum is lost for good or an
//! entry of the log cannot be applied.

use std::io::Write;

use tenure_raft::{LogIndex, LogPosition, MemberId};
use tenure_state::Revision;

use super::{
    OfflineError, Second, alone, begin, draw_cluster, members, replay, root_token, tell_access,
    told_of_restored,
};
use crate::config::{RecoverFlags, ReloadFlags};
use crate::storage::{
    DataDir, Held, Offline, Stored, finish_replacing, found, is_half_replaced, replace,
};

/// Makes a cluster of one member out of the files of a member.
///
/// # Errors
///
/// Where there is nothing to recover from, the files are damaged, an entry cannot be applied, the loss was not accepted, or
/// the disk fails.
pub fn recover(flags: RecoverFlags, out: &mut impl Write) -> Result<(), OfflineError> {
    let root = root_token(flags.root_token_file.as_deref())?;
    let path = ReloadFlags {
        config: flags.config,
        data_dir: flags.data_dir,
    }
    .data_dir()?;
    let label = Held::of(&path)?.labelled()?;
    let label = label.ok_or_else(|| OfflineError::NothingToRecover(path.clone()))?;
    let dir = DataDir::open(&path, &label.name)?;
    if is_half_replaced(&dir)? && !flags.accept_loss {
        writeln!(
            out,
            "an earlier recovery of this directory was cut off while the new files took the place of the old ones; it would be \
             completed as it was asked for then"
        )?;
        return Err(OfflineError::Unconfirmed);
    }
    if let Some(kept) = finish_replacing(&dir)? {
        writeln!(
            out,
            "an earlier recovery had been cut off; it is complete now as it was asked for then, the old files are in {}",
            kept.0.display()
        )?;
        return Ok(());
    }
    let stored = Offline::look(&dir.held())?.and_then(|offline| offline.stored);
    let stored = stored.ok_or_else(|| OfflineError::NothingToRecover(path.clone()))?;
    // A member that joined begins before everything: what it has is not even the state that the cluster began with.
    if stored.last() == LogPosition::default() {
        return Err(OfflineError::NothingReceived(path));
    }
    let before = before(&stored, flags.before)?;
    tell_plan(&stored, before, out)?;
    if let Some(root) = &root {
        writeln!(
            out,
            "access control will be on and the token {} that of an administrator, in place of whatever the role root and the \
             identity root are now",
            root.id
        )?;
    }
    if !flags.accept_loss {
        return Err(OfflineError::Unconfirmed);
    }
    let old = stored.identity;
    let info = stored.state.meta.configuration.info.get(&old.member);
    let mut info = info.cloned().unwrap_or_default();
    info.name.clone_from(&label.name);
    // The new member has not been started yet: what its log knows of starts, and what the configuration says, begin anew.
    info.start = None;
    let applier = replay(&stored, before)?;
    let (applied, at) = (applier.applied().position.index, applier.state().revision());
    let second = Second::now();
    let restored = begin(applier.state().clone(), &path, second, root.as_ref())?;
    drop(applier);
    second.pass(restored.state.revision());
    let cluster = draw_cluster()?;
    let mut member = MemberId(0);
    let kept = replace(
        &dir,
        &label.name,
        &format!("recovery-{}", second.0),
        |fresh| {
            member = fresh.member();
            let base = alone(member, info.clone(), &restored.state);
            found(fresh, cluster, &base, &restored.state).map_err(OfflineError::from)
        },
    )?;
    tell_done(
        &Done {
            applied,
            at,
            base: second.base(),
        },
        out,
    )?;
    writeln!(
        out,
        "{} {member} is alone in the new cluster {cluster}; {}",
        label.name,
        told_of_restored(&restored)
    )?;
    tell_access(&restored.state, root.as_ref(), out)?;
    writeln!(
        out,
        "the files of member {} of cluster {} are in {}; start this member as before, and add the others with empty data \
         directories",
        old.member,
        old.cluster,
        kept.0.display()
    )?;
    Ok(())
}

struct Done {
    applied: LogIndex,
    at: Revision,
    base: Revision,
}

fn tell_done(done: &Done, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "recovered: the state after entry {}, which is revision {} of the old cluster, and {} of the new one",
        done.applied, done.at, done.base
    )
}

/// The first entry that is left out.
fn before(stored: &Stored, asked: Option<u64>) -> Result<LogIndex, OfflineError> {
    let (covered, end) = (stored.state.meta.position.index, stored.last().index);
    let Some(before) = asked else {
        return Ok(end.next());
    };
    let wrong = |reason| Err(OfflineError::Before { before, reason });
    if before <= covered.0 {
        return wrong(format!(
            "the checkpoint of this member covers the entries up to {covered} and cannot go back; take a member whose checkpoint \
             is older, or a backup"
        ));
    }
    if end.next().0 < before {
        return wrong(format!(
            "the log of this member ends with entry {end}; {} to {} are accepted",
            covered.next(),
            end.next()
        ));
    }
    Ok(LogIndex(before))
}

/// Says what would be done, and what is lost by it.
fn tell_plan(stored: &Stored, before: LogIndex, out: &mut impl Write) -> std::io::Result<()> {
    let (covered, end) = (stored.state.meta.position, stored.last());
    let last = before.previous();
    writeln!(
        out,
        "member {} of cluster {} has a checkpoint up to entry {} of term {} and a log up to entry {} of term {}; of the members \
         that are left, the one with the greatest term of the last entry has the most, and among equals the one with the \
         greatest entry",
        stored.identity.member,
        stored.identity.cluster,
        covered.index,
        covered.term,
        end.index,
        end.term
    )?;
    writeln!(
        out,
        "what was applied up to entry {last} becomes the state of a new cluster, of which this member is the only one"
    )?;
    writeln!(
        out,
        "lost are: whatever other members have and this one does not; {} entries of its own log; every lease, with what hangs \
         on it. Entries of its log count that may never have been committed",
        end.index.0.saturating_sub(last.0)
    )?;
    let others: Vec<String> = members(&stored.state.meta.configuration)
        .into_iter()
        .filter(|(_, id)| *id != stored.identity.member)
        .map(|(name, id)| format!("{name} {id}"))
        .collect();
    if !others.is_empty() {
        writeln!(
            out,
            "first make sure that these never run again with their data: {}",
            others.join(", ")
        )?;
    }
    Ok(())
}
