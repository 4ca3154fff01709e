//! Asks the rows of a table and tells where an answer is not as expected.
//!
//! Beside what a row expects, every answer must have what the contract says of all answers: the headers, a `revision` that
//! the header repeats, the fields of a problem; `HEAD` wherever `GET` is; and `OPTIONS` that names the method.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pattern::Kept;
use super::table::{Body, Call, Expected, Row};
use crate::common::{Answer, Client};

/// What every problem has, whatever its code.
const OF_EVERY_PROBLEM: [&str; 7] = [
    "type", "title", "status", "detail", "code", "outcome", "retry",
];

/// Rows being asked of one member.
pub(super) struct Run {
    client: Client,
    rows: usize,
    failed: Vec<String>,
    codes: BTreeSet<String>,
    /// The methods and paths that were answered well.
    answered: BTreeSet<(String, String)>,
    paths: BTreeSet<String>,
}

impl Run {
    pub(super) fn new(client: Client) -> Run {
        Run {
            client,
            rows: 0,
            failed: Vec::new(),
            codes: BTreeSet::new(),
            answered: BTreeSet::new(),
            paths: BTreeSet::new(),
        }
    }

    /// Asks every row of a table.
    pub(super) fn ask_all(&mut self, part: &str, rows: &[Row]) {
        let mut kept = Kept::default();
        for row in rows {
            self.rows += 1;
            for call in &row.calls {
                let mut told = Vec::new();
                if let Err(error) = self.ask(call, &mut kept, &mut told) {
                    told.push(error);
                }
                if !told.is_empty() {
                    let place = format!("{part}.txt:{} {}", call.line, row.name);
                    self.fail(format!("{place}\n  {}", told.join("\n  ")));
                    // The calls that follow build on this one.
                    break;
                }
            }
        }
    }

    /// Tells that something is not as the contract says.
    pub(super) fn fail(&mut self, what: String) {
        self.failed.push(what);
    }

    pub(super) fn has_shown_code(&self, code: &str) -> bool {
        self.codes.contains(code)
    }

    /// The calls that were answered well, by the template of their path.
    pub(super) fn shown_calls(&self, templates: &[&String]) -> BTreeSet<(String, String)> {
        let answered = self.answered.iter();
        answered
            .filter_map(|(method, path)| Some((method.clone(), template_of(path, templates)?)))
            .collect()
    }

    /// Fails where anything was told.
    pub(super) fn finish(self) {
        assert!(
            self.failed.is_empty(),
            "{} differences in {} rows:\n{}",
            self.failed.len(),
            self.rows,
            self.failed.join("\n")
        );
    }

    fn ask(&mut self, call: &Call, kept: &mut Kept, told: &mut Vec<String>) -> Result<(), String> {
        let (method, path) = (call.method.as_str(), kept.fill(&call.path)?);
        let mut headers = Vec::new();
        for (name, value) in &call.headers {
            headers.push((name.clone(), kept.fill(value)?));
        }
        let body = match &call.body {
            Body::None => String::new(),
            Body::Text(text) => kept.fill(text)?,
            Body::Json(json) => {
                headers.push(("content-type".into(), "application/json".into()));
                kept.fill(json)?
            }
        };
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let answer = self
            .client
            .call(method, &path, &headers, body.as_bytes())
            .map_err(|error| format!("{method} {path}: {error}"))?;
        self.note(method, &path, &answer);
        check_manners(&path, &answer, told);
        match &call.expected {
            None if (200..300).contains(&answer.status) => {}
            None => told.push("it prepares the row, and failed".into()),
            Some(expected) => {
                check(expected, &answer, kept, told)?;
                let waits = path.contains("wait_ms") || expected.status == 405;
                if method == "GET" && !waits && body.is_empty() {
                    self.check_head(&path, &headers, &answer, told);
                }
            }
        }
        if method != "HEAD" && method != "OPTIONS" && (200..300).contains(&answer.status) {
            let proof = headers.iter().find(|(name, _)| *name == "Authorization");
            self.check_options(method, &path, proof.copied(), told);
        }
        if !told.is_empty() {
            told.push(format!("{method} {path} {headers:?} {body}"));
            told.push(format!("was answered {} {}", answer.status, answer.text()));
        }
        Ok(())
    }

    fn note(&mut self, method: &str, path: &str, answer: &Answer) {
        let bare = path.split('?').next().unwrap_or_default();
        if (200..300).contains(&answer.status) {
            self.answered.insert((method.to_owned(), bare.to_owned()));
        }
        self.codes.insert(answer.code());
    }

    /// `HEAD` is answered as `GET` is, without the body.
    fn check_head(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        answer: &Answer,
        told: &mut Vec<String>,
    ) {
        match self.client.call("HEAD", path, headers, b"") {
            Err(error) => told.push(format!("HEAD: {error}")),
            Ok(head) => {
                for name in ["content-type", "etag"] {
                    if head.header(name) != answer.header(name) {
                        told.push(format!("HEAD has another {name}: {head:?}"));
                    }
                }
                if head.status != answer.status {
                    told.push(format!("HEAD is answered {}", head.status));
                }
            }
        }
    }

    /// `OPTIONS` names the method; asked once for each path.
    fn check_options(
        &mut self,
        method: &str,
        path: &str,
        proof: Option<(&str, &str)>,
        told: &mut Vec<String>,
    ) {
        let bare = path.split('?').next().unwrap_or_default();
        if !self.paths.insert(format!("{method} {bare}")) {
            return;
        }
        match self.client.call("OPTIONS", bare, proof.as_slice(), b"") {
            Err(error) => told.push(format!("OPTIONS: {error}")),
            Ok(answer) => {
                let allow = answer.header("allow").unwrap_or_default();
                let names = allow.split(", ").any(|allowed| allowed == method);
                let shared = answer.header("access-control-allow-origin").is_some();
                if answer.status != 204 || !names || shared {
                    told.push(format!("OPTIONS is answered {answer:?}"));
                }
            }
        }
    }
}

/// What the contract says of every answer.
fn check_manners(path: &str, answer: &Answer, told: &mut Vec<String>) {
    let header = |name: &str| answer.header(name).unwrap_or_default();
    let is_number = |name: &str| header(name).parse::<u64>().is_ok();
    let is_hex = |name: &str, digits| {
        let value = header(name);
        value.len() == digits && value.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let tells_of_cluster = is_number("tenure-revision")
        && is_number("tenure-term")
        && is_hex("tenure-member", 16)
        && is_hex("tenure-cluster", 32);
    // Whoever has not proven who asks is told nothing of the cluster.
    if tells_of_cluster == (answer.status == 401)
        || header("tenure-request-id").is_empty()
        || header("cache-control") != "no-store"
    {
        told.push(format!("a header of every answer is missing: {answer:?}"));
    }
    let json = answer.json();
    // What a member says of itself is not an answer out of its state, and an entry has a revision of its own.
    let revision = &json["revision"];
    let own = path.starts_with("/v1/status") || path.contains("openapi");
    if answer.status < 300
        && revision.is_u64()
        && !own
        && Some(header("tenure-revision"))
            != revision
                .as_u64()
                .map(|number| number.to_string())
                .as_deref()
    {
        told.push(format!(
            "the header Tenure-Revision is not the revision: {answer:?}"
        ));
    }
    if !answer.body.is_empty() && header("content-type").is_empty() {
        told.push("an answer without a type".into());
    }
}

fn check(
    expected: &Expected,
    answer: &Answer,
    kept: &mut Kept,
    told: &mut Vec<String>,
) -> Result<(), String> {
    if answer.status != expected.status {
        told.push(format!(
            "the status is {} and not {}",
            answer.status, expected.status
        ));
        return Ok(());
    }
    for (name, value) in &expected.headers {
        let value = kept.fill(value)?;
        let actual = answer.header(name);
        let fine = match (value.as_str(), actual) {
            ("@absent", actual) => actual.is_none(),
            (_, None) => false,
            (kind, Some(actual)) if kind.starts_with('@') => {
                let value = actual
                    .parse::<u64>()
                    .map_or(json!(actual), |number| json!(number));
                kept.is_of(kind, &value)
            }
            (value, Some(actual)) => value == actual,
        };
        if !fine {
            told.push(format!("the header {name} is {actual:?} and not {value:?}"));
        }
    }
    match &expected.code {
        Some(code) => check_refusal(expected, code, answer, kept, told),
        None => check_body(expected, answer, kept, told),
    }
}

fn check_body(
    expected: &Expected,
    answer: &Answer,
    kept: &mut Kept,
    told: &mut Vec<String>,
) -> Result<(), String> {
    match &expected.body {
        Body::None => {}
        Body::Text(text) => {
            let text = kept.fill(text)?;
            if answer.text() != text {
                told.push(format!("the body is {:?} and not {text:?}", answer.text()));
            }
        }
        Body::Json(json) => {
            if answer.header("content-type") != Some("application/json") {
                told.push(format!("the type is {:?}", answer.header("content-type")));
            }
            kept.compare("answer", &parse(&kept.fill(json)?)?, &answer.json(), told);
        }
    }
    Ok(())
}

fn check_refusal(
    expected: &Expected,
    code: &str,
    answer: &Answer,
    kept: &mut Kept,
    told: &mut Vec<String>,
) -> Result<(), String> {
    told.extend(faults_of_problem(
        answer,
        expected.status,
        code,
        "not_applied",
    ));
    let mut problem = answer.json();
    let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
    for part in &expected.says {
        let part = kept.fill(part)?;
        if !detail.contains(&part) {
            told.push(format!("the detail does not say {part:?}: {detail:?}"));
        }
    }
    if expected.says.is_empty() {
        told.push(format!(
            "the row does not say what the detail names: {detail:?}"
        ));
    }
    if let Some(fields) = problem.as_object_mut() {
        fields.retain(|name, _| {
            !OF_EVERY_PROBLEM.contains(&name.as_str()) && name != "retry_after_ms"
        });
    }
    let own = match &expected.body {
        Body::Json(json) => parse(&kept.fill(json)?)?,
        Body::None | Body::Text(_) => Value::Object(Map::new()),
    };
    kept.compare("problem", &own, &problem, told);
    Ok(())
}

fn parse(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| format!("{json}: {error}"))
}

/// What a caller should do, by the code.
fn retry_of(code: &str) -> &'static str {
    match code {
        "lock-held" | "wait-expired" => "same",
        "quota-exceeded" | "too-many-waiters" | "no-leader" | "lagging" | "overloaded"
        | "shutting-down" => "after",
        _ => "never",
    }
}

/// Checks what every problem must have.
pub(crate) fn check_problem(what: &str, answer: &Answer, status: u16, code: &str, outcome: &str) {
    let faults = faults_of_problem(answer, status, code, outcome);
    assert!(faults.is_empty(), "{what}: {faults:#?}: {}", answer.text());
}

fn faults_of_problem(answer: &Answer, status: u16, code: &str, outcome: &str) -> Vec<String> {
    let problem = answer.json();
    let mut told = Vec::new();
    let mut must = |fine: bool, what: &str| {
        if !fine {
            told.push(format!("{what} of the problem is wrong"));
        }
    };
    must(answer.status == status, "the status");
    must(problem["code"] == code, "code");
    must(problem["status"] == status, "status");
    must(problem["outcome"] == outcome, "outcome");
    must(
        problem["type"] == format!("urn:tenure:problem:{code}"),
        "type",
    );
    must(
        answer.header("content-type") == Some("application/problem+json"),
        "the content type",
    );
    let explained = |field: &str| problem[field].as_str().is_some_and(|text| !text.is_empty());
    must(explained("title"), "title");
    must(explained("detail"), "detail");
    // A write whose fate is unknown may be sent again where that is harmless.
    let retry = problem["retry"].as_str().unwrap_or_default();
    must(
        retry == retry_of(code) || (outcome == "unknown" && retry == "same"),
        "retry",
    );
    let after = retry == "after";
    must(
        after == problem["retry_after_ms"].is_u64(),
        "retry_after_ms",
    );
    must(
        after == answer.header("retry-after").is_some(),
        "the header Retry-After",
    );
    told
}

/// The template that a path fills: the one that leaves the least of it open.
fn template_of(path: &str, templates: &[&String]) -> Option<String> {
    let fits = |template: &&&String| match template.split_once('{') {
        None => template.as_str() == path,
        Some((before, after)) => {
            let after = after.split_once('}').map_or("", |(_, after)| after);
            path.len() > before.len() + after.len()
                && path.starts_with(before)
                && path.ends_with(after)
        }
    };
    let open = |template: &&&String| match template.split_once('{') {
        None => 0,
        Some((before, after)) => {
            path.len() - before.len() - after.split_once('}').map_or(0, |(_, after)| after.len())
        }
    };
    let found = templates.iter().filter(fits).min_by_key(open);
    found.map(|template| (*template).clone())
}
