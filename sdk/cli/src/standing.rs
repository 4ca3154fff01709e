//! `tenure locks`, `semaphores` and `elections`: who holds what, since when, for how long still, and who waits.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};
use tenure::api::{
    Candidate, Code, Election, ElectionSummary, Leader, Lock, LockHolder, LockPlace, LockSummary,
    Mode, Semaphore, SemaphoreHolder, SemaphorePlace, SemaphoreSummary,
};
use tenure::{Client, Error, Found};

use crate::duration;
use crate::events::{who, who_and_why};
use crate::exit::{Exit, Trouble};
use crate::output::{self, Cell, DIM, GOOD, Output, Table, note};
use crate::settings::Session;
use crate::under::NOTE;

/// Of so many names it is also read who waits: each takes a request.
const MOST_QUEUES: usize = 50;

/// What the three take.
#[derive(clap::Args, Debug)]
pub(crate) struct Look {
    /// How their names begin; all where it is left out
    #[arg(default_value = "")]
    prefix: String,
    /// Show them anew, until it is told to end
    #[arg(long)]
    watch: bool,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::timeout, requires = "watch")]
    every: Duration,
    /// No more than so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
}

/// What the tables say.
const COLUMNS: &str = "\
SINCE is how long ago it was granted, or first asked for, by the clock of the cluster, which stands still while nobody leads. LEFT is \
what is left of the lease, or of the wait. FENCE is also the revision of the grant: `tenure watch locks/NAME --after FENCE` tells \
what happened since. Who waits is shown of the first 50 names for which anybody does; of the others, and of those that may be listed \
and not read, how many.";

/// Shows which locks are held or waited for, and by whom
#[derive(clap::Args, Debug)]
#[command(after_help = format!("\
Examples:
  tenure locks
  tenure locks jobs/ --watch
  tenure locks jobs/nightly -o json | jq '.locks[0].holders[0].remaining_ms'

{COLUMNS}"))]
pub(crate) struct Locks {
    #[command(flatten)]
    look: Look,
}

/// Shows of which semaphores permits are held or waited for, and by whom
#[derive(clap::Args, Debug)]
#[command(after_help = format!("\
Examples:
  tenure semaphores
  tenure semaphores downloads --watch --every 5s

{COLUMNS}"))]
pub(crate) struct Semaphores {
    #[command(flatten)]
    look: Look,
}

/// Shows who leads and who would like to
#[derive(clap::Args, Debug)]
#[command(after_help = format!("\
Examples:
  tenure elections
  tenure elections services/api
  tenure elections services/api -o json | jq -r '.elections[0].leader.value'

{COLUMNS}"))]
pub(crate) struct Elections {
    #[command(flatten)]
    look: Look,
}

impl Locks {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        show(session, &self.look, "locks", async || {
            locks(&session.client, &self.look).await
        })
        .await
    }
}

impl Semaphores {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let look = async || semaphores(&session.client, &self.look).await;
        show(session, &self.look, "semaphores", look).await
    }
}

impl Elections {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let look = async || elections(&session.client, &self.look).await;
        show(session, &self.look, "elections", look).await
    }
}

/// What was seen at one look.
struct Seen {
    things: Vec<Thing>,
    count: u64,
    revision: u64,
}

/// A lock, a semaphore or an election.
struct Thing {
    name: String,
    /// What else there is to say of it.
    note: Option<String>,
    holders: Vec<Seat>,
    holder_count: u64,
    waiting: Vec<Seat>,
    queue_length: u64,
    wire: Value,
}

/// Whoever holds, or waits.
pub(crate) struct Seat {
    pub(crate) who: String,
    how: String,
    pub(crate) fence: Option<u64>,
    since_ms: Option<u64>,
    pub(crate) left_ms: u64,
    lease: String,
}

/// How a seat is made of what the REST API shows: who and why, how, the fence, since when, and what is left.
macro_rules! seat {
    ($shown:ty, $who:ident, $note:expr, $how:expr, $fence:expr, $since:ident, $left:ident) => {
        impl From<$shown> for Seat {
            fn from(shown: $shown) -> Seat {
                let (how, fence): (fn(&$shown) -> String, fn(&$shown) -> Option<u64>) =
                    ($how, $fence);
                let note: fn(&$shown) -> Option<&String> = $note;
                let who = who(&shown.$who, &shown.lease_name);
                Seat {
                    who: who_and_why(who, note(&shown).map(String::as_str)),
                    how: how(&shown),
                    fence: fence(&shown),
                    since_ms: shown.$since,
                    left_ms: shown.$left,
                    lease: shown.lease,
                }
            }
        }
    };
}

seat!(
    LockHolder,
    owner,
    |it| it.metadata.get(NOTE),
    |it| mode(it.mode).into(),
    |it| Some(it.fence),
    held_ms,
    remaining_ms
);
seat!(
    LockPlace,
    owner,
    |it| it.metadata.get(NOTE),
    |it| mode(it.mode).into(),
    |_| None,
    queued_ms,
    wait_remaining_ms
);
seat!(
    SemaphoreHolder,
    owner,
    |it| it.metadata.get(NOTE),
    |it| it.permits.to_string(),
    |it| Some(it.fence),
    held_ms,
    remaining_ms
);
seat!(
    SemaphorePlace,
    owner,
    |it| it.metadata.get(NOTE),
    |it| it.permits.to_string(),
    |_| None,
    queued_ms,
    wait_remaining_ms
);
seat!(
    Leader,
    candidate,
    |_| None,
    |it| it.value.clone(),
    |it| Some(it.fence),
    held_ms,
    remaining_ms
);
seat!(
    Candidate,
    candidate,
    |_| None,
    |it| it.value.clone(),
    |_| None,
    queued_ms,
    wait_remaining_ms
);

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

pub(crate) fn seats<T: Into<Seat>>(all: impl IntoIterator<Item = T>) -> Vec<Seat> {
    all.into_iter().map(Into::into).collect()
}

pub(crate) fn wire(thing: &impl serde::Serialize) -> Value {
    let mut wire = serde_json::to_value(thing).expect("wire types have a form in JSON");
    // That of the whole list is told once.
    wire.as_object_mut().map(|fields| fields.remove("revision"));
    wire
}

fn delay(delay_ms: Option<u64>) -> Option<String> {
    delay_ms.map(free_in)
}

/// How it is told that nobody else is granted it for a while.
pub(crate) fn free_in(delay_ms: u64) -> String {
    format!("free for others in {}", duration::shown_ms(delay_ms))
}

/// Into which of what was listed it is looked: the first `MOST_QUEUES` of those for which somebody waits.
#[derive(Default)]
struct Looks(usize);

impl Looks {
    fn may_look(&mut self, queue_length: u64) -> bool {
        let may = queue_length > 0 && self.0 < MOST_QUEUES;
        self.0 += usize::from(may);
        may
    }
}

impl From<Lock> for Thing {
    fn from(shown: Lock) -> Thing {
        Thing {
            wire: wire(&shown),
            note: delay(shown.delay_remaining_ms),
            holder_count: shown.holder_count,
            holders: seats(shown.holders),
            waiting: seats(shown.queue),
            queue_length: shown.queue_length,
            name: shown.lock,
        }
    }
}

impl From<LockSummary> for Thing {
    fn from(shown: LockSummary) -> Thing {
        Thing {
            wire: wire(&shown),
            note: delay(shown.delay_remaining_ms),
            holder_count: shown.holder_count,
            holders: seats(shown.holders),
            waiting: Vec::new(),
            queue_length: shown.queue_length,
            name: shown.lock,
        }
    }
}

impl From<Semaphore> for Thing {
    fn from(shown: Semaphore) -> Thing {
        Thing {
            wire: wire(&shown),
            note: delay(shown.delay_remaining_ms)
                .or_else(|| permits(shown.permits_held, shown.limit)),
            holder_count: shown.holder_count,
            holders: seats(shown.holders),
            waiting: seats(shown.queue),
            queue_length: shown.queue_length,
            name: shown.semaphore,
        }
    }
}

impl From<SemaphoreSummary> for Thing {
    fn from(shown: SemaphoreSummary) -> Thing {
        Thing {
            wire: wire(&shown),
            note: delay(shown.delay_remaining_ms)
                .or_else(|| permits(shown.permits_held, shown.limit)),
            holder_count: shown.holder_count,
            holders: seats(shown.holders),
            waiting: Vec::new(),
            queue_length: shown.queue_length,
            name: shown.semaphore,
        }
    }
}

impl From<Election> for Thing {
    fn from(shown: Election) -> Thing {
        Thing {
            wire: wire(&shown),
            note: delay(shown.delay_remaining_ms),
            holder_count: u64::from(shown.leader.is_some()),
            holders: seats(shown.leader),
            waiting: seats(shown.candidates),
            queue_length: shown.candidate_count,
            name: shown.election,
        }
    }
}

impl From<ElectionSummary> for Thing {
    fn from(shown: ElectionSummary) -> Thing {
        Thing {
            wire: wire(&shown),
            note: None,
            holder_count: u64::from(shown.leader.is_some()),
            holders: seats(shown.leader),
            waiting: Vec::new(),
            queue_length: shown.candidate_count,
            name: shown.election,
        }
    }
}

fn permits(held: u64, limit: Option<u64>) -> Option<String> {
    limit.map(|limit| format!("{held} of {limit} permits"))
}

async fn locks(client: &Client, look: &Look) -> Result<Seen, Error> {
    let found = client.locks(&look.prefix).limit(look.limit).await?;
    let (queue, within) = (
        |lock: &LockSummary| lock.queue_length,
        async |lock: &LockSummary| client.inspect_lock(&lock.lock).await,
    );
    seen(found, queue, within).await
}

async fn semaphores(client: &Client, look: &Look) -> Result<Seen, Error> {
    let found = client.semaphores(&look.prefix).limit(look.limit).await?;
    let (queue, within) = (
        |semaphore: &SemaphoreSummary| semaphore.queue_length,
        async |semaphore: &SemaphoreSummary| client.inspect_semaphore(&semaphore.semaphore).await,
    );
    seen(found, queue, within).await
}

async fn elections(client: &Client, look: &Look) -> Result<Seen, Error> {
    let found = client.elections(&look.prefix).limit(look.limit).await?;
    let (queue, within) = (
        |election: &ElectionSummary| election.candidate_count,
        async |election: &ElectionSummary| client.election(&election.election).await,
    );
    seen(found, queue, within).await
}

/// What was listed, of which the first with a queue are looked into.
async fn seen<S: Into<Thing>, T: Into<Thing>>(
    found: Found<S>,
    queue_length: impl Fn(&S) -> u64,
    within: impl AsyncFn(&S) -> Result<T, Error>,
) -> Result<Seen, Error> {
    let (mut things, mut looks) = (Vec::new(), Looks::default());
    for one in found.all {
        // All of a row is of one moment: that of the list, or that of the look into it.
        let looked = match looks.may_look(queue_length(&one)) {
            true => Some(within(&one).await),
            false => None,
        };
        things.push(match looked {
            Some(Ok(looked)) => looked.into(),
            // Who may list it and not read it sees how many wait, and not who.
            Some(Err(error)) if error.code() != Some(Code::Forbidden) => return Err(error),
            Some(Err(_)) | None => one.into(),
        });
    }
    Ok(Seen {
        things,
        count: found.count,
        revision: found.revision,
    })
}

/// Shows it once, or again and again.
async fn show(
    session: &Session,
    look: &Look,
    collection: &'static str,
    seen: impl AsyncFn() -> Result<Seen, Error>,
) -> Result<Exit, Trouble> {
    let clears = look.watch && session.output == Output::Table && std::io::stdout().is_terminal();
    let mut has_seen = false;
    loop {
        let looked = seen().await;
        has_seen |= looked.is_ok();
        match looked {
            Ok(seen) => match session.output {
                Output::Json => {
                    let things: Vec<&Value> = seen.things.iter().map(|thing| &thing.wire).collect();
                    output::json(
                        &json!({collection: things, "count": seen.count, "revision": seen.revision}),
                    )?;
                }
                Output::Table => {
                    // To the upper left corner, and the screen empty from there on.
                    let clear = if clears { "\u{1b}[H\u{1b}[J" } else { "" };
                    let picture = picture(collection, &look.prefix, &seen);
                    output::text(&format!("{clear}{picture}"))?;
                }
            },
            // Who looks again and again sees when the cluster is back, if it was ever there.
            Err(error) if look.watch && has_seen => note(format!("{error}")),
            Err(error) => return Err(error.into()),
        }
        if !look.watch {
            return Ok(Exit::DONE);
        }
        tokio::time::sleep(look.every).await;
        if session.output == Output::Table && !clears {
            output::text("\n")?;
        }
    }
}

fn picture(collection: &str, prefix: &str, seen: &Seen) -> String {
    let (head, held, nothing) = match collection {
        "locks" => (["LOCK", "MODE"], "held", "no lock is held or waited for"),
        "semaphores" => (
            ["SEMAPHORE", "PERMITS"],
            "held",
            "no permit of a semaphore is held or waited for",
        ),
        _ => (
            ["ELECTION", "VALUE"],
            "leads",
            "nobody leads or would like to",
        ),
    };
    let [first, how] = head;
    let heads = [
        first, "STATE", "WHO", how, "FENCE", "SINCE", "LEFT", "LEASE",
    ];
    let mut table = Table::new(&heads);
    for thing in &seen.things {
        rows(&mut table, thing, held);
    }
    let mut text = table.render();
    if seen.things.is_empty() {
        let among = match prefix {
            "" => String::new(),
            prefix => format!(" among those that begin with {}", output::shown(prefix)),
        };
        text = format!(
            "{DIM}{nothing}{among}, at revision {}{DIM:#}\n",
            seen.revision
        );
    }
    for thing in &seen.things {
        if let Some(note) = &thing.note {
            text += &format!("{DIM}{}: {}{DIM:#}\n", output::shown(&thing.name), note);
        }
    }
    let shown = u64::try_from(seen.things.len()).unwrap_or(u64::MAX);
    if shown < seen.count {
        text += &format!(
            "and {} more: --limit says how many are shown\n",
            seen.count - shown
        );
    }
    text
}

/// The rows of one of them, whose holders are called `held` or what is said in place of that.
fn rows(table: &mut Table, thing: &Thing, held: &str) {
    let row = |state: Cell, seat: &Seat| -> Vec<Cell> {
        let fence = seat
            .fence
            .map_or_else(|| "-".into(), |fence| fence.to_string());
        let since = seat.since_ms.map_or_else(
            || "-".into(),
            |ms| format!("{} ago", duration::shown_ms(ms)),
        );
        vec![
            thing.name.as_str().into(),
            state,
            seat.who.as_str().into(),
            seat.how.as_str().into(),
            fence.into(),
            since.into(),
            duration::shown_ms(seat.left_ms).into(),
            seat.lease.as_str().into(),
        ]
    };
    let columns = 8;
    for holder in &thing.holders {
        table.row(row(Cell::styled(held, GOOD), holder));
    }
    for (place, waiting) in thing.waiting.iter().enumerate() {
        table.row(row(format!("waits {}", place + 1).into(), waiting));
    }
    let mut rest = |state: &str, count: u64, shown: usize| {
        let hidden = count.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX));
        if hidden > 0 {
            let mut row: Vec<Cell> = vec![thing.name.as_str().into(), state.into()];
            row.push(format!("{hidden} more").into());
            row.resize_with(columns, || "".into());
            table.row(row);
        }
    };
    rest(held, thing.holder_count, thing.holders.len());
    rest("waits", thing.queue_length, thing.waiting.len());
    if thing.holder_count + thing.queue_length == 0 {
        let mut row: Vec<Cell> = vec![thing.name.as_str().into(), "free".into()];
        row.resize_with(columns, || "".into());
        table.row(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_looked_into_wherever_it_stands_and_no_more_than_fifty_are() {
        let check = |queues: Vec<u64>, expected: &[usize]| {
            let mut looks = Looks::default();
            let looked: Vec<usize> = (0..queues.len())
                .filter(|at| looks.may_look(queues[*at]))
                .collect();
            assert_eq!(looked, expected, "{queues:?}");
        };
        let alone = |at: usize| (0..60).map(|name| u64::from(name == at)).collect();
        check(alone(0), &[0]);
        check(alone(59), &[59]);
        check(vec![0; 60], &[]);
        let first: Vec<usize> = (0..MOST_QUEUES).collect();
        check(vec![3; 60], &first);
        let every_other: Vec<usize> = (0..60).filter(|at| at % 2 == 1).collect();
        check((0..60).map(|at| at % 2).collect(), &every_other);
    }

    #[test]
    fn what_was_looked_into_is_shown_as_it_was_then_and_not_as_it_was_listed() {
        let listed: LockSummary = serde_json::from_value(json!({
            "lock": "a", "holders": [holder("before", 3)], "holder_count": 1, "queue_length": 1,
            "last_fence": 3, "exclusive_fence": 3, "delay_remaining_ms": null, "mod_revision": 3,
        }))
        .expect("it is a summary");
        let whole: Lock = serde_json::from_value(json!({
            "lock": "a", "holders": [holder("after", 9)], "queue": [], "holder_count": 1,
            "queue_length": 0, "last_fence": 9, "exclusive_fence": 9, "delay_remaining_ms": null,
            "mod_revision": 9, "revision": 9,
        }))
        .expect("it is a lock");
        let check = |thing: Thing, who: &str, fence: u64, waiting: u64| {
            assert!(
                thing.holders[0].who.contains(who),
                "{}",
                thing.holders[0].who
            );
            assert_eq!(thing.holders[0].fence, Some(fence));
            assert_eq!(thing.wire["last_fence"], fence);
            assert_eq!(thing.queue_length, waiting);
            assert_eq!(thing.wire["queue_length"], waiting);
        };
        check(listed.into(), "before", 3, 1);
        check(whole.into(), "after", 9, 0);
    }

    fn holder(owner: &str, fence: u64) -> Value {
        json!({
            "owner": owner, "mode": "exclusive", "fence": fence, "lease": "7", "lease_name": "",
            "acquired_revision": fence, "remaining_ms": 900, "held_ms": 100, "metadata": {},
        })
    }
}
