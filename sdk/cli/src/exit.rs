//! How the program ends: exit codes, and what is said where something did not work.
//!
//! Owns the table of exit codes, which scripts rely on, and the sentence on what to do next. A command that runs under a
//! hold ends with its own code, which may be one of these.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use tenure::api::{Code, Outcome};
use tenure::{Error, Failure, Loss};

use crate::output::Output;

/// An exit code with a meaning, or that of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const DONE: Exit = Exit(0);
    pub(crate) const FAILED: Exit = Exit(1);
    /// There is no such thing, or a condition did not hold.
    pub(crate) const ABSENT: Exit = Exit(2);
    pub(crate) const USAGE: Exit = Exit(64);
    pub(crate) const UNREACHABLE: Exit = Exit(69);
    /// Whether a write was applied is not known.
    pub(crate) const IN_DOUBT: Exit = Exit(74);
    pub(crate) const NOT_ACQUIRED: Exit = Exit(75);
    pub(crate) const LOST: Exit = Exit(76);
    pub(crate) const DENIED: Exit = Exit(77);
    pub(crate) const CONFIG: Exit = Exit(78);
    pub(crate) const CANNOT_RUN: Exit = Exit(126);
    pub(crate) const NO_SUCH_COMMAND: Exit = Exit(127);

    /// As shells tell of a signal.
    pub(crate) fn by_signal(number: i32) -> Exit {
        Exit(128u8.wrapping_add(u8::try_from(number).unwrap_or_default()))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}

/// The table, as `--help` shows it.
pub(crate) const CODES: &str = "\
Exit codes:
    0  done
    1  failed in another way than those below
    2  there is no such key, lease, hold or member, or a condition did not hold
   64  wrong usage
   69  the cluster is unreachable or has no leader
   74  it is not known whether the change was applied
   75  not acquired: held by others, within --wait
   76  lost: the hold was not renewed in time, or ended by somebody else; its command was stopped
   77  not allowed, or it is not known who asks
   78  the configuration is wrong
  126  the command cannot be run        127  there is no such command
 128+n ended by signal n
A command that ran under a lock, permits or a leadership ends `tenure` with its own exit code.
The daemon, `tenured`, has codes of its own: there, 2 is wrong usage.";

/// What did not work, and what to do about it.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) exit: Exit,
    what: String,
    next: Option<String>,
    code: Option<Code>,
    /// What may be concluded of what was asked for; nothing, where it was done, or begun, before this went wrong.
    outcome: Option<Outcome>,
    io: Option<io::ErrorKind>,
}

impl Trouble {
    /// Whether writing failed in this way.
    pub(crate) fn is(&self, kind: io::ErrorKind) -> bool {
        self.io == Some(kind)
    }

    /// Trouble that has kept what was asked for from being done.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Trouble {
        Trouble {
            exit,
            what: what.into(),
            next: None,
            code: None,
            outcome: Some(Outcome::NotApplied),
            io: None,
        }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Trouble {
        Trouble::new(Exit::USAGE, what)
    }

    /// The sentence on what to do next.
    pub(crate) fn then(mut self, next: impl Into<String>) -> Trouble {
        self.next = Some(next.into());
        self
    }

    /// The same, told in other words.
    pub(crate) fn saying(mut self, what: impl Into<String>) -> Trouble {
        self.what = what.into();
        self
    }

    /// The same, with more to say.
    pub(crate) fn saying_also(mut self, what: &str) -> Trouble {
        self.what = format!("{}; {what}", self.what);
        self
    }

    /// The same, where what had been done was undone.
    pub(crate) fn undone(mut self) -> Trouble {
        self.outcome = Some(Outcome::NotApplied);
        self
    }

    /// The same, where what was asked for may be there, or come to be.
    pub(crate) fn in_doubt(mut self) -> Trouble {
        self.outcome = Some(Outcome::Unknown);
        self
    }

    /// The same, where it was done, or in part, before.
    pub(crate) fn afterwards(mut self) -> Trouble {
        self.outcome = None;
        self
    }

    /// The same of one of several things that were asked for, of which others may be done. What is in doubt stays so.
    pub(crate) fn after(self, others: bool) -> Trouble {
        match self.outcome {
            Some(Outcome::NotApplied) if others => self.afterwards(),
            _ => self,
        }
    }

    /// Whether it is certain that nothing was done.
    pub(crate) fn is_certain(&self) -> bool {
        self.outcome == Some(Outcome::NotApplied)
    }

    /// The same, with another exit code.
    pub(crate) fn ending(mut self, exit: Exit) -> Trouble {
        self.exit = exit;
        self
    }

    /// Says it on stderr, as text or as JSON.
    pub(crate) fn tell(&self, output: Output) {
        let mut text = match output {
            Output::Table => {
                let next = self.next.as_ref();
                let next = next.map(|next| format!("\n{NEXT}next:{NEXT:#}  {next}"));
                let next = next.unwrap_or_default();
                format!("{ERROR}error:{ERROR:#} {}{next}", self.what)
            }
            Output::Json => {
                let code = self.code.map(Code::as_str);
                json!({"error": self.what, "next": self.next, "code": code,
                    "outcome": self.outcome, "exit": self.exit.0})
                .to_string()
            }
        };
        text.push('\n');
        // Nobody is left to be told where this fails.
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const NEXT: anstyle::Style = anstyle::AnsiColor::Cyan.on_default();

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        let trouble = Trouble::new(Exit::FAILED, format!("cannot write the answer: {error}"));
        Trouble {
            io: Some(error.kind()),
            // There is an answer, so it was done.
            ..trouble.afterwards()
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        let (mut failure, in_doubt) = match error {
            Error::Lost(loss) => return lost(loss),
            Error::NotApplied(failure) => (failure, false),
            Error::Unknown(failure) => (failure, true),
        };
        if failure.code == Some(Code::LeaseNotFound) {
            // How to grant another is told to callers of the REST API; `next` tells it to those of this program.
            let end = failure.detail.find("; grant one with ");
            failure.detail.truncate(end.unwrap_or(failure.detail.len()));
        }
        let (exit, next) = match failure.code {
            Some(code) => advice(code),
            None if failure.detail.contains(NOT_TLS) => (Exit::UNREACHABLE, NO_TLS),
            None => (Exit::UNREACHABLE, UNREACHABLE),
        };
        let granting = grant_for(&failure).map(|grant| {
            format!("`tenure whoami` shows your roles; an administrator adds `{grant}` to one of them by `tenure role put`")
        });
        let next = granting.as_deref().unwrap_or(next);
        let what = match failure.code {
            _ if in_doubt => format!("it is not known whether this was applied: {failure}"),
            Some(_) => failure.to_string(),
            None => format!("no member of the cluster answered: {failure}"),
        };
        Trouble {
            exit: if in_doubt { Exit::IN_DOUBT } else { exit },
            what,
            next: Some(if in_doubt { IN_DOUBT } else { next }.to_owned()),
            code: failure.code,
            outcome: Some(if in_doubt {
                Outcome::Unknown
            } else {
                Outcome::NotApplied
            }),
            io: None,
        }
    }
}

/// How what is missing is written as a grant, where a member says which verb on which resource.
fn grant_for(failure: &Failure) -> Option<String> {
    let text = |field: &str| failure.fields.get(field)?.as_str();
    let (verb, resource) = (text("verb")?, text("resource")?);
    if verb == "admin" {
        return Some("--grant admin".to_owned());
    }
    // What is more than letters is shown for people, and may be no word of a shell.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    let prefix = resource.strip_suffix('*').unwrap_or(resource);
    let is_plain = prefix.contains('/') && prefix.chars().all(plain);
    is_plain.then(|| format!("--grant {verb}:{prefix}"))
}

fn lost(loss: Loss) -> Trouble {
    // It was granted or renewed, and may live on in the cluster though nothing may be believed of it.
    Trouble::new(Exit::LOST, format!("lost: {loss}"))
        .in_doubt()
        .then("what was done until then is the holder's; ask for it again to go on")
}

const UNREACHABLE: &str = "`tenure context` shows which members are asked and why; give others with --endpoints, or a \
    longer --timeout. A member to try out is started by `tenured dev`";
/// What TLS says of an answer that is none of it.
const NOT_TLS: &str = "InvalidContentType";
const NO_TLS: &str =
    "what answers there does not speak TLS: write http:// in place of https:// where that is meant";
const IN_DOUBT: &str = "look at what is there now before doing it again";

/// The exit code of a refusal, and what to do next.
fn advice(code: Code) -> (Exit, &'static str) {
    match code {
        Code::InvalidRequest | Code::InvalidName | Code::TooLarge | Code::TtlOutOfRange => (
            Exit::USAGE,
            "the sentence says what is accepted; --help has examples",
        ),
        Code::Unauthenticated => (
            Exit::DENIED,
            "say who you are by --token-file FILE, TENURE_TOKEN_FILE, or token_file of the context (`tenure context` shows \
             which counts); an administrator makes such a file by `tenure token create IDENTITY --out FILE`",
        ),
        Code::Forbidden => (
            Exit::DENIED,
            "`tenure whoami` shows your roles; an administrator grants what is missing by `tenure role put`",
        ),
        Code::KeyNotFound => (
            Exit::ABSENT,
            "`tenure ls PREFIX` shows which keys there are",
        ),
        Code::LeaseNotFound | Code::LeaseExpired => (
            Exit::ABSENT,
            "what hung on the lease has ended with it; `tenure lease grant` makes another, `tenure lease list` shows those that live",
        ),
        Code::NotHeld => (
            Exit::ABSENT,
            "`tenure locks`, `tenure semaphores` and `tenure elections` show what is held by whom",
        ),
        Code::ConditionFailed => (Exit::ABSENT, "read it again, then decide anew"),
        Code::FenceStale => (
            Exit::ABSENT,
            "somebody else may hold it by now: do not write under this fence again; `tenure locks NAME` shows the present one",
        ),
        Code::LockHeld => (
            Exit::NOT_ACQUIRED,
            "wait for it with --wait 1m; `tenure locks NAME` shows who holds it and for how long",
        ),
        Code::WaitExpired => (
            Exit::NOT_ACQUIRED,
            "wait longer with --wait; `tenure locks NAME` shows who holds it and who waits",
        ),
        Code::AlreadyHeld | Code::ModeMismatch => (
            Exit::NOT_ACQUIRED,
            "the same lease and owner ask for it otherwise; give another --owner",
        ),
        Code::LimitMismatch => (
            Exit::NOT_ACQUIRED,
            "the limit of the first holder stands until all is free; `tenure semaphores NAME` shows it",
        ),
        Code::KeyOnOtherLease => (
            Exit::FAILED,
            "the key belongs to another lease; put it without --lease, or with --if-revision to take it over",
        ),
        Code::NoLeader | Code::Lagging | Code::Overloaded | Code::ShuttingDown => (
            Exit::UNREACHABLE,
            "`tenure status` shows which members are well; more than half of them must be",
        ),
        Code::Compacted | Code::RevisionAhead => (
            Exit::FAILED,
            "begin anew from the present state, without the revision",
        ),
        Code::QuotaExceeded | Code::TooManyRequests | Code::TooManyWaiters => (
            Exit::FAILED,
            "a limit of the cluster is reached, which are at /v1/limits, or of your identity (`tenure identity get NAME`)",
        ),
        Code::WrongCluster => (
            Exit::CONFIG,
            "these members are not of one cluster (`tenure context` shows who is asked), or it was restored from a backup \
             meanwhile and is another one now: then run this again, and read anew what was read before",
        ),
        Code::OutcomeUnknown => (Exit::IN_DOUBT, IN_DOUBT),
        Code::MemberNotFound => (Exit::ABSENT, "`tenure member list` shows the members"),
        Code::RoleNotFound => (Exit::ABSENT, "`tenure role list` shows the roles"),
        Code::IdentityNotFound => (
            Exit::ABSENT,
            "`tenure identity list` shows the identities; `tenure identity put NAME --role ROLE` makes one",
        ),
        Code::TokenNotFound => (Exit::ABSENT, "`tenure token list` shows the tokens"),
        Code::AccessConflict => (
            Exit::FAILED,
            "the sentence says what stands against it; change that first (`tenure access --help` shows the steps)",
        ),
        Code::MembershipBusy => (
            Exit::FAILED,
            "ask again when that is done; `tenure member list` shows what is under way",
        ),
        Code::MembershipUnsafe => (
            Exit::FAILED,
            "the sentence says what keeps it from being safe; `tenure status` shows which members are well",
        ),
        Code::RouteNotFound
        | Code::MethodNotAllowed
        | Code::NotAcceptable
        | Code::UnsupportedMediaType
        | Code::IdempotencyMismatch => (
            Exit::FAILED,
            "members and this program may be of different versions; `tenure status` shows those of the members",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_exit_code_of_the_table_and_a_next_step() {
        for code in Code::ALL {
            let (exit, next) = advice(code);
            let listed = CODES
                .lines()
                .any(|line| line.trim().starts_with(&format!("{}  ", exit.0)));
            assert!(listed, "{code:?} ends with {}", exit.0);
            assert!(!next.is_empty());
        }
    }

    #[test]
    fn what_is_missing_is_told_as_the_grant_that_gives_it() {
        let check = |verb: &str, resource: &str, part: &str| {
            let fields = json!({"verb": verb, "resource": resource});
            let failure = Failure {
                code: Some(Code::Forbidden),
                detail: format!("needs `{verb}` on {resource}"),
                retry: tenure::api::Retry::Never,
                retry_after: None,
                fields: fields.as_object().expect("it is one").clone(),
            };
            let trouble = Trouble::from(Error::NotApplied(failure));
            assert_eq!(trouble.exit, Exit::DENIED);
            let next = trouble.next.expect("there is a next step");
            assert!(next.contains(part), "{next}");
        };
        check("write", "keys/config/a", "`--grant write:keys/config/a`");
        check("list", "keys/*", "`--grant list:keys/`");
        check("admin", "the cluster", "`--grant admin`");
        check("read", "keys/`rm -r`", "grants what is missing by");
    }

    #[test]
    fn only_what_is_not_there_and_will_not_be_is_told_as_not_applied() {
        let failure = |code| {
            let problem = tenure::Failure {
                code,
                detail: "d".into(),
                retry: tenure::api::Retry::Never,
                retry_after: None,
                fields: serde_json::Map::new(),
            };
            (Error::NotApplied(problem.clone()), Error::Unknown(problem))
        };
        for code in Code::ALL.into_iter().map(Some).chain([None]) {
            let (refused, doubtful) = failure(code);
            let (refused, doubtful) = (Trouble::from(refused), Trouble::from(doubtful));
            assert_eq!(refused.outcome, Some(Outcome::NotApplied), "{code:?}");
            assert_eq!(doubtful.outcome, Some(Outcome::Unknown), "{code:?}");
            assert_eq!(doubtful.exit, Exit::IN_DOUBT, "{code:?}");
        }
        for loss in [
            Loss::Deadline,
            Loss::LeaseEnded,
            Loss::Broken,
            Loss::GivenUp,
        ] {
            let lost = Trouble::from(Error::Lost(loss));
            assert_eq!(lost.outcome, Some(Outcome::Unknown), "{loss}");
        }
        let unwritten = Trouble::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(unwritten.outcome, None);
        assert_eq!(unwritten.exit, Exit::FAILED);
    }

    #[test]
    fn signals_are_told_as_shells_do() {
        assert_eq!(Exit::by_signal(15), Exit(143));
        assert_eq!(Exit::by_signal(9), Exit(137));
    }
}
