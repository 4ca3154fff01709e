//! Keys: putting, reading and deleting one (`api.md` §6), and how an entry is shown.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use tenure_api::{self as api, Code, Encoding, header};
use tenure_state::{
    Answer, Collection, Command, KeyEntry, Operation, OperationResult, Put, Resource, Revision,
    Scope, Transaction,
};

use super::condition::{Conditions, etag};
use super::failure::{Failure, Purpose};
use super::guard;
use super::reading::{Looked, Reading};
use super::reply::Reply;
use super::rights::{Needed, READ};
use super::service::Context;
use super::text;

/// The type of a value that was put without one.
const UNTYPED: &str = "application/octet-stream";
const MOST_CONTENT_TYPE_BYTES: usize = 256;

/// `PUT /v1/keys/{key}`
pub(super) async fn put(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    let lease = cx
        .query
        .take("lease")?
        .map(|lease| text::lease(&lease))
        .transpose()?;
    cx.finish_query()?;
    let conditions = Conditions::of_write(cx.headers)?;
    let content_type = content_type(cx.headers)?;
    let value = cx.value().await?;
    let key = Bytes::from(name);
    // A caller who names the version knows what the key hangs on (`api.md` §6).
    let refuse_other_lease = lease.is_some() && !conditions.has_match();
    let put = Put {
        key: key.clone(),
        value,
        content_type,
        lease,
        refuse_other_lease,
    };
    let revision_and = transact(&cx, &key, &conditions, Operation::Put(put)).await?;
    match revision_and {
        (revision, OperationResult::Put { entry, created }) => {
            let status = if created { 201 } else { 200 };
            let written = Reply::json(status, revision, &written(&entry, revision))?;
            Ok(written.with(ETAG, etag(entry.mod_revision)))
        }
        _ => Err(Failure::unexpected()),
    }
}

/// `DELETE /v1/keys/{key}`
pub(super) async fn delete(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let conditions = Conditions::of_write(cx.headers)?;
    if conditions.has_none_match() {
        return Err(Failure::invalid(
            "If-None-Match makes no sense on a delete; accepted is If-Match",
        ));
    }
    let key = Bytes::from(name);
    match transact(
        &cx,
        &key,
        &conditions,
        Operation::Delete { key: key.clone() },
    )
    .await?
    {
        (revision, OperationResult::Deleted(0)) => Err(not_found(&key).at(revision)),
        (revision, OperationResult::Deleted(deleted)) => Reply::json(
            200,
            revision,
            &api::Deleted {
                deleted,
                revision: revision.0,
            },
        ),
        _ => Err(Failure::unexpected()),
    }
}

/// Does one thing to one key under conditions; where they do not hold, the key's present version is told.
async fn transact(
    cx: &Context<'_>,
    key: &Bytes,
    conditions: &Conditions,
    operation: Operation,
) -> Result<(Revision, OperationResult), Failure> {
    let conditions_on_it = conditions.on(key);
    // Only whoever asks about the key is told of it, which takes a right to read it.
    let otherwise = match conditions_on_it.is_empty() {
        true => Vec::new(),
        false => vec![Operation::Get { key: key.clone() }],
    };
    let transaction = Transaction {
        conditions: conditions_on_it,
        then: vec![operation],
        otherwise,
        guard: guard::of(cx.headers)?,
    };
    match carry_out(cx, transaction).await? {
        (revision, Done::Then(result)) => Ok((revision, result)),
        (revision, Done::Otherwise(OperationResult::Got(present))) => {
            let present = present.map_or(Revision(0), |entry| entry.mod_revision);
            let asked = conditions.in_words(&String::from_utf8_lossy(key));
            Err(Failure::condition_failed(&asked, present).at(revision))
        }
        (_, Done::Otherwise(_)) => Err(Failure::unexpected()),
    }
}

/// What a transaction of one operation in each branch did.
pub(super) enum Done {
    /// Its conditions held.
    Then(OperationResult),
    /// They did not.
    Otherwise(OperationResult),
}

/// Carries out a transaction of one operation in each branch; the revision after it.
///
/// # Errors
///
/// What the state machine refuses, and what got no outcome.
pub(super) async fn carry_out(
    cx: &Context<'_>,
    transaction: Transaction,
) -> Result<(Revision, Done), Failure> {
    let decided = cx
        .submit(Command::Transaction(transaction), Purpose::Write)
        .await?;
    let answer = decided
        .outcome
        .map_err(|refusal| Failure::refused(refusal, decided.clock, decided.revision))?;
    let Answer::Transaction {
        succeeded,
        mut results,
        revision,
    } = answer
    else {
        return Err(Failure::unexpected());
    };
    let result = results.pop().ok_or_else(Failure::unexpected)?;
    match succeeded {
        true => Ok((revision, Done::Then(result))),
        false => Ok((revision, Done::Otherwise(result))),
    }
}

/// `GET /v1/keys/{key}`
pub(super) async fn read(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    let as_entry = cx
        .query
        .take("entry")?
        .map(|text| text::boolean("entry", &text))
        .transpose()?
        .unwrap_or(false);
    let form = Form {
        conditions: Conditions::of_read(cx.headers)?,
        as_entry,
    };
    if let Some(revision) = cx.query.take("revision")? {
        let revision = Revision(text::revision("revision", &revision)?);
        return read_at(cx, &name, form, revision).await;
    }
    let reading = Reading::of_resource(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let resource = Resource {
        collection: Collection::Keys,
        name: name.clone().into(),
    };
    let needed = may_read(&name);
    reading
        .answer(&cx, (resource, &needed), |_| {
            let (entry, revision) = cx.read(&needed, |state| {
                (state.key(name.as_bytes()), state.revision())
            })?;
            // A version that is named may be waited to pass; that is told by whoever waits.
            let known = form.conditions.known_version().is_some();
            Ok(form.show(&name, entry, revision, !known))
        })
        .await
}

fn may_read(name: &str) -> Needed<'_> {
    Needed::on(READ, Scope::One(Collection::Keys, name.as_bytes()))
}

/// A key as it was at a revision; nothing can be waited for there.
async fn read_at(
    mut cx: Context<'_>,
    name: &str,
    form: Form,
    revision: Revision,
) -> Result<Reply, Failure> {
    if cx.query.has("after") {
        return Err(Failure::invalid(
            "`revision` asks for what was and `after` for what comes; give one",
        ));
    }
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let needed = may_read(name);
    let settled = reading.settle(&cx, &needed).await?;
    let (entry, present) = cx.read(&needed, |state| {
        let entry = state.key_at(revision, name.as_bytes());
        (entry, state.revision())
    })?;
    let shown = match entry {
        Ok(entry) => form.show(name, entry, revision, true),
        Err(error) => Looked::Gone(reading.unreadable(error, revision, present)),
    };
    match shown {
        Looked::There { reply, .. } => Ok(settled.mark(reply)),
        Looked::Gone(failure) => Err(settled.mark_failure(failure)),
    }
}

/// How a key is asked for.
struct Form {
    conditions: Conditions,
    as_entry: bool,
}

impl Form {
    /// A key as it was found at a revision. With `not_modified`, a version that the caller has is not sent again.
    fn show(
        &self,
        name: &str,
        entry: Option<Arc<KeyEntry>>,
        revision: Revision,
        not_modified: bool,
    ) -> Looked {
        let present = entry
            .as_ref()
            .map_or(Revision(0), |entry| entry.mod_revision);
        if self.conditions.match_fails(present) {
            let asked = self.conditions.in_words(name);
            return Looked::Gone(Failure::condition_failed(&asked, present).at(revision));
        }
        let Some(entry) = entry else {
            return Looked::Gone(not_found(name.as_bytes()).at(revision));
        };
        let reply = if not_modified && self.conditions.not_modified(present) {
            Ok(Reply::empty(304).at(revision))
        } else if self.as_entry {
            let shown = api::KeyEntry {
                entry: shown(&entry),
                revision: revision.0,
            };
            Reply::json(200, revision, &shown)
        } else {
            Ok(raw(&entry).at(revision))
        };
        Looked::there(
            present,
            reply.map(|reply| reply.with(ETAG, etag(entry.mod_revision))),
        )
    }
}

/// The value as it was put. Whatever it is, a browser that opens it must not run it as a page of ours.
fn raw(entry: &KeyEntry) -> Reply {
    let mut reply = Reply::new(200, UNTYPED, entry.value.clone());
    if let Some(content_type) = entry
        .content_type
        .as_deref()
        .and_then(|text| HeaderValue::from_str(text).ok())
    {
        reply.content_type = Some(content_type);
    }
    let reply = reply
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; sandbox"),
        )
        .with(
            HeaderName::from_static(header::CREATE_REVISION),
            HeaderValue::from(entry.create_revision.0),
        )
        .with(
            HeaderName::from_static(header::MOD_REVISION),
            HeaderValue::from(entry.mod_revision.0),
        )
        .with(
            HeaderName::from_static(header::VERSION),
            HeaderValue::from(entry.version),
        );
    match entry
        .lease
        .and_then(|lease| HeaderValue::try_from(lease.to_string()).ok())
    {
        Some(lease) => reply.with(HeaderName::from_static(header::LEASE), lease),
        None => reply,
    }
}

/// Bytes as JSON shows them: text, or base64 where they are none.
pub(super) fn text_of(bytes: &[u8]) -> (String, Encoding) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), Encoding::Utf8),
        Err(_) => (BASE64.encode(bytes), Encoding::Base64),
    }
}

/// A key as JSON shows it, with its encoding where that is not text.
pub(super) fn key_of(key: &[u8]) -> (String, Option<Encoding>) {
    let (text, encoding) = text_of(key);
    (text, (encoding == Encoding::Base64).then_some(encoding))
}

/// An entry as JSON shows it.
pub(super) fn shown(entry: &Arc<KeyEntry>) -> api::Entry {
    let (value, encoding) = text_of(&entry.value);
    api::Entry {
        value: Some(value),
        encoding: Some(encoding),
        ..shown_without_value(entry)
    }
}

/// An entry as JSON shows it where its value was not asked for.
pub(super) fn shown_without_value(entry: &KeyEntry) -> api::Entry {
    let (key, key_encoding) = key_of(&entry.key);
    api::Entry {
        key,
        key_encoding,
        value: None,
        encoding: None,
        content_type: entry.content_type.clone(),
        create_revision: entry.create_revision.0,
        mod_revision: entry.mod_revision.0,
        version: entry.version,
        lease: entry.lease.map(|lease| lease.to_string()),
    }
}

fn written(entry: &KeyEntry, revision: Revision) -> api::KeyWritten {
    api::KeyWritten {
        key: key_of(&entry.key).0,
        content_type: entry.content_type.clone(),
        create_revision: entry.create_revision.0,
        mod_revision: entry.mod_revision.0,
        version: entry.version,
        lease: entry.lease.map(|lease| lease.to_string()),
        revision: revision.0,
    }
}

fn not_found(key: &[u8]) -> Failure {
    let key = text::shown(&String::from_utf8_lossy(key));
    Failure::new(Code::KeyNotFound, format!("key {key} is absent"))
}

/// The type that is kept with a value. What `curl -d` says of itself is no type.
fn content_type(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    // What is no text is no type either.
    kept_type(value.to_str().unwrap_or("\u{fffd}"))
}

/// The type that is kept with a value: as it was given, or none where it says nothing.
///
/// # Errors
///
/// `invalid-request` for what could not be a header again.
pub(super) fn kept_type(text: &str) -> Result<Option<String>, Failure> {
    let fits = text.len() <= MOST_CONTENT_TYPE_BYTES
        && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    if !fits {
        let detail = format!(
            "the content type is kept, and has at most {MOST_CONTENT_TYPE_BYTES} bytes of printable ASCII"
        );
        return Err(Failure::invalid(detail));
    }
    let essence = text.split(';').next().unwrap_or_default().trim();
    let untyped =
        essence.is_empty() || essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    Ok((!untyped).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &'static [u8], value: &'static [u8]) -> Arc<KeyEntry> {
        Arc::new(KeyEntry {
            key: Bytes::from_static(key),
            value: Bytes::from_static(value),
            content_type: Some("text/plain".into()),
            create_revision: Revision(1 << 52),
            mod_revision: Revision(1 << 52),
            version: 1,
            lease: tenure_state::LeaseId::new(1),
        })
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_base64() {
        let text = shown(&entry(b"a", b"caf\xc3\xa9"));
        assert_eq!(
            (text.value.as_deref(), text.encoding, text.key_encoding),
            (Some("café"), Some(Encoding::Utf8), None)
        );
        let bytes = shown(&entry(b"\xff", b"\xff\x00"));
        assert_eq!(
            (bytes.value.as_deref(), bytes.encoding),
            (Some("/wA="), Some(Encoding::Base64))
        );
        assert_eq!(
            (bytes.key.as_str(), bytes.key_encoding),
            ("/w==", Some(Encoding::Base64))
        );
    }

    #[test]
    fn a_form_type_counts_as_untyped() {
        let check = |sent: Option<&str>, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                headers.insert(CONTENT_TYPE, HeaderValue::from_str(sent).expect("a header"));
            }
            assert_eq!(
                content_type(&headers).expect("accepted").as_deref(),
                expected
            );
        };
        check(None, None);
        check(Some(""), None);
        check(Some("application/x-www-form-urlencoded"), None);
        check(
            Some("Application/X-WWW-Form-URLEncoded; charset=utf-8"),
            None,
        );
        check(
            Some("text/html; charset=utf-8"),
            Some("text/html; charset=utf-8"),
        );
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_str(&"x".repeat(257)).expect("a header"),
        );
        assert!(content_type(&headers).is_err());
    }
}
