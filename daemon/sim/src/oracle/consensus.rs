//! The five properties of the Raft paper, and that nothing is said before it is durable.
//!
//! Owns the history of terms, votes and of every entry that ever stood in any log. Entries are told apart by a hash over
//! the whole log up to them, so that comparing two places compares all before them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tenure_raft::{
    AppendResult, Body, Configuration, Entry, LogIndex, LogPosition, MemberId, Message, Payload,
    Raft, RoleChange, RoleName, SnapshotMeta, Stamp, Status, Term, Write,
};
use tenure_state::{Batch, decode_batch};

use super::demand;
use crate::disk::{DurableLog, LogDisk};
use crate::plan::ClockPlan;
use crate::time::Moment;
use crate::trace::Hash;

/// What is to be seen of a member after its turn.
pub(crate) struct View<'a> {
    pub(crate) raft: &'a Raft,
    pub(crate) status: &'a Status,
}

/// The log of a running member, as its writes describe it.
#[derive(Default)]
struct Mirror {
    base: LogPosition,
    terms: VecDeque<Term>,
    /// The configurations along it, that of the base first.
    configurations: Vec<(LogIndex, Arc<Configuration>)>,
}

impl Mirror {
    fn last(&self) -> LogPosition {
        let index = LogIndex(self.base.index.0 + self.terms.len() as u64);
        LogPosition {
            term: self.terms.back().copied().unwrap_or(self.base.term),
            index,
        }
    }

    /// The configuration in force at `index`.
    fn configuration_at(&self, index: LogIndex) -> Option<&Arc<Configuration>> {
        let known = self.configurations.iter().rev();
        let mut known = known.skip_while(|(at, _)| index < *at);
        known.next().map(|(_, configuration)| configuration)
    }

    fn begin_behind(&mut self, meta: &SnapshotMeta) {
        self.base = meta.position;
        self.configurations
            .retain(|(at, _)| meta.position.index < *at);
        self.configurations
            .insert(0, (meta.position.index, Arc::clone(&meta.configuration)));
    }

    fn append(&mut self, entry: &Entry) {
        self.terms.push_back(entry.term);
        if let Payload::Configuration(configuration) = &entry.payload {
            self.configurations
                .push((entry.index, Arc::clone(configuration)));
        }
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.terms.get(usize::try_from(offset).ok()?).copied()
    }
}

#[derive(Default)]
struct Member {
    mirror: Mirror,
    term: Term,
    commit: LogIndex,
    /// The term that it led at the end of its last turn.
    led: Option<Term>,
    durable_term: Term,
}

/// An entry that stood in some log.
#[derive(Clone, Copy)]
struct Seen {
    chain: u64,
    /// When its leader appended it.
    appended: Moment,
}

/// A committed entry.
#[derive(Clone)]
pub(crate) struct Committed {
    pub(crate) term: Term,
    /// The term of the leader that committed it, which may be later than its own.
    by: Term,
    pub(crate) stamp: Stamp,
    /// When its leader appended it.
    pub(crate) appended: Moment,
    /// Who that was.
    pub(crate) leader: Option<MemberId>,
    /// What it asks; taken by whoever looks at its effects.
    pub(crate) batch: Batch,
}

pub(crate) struct Consensus {
    clocks: ClockPlan,
    members: Vec<Member>,
    leaders: BTreeMap<Term, usize>,
    seen: BTreeMap<LogPosition, Seen>,
    votes: BTreeMap<(usize, Term), MemberId>,
    committed: Vec<Committed>,
    /// Who belongs to the cluster by the last configuration that is committed, and who did and was removed.
    belongs: BTreeSet<MemberId>,
    gone: BTreeSet<MemberId>,
    /// The least that a stamp was ahead of the true time of its entry, in millionths of milliseconds.
    least_lead: i128,
}

/// Every log begins behind this entry, which no log holds.
pub(crate) const FIRST_BASE: LogPosition = LogPosition {
    term: Term(1),
    index: LogIndex(1),
};

impl Consensus {
    pub(super) fn new(members: usize, clocks: ClockPlan) -> Consensus {
        let mut members: Vec<Member> = (0..members).map(|_| Member::default()).collect();
        members
            .iter_mut()
            .for_each(|member| member.mirror.base = FIRST_BASE);
        let seen = Seen {
            chain: 1,
            appended: Moment(0),
        };
        Consensus {
            clocks,
            members,
            leaders: BTreeMap::new(),
            seen: [(FIRST_BASE, seen)].into(),
            votes: BTreeMap::new(),
            committed: Vec::new(),
            belongs: BTreeSet::new(),
            gone: BTreeSet::new(),
            least_lead: 0,
        }
    }

    /// The last committed index of the whole cluster.
    pub(crate) fn commit(&self) -> LogIndex {
        LogIndex(FIRST_BASE.index.0 + self.committed.len() as u64)
    }

    /// A committed entry.
    pub(crate) fn committed(&self, index: LogIndex) -> Option<&Committed> {
        let offset = index.0.checked_sub(FIRST_BASE.index.0 + 1)?;
        self.committed.get(usize::try_from(offset).ok()?)
    }

    fn committed_term(&self, index: LogIndex) -> Option<Term> {
        if index == FIRST_BASE.index {
            Some(FIRST_BASE.term)
        } else {
            self.committed(index).map(|entry| entry.term)
        }
    }

    /// A member starts from its disk.
    pub(crate) fn started(&mut self, member: usize, log_base: &SnapshotMeta, view: &View<'_>) {
        let (base, commit) = (view.status.base, view.status.commit);
        self.demand_committed(member, base, "begins its log behind");
        let this = &mut self.members[member];
        demand!(
            this.durable_term <= view.status.term,
            "term-monotone",
            "n{} starts in term {} after {}",
            member + 1,
            view.status.term,
            this.durable_term
        );
        this.mirror = Mirror::default();
        this.mirror.begin_behind(log_base);
        // A checkpoint that goes beyond the log takes its place.
        if log_base.position != base {
            this.mirror.configurations = vec![(base.index, view.raft.configuration().clone())];
            this.mirror.base = base;
        }
        view.raft
            .log_entries()
            .for_each(|entry| this.mirror.append(entry));
        (this.term, this.commit, this.led) = (view.status.term, commit, None);
        let mut previous = base;
        for entry in view.raft.log_entries() {
            self.see(member, previous, entry, None);
            previous = entry.position();
        }
        demand!(
            commit <= self.commit(),
            "commit",
            "n{} starts with commit {commit}, beyond all",
            member + 1
        );
    }

    /// A member wants something written.
    pub(crate) fn wrote(&mut self, now: Moment, member: usize, write: &Write) {
        let led = self.members[member].led;
        if let Some(meta) = &write.reset_to {
            self.demand_committed(member, meta.position, "resets its log to");
            self.demand_kept(member, meta.position.index.next());
            let mirror = &mut self.members[member].mirror;
            *mirror = Mirror::default();
            mirror.begin_behind(meta);
        }
        if let Some(from) = write.truncate_from {
            let leads_on = led.is_some() && write.hard_state.is_none();
            let loses = from <= self.members[member].mirror.last().index;
            demand!(
                !(leads_on && loses),
                "leader-append-only",
                "n{} leads term {led:?} and removes its entries from {from} on",
                member + 1
            );
            self.demand_kept(member, from);
            let mirror = &mut self.members[member].mirror;
            mirror.configurations.retain(|(at, _)| *at < from);
            let kept = from.0.saturating_sub(mirror.base.index.0 + 1);
            mirror
                .terms
                .truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        }
        for entry in &write.append {
            let previous = self.members[member].mirror.last();
            demand!(
                entry.index == previous.index.next(),
                "log-matching",
                "n{} appends {} behind {}",
                member + 1,
                entry.index,
                previous.index
            );
            let appended = (self.leaders.get(&entry.term) == Some(&member)).then_some(now);
            self.see(member, previous, entry, appended);
            self.members[member].mirror.append(entry);
        }
        if let Some(meta) = &write.compact_to {
            self.demand_committed(member, meta.position, "compacts its log to");
            let mirror = &mut self.members[member].mirror;
            while mirror.base.index < meta.position.index && !mirror.terms.is_empty() {
                mirror.base.index = mirror.base.index.next();
                mirror.terms.pop_front();
            }
            mirror.begin_behind(meta);
        }
    }

    /// What is committed is never removed. That is judged when a member hands the removal to its disk: others may commit
    /// the entry while the disk takes its time, and none of them counts on this member then.
    fn demand_kept(&self, member: usize, from: LogIndex) {
        let here = self.members[member].mirror.term_at(from);
        demand!(
            here.is_none() || here != self.committed_term(from),
            "committed-kept",
            "n{} removes the committed entry {from}",
            member + 1
        );
    }

    /// Log matching (Raft §5.3): an entry of this index and term has the same contents and the same log before it
    /// wherever it stands.
    fn see(
        &mut self,
        member: usize,
        previous: LogPosition,
        entry: &Entry,
        appended: Option<Moment>,
    ) {
        let Some(before) = self.seen.get(&previous).copied() else {
            super::broken(
                "log-matching",
                format!("n{} has {previous:?}, which no leader appended", member + 1),
            )
        };
        let chain = chain(before.chain, entry);
        if let Some(moment) = appended {
            self.seen.entry(entry.position()).or_insert(Seen {
                chain,
                appended: moment,
            });
        }
        let Some(seen) = self.seen.get(&entry.position()) else {
            super::broken(
                "log-matching",
                format!(
                    "n{} has {:?}, which no leader appended",
                    member + 1,
                    entry.position()
                ),
            )
        };
        demand!(
            seen.chain == chain,
            "log-matching",
            "n{} has another entry, or another log before it, at {:?}",
            member + 1,
            entry.position()
        );
    }

    fn demand_committed(&self, member: usize, position: LogPosition, does: &str) {
        demand!(
            // The log of a newcomer begins before everything.
            position == LogPosition::default()
                || self.committed_term(position.index) == Some(position.term),
            "snapshot-position",
            "n{} {does} {position:?}; committed there is term {:?}",
            member + 1,
            self.committed_term(position.index)
        );
    }

    /// Something became durable at a member.
    pub(crate) fn synced(&mut self, member: usize, before: &DurableLog, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            demand!(
                before.hard_state.term <= hard_state.term,
                "term-monotone",
                "n{} stores term {} after {}",
                member + 1,
                hard_state.term,
                before.hard_state.term
            );
            demand!(
                before.hard_state.term < hard_state.term
                    || before.hard_state.vote.is_none()
                    || before.hard_state.vote == hard_state.vote,
                "one-vote",
                "n{} stores {hard_state:?} over {:?}",
                member + 1,
                before.hard_state
            );
            self.members[member].durable_term = hard_state.term;
            if let Some(vote) = hard_state.vote {
                let first = *self.votes.entry((member, hard_state.term)).or_insert(vote);
                demand!(
                    first == vote,
                    "one-vote",
                    "n{} votes for {first} and for {vote} in term {}",
                    member + 1,
                    hard_state.term
                );
            }
        }
    }

    /// A disk that has done all that it was handed holds what was written, and nothing else.
    pub(crate) fn rests(&self, member: usize, disk: &DurableLog) {
        let mirror = &self.members[member].mirror;
        demand!(
            (mirror.base, mirror.last()) == (disk.base.position, disk.last()),
            "log-written",
            "n{} wrote a log from {:?} to {:?}; its disk has one from {:?} to {:?}",
            member + 1,
            mirror.base,
            mirror.last(),
            disk.base.position,
            disk.last()
        );
    }

    /// Nothing is said before it is durable: judged at the moment at which a message leaves.
    pub(crate) fn sent(&mut self, member: usize, message: &Message, disk: &DurableLog) {
        let (name, stored) = (member + 1, disk.hard_state);
        match &message.body {
            Body::Vote { .. } | Body::VoteResponse { granted: true } => {
                let vote = if matches!(message.body, Body::Vote { .. }) {
                    message.from
                } else {
                    message.to
                };
                demand!(
                    stored.term == message.term && stored.vote == Some(vote),
                    "persisted-before-said",
                    "n{name} says that it votes for {vote} in term {}; its disk says {stored:?}",
                    message.term
                );
                let first = *self.votes.entry((member, message.term)).or_insert(vote);
                demand!(
                    first == vote,
                    "one-vote",
                    "n{name} votes twice in term {}",
                    message.term
                );
            }
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow => {
                demand!(
                    stored.term == message.term && stored.vote == Some(message.from),
                    "persisted-before-said",
                    "n{name} leads term {}; its disk says {stored:?}",
                    message.term
                );
            }
            Body::AppendResponse {
                result: AppendResult::Accepted { matched },
                ..
            } => {
                self.demand_durable(member, message, *matched, disk);
            }
            _ => {}
        }
    }

    fn demand_durable(
        &self,
        member: usize,
        message: &Message,
        matched: LogIndex,
        disk: &DurableLog,
    ) {
        let name = member + 1;
        demand!(
            disk.hard_state.term == message.term && matched <= disk.last().index,
            "persisted-before-said",
            "n{name} says that it has {matched} in term {}; its disk ends at {:?} and is of term {}",
            message.term,
            disk.last(),
            disk.hard_state.term
        );
        let Some(leader) = self.leaders.get(&message.term) else {
            return;
        };
        let leader = &self.members[*leader];
        if leader.led != Some(message.term) {
            return;
        }
        if let (Some(theirs), Some(here)) = (leader.mirror.term_at(matched), disk.term_at(matched))
        {
            demand!(
                theirs == here,
                "persisted-before-said",
                "n{name} says that it matches {matched}; its disk has term {here} there, the leader {theirs}"
            );
        }
    }

    /// A member changed its role.
    pub(crate) fn changed(&mut self, member: usize, change: &RoleChange) {
        let RoleChange::Leader { term, last } = change else {
            return;
        };
        let first = *self.leaders.entry(*term).or_insert(member);
        demand!(
            first == member,
            "election-safety",
            "n{} and n{} both lead term {term}",
            first + 1,
            member + 1
        );
        let commit = self.committed_before(*term);
        demand!(
            commit <= last.index,
            "leader-completeness",
            "n{} leads term {term} with a log that ends at {}; committed is {commit}",
            member + 1,
            last.index
        );
    }

    /// The last index that leaders of earlier terms committed. One who is elected by late votes, when a leader of a later
    /// term is at work already, need not have what that one committed.
    fn committed_before(&self, term: Term) -> LogIndex {
        let later = self
            .committed
            .iter()
            .rev()
            .take_while(|entry| term <= entry.by)
            .count();
        LogIndex(self.commit().0 - later as u64)
    }

    /// A member has turned. Returns the range of indexes that became committed by it.
    pub(crate) fn turned(
        &mut self,
        member: usize,
        view: &View<'_>,
        disks: &[&LogDisk],
    ) -> std::ops::RangeInclusive<u64> {
        let status = view.status;
        let this = &mut self.members[member];
        demand!(
            this.term <= status.term,
            "term-monotone",
            "n{} falls to term {}",
            member + 1,
            status.term
        );
        demand!(
            this.commit <= status.commit,
            "commit-monotone",
            "n{} falls to commit {}",
            member + 1,
            status.commit
        );
        demand!(
            this.mirror.last() == status.last,
            "log-written",
            "n{} has a log to {:?} and wrote one to {:?}",
            member + 1,
            status.last,
            this.mirror.last()
        );
        demand!(
            view.raft.forgotten().is_none(),
            "nobody-forgets",
            "n{} keeps what it has synced and is taken for one that does not: {:?}",
            member + 1,
            view.raft.forgotten()
        );
        let in_force = this.mirror.configurations.last();
        demand!(
            in_force.is_some_and(|(_, of_log)| of_log == view.raft.configuration()),
            "configuration",
            "n{} goes by {:?}; its log says {in_force:?}",
            member + 1,
            view.raft.configuration()
        );
        let old_commit = std::mem::replace(&mut this.commit, status.commit);
        this.term = status.term;
        let leads = (status.role == RoleName::Leader).then_some(status.term);
        let begins = leads.is_some() && this.led != leads;
        let own = view.raft.term_at(status.commit) == Some(status.term);
        demand!(
            leads.is_none() || begins || old_commit == status.commit || own,
            "commit-rule",
            "n{} leads term {} and commits {} by counting, an entry of an earlier term (Raft §5.4.2)",
            member + 1,
            status.term,
            status.commit
        );
        this.led = leads;
        if begins {
            self.demand_complete(member, view);
        }
        super::disks::judge_matched(member, view, disks);
        self.compare_committed(member, view, old_commit);
        let first = self.commit().0 + 1;
        self.extend_committed(member, view, disks);
        first..=self.commit().0
    }

    /// Leader completeness (Raft §5.4.3), entry by entry.
    fn demand_complete(&self, member: usize, view: &View<'_>) {
        for index in view.status.base.index.0..=self.committed_before(view.status.term).0 {
            let (here, committed) = (
                view.raft.term_at(LogIndex(index)),
                self.committed_term(LogIndex(index)),
            );
            demand!(
                here == committed,
                "leader-completeness",
                "n{} leads term {} and has term {here:?} at {index}; committed is {committed:?}",
                member + 1,
                view.status.term
            );
        }
    }

    /// State machine safety (Raft §5.4.3): what one member takes for committed, every other does.
    fn compare_committed(&self, member: usize, view: &View<'_>, from: LogIndex) {
        let from = from.max(view.status.base.index).max(FIRST_BASE.index);
        for index in from.0..=view.status.commit.min(self.commit()).0 {
            let (here, committed) = (
                view.raft.term_at(LogIndex(index)),
                self.committed_term(LogIndex(index)),
            );
            demand!(
                here == committed,
                "state-machine-safety",
                "n{} commits term {here:?} at {index}; committed is {committed:?}",
                member + 1
            );
        }
    }

    fn extend_committed(&mut self, member: usize, view: &View<'_>, disks: &[&LogDisk]) {
        let commit = view.status.commit;
        if commit <= self.commit() {
            return;
        }
        self.demand_on_majority(member, view, disks);
        let skipped = (self.commit().0 - view.status.base.index.0) as usize;
        let entries: Vec<Entry> = view.raft.log_entries().skip(skipped).cloned().collect();
        for entry in entries
            .into_iter()
            .take_while(|entry| entry.index <= commit)
        {
            self.commit_entry(entry, view.status.term);
        }
    }

    fn demand_on_majority(&self, member: usize, view: &View<'_>, disks: &[&LogDisk]) {
        let index = view.status.commit;
        let position = LogPosition {
            term: view.raft.term_at(index).unwrap_or_default(),
            index,
        };
        let keeps = |id: &&MemberId| {
            let disk = disks.get(place_of(**id));
            disk.is_some_and(|disk| disk.keeps(position))
        };
        let is_durable = |configuration: &Configuration| {
            let mut halves = [&configuration.voters, &configuration.outgoing].into_iter();
            halves.all(|half| half.is_empty() || half.len() < 2 * half.iter().filter(keeps).count())
        };
        // What a turn commits may let it append the next configuration, by which nothing was counted yet.
        let mirror = &self.members[member].mirror;
        let now = mirror.configurations.last().map(|(_, now)| now);
        let committed = mirror.configuration_at(index);
        demand!(
            [now, committed]
                .into_iter()
                .flatten()
                .any(|it| is_durable(it)),
            "commit-durable",
            "n{} commits {position:?}, which is on the disks of too few of {now:?}, and of {committed:?}",
            member + 1
        );
    }

    /// Whoever was removed never comes back, and nobody both votes and learns.
    fn judge_members(&mut self, index: LogIndex, configuration: &Configuration) {
        let members = configuration.members();
        self.gone.extend(self.belongs.difference(&members));
        let (gone, learners) = (&self.gone, &configuration.learners);
        demand!(
            members.is_disjoint(gone),
            "removed-for-good",
            "entry {index} makes {members:?} the members, of whom some of {gone:?} were removed"
        );
        demand!(
            learners.iter().all(|id| !configuration.is_voter(*id)),
            "one-role",
            "by entry {index} some of the learners {learners:?} vote: {configuration:?}"
        );
        self.belongs = members;
    }

    fn commit_entry(&mut self, entry: Entry, by: Term) {
        if let Payload::Configuration(configuration) = &entry.payload {
            self.judge_members(entry.index, configuration);
        }
        let seen = self
            .seen
            .get(&entry.position())
            .copied()
            .expect("what stands in a log was seen");
        let last = self.committed.last().map_or(Stamp(0), |last| last.stamp);
        demand!(
            last <= entry.stamp,
            "clock",
            "the stamp falls from {last:?} to {:?}",
            entry.stamp
        );
        self.demand_honest_clock(&entry, seen.appended);
        let batch = match &entry.payload {
            Payload::Command(bytes) => {
                decode_batch(bytes).expect("a leader encodes what can be decoded")
            }
            Payload::Empty | Payload::Configuration(_) => Batch::default(),
        };
        let Entry { term, stamp, .. } = entry;
        self.committed.push(Committed {
            term,
            by,
            stamp,
            appended: seen.appended,
            leader: self
                .leaders
                .get(&term)
                .map(|place| MemberId(*place as u64 + 1)),
            batch,
        });
    }

    /// Along the log two stamps never lie further apart than the true times at which they were made, but for the error
    /// that a clock may have and for rounding.
    fn demand_honest_clock(&mut self, entry: &Entry, appended: Moment) {
        let run =
            i128::from(appended.0) * i128::from(1_000_000 + self.clocks.worst_ppm) / 1_000_000;
        let lead = i128::from(entry.stamp.0) * 1_000_000 - run;
        if !self.committed.is_empty() {
            demand!(
                lead <= self.least_lead + 1_000_001,
                "clock",
                "the stamp {} of entry {} is {} ns ahead of true time, compared to an entry before it",
                entry.stamp.0,
                entry.index,
                lead - self.least_lead
            );
            self.least_lead = self.least_lead.min(lead);
        } else {
            self.least_lead = lead;
        }
    }
}

/// Members are numbered from 1 on in the order of their places.
pub(crate) fn place_of(id: MemberId) -> usize {
    usize::try_from(id.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

fn chain(before: u64, entry: &Entry) -> u64 {
    let mut hash = Hash::default();
    for number in [before, entry.index.0, entry.term.0, entry.stamp.0] {
        hash.number(number);
    }
    match &entry.payload {
        Payload::Empty => hash.number(0),
        Payload::Command(bytes) => hash.bytes(bytes),
        Payload::Configuration(configuration) => {
            hash.bytes(format!("{configuration:?}").as_bytes())
        }
    }
    hash.value()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::Violation;
    use super::*;
    use crate::time::ASSUMED_RATE_PPM;

    fn entry(term: u64) -> Entry {
        Entry {
            index: FIRST_BASE.index.next(),
            term: Term(term),
            stamp: Stamp(0),
            payload: Payload::Empty,
        }
    }

    fn appending(term: u64, removes: bool) -> Write {
        Write {
            truncate_from: removes.then(|| FIRST_BASE.index.next()),
            append: vec![entry(term)],
            ..Write::default()
        }
    }

    /// The first of three members leads term 5 and has the second write an entry; the third leads term 6 without it.
    fn two_leaders() -> Consensus {
        let clocks = ClockPlan {
            worst_ppm: ASSUMED_RATE_PPM,
        };
        let mut consensus = Consensus::new(3, clocks);
        for (term, leader) in [(5, 0), (6, 2)] {
            consensus.leaders.insert(Term(term), leader);
            consensus.wrote(Moment(1), leader, &appending(term, false));
        }
        consensus.wrote(Moment(1), 1, &appending(5, false));
        consensus
    }

    #[test]
    fn what_is_handed_to_a_disk_before_others_commit_is_no_loss_when_it_lands_afterwards() {
        let mut consensus = two_leaders();
        let mut disk = DurableLog {
            entries: [entry(5)].into(),
            ..DurableLog::default()
        };
        disk.base.position = FIRST_BASE;
        let removal = appending(6, true);
        consensus.wrote(Moment(2), 1, &removal);
        consensus.commit_entry(entry(5), Term(7));
        consensus.synced(1, &disk, &removal);
    }

    #[test]
    fn a_removal_of_what_is_committed_is_found() {
        let mut consensus = two_leaders();
        consensus.commit_entry(entry(5), Term(5));
        let removes = || consensus.wrote(Moment(2), 1, &appending(6, true));
        let found = catch_unwind(AssertUnwindSafe(removes)).expect_err("it is a loss");
        let found = found.downcast_ref::<Violation>().expect("it is a verdict");
        assert_eq!(found.invariant, "committed-kept");
    }
}
