//! Appends to the log of a member that does not run an entry that no program can apply, so that it can be tried what an
//! operator does then (`systemd/test.sh`).
//!
//! It is no command of the daemon, in whose hands it would be a mistake away from ending a cluster.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use tenure_raft::{Entry, LogIndex, Payload, Write};
use tenured::storage::{DataDir, Held, open};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dir), None) = (arguments.next(), arguments.next()) else {
        eprintln!("poison: give one data directory, of a member that does not run");
        return ExitCode::from(2);
    };
    match append(dir.as_ref()) {
        Ok(index) => {
            println!("{index}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("poison: {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Appends the entry behind all others, of the same term as the last of them, and answers its index.
fn append(path: &Path) -> Result<LogIndex, Box<dyn std::error::Error>> {
    let label = Held::of(path)?.labelled()?.ok_or("there is no member")?;
    let dir = DataDir::open(path, &label.name)?;
    let mut opened = open(&dir)?.ok_or("the member belongs to no cluster")?;
    let last = opened.contents.entries.last();
    let last = last.ok_or("its log has no entry to follow")?;
    let poison = Entry {
        index: last.index.next(),
        payload: Payload::Command(Bytes::from_static(b"\xffpoison")),
        ..last.clone()
    };
    let (index, append) = (poison.index, vec![poison]);
    opened.log.write(&[Write {
        append,
        ..Write::default()
    }])?;
    opened.log.close()?;
    Ok(index)
}
