//! A snapshot that is being received while its receiver is restarted and its files rot: it becomes the state whole, or
//! is rejected and can be sent again.

use std::fs;
use std::path::Path;

use super::disk::Random;
use super::fire::seeds;
use super::snapshots::{Member, PIECE, Refused, rows, sender, temp};

#[test]
fn snapshot_whose_files_rot_on_the_way_is_installed_whole_or_sent_again() {
    let here = temp();
    let sender = sender(here.path());
    let file = sender.make(50);
    let (mut rejected, mut resumed_less) = (0, 0);
    for seed in 0..seeds(6) {
        let mut random = Random::new(seed);
        let there = temp();
        let mut receiver = Member::start(there.path()).expect("starts");
        let mut stored = 0;
        for _ in 0..3 {
            stored = (stored + random.below(4 << 20)).min(file.size);
            receiver.receive(&sender, &file, stored);
            receiver.stop();
            harm(&there.path().join("snapshots"), &mut random);
            receiver =
                Member::start(there.path()).expect("a copy in transit keeps nobody from starting");
            assert!(
                receiver.loaded.rows.is_empty(),
                "seed {seed}: it is not the state yet"
            );
            let kept = receiver.store(&file, 0, Default::default());
            resumed_less += u64::from(kept < stored);
        }
        // In the end one more bit, behind the back of a member that runs.
        receiver.receive(&sender, &file, file.size - PIECE);
        if random.below(2) == 0 {
            harm(&there.path().join("snapshots"), &mut random);
        }
        receiver.receive(&sender, &file, file.size);
        if let Err(Refused(error)) = receiver.install(&file) {
            assert_eq!(error.exit_code(), 3, "seed {seed}: {error}");
            assert!(
                error.to_string().contains("will be sent again"),
                "seed {seed}: {error}"
            );
            rejected += 1;
            receiver.receive(&sender, &file, file.size);
            receiver.install(&file).expect("the second copy is sound");
        }
        receiver.stop();
        let receiver = Member::start(there.path()).expect("starts");
        assert!(
            receiver.loaded.rows == rows(),
            "seed {seed}: it is all there"
        );
        receiver.stop();
    }
    eprintln!("rejected {rejected}, resumed with less {resumed_less}");
    assert!(rejected > 0 && resumed_less > 0);
}

/// Flips a bit in one of the files of a snapshot in transit, or cuts it short.
fn harm(snapshots: &Path, random: &mut Random) {
    let name = ["incoming.part", "incoming.part", "incoming.json"][random.below(3) as usize];
    let path = snapshots.join(name);
    let Ok(mut bytes) = fs::read(&path) else {
        return;
    };
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(3) {
        0 => bytes.truncate(at),
        _ => bytes[at] ^= 1 << random.below(8),
    }
    // In place, as a disk would do it: the file stays the one that a running member has open.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("opens");
    file.set_len(bytes.len() as u64).expect("cut");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("written");
}
