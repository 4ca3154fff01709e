//! Guards: writes of keys that are applied only while a fence is held (`api.md` §2).

use http::HeaderMap;
use http::header::HeaderValue;
use tenure_api::{MAX_REVISION, header};
use tenure_state::{Fence, Guard, Kind};

use super::failure::Failure;
use super::text::{self, Decoding};

const ACCEPTED: &str = "accepted is `lock=<name>; fence=<n>`, `semaphore=<name>; fence=<n>` or `election=<name>; \
                        fence=<n>`, the name percent-encoded";

/// The guard of a request, if it has one.
///
/// # Errors
///
/// `invalid-request` or `invalid-name`, naming the part that is wrong.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Guard>, Failure> {
    let mut values = headers.get_all(header::GUARD).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value).map(Some),
        (Some(_), Some(_)) => Err(wrong("is given more than once")),
    }
}

/// Refuses a guard on a call that takes none: it must not be believed to protect anything.
///
/// # Errors
///
/// `invalid-request`, saying where a guard applies.
pub(super) fn refuse(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.contains_key(header::GUARD) {
        false => Ok(()),
        true => Err(Failure::invalid(
            "the header `Tenure-Guard` does not apply to this call; it guards PUT and DELETE of `/v1/keys` and \
             `POST /v1/txn`",
        )),
    }
}

fn parse(value: &HeaderValue) -> Result<Guard, Failure> {
    let text = value
        .to_str()
        .map_err(|_| wrong("has characters that are not ASCII"))?;
    let (mut named, mut fence) = (None, None);
    for part in text.split(';').map(str::trim) {
        let (word, raw) = part
            .split_once('=')
            .ok_or_else(|| wrong(&format!("has the part {} without `=`", text::shown(part))))?;
        let kind = match word {
            "lock" => Kind::Lock,
            "semaphore" => Kind::Semaphore,
            "election" => Kind::Election,
            "fence" => {
                if fence.replace(number(raw)?).is_some() {
                    return Err(wrong("has more than one `fence`"));
                }
                continue;
            }
            _ => return Err(wrong(&format!("has the part {}", text::shown(part)))),
        };
        let name = text::name(raw, Decoding::Path)
            .map_err(|failure| failure.at_place("the header `Tenure-Guard`"))?;
        if named.replace((kind, name)).is_some() {
            return Err(wrong("names more than one thing"));
        }
    }
    let (kind, name) =
        named.ok_or_else(|| wrong("names neither a lock nor a semaphore nor an election"))?;
    let fence = fence.ok_or_else(|| wrong("has no `fence`"))?;
    Ok(Guard { kind, name, fence })
}

fn number(raw: &str) -> Result<Fence, Failure> {
    text::number(
        "the fence of the header `Tenure-Guard`",
        raw,
        1,
        MAX_REVISION - 1,
    )
    .map(Fence)
}

fn wrong(what: &str) -> Failure {
    Failure::invalid(format!("the header `Tenure-Guard` {what}; {ACCEPTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_api::Code;

    fn guard(values: &[&str]) -> Result<Option<Guard>, Failure> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(header::GUARD, value);
        }
        of(&headers)
    }

    #[test]
    fn a_guard_names_one_thing_and_its_fence() {
        let check = |value: &str, kind: Kind, name: &str, fence: u64| {
            let expected = Guard {
                kind,
                name: name.to_owned(),
                fence: Fence(fence),
            };
            assert_eq!(guard(&[value]).expect(value), Some(expected), "{value}");
        };
        check(
            "lock=jobs/nightly; fence=121",
            Kind::Lock,
            "jobs/nightly",
            121,
        );
        check("semaphore=s;fence=1", Kind::Semaphore, "s", 1);
        check("fence=7 ; election=a", Kind::Election, "a", 7);
        check("lock=a%3B%20b%3D%25+c; fence=9", Kind::Lock, "a; b=%+c", 9);
        check("lock=caf%C3%A9==; fence=9", Kind::Lock, "café==", 9);
        assert_eq!(guard(&[]).expect("none"), None);
    }

    #[test]
    fn what_is_wrong_with_a_guard_is_named() {
        let check = |values: &[&str], code: Code, named: &str| {
            let failure = guard(values).expect_err(named);
            assert_eq!(failure.code, code, "{}", failure.detail);
            assert!(failure.detail.contains(named), "{}", failure.detail);
            assert!(
                failure.detail.contains("`Tenure-Guard`"),
                "{}",
                failure.detail
            );
        };
        let invalid = Code::InvalidRequest;
        check(&[""], invalid, "without `=`");
        check(&["lock=a"], invalid, "has no `fence`");
        check(&["fence=1"], invalid, "names neither");
        check(&["lock=a; fence=1;"], invalid, "without `=`");
        check(&["lock=a; fence=0"], invalid, "from 1 to 9007199254740991");
        check(&["lock=a; fence=x"], invalid, "`x`");
        check(
            &["lock=a; fence=1; fence=1"],
            invalid,
            "more than one `fence`",
        );
        check(&["lock=a; lock=b; fence=1"], invalid, "more than one thing");
        check(&["key=a; fence=1"], invalid, "`key=a`");
        check(&["Lock=a; fence=1"], invalid, "`Lock=a`");
        check(&["lock=é; fence=1"], invalid, "not ASCII");
        check(
            &["lock=a; fence=1", "lock=a; fence=1"],
            invalid,
            "more than once",
        );
        check(&["lock=; fence=1"], Code::InvalidName, "is empty");
        check(&["lock=a%0a; fence=1"], Code::InvalidName, "U+000A");
        check(&["lock=%zz; fence=1"], Code::InvalidName, "two hex digits");
    }

    #[test]
    fn a_guard_elsewhere_is_refused_with_where_it_applies() {
        let mut headers = HeaderMap::new();
        assert!(refuse(&headers).is_ok());
        headers.insert(header::GUARD, HeaderValue::from_static("lock=a; fence=1"));
        let failure = refuse(&headers).expect_err("refused");
        assert!(failure.detail.contains("POST /v1/txn"));
    }
}
