//! All that a command has started: whatever descends from a process, in whichever group or session it is.
//!
//! Owns the walk over `/proc`. A walk may miss what changes its parent meanwhile, so whoever must be sure walks again.
//! Left out: what is started for a command by somebody else, as by `systemd-run`, `at` or a container engine.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A process that was seen. Its number may be another's later, but not with the same start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Kin {
    pub(super) id: Pid,
    pub(super) group: i32,
    parent: i32,
    started: u64,
}

impl Kin {
    /// A process that can still do something: a zombie cannot.
    pub(super) fn look(id: Pid) -> Option<Kin> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_pid())).ok()?;
        // The name, in parentheses, may have spaces and parentheses itself.
        let (_, stat) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = stat.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Kin {
            id,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    pub(super) fn lives(&self) -> bool {
        Kin::look(self.id).is_some_and(|now| now.started == self.started)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if self.lives() {
            // What may not be signalled is found by `is_deaf`, and what has ended needs none.
            let _ = kill_process(self.id, signal);
        }
    }

    /// Whether this program may not signal it, as it may not signal `sudo`.
    pub(super) fn is_deaf(&self) -> bool {
        self.lives() && test_kill_process(self.id) == Err(Errno::PERM)
    }

    /// As "4711 (sudo)".
    fn shown(&self) -> String {
        let id = self.id.as_raw_pid();
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        format!("{id} ({})", crate::output::shown(name.trim_end()))
    }
}

/// Those that may not be signalled, in words.
pub(super) fn deaf(kin: &[Kin]) -> Option<String> {
    let deaf = kin.iter().filter(|kin| kin.is_deaf()).map(Kin::shown);
    let deaf: Vec<String> = deaf.collect();
    (!deaf.is_empty()).then(|| deaf.join(", "))
}

/// Whether a signal found nobody. One that was not allowed has found somebody.
pub(super) fn found_nobody(answer: rustix::io::Result<()>) -> bool {
    answer == Err(Errno::SRCH)
}

/// What descends from a process, without those to be spared, what descends from them and what is of their groups.
pub(super) fn descend_from(root: Pid, spared: &[Pid]) -> Vec<Kin> {
    let mut found: Vec<Kin> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for id in children(parent) {
            let is_new = id != root && found.iter().all(|kin| kin.id != id);
            let Some(kin) = Kin::look(id).filter(|_| is_new) else {
                continue;
            };
            let spare = |spared: &Pid| *spared == id || spared.as_raw_pid() == kin.group;
            if !spared.iter().any(spare) {
                found.push(kin);
                parents.push(id);
            }
        }
    }
    found
}

fn children(parent: Pid) -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", parent.as_raw_pid())) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(text) => children.extend(text.split_whitespace().filter_map(number)),
            // The task has ended, or the kernel was built without these files.
            Err(_) if task.path().exists() => return children_by_parents(parent),
            Err(_) => {}
        }
    }
    children
}

fn children_by_parents(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = processes.flatten().filter_map(|process| {
        let id = number(process.file_name().to_str()?)?;
        let kin = Kin::look(id)?;
        (kin.parent == parent.as_raw_pid()).then_some(id)
    });
    ids.collect()
}

fn number(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::getpid;

    use super::*;

    #[test]
    fn a_process_that_may_not_be_signalled_is_not_gone() {
        assert!(found_nobody(Err(Errno::SRCH)));
        assert!(!found_nobody(Err(Errno::PERM)));
        assert!(!found_nobody(Ok(())));
    }

    #[test]
    fn children_are_found_in_both_ways_and_are_spared_when_asked_for() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
        let id = Pid::from_child(&child);
        assert!(children(getpid()).contains(&id));
        assert!(children_by_parents(getpid()).contains(&id));
        let found = descend_from(getpid(), &[]);
        let kin = found.iter().find(|kin| kin.id == id).expect("it is found");
        assert!(kin.lives() && !kin.is_deaf());
        assert!(descend_from(getpid(), &[id]).iter().all(|kin| kin.id != id));
        kin.signal(Signal::KILL);
        child.wait().expect("it has ended");
        assert!(!kin.lives());
    }
}
