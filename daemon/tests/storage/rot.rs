//! Bits that flip and ends that go missing while a file lies on the disk: whatever is changed, a start finds all that
//! was there or refuses with 3. It never serves anything else.
//!
//! A file that was closed in peace says so, and then every page counts. In one that was cut off, the library cannot tell
//! a damaged last commit of entries from one that the crash cut off and goes back by one; that is counted apart, and a log
//! that went back behind its checkpoint is refused, or is told by the leader (`storage/log_file.rs`). A term or a vote
//! never goes back.

use bytes::Bytes;
use tenure_raft::{HardState, LogIndex, MemberId, Payload, Term, Write};
use tenure_state::{
    Batch, Clock, Command, Genesis, LeaseId, NewLease, Operation, Origin, Put, Request, State,
    Transaction,
};
use tenured::node::rebuild;
use tenured::storage::{LogContents, LogFile, StateFile, StorageError};

use super::disk::{Disk, Random};
use super::fire::seeds;
use super::model::{IDENTITY, entry, meta, path};

const PAGE: usize = 4096;

/// What became of a file that was changed.
#[derive(Debug, Default)]
struct Outcomes {
    refused: u64,
    harmless: u64,
    /// Only of a log that was cut off: it ends where it did one commit before.
    one_commit_less: u64,
}

impl Outcomes {
    /// Opens what was changed, and holds it to what was there.
    fn note<T: PartialEq>(
        &mut self,
        what: &str,
        opened: Result<T, StorageError>,
        sound: &T,
        before: Option<&T>,
    ) {
        match opened {
            Ok(found) if found == *sound => self.harmless += 1,
            Ok(found) if before == Some(&found) => self.one_commit_less += 1,
            Ok(_) => panic!("{what}: something else is served"),
            Err(error) => {
                let text = error.to_string();
                assert_eq!(error.exit_code(), 3, "{what}: {text}");
                assert!(text.contains(".redb"), "{what}: {text}");
                assert!(
                    text.contains("data directory") || text.contains("start the newer version"),
                    "{what} without a remedy: {text}"
                );
                self.refused += 1;
            }
        }
    }
}

/// Flips bits in every page, and cuts the file at every page and a little before.
fn rot<T: PartialEq>(
    file: &[u8],
    sound: &T,
    before: Option<&T>,
    open: impl Fn(Disk) -> Result<T, StorageError>,
) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut random = Random::new(7);
    let flips = seeds(6);
    for page in (0..file.len()).step_by(PAGE) {
        let end = file.len().min(page + PAGE);
        let used: Vec<usize> = (page..end).filter(|at| file[*at] != 0).collect();
        for flip in 0..flips {
            // Most of a page is often zero; half of the flips go where something is.
            let at = match used.len() as u64 {
                most @ 1.. if flip % 2 == 0 => used[random.below(most) as usize],
                _ => page + random.below((end - page) as u64) as usize,
            };
            let bit = random.below(8);
            let mut flipped = file.to_vec();
            flipped[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            outcomes.note(&what, open(Disk::of(flipped)), sound, before);
        }
        for length in [page, end - 1 - random.below(PAGE as u64 / 2) as usize] {
            let what = format!("cut to {length} bytes");
            let cut = Disk::of(file[..length].to_vec());
            outcomes.note(&what, open(cut), sound, before);
        }
    }
    outcomes
}

fn open_log(disk: Disk) -> Result<LogContents, StorageError> {
    LogFile::open_on(disk, path(), IDENTITY).map(|(_, contents)| contents)
}

/// A log of a few dozen pages that has been compacted and voted in; at the end one more commit, as it is given.
fn log_at_work(disk: &Disk, last: Write) -> (LogFile, LogContents) {
    let mut log = LogFile::create_on(disk.clone(), path(), IDENTITY, &meta(1, 1)).expect("created");
    for first in (2..100).step_by(7) {
        let append = (first..first + 7)
            .map(|index| {
                entry(
                    1,
                    index,
                    Payload::Command(Bytes::from(vec![index as u8; 600])),
                )
            })
            .collect();
        let write = Write {
            append,
            ..Write::default()
        };
        log.write(&[write]).expect("written");
    }
    let write = Write {
        hard_state: Some(HardState {
            term: Term(4),
            vote: Some(MemberId(7)),
        }),
        truncate_from: Some(LogIndex(95)),
        append: vec![entry(
            4,
            95,
            Payload::Configuration(meta(1, 1).configuration),
        )],
        compact_to: Some(meta(1, 30)),
        ..Write::default()
    };
    log.write(&[write]).expect("written");
    let before = open_log(disk.after_crash(&mut Random::new(1))).expect("a crash harms nothing");
    log.write(&[last]).expect("written");
    (log, before)
}

/// One more entry.
fn an_entry() -> Write {
    Write {
        append: vec![entry(4, 96, Payload::Command(Bytes::from_static(b"last")))],
        ..Write::default()
    }
}

/// A vote in another term, and nothing else.
fn a_vote() -> Write {
    let hard_state = HardState {
        term: Term(5),
        vote: Some(MemberId(8)),
    };
    Write {
        hard_state: Some(hard_state),
        ..Write::default()
    }
}

#[test]
fn log_that_rots_after_a_clean_end_is_whole_or_refused() {
    let disk = Disk::default();
    let (log, _) = log_at_work(&disk, an_entry());
    log.close().expect("closed");
    let sound = open_log(Disk::of(disk.bytes())).expect("opens");
    assert_eq!(sound.entries.len(), 66);
    let outcomes = rot(&disk.bytes(), &sound, None, open_log);
    eprintln!("log, closed: {outcomes:?}");
    assert!(outcomes.refused > 80 && outcomes.harmless > 0);
}

#[test]
fn log_that_rots_after_a_crash_is_whole_or_refused_or_short_of_one_commit() {
    let disk = Disk::default();
    let (log, before) = log_at_work(&disk, an_entry());
    let bytes = disk.bytes();
    drop(log);
    let sound = open_log(Disk::of(bytes.clone())).expect("opens");
    assert_eq!(sound.entries.len(), 66);
    let outcomes = rot(&bytes, &sound, Some(&before), open_log);
    eprintln!("log, cut off: {outcomes:?}");
    assert!(outcomes.refused > 100 && outcomes.harmless > 0);
}

#[test]
fn vote_that_rots_after_a_crash_is_never_forgotten() {
    let disk = Disk::default();
    let (log, _) = log_at_work(&disk, a_vote());
    let bytes = disk.bytes();
    drop(log);
    let sound = open_log(Disk::of(bytes.clone())).expect("opens");
    assert_eq!(sound.hard_state.vote, Some(MemberId(8)));
    let outcomes = rot(&bytes, &sound, None, open_log);
    eprintln!("log, cut off after a vote: {outcomes:?}");
    assert!(outcomes.refused > 100 && outcomes.harmless > 0);
}

/// A state of some hundred keys and leases as production writes it.
fn state() -> State {
    let mut state = State::genesis(Genesis::default());
    for number in 1..150u64 {
        let lease = LeaseId::new(number).expect("positive");
        let put = Operation::Put(Put {
            key: Bytes::from(format!("config/{number}")),
            value: Bytes::from(vec![number as u8; 300]),
            content_type: None,
            lease: Some(lease),
            refuse_other_lease: false,
        });
        let commands = [
            Command::GrantLease(NewLease {
                lease,
                ttl_ms: 60_000,
                name: format!("w{number}"),
                metadata: Default::default(),
            }),
            Command::Transaction(Transaction {
                then: vec![put],
                ..Transaction::default()
            }),
        ];
        let origin = Origin {
            member: 1,
            token: number,
        };
        let requests = commands.map(|command| Request {
            origin,
            principal: tenure_state::Principal::anonymous(),
            idempotency: None,
            command,
        });
        let batch = Batch {
            requests: requests.into(),
            ..Batch::default()
        };
        let applied = state.apply(Clock(number), &batch);
        assert!(applied.outcomes.iter().all(|told| told.outcome.is_ok()));
    }
    state
}

/// What a member does at its start: rows, then the state out of them, whose digest must be the one that was written.
fn open_state(disk: Disk) -> Result<(u128, tenured::storage::Loaded), StorageError> {
    let path = std::path::Path::new("state.redb");
    let (_, loaded) = StateFile::open_on(disk, path, IDENTITY)?;
    match rebuild(&loaded) {
        Ok(state) => Ok((state.digest(), loaded)),
        Err(error) => {
            assert_eq!(error.exit_code(), 3, "{error}");
            assert!(error.to_string().contains("state file"), "{error}");
            Err(StorageError::Damaged {
                path: path.to_owned(),
                reason: error.to_string(),
                remedy: "move the whole data directory away",
            })
        }
    }
}

#[test]
fn state_that_rots_is_whole_or_refused() {
    let path = std::path::Path::new("state.redb");
    let state = state();
    let rows: Vec<_> = state.rows().collect();
    for is_closed in [true, false] {
        let disk = Disk::default();
        let digest = state.digest();
        let file = StateFile::create_on(disk.clone(), path, IDENTITY, &meta(1, 9), digest, &rows);
        let file = file.expect("created");
        let cut_off = disk.bytes();
        file.close().expect("closed");
        let bytes = if is_closed { disk.bytes() } else { cut_off };
        let sound = open_state(Disk::of(bytes.clone())).expect("opens");
        assert_eq!(sound.0, digest);
        let outcomes = rot(&bytes, &sound, None, open_state);
        eprintln!("state, closed {is_closed}: {outcomes:?}");
        assert!(outcomes.refused > 100 && outcomes.harmless > 0);
    }
}
