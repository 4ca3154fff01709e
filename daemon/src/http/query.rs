//! The parameters of a query: each is taken by the call that knows it, and what is left over is refused.

use super::failure::Failure;
use super::text::{self, Decoding};

/// The parameters that nobody has taken yet, form-decoded, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    /// What the call has asked for so far, for the sentence that names what is accepted.
    known: Vec<&'static str>,
}

impl Query {
    /// Decodes the part of a URI behind the question mark.
    ///
    /// # Errors
    ///
    /// `invalid-request` where a parameter cannot be decoded.
    pub(super) fn parse(raw: Option<&str>) -> Result<Query, Failure> {
        let pieces = raw
            .unwrap_or_default()
            .split('&')
            .filter(|piece| !piece.is_empty());
        let pairs = pieces.map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let decoded = |part: &str| {
                text::decode(part, Decoding::Form).map_err(|what| {
                    Failure::invalid(format!("query parameter {} {what}", text::shown(name)))
                })
            };
            Ok((decoded(name)?, decoded(value)?))
        });
        Ok(Query {
            pairs: pairs.collect::<Result<_, Failure>>()?,
            known: Vec::new(),
        })
    }

    /// Whether a parameter is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, _)| n == name)
    }

    /// Whether a read of the member's own state is asked for.
    pub(super) fn is_local(&self) -> bool {
        let local = |(name, value): &(String, String)| name == "consistency" && value == "local";
        self.pairs.iter().any(local)
    }

    /// What is there, in an order that does not depend on how it was sent, but for the values of one name.
    pub(super) fn sorted(&self) -> Vec<(&str, &str)> {
        let pairs = self.pairs.iter();
        let mut sorted: Vec<_> = pairs.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        sorted.sort_by_key(|(name, _)| *name);
        sorted
    }

    /// Takes a parameter that may be given once.
    ///
    /// # Errors
    ///
    /// `invalid-request` where it is given more than once.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Option<String>, Failure> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            n => Err(Failure::invalid(format!(
                "query parameter `{name}` is given {n} times; it may be given once"
            ))),
        }
    }

    /// Takes a parameter that must be given once.
    ///
    /// # Errors
    ///
    /// `invalid-request` where it is missing or given more than once.
    pub(super) fn require(&mut self, name: &'static str) -> Result<String, Failure> {
        self.take(name)?
            .ok_or_else(|| Failure::invalid(format!("query parameter `{name}` is missing")))
    }

    /// Takes a parameter that may be given many times.
    pub(super) fn take_all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let taken = self.pairs.extract_if(.., |(n, _)| n == name);
        taken.map(|(_, value)| value).collect()
    }

    /// Refuses what nobody has taken.
    ///
    /// # Errors
    ///
    /// `invalid-request`, naming the parameter and what the call takes.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Some((name, _)) = self.pairs.first() else {
            return Ok(());
        };
        let accepted = match self.known.as_slice() {
            [] => "this call takes none".to_owned(),
            known => format!("this call takes {}", known.join(", ")),
        };
        Err(Failure::invalid(format!(
            "unknown query parameter {}; {accepted}",
            text::shown(name)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Query {
        Query::parse(Some(raw)).expect(raw)
    }

    #[test]
    fn parameters_are_form_decoded_and_taken_once() {
        let mut query = parse("&name=a+b%2Fc&&flag&prefix=x&prefix=y");
        assert_eq!(query.take("name").expect("once"), Some("a b/c".into()));
        assert_eq!(query.take("name").expect("once"), None);
        assert_eq!(query.take("flag").expect("once"), Some(String::new()));
        assert_eq!(query.take_all("prefix"), ["x", "y"]);
        assert!(query.finish().is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_query_is_named() {
        let check = |raw: &str, expected: &str| {
            let result = Query::parse(Some(raw)).and_then(|mut query| {
                query.take("limit")?;
                query.finish()
            });
            let failure = result.expect_err(raw);
            assert!(
                failure.detail.contains(expected),
                "{raw}: {}",
                failure.detail
            );
        };
        check("limit=1&limit=1", "`limit` is given 2 times");
        check(
            "limits=1",
            "unknown query parameter `limits`; this call takes limit",
        );
        check("consistency=local", "`consistency`");
        check("min_revision=3", "`min_revision`");
        check("limit=%zz", "`limit` has a percent sign");
        check("li%ffmit=1", "is not UTF-8");
        check("Limit=1", "`Limit`");
    }
}
