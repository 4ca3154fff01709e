//! A member without threads, disk or peers, which decides on the spot what is asked of it.
//!
//! What lies between a handle and the state machine is replaced by the shortest thing that keeps the promises of
//! [`Handle`]: it leads, every write is an entry of its own, and time is what it is told. For holding the edges to
//! theirs with inputs at random, where threads and files would be slow and would make each run another.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tenure_raft::{
    Configuration, Entry, LogPosition, MemberId, MemberInfo, Payload, RoleName, SnapshotMeta,
    Stamp, Status, Term, TransferError,
};
use tenure_replica::{Applier, Input, Operated, ProgressReport};
use tenure_state::{Batch, Origin, Renewal, Request, State, encode_batch};

use super::FilePaths;
use super::event::Event;
use super::handle::{Applied, Handle, LeaderView, MemberIdentity, Shared};

const ME: MemberId = MemberId(1);
const TERM: Term = Term(1);
const ADDRESS: &str = "http://127.0.0.1:7379";

/// The member and what is asked of it.
pub(crate) struct Desk {
    shared: Arc<Shared>,
    queue: Receiver<Event>,
    last: LogPosition,
    stamp: Stamp,
    writes: u64,
}

impl Desk {
    /// A member with this state.
    pub(crate) fn new(state: State) -> Desk {
        let stamp = Stamp(state.clock().0);
        let info = MemberInfo {
            name: "n1".to_owned(),
            peer_url: String::new(),
            client_url: ADDRESS.to_owned(),
            start: None,
        };
        let configuration = Configuration {
            voters: [ME].into(),
            info: [(ME, info)].into(),
            ..Configuration::default()
        };
        let meta = SnapshotMeta {
            stamp,
            ..SnapshotMeta::genesis(configuration)
        };
        let (last, configuration) = (meta.position, Arc::clone(&meta.configuration));
        let (sender, queue) = channel();
        let shared = Arc::new(Shared::new(
            identity(),
            sender,
            Applier::new(ME, state, meta),
            (status(last), configuration),
            FilePaths {
                log: "log".into(),
                state: "state".into(),
            },
            Duration::from_millis(300),
            1,
        ));
        shared.leader.send_replace(LeaderView {
            leader: Some(ME),
            term: TERM,
            client_url: Some(ADDRESS.to_owned()),
        });
        Desk {
            shared,
            queue,
            last,
            stamp,
            writes: 0,
        }
    }

    /// The handle by which it is used.
    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// How many requests were written so far, renewals included.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Decides everything that is asked; whether there was anything.
    pub(crate) fn work(&mut self) -> bool {
        let mut worked = false;
        while let Ok(event) = self.queue.try_recv() {
            if event.is_asked() {
                self.shared.taken(1);
            }
            self.decide(event);
            worked = true;
        }
        worked
    }

    /// So much time has passed; what is due ends.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.stamp.0 += u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = {
            let applier = self.shared.applier.read();
            applier.unwrap_or_else(PoisonError::into_inner).due()
        };
        if due.is_some_and(|due| due < self.stamp) {
            self.append(Payload::Empty);
        }
    }

    fn decide(&mut self, event: Event) {
        match event {
            Event::Input(Input::Traced { input, .. }) => self.decide(Event::Input(*input)),
            Event::Input(Input::Propose(request)) => self.write(Batch {
                requests: vec![request],
                ..Batch::default()
            }),
            Event::Input(Input::Renew {
                principal,
                renewals,
                ..
            }) => {
                let renewal = |(token, lease)| Renewal {
                    origin: Origin {
                        member: ME.0,
                        token,
                    },
                    principal: principal.clone(),
                    lease,
                };
                self.write(Batch {
                    renewals: renewals.into_iter().map(renewal).collect(),
                    requests: Vec::<Request>::new(),
                });
            }
            Event::Input(Input::Read { token }) => self.shared.answer_read(token, Ok(self.stamp)),
            Event::Input(Input::AskProgress { token }) => {
                let report = ProgressReport {
                    leader: ME,
                    term: TERM,
                    commit: self.last.index,
                    last: self.last.index,
                    peers: Vec::new(),
                    versions: Vec::new(),
                };
                self.shared.answer_progress(token, Ok(report));
            }
            Event::Input(Input::Operate { token, .. }) => {
                let alone = Operated::Unsafe(format!("{ME} is the last member with a vote"));
                self.shared.answer_operation(token, alone);
            }
            Event::Transfer { reply, .. } => {
                let _ = reply.send(Err(TransferError::NotLeader));
            }
            _ => {}
        }
    }

    fn write(&mut self, batch: Batch) {
        self.writes += (batch.renewals.len() + batch.requests.len()) as u64;
        self.append(Payload::Command(encode_batch(&batch)));
    }

    /// Applies an entry, as the apply thread does.
    fn append(&mut self, payload: Payload) {
        self.last.index = self.last.index.next();
        let entry = Entry {
            index: self.last.index,
            term: TERM,
            stamp: self.stamp,
            payload,
        };
        let applied = {
            let mut applier = self
                .shared
                .applier
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let progress = applier.apply(&[entry]).expect("an entry of our own");
            Applied::of(&applier, progress, None)
        };
        self.shared.tell_applied(applied);
    }
}

fn identity() -> MemberIdentity {
    MemberIdentity {
        id: ME,
        name: "n1".to_owned(),
        cluster: 9,
        client_url: ADDRESS.to_owned(),
        peer_url: String::new(),
        version: "0",
        started: Instant::now(),
    }
}

fn status(last: LogPosition) -> Status {
    Status {
        id: ME,
        term: TERM,
        vote: Some(ME),
        role: RoleName::Leader,
        leader: Some(ME),
        commit: last.index,
        handed_out: last.index,
        last,
        durable: last.index,
        base: last,
        log_bytes: 0,
        settled: true,
        leads_for: Some(Duration::ZERO),
        progress: Vec::new(),
    }
}
