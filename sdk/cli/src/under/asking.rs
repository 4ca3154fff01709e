//! Asking for what a command is to run under, until it is held; and what is told where it is not.
//!
//! Owns what may be concluded of an asking that failed. Nothing of the command exists yet.

use std::io::IsTerminal;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tenure::api::Code;
use tenure::{Error, Failure, Guard as Hold, Holdable, Lease};

use super::guard::suspend;
use super::signals::Signals;
use super::{NOTE, Run, What};
use crate::exit::{Exit, Trouble};
use crate::output::note;
use crate::{duration, events, output};

/// How long somebody at a terminal waits before being told for what.
const BEFORE_A_WORD: Duration = Duration::from_secs(1);

/// What is answered, unless a signal tells this program to end before.
pub(super) async fn unless_told<T>(
    signals: &mut Signals,
    work: impl Future<Output = T>,
) -> Result<T, Signal> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Signal::TSTP => suspend(),
                signal => return Err(signal),
            },
            done = &mut work => return Ok(done),
        }
    }
}

pub(super) async fn acquire<W: Holdable>(
    run: &Run,
    what: &What,
    lease: &Lease,
    ask: impl AsyncFn(&Lease, Duration) -> Result<Hold<W>, Error>,
) -> Result<Hold<W>, Error> {
    let mut asking = std::pin::pin!(async {
        loop {
            match ask(lease, run.wait.unwrap_or(duration::DAY)).await {
                // The longest wait of the cluster is not the longest of a caller who named none.
                Err(error) if run.wait.is_none() && error.code() == Some(Code::WaitExpired) => {}
                asked => return asked,
            }
        }
    });
    tokio::select! {
        asked = &mut asking => return asked,
        () = tokio::time::sleep(BEFORE_A_WORD) => {}
    }
    // Somebody who sits there would like to know; a log would not.
    if std::io::stderr().is_terminal() {
        let (word, name) = (what.word, output::shown(&what.name));
        note(format!(
            "waiting for {word} {name}: `tenure {word}s {name}` shows who holds it"
        ));
    }
    asking.await
}

/// Whether a lease that was to be revoked is certain to have ended.
pub(super) fn has_ended(told: &Result<(), Error>) -> bool {
    match told {
        Ok(()) | Err(Error::Lost(_)) => true,
        Err(error) => tells_of_its_end(error),
    }
}

/// Whether it is said of a lease that it is no more.
pub(super) fn tells_of_its_end(error: &Error) -> bool {
    matches!(error.code(), Some(Code::LeaseExpired | Code::LeaseNotFound))
}

/// Whether members do not know who asks, or that may not. Rights may be given back.
pub(super) fn is_of_rights(error: &Error) -> bool {
    matches!(error.code(), Some(Code::Unauthenticated | Code::Forbidden))
}

/// What is told of an asking that failed; by which lease it asked, and whether that is certain to have ended.
pub(super) fn not_acquired(
    what: &What,
    error: Error,
    (lease, ttl, undone): (&str, Duration, bool),
) -> Trouble {
    let error = match error {
        // Nobody can hold by a lease that has ended: whatever was applied is undone.
        Error::Unknown(failure) if undone => Error::NotApplied(failure),
        error => error,
    };
    let held = matches!(error.code(), Some(Code::LockHeld | Code::WaitExpired));
    let by = error.failure().filter(|_| held).and_then(holders);
    let may_hold = format!(
        "lease {lease} may hold {} {} or wait for it, for up to {}: `tenure lease revoke {lease}` ends that",
        what.word,
        output::shown(&what.name),
        duration::shown(ttl)
    );
    match error {
        Error::Lost(loss) => {
            let told = format!(
                "the place in the queue of {} {} was lost: {loss}",
                what.word, what.name
            );
            let trouble = Trouble::new(Exit::UNREACHABLE, told);
            match undone {
                true => trouble
                    .then("`tenure status` shows how the cluster is; ask again when it is well"),
                false => trouble.ending(Exit::IN_DOUBT).in_doubt().then(may_hold),
            }
        }
        unknown @ Error::Unknown(_) => Trouble::from(unknown).then(may_hold),
        refused @ Error::NotApplied(_) => {
            let trouble = Trouble::from(refused);
            match by {
                Some(by) => trouble.saying(format!("{} {} is held by {by}", what.word, what.name)),
                None => trouble,
            }
        }
    }
}

/// Who holds it, as a refusal tells.
fn holders(failure: &Failure) -> Option<String> {
    const MOST_TOLD: usize = 3;
    let holders = failure.fields.get("holders")?.as_array()?;
    let told = holders.iter().take(MOST_TOLD).map(|holder| {
        let text = |field: &str| {
            holder
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let number = |field: &str| {
            holder
                .get(field)
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        let owner = text(if holder.get("owner").is_some() {
            "owner"
        } else {
            "candidate"
        });
        let (fence, left) = (number("fence"), duration::shown_ms(number("remaining_ms")));
        let note = holder
            .get("metadata")
            .and_then(|labels| labels.get(NOTE)?.as_str());
        let who = events::who_and_why(events::who(owner, text("lease_name")), note);
        let who = output::shown(&who);
        format!("{who} (fence {fence}, {left} left unless renewed)")
    });
    let told: Vec<String> = told.collect();
    let more = holders.len().saturating_sub(MOST_TOLD);
    let more = (more > 0).then(|| format!(" and {more} more"));
    (!told.is_empty()).then(|| told.join(", ") + &more.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenure::api::Retry;

    use super::*;

    /// What is told of an asking that was refused because another holds.
    fn told(error: fn(Failure) -> Error, undone: bool) -> Trouble {
        let holder = json!({"owner": "", "lease": "3f9c2a7b5d1e8046", "lease_name": "h:1", "metadata": {}, "fence": 7,
            "remaining_ms": 9_000});
        let fields = json!({"holders": [holder]});
        let failure = Failure {
            code: Some(Code::LockHeld),
            detail: "d".into(),
            retry: Retry::Same,
            retry_after: None,
            fields: fields.as_object().expect("it is one").clone(),
        };
        let what = What {
            word: "lock",
            name: "a".into(),
            environment: Vec::new(),
        };
        let by = ("3f9c2a7b5d1e8047", Duration::from_secs(15), undone);
        not_acquired(&what, error(failure), by)
    }

    #[test]
    fn what_another_holds_was_not_acquired_for_certain_once_the_lease_that_asked_has_ended() {
        let held = "lock a is held by h:1 (fence 7, 9.0s left unless renewed)";
        for (error, undone) in [
            (Error::NotApplied as fn(Failure) -> Error, false),
            (Error::NotApplied, true),
            (Error::Unknown, true),
        ] {
            let trouble = told(error, undone);
            assert_eq!(trouble.exit, Exit::NOT_ACQUIRED);
            assert_eq!(trouble.to_string(), held);
        }
        let trouble = told(Error::Unknown, false);
        assert_eq!(trouble.exit, Exit::IN_DOUBT);
        assert!(
            format!("{trouble:?}").contains("may hold lock a"),
            "{trouble:?}"
        );
    }
}
