//! A disk that says that it has synced what it has not, and then loses its power.
//!
//! Raft takes what a member has said to be durable for durable. A member that forgets is outside of that, so not
//! everything can be asked of a cluster that has one: a write that it helped to commit may then be on fewer disks than
//! a majority, and a vote of it may be given twice. But it costs nothing if it stays away until every other member has
//! all that it helped to commit, in the term in which it may have voted. Then each acknowledged write is on all the
//! others, or, where it is younger, on a majority that the liar is none of; any majority has one of these in it, who
//! grants no vote to whoever lacks the write; and nobody campaigns any more in a term of which it has forgotten. That is
//! what is done here, and then the oracle asks for everything, as ever.
//!
//! Of the member itself is asked that it does not go on as if nothing were: torn files are refused, and where the files
//! are merely old, the leader that it had told more tells it. A leader that came to power later knows nothing of that,
//! and repairs its log like that of any other.

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tenure_oracle::{Ask, Told};

use super::Evidence;
use super::disks::take_power;
use super::tampering::Tampering;
use crate::asking::Caller;
use crate::common::{SOON, wait};
use crate::member::Member;
use crate::round::Run;

/// It may be refused for torn files, and then be told that what is put in their place is old.
const MOST_STARTS: usize = 4;
/// How many entries it has applied at least of which its disk may know nothing.
const LEAST_FORGOTTEN: u64 = 20;

pub(super) fn lying_disk(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (leader, _) = run.rig.leader();
    let others: Vec<usize> = (0..run.rig.members.len())
        .filter(|number| *number != leader)
        .collect();
    let number = others[rng.usize(..others.len())];
    let member = &run.rig.members[number];
    member.kill();
    member.disk.keep();
    member.start(&run.rig.network);
    wait::until("the member serves", SOON, || {
        member.is_ready().then_some(())
    });
    let tampering = Tampering::with(run, number, "inject=fdatasync,fsync:retval=0");
    wait::pass(Duration::from_millis(rng.u64(1_500..3_000)), || false);
    // On a busy machine it takes a while until there is something to forget.
    let honest = applied(member);
    let applied = wait::until("the liar goes on", SOON, || {
        let now = applied(member);
        (honest + LEAST_FORGOTTEN <= now).then_some(now)
    });
    take_power(&[member]);
    member.kill();
    let lies = tampering.end();
    wait_until_nobody_needs_it(run, number);
    member.disk.mount_again();
    let (log_end, story) = come_back(run, member)?;
    let what = format!(
        "{lies} syncs of {} were lies: it had applied {applied}, and its log ended at {log_end}; {}",
        member.name,
        story.join(", then ")
    );
    match lies > 0 && log_end < applied {
        true => Ok(what),
        false => Err(format!("nothing was lost: {what}")),
    }
}

fn index(member: &Member, field: &str) -> Option<u64> {
    member
        .status()
        .as_ref()
        .map(|status| &status[field])
        .and_then(Value::as_u64)
}

fn applied(member: &Member) -> u64 {
    let what = "the member says what it has applied";
    wait::until(what, SOON, || index(member, "applied_index"))
}

/// A write that is acknowledged while the liar is away comes after all that it can have helped to commit; when all
/// others have applied it, they have that too, and are in the term of it or a later one.
fn wait_until_nobody_needs_it(run: &Run<'_>, liar: usize) {
    let others = run
        .rig
        .members
        .iter()
        .filter(|member| member.number != liar);
    let others: Vec<&Member> = others.collect();
    let mut caller = Caller::new(run, others[0].number, SOON);
    wait::until("the others commit without the liar", SOON, || {
        let value = format!("lies:{}", run.recorder.now().0);
        let told = caller.ask(Ask::put("ballast/lies", value)).told;
        matches!(told, Told::Done { .. }).then_some(())
    });
    let committed = applied(others[0]);
    wait::until("the others have all of it", SOON, || {
        let mut applied = others.iter().map(|member| index(member, "applied_index"));
        applied
            .all(|applied| Some(committed) <= applied)
            .then_some(())
    });
}

/// Starts it until it serves; where its log ended at first, and what became of each start.
fn come_back(run: &Run<'_>, member: &Member) -> Result<(u64, Vec<&'static str>), String> {
    let (mut log_end, mut story) = (None, Vec::new());
    for _ in 0..MOST_STARTS {
        match member.start_or_end(&run.rig.network) {
            Ok(()) => {}
            Err(3) => {
                story.push("its torn files were refused with 3 and older ones put in their place");
                member.disk.put_back();
                continue;
            }
            Err(code) => return Err(format!("{} ended with {code}", member.name)),
        }
        let found = *log_end.get_or_insert(recovered_log_end(member)?);
        let serves = wait::until("it serves or ends", SOON, || {
            let serves = member.is_ready();
            (serves || !member.is_running()).then_some(serves)
        });
        if serves {
            story.push("a leader who knew nothing of it took it in");
            return Ok((found, story));
        }
        let code = member.exit_code(SOON);
        if code != Some(3) || !member.output().contains("had acknowledged entry") {
            return Err(format!("{} ended with {code:?}, unasked", member.name));
        }
        story.push("the leader knew better and it ended with 3");
        let (leader, _) = run.rig.leader();
        run.rig.members[leader].kill();
        run.rig.members[leader].start(&run.rig.network);
    }
    Err(format!("{} does not come back: {story:?}", member.name))
}

/// Where the log ended that it found at its last start.
fn recovered_log_end(member: &Member) -> Result<u64, String> {
    let output = member.output();
    let told = output.rsplit_once("log_end=").map(|(_, rest)| rest);
    let digits = told.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{} does not say where its log ended", member.name))
}
