//! Conditions on a key: `If-Match` and `If-None-Match` (`api.md` §2).

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use tenure_state::{Compare, Condition, Field, Revision};

use super::failure::Failure;
use super::text;

/// What a condition header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tag {
    /// `*`: any version that is there.
    Any,
    /// `"N"`: the version of this mod revision.
    Version(u64),
}

/// The conditions of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Conditions {
    matches: Option<Tag>,
    none_matches: Option<Tag>,
}

impl Conditions {
    /// Those of a request that reads.
    ///
    /// # Errors
    ///
    /// `invalid-request` for a form that is not accepted.
    pub(super) fn of_read(headers: &HeaderMap) -> Result<Conditions, Failure> {
        Ok(Conditions {
            matches: tag(headers, &IF_MATCH)?,
            none_matches: tag(headers, &IF_NONE_MATCH)?,
        })
    }

    /// Those of a request that writes: there `If-None-Match` is `*` or absent.
    ///
    /// # Errors
    ///
    /// `invalid-request` for a form that is not accepted.
    pub(super) fn of_write(headers: &HeaderMap) -> Result<Conditions, Failure> {
        let conditions = Conditions::of_read(headers)?;
        match conditions.none_matches {
            None | Some(Tag::Any) => Ok(conditions),
            Some(Tag::Version(_)) => Err(Failure::invalid(
                "If-None-Match of a write names a version; accepted is `*` (only if absent)",
            )),
        }
    }

    /// Whether there is an `If-Match`.
    pub(super) fn has_match(&self) -> bool {
        self.matches.is_some()
    }

    /// Whether there is an `If-None-Match`.
    pub(super) fn has_none_match(&self) -> bool {
        self.none_matches.is_some()
    }

    /// As conditions of a transaction on `key`. An absent key has the mod revision 0.
    pub(super) fn on(&self, key: &Bytes) -> Vec<Condition> {
        let compare = |compare, revision| {
            let field = Field::ModRevision(revision);
            Condition::Key {
                key: key.clone(),
                field,
                compare,
            }
        };
        let matches = self.matches.map(|tag| match tag {
            Tag::Any => vec![compare(Compare::Greater, 0)],
            // `"0"` is the tag of nothing: an absent key never matches (`api.md` §10, Keys).
            Tag::Version(revision) => vec![
                compare(Compare::Equal, revision),
                compare(Compare::Greater, 0),
            ],
        });
        let none_matches = self.none_matches.map(|tag| match tag {
            Tag::Any => vec![compare(Compare::Equal, 0)],
            Tag::Version(revision) => vec![compare(Compare::NotEqual, revision)],
        });
        matches.into_iter().chain(none_matches).flatten().collect()
    }

    /// What they ask of a key, for whom they refuse.
    pub(super) fn in_words(&self, key: &str) -> String {
        let key = text::shown(key);
        let matches = self.matches.map(|tag| match tag {
            Tag::Any => format!("If-Match asks for key {key} to be there"),
            Tag::Version(revision) => {
                format!("If-Match asks for key {key} with mod_revision {revision}")
            }
        });
        let none_matches = self.none_matches.map(|tag| match tag {
            Tag::Any => format!("If-None-Match asks for key {key} to be absent"),
            Tag::Version(revision) => {
                format!(
                    "If-None-Match asks for key {key} with another mod_revision than {revision}"
                )
            }
        });
        let both: Vec<String> = matches.into_iter().chain(none_matches).collect();
        both.join(", and ")
    }

    /// Whether `If-Match` refuses an answer with this version.
    pub(super) fn match_fails(&self, present: Revision) -> bool {
        match self.matches {
            None => false,
            Some(Tag::Any) => present.0 == 0,
            Some(Tag::Version(revision)) => present.0 == 0 || revision != present.0,
        }
    }

    /// The version that `If-None-Match` names: the one that the caller has.
    pub(super) fn known_version(&self) -> Option<Revision> {
        match self.none_matches {
            Some(Tag::Version(revision)) => Some(Revision(revision)),
            Some(Tag::Any) | None => None,
        }
    }

    /// Whether `If-None-Match` says that the caller has this version already.
    pub(super) fn not_modified(&self, present: Revision) -> bool {
        match self.none_matches {
            None => false,
            Some(Tag::Any) => present.0 != 0,
            Some(Tag::Version(revision)) => present.0 != 0 && revision == present.0,
        }
    }
}

/// The tag of a version.
pub(super) fn etag(revision: Revision) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits in quotes are a header")
}

fn tag(headers: &HeaderMap, header: &HeaderName) -> Result<Option<Tag>, Failure> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("\u{fffd}").trim();
    let version = || {
        let quoted = text.strip_prefix('"')?.strip_suffix('"')?;
        text::revision("tag", quoted).ok()
    };
    let tag = if text == "*" {
        Some(Tag::Any)
    } else {
        version().map(Tag::Version)
    };
    match tag.filter(|_| values.next().is_none()) {
        Some(tag) => Ok(Some(tag)),
        None => {
            let sent = text::shown(text);
            let name = if *header == IF_MATCH {
                "If-Match"
            } else {
                "If-None-Match"
            };
            Err(Failure::invalid(format!(
                "{name} is {sent}; accepted is one mod_revision in quotes, as `\"131\"`, or `*`"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    #[test]
    fn one_tag_or_a_star_is_accepted() {
        let check = |value: &str, expected: Tag| {
            let conditions = Conditions::of_read(&headers(IF_MATCH, &[value])).expect(value);
            assert_eq!(conditions.matches, Some(expected), "{value}");
        };
        check("*", Tag::Any);
        check("\"131\"", Tag::Version(131));
        check(" \"0\" ", Tag::Version(0));
    }

    #[test]
    fn other_forms_of_a_condition_are_refused_with_what_is_accepted() {
        for values in [
            &["131"][..],
            &["W/\"131\""],
            &["\"131\", \"132\""],
            &["\"131\"", "\"132\""],
            &["\"abc\""],
            &["\""],
            &["\"\""],
            &[""],
            &["\"9007199254740992\""],
        ] {
            let failure = Conditions::of_read(&headers(IF_MATCH, values)).expect_err("refused");
            assert!(
                failure.detail.starts_with("If-Match is"),
                "{}",
                failure.detail
            );
        }
        assert!(Conditions::of_write(&headers(IF_NONE_MATCH, &["\"1\""])).is_err());
        assert!(Conditions::of_write(&headers(IF_NONE_MATCH, &["*"])).is_ok());
    }

    #[test]
    fn an_absent_key_matches_no_tag() {
        let key = Bytes::from_static(b"a");
        let present = |revision| Condition::Key {
            key: key.clone(),
            field: Field::ModRevision(revision),
            compare: Compare::Equal,
        };
        let there = Condition::Key {
            key: key.clone(),
            field: Field::ModRevision(0),
            compare: Compare::Greater,
        };
        let zero = Conditions::of_write(&headers(IF_MATCH, &["\"0\""])).expect("accepted");
        assert_eq!(zero.on(&key), [present(0), there]);
        assert!(zero.match_fails(Revision(0)) && zero.match_fails(Revision(7)));
        let absent = Conditions::of_write(&headers(IF_NONE_MATCH, &["*"])).expect("accepted");
        assert_eq!(absent.on(&key), [present(0)]);
        assert!(absent.not_modified(Revision(7)) && !absent.not_modified(Revision(0)));
    }
}
