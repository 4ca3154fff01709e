//! What an operator does with files while no member runs: restoring a backup, looking whether files are whole, and making
//! a cluster out of what one member has left.
//!
//! Owns the commands and what they print. Never touches a directory that a member runs on, and never makes a revision,
//! a fence or a cursor twice: a cluster that is made here begins at a revision of its own, and with an id of its own.

mod recover;
mod restore;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenure_raft::{Configuration, LogIndex, MemberId, MemberInfo, SnapshotMeta, Stamp};
use tenure_replica::{Applier, EntryError};
use tenure_state::{
    LoadError, RestoreError, Restored, Revision, RootToken, Row, STATE_VERSION, State,
    revision_base,
};

pub use recover::recover;
pub use restore::restore;
pub use verify::verify;

use crate::config::ConfigError;
use crate::node::{NodeError, rebuild};
use crate::root_token::{self, RootTokenError};
use crate::storage::{ClusterId, StorageError, Stored};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// Files.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The token that is to let somebody in.
    #[error(transparent)]
    RootToken(#[from] RootTokenError),
    /// The rows of a member's state.
    #[error(transparent)]
    State(#[from] NodeError),
    /// The rows of a backup.
    #[error("{} is damaged: {reason}; use another backup", .path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A backup of a cluster that follows newer rules.
    #[error(
        "{} is of a cluster that follows state version {found}, and this program knows up to {STATE_VERSION}: use a newer program, as \
         `tenured verify` of the one that made it shows", .path.display()
    )]
    NewerBackup {
        /// The file.
        path: PathBuf,
        /// The version of its state.
        found: u64,
    },
    /// The member that is to be made may not follow the state.
    #[error(
        "{}: the new cluster would follow state version {found}, and state_version_at_most is {most}: take that setting out, or \
         raise it",
        .path.display()
    )]
    HeldBack {
        /// What the state was read from.
        path: PathBuf,
        /// The version of the state.
        found: u64,
        /// The newest version that the member may follow.
        most: u64,
    },
    /// An entry of the log.
    #[error(
        "entry {index} of the log cannot be applied: {reason}; `tenured recover --before {index}` makes a cluster of the state \
         before it"
    )]
    Entry {
        /// Which.
        index: LogIndex,
        /// Why not.
        reason: String,
    },
    /// The state cannot be that of a new cluster.
    #[error("{}: {reason}", .path.display())]
    Restore {
        /// What it was read from.
        path: PathBuf,
        /// Why not.
        reason: RestoreError,
    },
    /// The directory has a member in it.
    #[error(
        "the data directory {} holds a member already: restore into an empty one, and move this one away if it is not needed",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// There is nothing of ours.
    #[error("{} {what}: name a data directory or a backup file", .path.display())]
    Nothing {
        /// Where.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// There is no member to recover.
    #[error(
        "the data directory {} has no log and state of a member: there is nothing to recover from", .0.display()
    )]
    NothingToRecover(PathBuf),
    /// The member joined and was told nothing.
    #[error(
        "the member in {} had joined a cluster and never received its state: a cluster made of this would be empty; take another \
         member, or a backup", .0.display()
    )]
    NothingReceived(PathBuf),
    /// The log does not reach so far, or the state is beyond it.
    #[error("--before {before} is not accepted: {reason}")]
    Before {
        /// What was asked for.
        before: u64,
        /// What would be accepted.
        reason: String,
    },
    /// It was not said that what is lost is accepted.
    #[error("nothing was changed: give --accept-loss to do this")]
    Unconfirmed,
    /// The system gives no random numbers.
    #[error("cannot draw a cluster id: the system gives no random numbers")]
    Random,
    /// Nobody reads what is printed.
    #[error("cannot print: {0}")]
    Output(#[from] std::io::Error),
}

impl OfflineError {
    /// The exit code that says what kind of failure it is (`api.md` §9).
    pub fn exit_code(&self) -> u8 {
        match self {
            OfflineError::Storage(error) => error.exit_code(),
            OfflineError::State(error) => error.exit_code(),
            OfflineError::Backup { .. }
            | OfflineError::NewerBackup { .. }
            | OfflineError::Entry { .. } => 3,
            OfflineError::Config(_)
            | OfflineError::HeldBack { .. }
            | OfflineError::RootToken(_)
            | OfflineError::NotEmpty(_)
            | OfflineError::Nothing { .. }
            | OfflineError::NothingToRecover(_)
            | OfflineError::NothingReceived(_)
            | OfflineError::Before { .. }
            | OfflineError::Unconfirmed => 2,
            OfflineError::Restore { .. } | OfflineError::Random | OfflineError::Output(_) => 1,
        }
    }
}

/// The second in which a cluster is made, which gives it its first revision. Before it has any files, the revisions that it
/// begins with are behind this machine's clock, so that the next one begins beyond them.
#[derive(Clone, Copy, Debug)]
struct Second(u64);

impl Second {
    fn now() -> Second {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Second(since.map_or(0, |since| since.as_secs()))
    }

    fn base(self) -> Revision {
        revision_base(self.0)
    }

    /// Returns when a cluster that is made next begins beyond this revision. A clock that is set back meanwhile is not
    /// waited for.
    fn pass(self, made: Revision) {
        let seconds = (self.0..).find(|second| made < revision_base(*second));
        let patience = Duration::from_secs(seconds.map_or(0, |until| until - self.0));
        let until = UNIX_EPOCH + Duration::from_secs(self.0) + patience;
        if let Ok(left) = until.duration_since(SystemTime::now()) {
            std::thread::sleep(left.min(patience));
        }
    }
}

/// The token that is to let somebody in, where one is named.
fn root_token(file: Option<&Path>) -> Result<Option<RootToken>, OfflineError> {
    Ok(file.map(root_token::read).transpose()?)
}

/// The state with which a cluster begins that is made of `state`, read from `path`, and in which `root` may do everything.
fn begin(
    mut state: State,
    path: &Path,
    second: Second,
    root: Option<&RootToken>,
) -> Result<Restored, OfflineError> {
    if let Some(root) = root {
        state.give_root(root);
    }
    let restored = state.restored(second.base());
    restored.map_err(|reason| OfflineError::Restore {
        path: path.to_owned(),
        reason,
    })
}

/// What the log of a member begins behind that is alone in a new cluster.
fn alone(member: MemberId, info: MemberInfo, state: &State) -> SnapshotMeta {
    let configuration = Configuration {
        voters: [member].into(),
        info: [(member, info)].into(),
        ..Configuration::default()
    };
    SnapshotMeta {
        stamp: Stamp(state.clock().0),
        ..SnapshotMeta::genesis(configuration)
    }
}

fn draw_cluster() -> Result<ClusterId, OfflineError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| OfflineError::Random)?;
    Ok(ClusterId(u128::from_be_bytes(bytes).max(1)))
}

/// The state of a backup's rows.
fn state_of_backup(path: &Path, rows: Vec<Row>, digest: u128) -> Result<State, OfflineError> {
    let damaged = |reason: String| OfflineError::Backup {
        path: path.to_owned(),
        reason,
    };
    let state = State::from_rows(rows.into_iter()).map_err(|error| match error {
        LoadError::Rules { found } => OfflineError::NewerBackup {
            path: path.to_owned(),
            found,
        },
        error => damaged(error.to_string()),
    })?;
    match state.digest() == digest {
        true => Ok(state),
        false => Err(damaged(
            "its rows do not have the digest that was written with them".to_owned(),
        )),
    }
}

/// A member's state with the entries of its log applied that come before `before`, or all of them.
fn replay(stored: &Stored, before: LogIndex) -> Result<Applier, OfflineError> {
    let state = rebuild(&stored.state)?;
    let mut applier = Applier::new(stored.identity.member, state, stored.state.meta.clone());
    let covered = stored.state.meta.position.index;
    let entries = stored.log.entries.iter().filter(|_| stored.log_counts);
    for entry in entries.filter(|entry| covered < entry.index && entry.index < before) {
        // What panics in the rules does so on every member; nothing of this state is used then.
        let applied = catch_unwind(AssertUnwindSafe(|| {
            applier.apply(std::slice::from_ref(entry)).map(|_| ())
        }));
        let reason = match applied {
            Ok(Ok(())) => continue,
            Ok(Err(EntryError::Undecodable { source, .. })) => source.to_string(),
            Ok(Err(error @ EntryError::NewerRules { .. })) => {
                return Err(OfflineError::State(error.into()));
            }
            Ok(Err(error @ EntryError::OutOfOrder { .. })) => error.to_string(),
            Err(_) => "the rules panicked".to_owned(),
        };
        let index = entry.index;
        return Err(OfflineError::Entry { index, reason });
    }
    Ok(applier)
}

/// What an operator must know of every cluster that was made here.
fn told_of_restored(restored: &Restored) -> String {
    format!(
        "ended: {} leases, and with them {} holds, {} places in queues, {} keys; keys that stay: {}",
        restored.leases,
        restored.holds,
        restored.places,
        restored.keys,
        restored.state.key_count()
    )
}

/// Who may do what in a cluster that was made here. Tokens that were revoked since are back, which nobody else says.
fn tell_access(
    state: &State,
    root: Option<&RootToken>,
    out: &mut impl std::io::Write,
) -> std::io::Result<()> {
    let access = state.access();
    if let Some(root) = root {
        writeln!(
            out,
            "the token {} may do everything: it is that of the identity root, which has the role root; what these were, and \
             earlier tokens of root, are gone",
            root.id
        )?;
    }
    let counts = (
        access.roles().len(),
        access.identities().len(),
        access.tokens().len(),
    );
    if counts == (0, 0, 0) {
        return writeln!(
            out,
            "access control is off, and nobody has a role or a token"
        );
    }
    writeln!(
        out,
        "access control is {}, with {} roles, {} identities and {} tokens as they were then: whatever was revoked since is \
         back, so look with `tenure token list`, `tenure identity list` and `tenure role list` before clients come",
        if access.enabled() { "on" } else { "off" },
        counts.0,
        counts.1,
        counts.2
    )
}

/// A time as people write it, in UTC (the days of the civil calendar: Hinnant, "chrono-compatible date algorithms").
fn utc(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Who belongs to a configuration, by name and id.
fn members(configuration: &Arc<Configuration>) -> Vec<(String, MemberId)> {
    let name = |id: &MemberId| configuration.info.get(id).map_or("", |info| &info.name);
    let members = configuration.members();
    members
        .iter()
        .map(|id| (name(id).to_owned(), *id))
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tenure_raft::{Entry, HardState, Payload, Term, Write};
    use tenure_state::Genesis;

    use super::*;
    use crate::config::{RecoverFlags, ReportForm, VerifyFlags};
    use crate::storage::{self, DataDir, Held, Offline, found};

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_796_083_200, "2026-12-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn a_second_passes_before_the_next_cluster_is_made() {
        for made in [0, 1 << 20] {
            let second = Second::now();
            let made = Revision(second.base().0 + made);
            second.pass(made);
            assert!(made < Second::now().base());
        }
    }

    fn entry(index: u64, term: u64, payload: Payload) -> Entry {
        Entry {
            index: LogIndex(index),
            term: Term(term),
            stamp: Stamp(0),
            payload,
        }
    }

    /// A member with a checkpoint at entry 1 and these entries in its log.
    fn with_log(path: &Path, append: Vec<Entry>, hard_state: Option<HardState>) {
        let dir = DataDir::open(path, "n1").expect("a directory");
        let state = State::genesis(Genesis::default());
        let base = alone(dir.member(), MemberInfo::default(), &state);
        found(&dir, ClusterId(7), &base, &state).expect("a member");
        let mut opened = storage::open(&dir).expect("it opens").expect("formed");
        let write = Write {
            append,
            hard_state,
            ..Write::default()
        };
        opened.log.write(&[write]).expect("it is written");
    }

    /// A member whose log has an entry, of index 2, that no version can apply.
    fn poisoned(path: &Path) {
        let poison = Payload::Command(Bytes::from_static(b"\xffpoison"));
        let append = vec![entry(2, 1, poison), entry(3, 1, Payload::Empty)];
        with_log(path, append, None);
    }

    #[test]
    fn the_better_log_is_told_by_the_term_of_its_last_entry_and_not_by_its_length_or_the_members_term()
     {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // What the leader of term 2 never got to a majority, and what the leader of term 5 did. Only the first one has
        // heard of term 9: it campaigned, and nobody answered.
        let (longer, better) = (dir.path().join("longer"), dir.path().join("better"));
        let in_term = |term| {
            Some(HardState {
                term: Term(term),
                ..HardState::default()
            })
        };
        let old = (2..=9).map(|index| entry(index, 2, Payload::Empty));
        with_log(&longer, old.collect(), in_term(9));
        let new = vec![entry(2, 2, Payload::Empty), entry(3, 5, Payload::Empty)];
        with_log(&better, new, in_term(5));
        let told = |path: &Path| {
            let verified = |output| {
                let (path, mut out) = (path.to_owned(), Vec::new());
                verify(&VerifyFlags { path, output }, &mut out).expect("it is whole");
                String::from_utf8(out).expect("it is text")
            };
            let json = verified(ReportForm::Json);
            let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
            let number = |name: &str| json["log"][name].as_u64().expect("a number");
            let (last, of_term) = (number("last"), number("last_term"));
            let shown = format!("up to {last} of term {of_term}, in term {}", number("term"));
            let text = verified(ReportForm::Text);
            assert!(text.contains(&shown), "{shown:?} is not in {text}");
            let (mut plan, flags) = (
                Vec::new(),
                RecoverFlags {
                    data_dir: Some(path.to_owned()),
                    ..RecoverFlags::default()
                },
            );
            let refused = recover(flags, &mut plan).expect_err("the loss is not accepted");
            assert!(matches!(refused, OfflineError::Unconfirmed), "{refused}");
            let plan = String::from_utf8(plan).expect("it is text");
            let shown = format!("a log up to entry {last} of term {of_term};");
            assert!(plan.contains(&shown), "{shown:?} is not in {plan}");
            (last, of_term, number("term"))
        };
        assert_eq!((told(&longer), told(&better)), ((9, 2, 9), (3, 5, 5)));
    }

    fn recovered(path: &Path, before: Option<u64>) -> (Result<(), OfflineError>, String) {
        recovered_with(path, before, None)
    }

    fn recovered_with(
        path: &Path,
        before: Option<u64>,
        root_token_file: Option<PathBuf>,
    ) -> (Result<(), OfflineError>, String) {
        let mut out = Vec::new();
        let flags = RecoverFlags {
            data_dir: Some(path.to_owned()),
            before,
            root_token_file,
            accept_loss: true,
            ..RecoverFlags::default()
        };
        let result = recover(flags, &mut out);
        (result, String::from_utf8(out).expect("it is text"))
    }

    #[test]
    fn an_entry_that_cannot_be_applied_is_named_and_a_cluster_is_made_of_the_state_before_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        poisoned(&path);
        let flags = VerifyFlags {
            path: path.clone(),
            output: ReportForm::Text,
        };
        let of_verify = verify(&flags, &mut Vec::new()).expect_err("it is poisoned");
        let of_recover = recovered(&path, None).0.expect_err("it is poisoned");
        for error in [of_verify, of_recover] {
            let text = error.to_string();
            assert_eq!(error.exit_code(), 3, "{text}");
            let named = text.contains("entry 2 ") && text.contains("recover --before 2");
            assert!(named, "{text}");
        }
        let (result, out) = recovered(&path, Some(2));
        result.expect("what comes before it is fine");
        assert!(out.contains("2 entries of its own log"), "{out}");
        verify(&flags, &mut Vec::new()).expect("it is whole again");
    }

    #[test]
    fn a_member_that_joined_and_received_nothing_makes_no_empty_cluster() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        let member = DataDir::open(&path, "n1").expect("a directory");
        let state = State::genesis(Genesis::default());
        found(&member, ClusterId(7), &SnapshotMeta::default(), &state).expect("a member");
        drop(member);
        let (result, _) = recovered(&path, None);
        let error = result.expect_err("it has nothing");
        assert!(matches!(error, OfflineError::NothingReceived(_)), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_recovery_that_was_cut_off_is_ended_only_where_the_loss_is_accepted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        poisoned(&path);
        let fresh = path.join("recovering");
        let other = DataDir::open(&fresh, "n1").expect("a directory");
        let state = State::genesis(Genesis::default());
        let base = alone(other.member(), MemberInfo::default(), &state);
        found(&other, ClusterId(8), &base, &state).expect("a member");
        drop(other);
        std::fs::write(fresh.join("kept"), "before-recovery-1").expect("written");
        // The first of the files has its name.
        std::fs::rename(fresh.join("member.json"), path.join("member.json")).expect("renamed");
        let mut out = Vec::new();
        let flags = RecoverFlags {
            data_dir: Some(path.clone()),
            ..RecoverFlags::default()
        };
        let error = recover(flags, &mut out).expect_err("the loss is not accepted");
        assert!(matches!(error, OfflineError::Unconfirmed), "{error}");
        let out = String::from_utf8(out).expect("it is text");
        assert!(out.contains("was cut off"), "{out}");
        let (result, out) = recovered(&path, None);
        result.expect("it is completed");
        assert!(out.contains("it is complete now"), "{out}");
        let held = Held::of(&path).expect("a directory");
        let offline = Offline::look(&held).expect("it is whole").expect("formed");
        let stored = offline.stored.expect("a member");
        assert_eq!(stored.identity.cluster, ClusterId(8));
    }

    #[test]
    fn whoever_lost_the_last_administrators_token_gets_another_one_in_by_recovering() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        poisoned(&path);
        let access = || {
            let held = Held::of(&path).expect("a directory");
            let offline = Offline::look(&held).expect("it opens").expect("formed");
            let stored = offline.stored.expect("a member");
            let state = rebuild(&stored.state).expect("it is whole");
            let tokens = state.access().tokens();
            let owners = tokens.map(|(id, token)| (id, token.identity.to_string()));
            (state.access().enabled(), owners.collect::<Vec<_>>())
        };
        let missing = Some(dir.path().join("none"));
        let (result, _) = recovered_with(&path, Some(2), missing);
        let error = result.expect_err("there is no such file");
        assert_eq!(error.exit_code(), 2, "{error}");
        assert_eq!(access(), (false, vec![]), "nothing was changed");
        // The second one takes the place of the first, as that of a cluster whose token is lost.
        for name in ["first", "second"] {
            let file = dir.path().join(name);
            root_token::make(Some(&file), &mut Vec::new()).expect("it is new");
            let id = root_token::read(&file).expect("a token").id;
            let before = (name == "first").then_some(2);
            let (result, out) = recovered_with(&path, before, Some(file));
            result.expect("it is recovered");
            assert_eq!(access(), (true, vec![(id, "root".to_owned())]));
            let told = format!("the token {id} may do everything");
            let told = out.contains(&told) && out.contains("1 identities and 1 tokens");
            assert!(told, "{out}");
        }
        let (result, out) = recovered(&path, None);
        result.expect("it is recovered");
        assert!(access().0 && out.contains("access control is on"), "{out}");
    }
}
