//! One event of a watch, as a line for people.

use tenure::api::{Change, DeleteReason, Event};

use crate::output::shown;

/// How much of a value is shown.
const MOST_SHOWN: usize = 100;

/// As `132  put       keys/config/colour  green`.
pub(crate) fn line(event: &Event) -> String {
    let (word, more) = told(&event.change);
    let resource = shown(&event.resource);
    let line = format!(
        "{}  {word:<10}  {resource}  {}",
        event.revision,
        shown(&more)
    );
    line.trim_end().to_owned()
}

fn told(change: &Change) -> (&'static str, String) {
    match change {
        Change::Put {
            value, encoding, ..
        } => {
            let text = match encoding {
                tenure::api::Encoding::Utf8 => shortened(value),
                tenure::api::Encoding::Base64 => format!("base64 {}", shortened(value)),
            };
            ("put", text)
        }
        Change::Delete { reason, .. } => {
            let why = match reason {
                DeleteReason::Deleted => "",
                DeleteReason::LeaseEnded => "its lease has ended",
            };
            ("delete", why.into())
        }
        Change::Acquired {
            owner,
            lease_name,
            fence,
            ..
        } => (
            "acquired",
            format!("by {}, fence {fence}", who(owner, lease_name)),
        ),
        Change::Queued {
            owner,
            candidate,
            lease_name,
            ..
        } => {
            let name = owner
                .as_deref()
                .or(candidate.as_deref())
                .unwrap_or_default();
            ("queued", who(name, lease_name))
        }
        Change::Released { fence, reason, .. } => {
            ("released", format!("fence {fence}, {}", word(reason)))
        }
        Change::Left { reason, .. } => ("left", word(reason)),
        Change::Elected {
            candidate,
            fence,
            value,
            ..
        } => (
            "elected",
            format!("{candidate}, fence {fence}, {}", shortened(value)),
        ),
        Change::Proclaimed {
            candidate, value, ..
        } => ("proclaimed", format!("{candidate}, {}", shortened(value))),
        Change::Resigned {
            candidate,
            fence,
            reason,
            ..
        } => (
            "resigned",
            format!("{candidate}, fence {fence}, {}", word(reason)),
        ),
        Change::Granted { name, ttl_ms, .. } => (
            "granted",
            format!("{name} for {}", crate::duration::shown_ms(*ttl_ms)),
        ),
        Change::Ended { name, reason, .. } => ("ended", format!("{name} {}", word(reason))),
    }
}

/// A reason as the wire has it.
fn word(reason: &impl serde::Serialize) -> String {
    let word = serde_json::to_value(reason).ok();
    word.and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Whoever holds or waits: the label of the lease, and the owner where several are on one.
pub(crate) fn who(owner: &str, lease_name: &str) -> String {
    match (lease_name, owner) {
        ("", "") => "-".into(),
        ("", name) | (name, "") => name.into(),
        (lease, owner) if lease == owner => owner.into(),
        (lease, owner) => format!("{lease}/{owner}"),
    }
}

/// The same with what it is held for, where that was said.
pub(crate) fn who_and_why(who: String, note: Option<&str>) -> String {
    match note {
        Some(note) => format!("{who} ({})", shortened(note)),
        None => who,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let event: Event = serde_json::from_str(json).expect("it is an event");
        assert_eq!(line(&event), expected);
    }

    #[test]
    fn events_are_told_in_one_line_without_control_characters() {
        check(
            r#"{"revision":132,"type":"put","resource":"keys/a","key":"a","value":"x\ny","encoding":"utf-8",
            "content_type":null,"create_revision":132,"mod_revision":132,"version":1,"lease":null}"#,
            "132  put         keys/a  x\\ny",
        );
        check(
            r#"{"revision":9,"type":"released","resource":"locks/a","lock":"a","owner":"","lease":"00",
            "fence":7,"reason":"lease-ended"}"#,
            "9  released    locks/a  fence 7, lease-ended",
        );
        check(
            r#"{"revision":9,"type":"delete","resource":"keys/a","key":"a","mod_revision":9,"lease":null,"reason":"deleted"}"#,
            "9  delete      keys/a",
        );
    }

    #[test]
    fn a_long_value_is_cut_and_its_length_told() {
        let long = "ä".repeat(150);
        assert_eq!(
            shortened(&long),
            format!("{}… (300 bytes)", "ä".repeat(100))
        );
        assert_eq!(shortened("short"), "short");
    }
}
