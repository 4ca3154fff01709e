//! Keys: putting, reading, deleting and listing them (`api.md` §6).

use std::ops::Bound;
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
    Answer, Collection, Command, KeyEntry, Operation, OperationResult, Put, ReadError, Resource,
    Revision, Transaction, prefix_end,
};

use super::condition::{Conditions, etag};
use super::failure::{Failure, Purpose};
use super::guard;
use super::reading::{Looked, Reading};
use super::reply::Reply;
use super::service::Context;
use super::text;

/// A page has so many entries unless it is asked for fewer or more.
const PAGE_DEFAULT: u64 = 1_000;
/// And never more than this.
const PAGE_MOST: u64 = 10_000;
/// A page ends before this many bytes of JSON, unless its first entry alone has more.
const PAGE_BYTES: usize = 4 << 20;
/// No read holds the state for more rows than this (`design.md`, State).
const PIECE: usize = 256;
/// How often a page is begun anew where its revision was compacted under it.
const PAGE_TRIES: usize = 3;
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
            "if-none-match makes no sense on a delete; accepted is if-match",
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
    let transaction = Transaction {
        conditions: conditions.on(key),
        then: vec![operation],
        otherwise: vec![Operation::Get { key: key.clone() }],
        guard: guard::of(cx.headers)?,
    };
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
    match (succeeded, results.pop()) {
        (true, Some(result)) => Ok((revision, result)),
        (false, Some(OperationResult::Got(present))) => {
            let present = present.map_or(Revision(0), |entry| entry.mod_revision);
            Err(Failure::condition_failed(present).at(revision))
        }
        _ => Err(Failure::unexpected()),
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
    let reading = Reading::of_resource(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let conditions = Conditions::of_read(cx.headers)?;
    let resource = Resource {
        collection: Collection::Keys,
        name: name.clone().into(),
    };
    reading
        .answer(&cx, resource, |_| look(&cx, &name, &conditions, as_entry))
        .await
}

/// One key as it is now.
fn look(cx: &Context<'_>, name: &str, conditions: &Conditions, as_entry: bool) -> Looked {
    let (entry, revision) = cx
        .handle()
        .read(|state| (state.key(name.as_bytes()), state.revision()));
    let present = entry
        .as_ref()
        .map_or(Revision(0), |entry| entry.mod_revision);
    if conditions.match_fails(present) {
        return Looked::Gone(Failure::condition_failed(present).at(revision));
    }
    let Some(entry) = entry else {
        return Looked::Gone(not_found(name.as_bytes()).at(revision));
    };
    // A version that is named may be waited to pass; that is told by whoever waits.
    let reply = if conditions.known_version().is_none() && conditions.not_modified(present) {
        Ok(Reply::empty(304).at(revision))
    } else if as_entry {
        let shown = api::KeyEntry {
            entry: shown(&entry),
            revision: revision.0,
        };
        Reply::json(200, revision, &shown)
    } else {
        Ok(raw(&entry).at(revision))
    };
    Looked::there(present, reply)
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
        .with(ETAG, etag(entry.mod_revision))
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

/// `GET /v1/keys?prefix=…`
pub(super) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let prefix = text::prefix("prefix", cx.query.take("prefix")?.unwrap_or_default())?;
    let limit = cx
        .query
        .take("limit")?
        .map(|text| text::number("limit", &text, 1, PAGE_MOST))
        .transpose()?;
    let after = cx
        .query
        .take("start_after")?
        .map(|text| text::prefix("start_after", text))
        .transpose()?;
    cx.finish_query()?;
    cx.no_body().await?;
    cx.barrier().await?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let range = Range::new(prefix, after, usize::try_from(limit).unwrap_or(usize::MAX));
    for _ in 0..PAGE_TRIES {
        match range.page(&cx).await {
            Ok(page) => return Reply::json(200, Revision(page.revision), &page),
            // Writes that fill the whole history while one page is read: begin again at the present revision.
            Err(ReadError::Compacted { .. } | ReadError::Ahead) => {}
        }
    }
    Err(Failure::new(
        Code::Overloaded,
        "the history was compacted under this page again and again",
    ))
}

/// What a listing asks for.
struct Range {
    start: Bytes,
    end: Option<Bytes>,
    after: Option<Bytes>,
    limit: usize,
}

impl Range {
    fn new(prefix: String, after: Option<String>, limit: usize) -> Range {
        let end = if prefix.is_empty() {
            None
        } else {
            prefix_end(prefix.as_bytes())
        };
        let start = Bytes::from(prefix);
        // What lies before the prefix begins at the prefix.
        let after = after.map(Bytes::from).filter(|after| *after >= start);
        Range {
            start,
            end,
            after,
            limit,
        }
    }

    /// A page, read in pieces at one revision; entries are applied in between.
    async fn page(&self, cx: &Context<'_>) -> Result<api::KeyPage, ReadError> {
        let mut after = self.after.clone();
        let (revision, count, mut rows) = cx.handle().read(|state| {
            let revision = state.revision();
            let count = state.count_keys(
                std::ops::Bound::Included(&self.start[..]),
                self.end.as_deref(),
            );
            Ok((
                revision,
                count,
                state.keys_at(
                    revision,
                    self.from(after.as_ref()),
                    self.end.as_deref(),
                    PIECE,
                )?,
            ))
        })?;
        let mut page = api::KeyPage {
            keys: Vec::new(),
            more: false,
            next: None,
            count,
            revision: revision.0,
        };
        let mut bytes = 0;
        loop {
            let last_piece = rows.len() < PIECE;
            for row in &rows {
                bytes += json_bytes(row);
                if page.keys.len() == self.limit || (bytes > PAGE_BYTES && !page.keys.is_empty()) {
                    page.more = true;
                    page.next = page.keys.last().map(|entry| entry.key.clone());
                    return Ok(page);
                }
                page.keys.push(shown(row));
            }
            if last_piece {
                return Ok(page);
            }
            after = rows.last().map(|row| row.key.clone());
            // Encoding a piece takes a while: others have their turn before the next.
            tokio::task::yield_now().await;
            rows = cx.handle().read(|state| {
                state.keys_at(
                    revision,
                    self.from(after.as_ref()),
                    self.end.as_deref(),
                    PIECE,
                )
            })?;
        }
    }

    fn from<'a>(&'a self, after: Option<&'a Bytes>) -> Bound<&'a [u8]> {
        match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(&self.start),
        }
    }
}

/// An upper bound of what an entry takes in JSON, near enough to end a page by.
pub(super) fn json_bytes(entry: &KeyEntry) -> usize {
    const FRAME: usize = 200;
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.bytes().map(escaped_bytes).sum(),
        Err(_) => bytes.len().div_ceil(3) * 4,
    };
    FRAME
        + text(&entry.key)
        + text(&entry.value)
        + entry.content_type.as_ref().map_or(0, |t| 2 * t.len())
}

fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => 2,
        0..=0x1f => 6,
        _ => 1,
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
    let (key, key_encoding) = key_of(&entry.key);
    let (value, encoding) = text_of(&entry.value);
    api::Entry {
        key,
        key_encoding,
        value,
        encoding,
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
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= MOST_CONTENT_TYPE_BYTES)
        .ok_or_else(|| {
            let detail = format!(
                "the content type is kept, and has at most {MOST_CONTENT_TYPE_BYTES} bytes of ASCII"
            );
            Failure::invalid(detail)
        })?;
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
    fn an_entry_is_never_longer_in_json_than_a_page_counts_for_it() {
        for (key, value) in [
            (&b"a"[..], &b""[..]),
            (b"a", b"plain \"quoted\" \\ \n \x00 \x1f caf\xc3\xa9"),
            (b"\xff\xfe", b"\xff\x00\x01"),
            (b"k", &[0; 4096]),
        ] {
            let entry = entry(key, value);
            let json = serde_json::to_vec(&shown(&entry)).expect("an entry has a form in JSON");
            assert!(
                json.len() <= json_bytes(&entry),
                "{} > {}",
                json.len(),
                json_bytes(&entry)
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_base64() {
        let text = shown(&entry(b"a", b"caf\xc3\xa9"));
        assert_eq!(
            (text.value.as_str(), text.encoding, text.key_encoding),
            ("café", Encoding::Utf8, None)
        );
        let bytes = shown(&entry(b"\xff", b"\xff\x00"));
        assert_eq!(
            (bytes.value.as_str(), bytes.encoding),
            ("/wA=", Encoding::Base64)
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

    #[test]
    fn a_listing_starts_behind_start_after_and_never_before_its_prefix() {
        let check = |prefix: &str, after: Option<&str>, from: Bound<&[u8]>, end: Option<&[u8]>| {
            let range = Range::new(prefix.into(), after.map(str::to_owned), 1);
            assert_eq!(
                (range.from(range.after.as_ref()), range.end.as_deref()),
                (from, end)
            );
        };
        check("", None, Bound::Included(b""), None);
        check("a/", None, Bound::Included(b"a/"), Some(b"a0"));
        check("a/", Some("a/x"), Bound::Excluded(b"a/x"), Some(b"a0"));
        check("a/", Some("A"), Bound::Included(b"a/"), Some(b"a0"));
    }
}
