//! One operation fails, each in turn: the first read, the second, and so on through a short life of a member.
//!
//! Whatever fails, it is told as a failure of the disk by the name of the file, and the next start finds what was
//! acknowledged, or that and all of what was under way.

use tenured::storage::StorageError;

use super::disk::{Disk, EIO, ENOSPC, Fault, Operation, Random};
use super::fire::seeds;
use super::life::{Life, Truth};

/// Steps of the life: enough for each kind of them.
const STEPS: usize = 16;

/// How the life went: up to which operation it came, and what is to be found after it.
struct Lived {
    error: Option<StorageError>,
    disks: [Disk; 2],
    may_be: Vec<Truth>,
}

/// The same life each time, but for what fails.
fn live(fault: Option<(usize, Fault)>) -> Lived {
    let mut random = Random::new(5);
    let formed = Life::begin();
    let (disks, truth) = (formed.disks.clone(), formed.truth.clone());
    if let Some((which, fault)) = fault {
        disks[which].fails(fault);
    }
    let opened = formed.close().and_then(|()| Life::open(disks.clone()));
    let mut life = match opened {
        Ok((life, found)) => {
            assert!(found == truth);
            life
        }
        Err(error) => {
            return Lived {
                error: Some(error),
                disks,
                may_be: vec![truth],
            };
        }
    };
    for _ in 0..STEPS {
        match life.step(&mut random) {
            Ok(next) => life = next,
            Err(end) => {
                return Lived {
                    error: Some(end.error),
                    disks: end.disks,
                    may_be: vec![end.acknowledged, end.in_flight],
                };
            }
        }
    }
    let (disks, truth) = (life.disks.clone(), life.truth.clone());
    Lived {
        error: life.close().err(),
        disks,
        may_be: vec![truth],
    }
}

fn check(which: usize, fault: Fault) -> bool {
    let what = format!("disk {which}, {fault:?}");
    let lived = live(Some((which, fault)));
    let hit = lived.disks[which].has_failed() || lived.error.is_some();
    match &lived.error {
        Some(error) => {
            let (text, file) = (error.to_string(), ["log.redb", "state.redb"][which]);
            assert_eq!(error.exit_code(), 1, "{what}: {text}");
            assert!(text.contains(file), "{what}: {text}");
            let full = fault.errno == ENOSPC;
            assert_eq!(error.is_out_of_space(), full, "{what}: {text}");
        }
        // Nobody needed it; a sync or a write is always needed.
        None => assert!(
            !hit || fault.operation == Operation::Read,
            "{what}: nobody was told"
        ),
    }
    let mut random = Random::new(fault.after);
    let disks = [&lived.disks[0], &lived.disks[1]].map(|disk| disk.after_crash(&mut random));
    let (_, found) = Life::open(disks).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        lived.may_be.contains(&found),
        "{what}: something else is there"
    );
    hit
}

#[test]
fn whichever_operation_fails_it_is_told_and_nothing_acknowledged_is_lost() {
    assert!(
        live(None).error.is_none(),
        "the life goes well where nothing fails"
    );
    for which in 0..2 {
        for operation in Operation::ALL {
            // Syncs and changes of length are few; of the others each third, or with more seeds each.
            let stride = match operation {
                Operation::Read | Operation::Write => {
                    if seeds(1) > 1 {
                        1
                    } else {
                        3
                    }
                }
                Operation::Length | Operation::Sync => 1,
            };
            let mut hits = 0;
            for after in (0..).step_by(stride as usize) {
                let fault = Fault {
                    operation,
                    after,
                    for_ever: hits % 2 == 0,
                    errno: if hits % 3 == 0 { ENOSPC } else { EIO },
                };
                if !check(which, fault) {
                    break;
                }
                hits += 1;
            }
            eprintln!(
                "disk {which}: {hits} operations {operation:?} failed, each {stride} in turn"
            );
            assert!(hits > 1, "{operation:?} is never asked of disk {which}");
        }
    }
}
