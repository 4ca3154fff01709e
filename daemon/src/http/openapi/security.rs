//! What the document says of proofs and rights.
//!
//! Owns the translation of the table of rights (`http/rights.rs`), which the handlers use too, so that neither can say what
//! the other does not do. An operation of the document is brought to the call that the service would make of it.

use http::Method;
use serde_json::{Value, json};

use crate::http::query::Query;
use crate::http::rights::Right;
use crate::http::route::{self, Call};

/// How `x-tenure-verbs` is read.
const ABOUT: &str = "What each call needs of whoever asks, by `x-tenure-verbs`: a list of cases, of which each that applies must be met. All \
of the `verbs` of a case are needed on what `on` names, by a grant that covers all of it; where one of them is a list, one of \
that list is enough. With `or`, whoever was granted the lease needs none. An empty list of cases is open to everybody; a case \
without verbs wants somebody who proves an identity. `admin` on everything includes every right. A right includes what the \
call answers of what it names: who may lock or read a lock sees who holds it and who waits, who may list sees what the list \
shows, who may put or delete a key learns its versions. Who has a lease may release, resign and leave what hangs on it, without \
the right to have it again. Who may watch is told the values that are put and, with `previous=true`, \
those that were there before, back to the beginning of history, and needs no `read` for that. Who may put a key, and may have a \
lease, may put it on that lease, which deletes it when it ends: `write` with `lease` includes deleting what may be put. The \
present revision is no secret.";

/// Says it all.
pub(super) fn secure(document: &mut Value) {
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "16 hex digits, a dot, 64 hex digits",
            "description": "A token that POST /v1/tokens has answered.",
        },
        "mutualTLS": {
            "type": "mutualTLS",
            "description": "A client certificate with a name that an identity has as `certificate`. Where a token is sent too, that counts.",
        },
    });
    // Nothing is needed while access control is off.
    document["security"] = json!([{"bearer": []}, {"mutualTLS": []}, {}]);
    document["x-tenure-rights"] = ABOUT.into();
    let paths = document["paths"].as_object_mut();
    for (path, item) in paths.into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let right = call(path, method).right();
            if let Right::Open = right {
                operation["security"] = json!([]);
            }
            operation["x-tenure-verbs"] = right.published();
        }
    }
}

/// The call of an operation, by names and ids that could be any.
///
/// # Panics
///
/// Where the document has an operation that no route leads to; it is made once, of the routes.
fn call(path: &str, method: &str) -> Call {
    let sample = path
        .replace("{id}", "3f9c2a7b5d1e8046")
        .replace("{name}", "a")
        .replace("{key}", "a");
    let method: Method = method.to_uppercase().parse().expect("a method");
    let target = route::find(&sample).expect("the document has paths that lead somewhere");
    // Some collections take this method only with the name of one thing.
    let with = |query: Option<&str>| target.call(&method, &mut Query::parse(query).ok()?).ok();
    let call = with(None).or_else(|| with(Some("name=a")));
    call.expect("the document has methods that a path takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_to_everybody_is_what_the_service_lets_in_without_a_proof() {
        let document = super::super::tightened();
        let paths = document["paths"].as_object().expect("there are paths");
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("a path has operations") {
                let is_open = operation["x-tenure-verbs"] == json!([]);
                let family = route::find(&path.replace("{id}", "1")).expect(path).family;
                assert_eq!(is_open, family.is_open(), "{method} {path}");
                assert_eq!(
                    is_open,
                    operation["security"] == json!([]),
                    "{method} {path}"
                );
                let refuses = |status: &str| operation["responses"].get(status).is_some();
                assert_eq!(
                    !is_open,
                    refuses("401") && refuses("429"),
                    "{method} {path}"
                );
            }
        }
    }

    #[test]
    fn every_case_of_a_right_names_verbs_that_there_are() {
        let document = super::super::tightened();
        let verbs = document["paths"]["/v1/keys"]["get"]["x-tenure-verbs"].clone();
        let expected = json!([
            {"when": "with `keys_only=true`", "verbs": ["list"], "on": "all that is asked for"},
            {"when": "without it", "verbs": ["list", "read"], "on": "all that is asked for"},
        ]);
        assert_eq!(verbs, expected);
    }
}
