//! A member asked alone, by messages made by hand.

use super::*;

pub fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
    Message {
        from: id(from),
        to: id(to),
        term: Term(term),
        body,
    }
}

pub fn append(previous: LogPosition, entries: Vec<Entry>, commit: u64) -> Body {
    Body::Append {
        previous,
        entries,
        commit: LogIndex(commit),
        round: 1,
    }
}

/// A group of which each member's log holds entries of the terms given, behind the genesis.
pub fn group_with_logs(logs: &[&[u64]]) -> Group {
    let count = logs.len() as u64;
    let disks = (1..).zip(logs).map(|(number, terms)| {
        let mut disk = Disk::new(voters(1..=count));
        disk.entries = entries(terms);
        disk.hard_state.term = disk.last().term;
        (id(number), disk)
    });
    Group::new(disks.collect(), Settings::default(), 1)
}

/// The answers that a single member gave, its disk being fast.
pub fn answers(group: &mut Group, to: u64) -> Vec<Body> {
    group.persist_all(to);
    let answers = group
        .network
        .iter()
        .filter(|message| message.from == id(to))
        .map(|message| message.body.clone());
    let answers = answers.collect();
    group.network.clear();
    answers
}

pub fn ask(group: &mut Group, question: Message) -> Vec<Body> {
    let to = question.to.0;
    group.network.clear();
    group.receive(question);
    answers(group, to)
}
