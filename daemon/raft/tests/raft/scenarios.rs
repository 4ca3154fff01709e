//! Scenarios told in files: comments, commands, then the trace of what the members did.
//!
//! Each file of `tests/raft/scenarios` is a story of one group. A block is comments and commands, a line `----`, and the
//! trace that these must leave. With `TENURE_REGENERATE_SCENARIOS=1` in the environment of the *build* the traces
//! are written anew, to be reviewed like code.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use tenure_raft::*;

/// A story: how the group is made, and the group once it is.
struct Story {
    configuration: Configuration,
    settings: Settings,
    disks: Vec<(MemberId, Disk)>,
    group: Option<Group>,
}

impl Story {
    fn new() -> Story {
        let (configuration, settings) = (Configuration::default(), Settings::default());
        Story {
            configuration,
            settings,
            disks: Vec::new(),
            group: None,
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if self.prepare(&words) {
            return Vec::new();
        }
        let (settings, disks) = (&self.settings, &mut self.disks);
        let group = self
            .group
            .get_or_insert_with(|| Group::new(std::mem::take(disks), settings.clone(), 1));
        group.trace.clear();
        let mut lines = Vec::new();
        act(group, &words, &mut lines);
        lines.splice(..0, std::mem::take(&mut group.trace));
        lines
    }

    /// Commands that make the group.
    fn prepare(&mut self, words: &[&str]) -> bool {
        if self.group.is_some() {
            return false;
        }
        match *words {
            ["voters", list] => self.configuration.voters = members(list),
            ["outgoing", list] => self.configuration.outgoing = members(list),
            ["learners", list] => self.configuration.learners = members(list),
            ["set", "window", count] => {
                self.settings.max_inflight_messages = count.parse().unwrap()
            }
            ["set", "append-bytes", bytes] => {
                self.settings.max_append_bytes = bytes.parse().unwrap()
            }
            ["set", "kept", entries] => self.settings.kept_entries = entries.parse().unwrap(),
            ["set", "piece", bytes] => self.settings.piece_bytes = bytes.parse().unwrap(),
            ["begin"] => {
                for id in self.configuration.members() {
                    self.disks.push((id, Disk::new(self.configuration.clone())));
                }
            }
            // A member's log behind the genesis, as terms; `c:1,2` is a configuration entry of the term before it.
            ["log", member, ref terms @ ..] => {
                let (_, disk) = self
                    .disks
                    .iter_mut()
                    .find(|(id, _)| *id == one(member))
                    .unwrap();
                disk.entries = log(terms);
                disk.hard_state.term = disk.last().term;
            }
            ["term", member, term] => {
                let (_, disk) = self
                    .disks
                    .iter_mut()
                    .find(|(id, _)| *id == one(member))
                    .unwrap();
                disk.hard_state.term = Term(term.parse().unwrap());
            }
            _ => return false,
        }
        true
    }
}

fn one(member: &str) -> MemberId {
    MemberId(member.trim_start_matches('n').parse().unwrap())
}

fn members(list: &str) -> std::collections::BTreeSet<MemberId> {
    list.split(',').map(one).collect()
}

fn log(words: &[&str]) -> Vec<Entry> {
    let of = |(index, word): (u64, &&str)| match word.split_once(':') {
        None => entry(word.parse().unwrap(), index, Payload::Empty),
        Some((term, list)) => {
            let configuration = Configuration {
                voters: members(list),
                ..Configuration::default()
            };
            entry(
                term.parse().unwrap(),
                index,
                Payload::Configuration(Arc::new(configuration)),
            )
        }
    };
    (2..).zip(words).map(of).collect()
}

/// Which messages a pattern like `n1->n2`, `n1->`, `->n2`, optionally with a kind, means.
fn pattern<'a>(words: &'a [&'a str]) -> impl Fn(&Message) -> bool + 'a {
    move |message| {
        words.iter().all(|word| match word.split_once("->") {
            Some((from, to)) => {
                (from.is_empty() || message.from == one(from))
                    && (to.is_empty() || message.to == one(to))
            }
            None => kind(&message.body) == *word,
        })
    }
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::PreVote { .. } | Body::PreVoteResponse { .. } => "pre-votes",
        Body::Vote { .. } | Body::VoteResponse { .. } => "votes",
        Body::Append { .. } => "appends",
        Body::AppendResponse { .. } => "append-answers",
        Body::Heartbeat { .. } => "heartbeats",
        Body::HeartbeatResponse { .. } => "heartbeat-answers",
        Body::ReadIndex { .. } | Body::ReadIndexResponse { .. } | Body::ReadIndexRefused { .. } => {
            "reads"
        }
        Body::Snapshot { .. } | Body::SnapshotResponse { .. } => "snapshots",
        Body::TimeoutNow => "campaign-now",
    }
}

fn act(group: &mut Group, words: &[&str], lines: &mut Vec<String>) {
    match *words {
        ["expire", member] => group.expire(one(member).0),
        ["tick", member, millis] => group.tick(one(member).0, ms(millis.parse().unwrap())),
        ["pass", millis] => group.pass(ms(millis.parse().unwrap())),
        ["settle"] => group.settle(),
        ["propose", member, text] => {
            if let Err(error) = group.propose(one(member).0, text) {
                lines.push(format!("refused: {error}"));
            }
        }
        ["read", member, token] => group.with_raft(one(member).0, |raft| {
            raft.read(ReadToken(token.parse().unwrap()))
        }),
        ["deliver", ref which @ ..] => {
            if group.deliver(pattern(which)) == 0 {
                lines.push("nothing to deliver".to_owned());
            }
        }
        ["lose", ref which @ ..] => {
            let before = group.network.len();
            group.drop_messages(pattern(which));
            if group.network.len() == before {
                lines.push("nothing to lose".to_owned());
            }
        }
        ["persist", member] => {
            if !group.persist(one(member).0) {
                lines.push("nothing to persist".to_owned());
            }
        }
        ["persist-all", member] => group.persist_all(one(member).0),
        ["cut", member] => group.cut_off(one(member).0),
        ["heal"] => group.heal(),
        ["crash", member] => group.crash(one(member).0),
        ["restart", member] => group.restart(one(member).0),
        ["checkpoint", member] => group.checkpoint(one(member).0),
        ["hold-installs"] => group.holds_installs = true,
        ["install", member] => {
            group.install(one(member));
            group.turn(one(member));
        }
        ["unreachable", member, peer] => {
            group.with_raft(one(member).0, |raft| raft.unreachable(one(peer)))
        }
        ["transfer", member, to] => {
            if let Err(error) =
                group.with_raft(one(member).0, |raft| raft.transfer_leadership(one(to)))
            {
                lines.push(format!("refused: {error}"));
            }
        }
        // Leaves out the trace of what is not the point.
        ["quietly", ref rest @ ..] => {
            act(group, rest, lines);
            group.trace.clear();
        }
        ["status", member] => lines.push(tell_status(group, one(member))),
        ["log", member] => lines.push(tell_log(group, one(member))),
        ["progress", member] => lines.extend(tell_progress(group, one(member))),
        _ => panic!("unknown command: {words:?}"),
    }
}

fn tell_status(group: &Group, member: MemberId) -> String {
    let status = group.raft(member.0).status();
    let leader = status
        .leader
        .map_or("nobody".to_owned(), |leader| format!("n{}", leader.0));
    format!(
        "n{} {:?}, term {}, leader {leader}, commit {}, durable {}, last {}",
        member.0,
        status.role,
        status.term,
        status.commit,
        status.durable,
        tell_position(status.last)
    )
}

fn tell_log(group: &Group, member: MemberId) -> String {
    let raft = group.raft(member.0);
    let terms: Vec<String> = raft
        .log_entries()
        .map(|entry| entry.term.to_string())
        .collect();
    let base = tell_position(raft.status().base);
    let configuration = tell_configuration(raft.configuration());
    format!(
        "n{} log behind {base}: terms {}; {configuration}",
        member.0,
        terms.join(" ")
    )
}

fn tell_progress(group: &Group, member: MemberId) -> Vec<String> {
    let status = group.raft(member.0).status();
    status
        .progress
        .iter()
        .map(|peer| format!("n{}: {:?}, matched {}", peer.id.0, peer.state, peer.matched))
        .collect()
}

/// Runs a file, and gives it back with the traces that came out.
fn retell(text: &str) -> String {
    let mut story = Story::new();
    let mut told = String::new();
    for block in text.trim_end().split("\n\n") {
        let commands = block.split("\n----").next().unwrap();
        let mut trace = Vec::new();
        for line in commands.lines() {
            if !line.starts_with('#') {
                trace.extend(story.run(line));
            }
        }
        write!(told, "{commands}\n----\n").unwrap();
        for line in trace {
            writeln!(told, "{line}").unwrap();
        }
        told.push('\n');
    }
    told.truncate(told.trim_end().len());
    told + "\n"
}

#[test]
fn scenarios_go_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(
        20 <= files.len(),
        "scenarios are missing: {} found",
        files.len()
    );
    let mut differing = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        eprintln!("{name}");
        let text = std::fs::read_to_string(&file).unwrap();
        let told = retell(&text);
        if told != text {
            if option_env!("TENURE_REGENERATE_SCENARIOS").is_some() {
                std::fs::write(&file, &told).unwrap();
            }
            let at = told
                .lines()
                .zip(text.lines())
                .position(|(new, old)| new != old);
            differing.push(format!(
                "{name}: differs at line {:?}:\n{told}",
                at.map(|at| at + 1)
            ));
        }
    }
    if option_env!("TENURE_REGENERATE_SCENARIOS").is_none() {
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    }
}
