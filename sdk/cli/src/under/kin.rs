//! All that a command has started: whatever descends from a process, in whichever group or session it is.
//!
//! Owns the walk over `/proc`. A walk may miss what changes its parent meanwhile, so whoever must be sure walks again.
//! Left out: what is started for a command by somebody else, as by `systemd-run`, `at` or a container engine.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, kill_process, test_kill_process};

/// A process that was seen. Its number may be another's later, but not with the same start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Kin {
    pub(super) id: Pid,
    pub(super) group: i32,
    parent: i32,
    started: u64,
}

impl Kin {
    /// A process that can still do something: a zombie cannot, unless only its first thread is one.
    pub(super) fn look(id: Pid) -> Option<Kin> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_pid())).ok()?;
        // The name, in parentheses, may have spaces and parentheses itself.
        let (_, stat) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = stat.split_whitespace().collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        if matches!(*fields.first()?, "Z" | "X") && threads < 2 {
            return None;
        }
        Some(Kin {
            id,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// A child, which may have ended already and left others in its group.
    pub(super) fn of_child(id: Pid) -> Kin {
        Kin::look(id).unwrap_or(Kin {
            id,
            group: id.as_raw_pid(),
            parent: getpid().as_raw_pid(),
            started: 0,
        })
    }

    pub(super) fn lives(&self) -> bool {
        Kin::look(self.id).is_some_and(|now| now.is(self))
    }

    /// Whether it is the same process, whatever has become of its parent and its group.
    fn is(&self, other: &Kin) -> bool {
        self.id == other.id && self.started == other.started
    }

    /// Whether it is one of those to be spared, or of the group of one. A number that is another's by now spares nobody.
    fn is_spared(&self, spared: &[Kin]) -> bool {
        let leads = |spared: &Kin| {
            spared.id.as_raw_pid() == self.group
                && Kin::look(spared.id).is_none_or(|now| now.is(spared))
        };
        spared.iter().any(|spared| spared.is(self) || leads(spared))
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
pub(super) fn descend_from(root: Pid, spared: &[Kin]) -> Vec<Kin> {
    let mut found: Vec<Kin> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for id in children(parent) {
            let is_new = id != root && found.iter().all(|kin| kin.id != id);
            let Some(kin) = Kin::look(id).filter(|_| is_new) else {
                continue;
            };
            if !kin.is_spared(spared) {
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
        let without = |spared: Kin| descend_from(getpid(), &[spared]);
        assert!(without(*kin).iter().all(|kin| kin.id != id));
        // The number of a process that has ended may be given to a child of the command.
        let before = Kin {
            started: kin.started - 1,
            ..*kin
        };
        assert!(without(before).iter().any(|kin| kin.id == id));
        kin.signal(Signal::KILL);
        child.wait().expect("it has ended");
        assert!(!kin.lives());
    }

    /// As a daemon may do whose first thread has nothing more to do.
    #[test]
    fn a_process_of_which_only_the_first_thread_has_ended_is_alive() {
        let script = "import ctypes, threading, time\n\
            threading.Thread(target=time.sleep, args=(60,)).start()\n\
            ctypes.CDLL(None).syscall(60 if __import__('platform').machine() == 'x86_64' else 93, 0)";
        let python = Command::new("python3").args(["-c", script]).spawn();
        let Ok(mut child) = python else {
            eprintln!("skipped: there is no python3");
            return;
        };
        let id = Pid::from_child(&child);
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_pid()));
            stat.unwrap_or_default().contains(") Z ")
        };
        let begin = std::time::Instant::now();
        while !state() && begin.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        let (is_zombie, kin) = (state(), Kin::look(id));
        child.kill().expect("it is ours");
        child.wait().expect("it has ended");
        assert!(is_zombie && kin.is_some(), "{is_zombie} {kin:?}");
    }
}
