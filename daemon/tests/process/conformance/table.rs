//! The language of the tables.
//!
//! ```text
//! # A sentence of the contract.
//! > POST /v1/leases
//! Idempotency-Key: one
//! {"ttl_ms":15000}
//! < 201
//! Cache-Control: no-store
//! {"lease":"@hex16 as lease","ttl_ms":15000,…}
//! ```
//! A row begins with `#` and has one or more calls. `>` is a call: below it its headers and its body, which is JSON (sent as
//! `application/json`) or, after `| `, text as it stands, line by line. `<` is the answer that is expected: its status and, where it is
//! a problem, its code; below it headers, the parts of the detail (`~ `), and the body, where it is a problem only the
//! fields of its own. A call without `<` prepares the row and must succeed. JSON goes on over lines that begin with a space.
//! `//` is a remark. What `@…` in an expected value means is told in `pattern.rs`; `${name}` stands for what was kept
//! `as name` by an earlier row of the same table, `${name+1}` and `${name-1}` for the numbers beside it, and
//! `$(65 of {"name":"a/#"})` for a list of so many, numbered at `#`.

use std::path::Path;

/// A sentence of the contract and the calls that show it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) calls: Vec<Call>,
}

/// A call and what is expected of it.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) line: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    /// None where it prepares the row.
    pub(super) expected: Option<Expected>,
}

/// An expected answer.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) status: u16,
    pub(super) code: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) says: Vec<String>,
    pub(super) body: Body,
}

/// A body, sent or expected.
#[derive(Debug, Default)]
pub(super) enum Body {
    #[default]
    None,
    Json(String),
    Text(String),
}

/// Reads a table.
pub(super) fn read(part: &str) -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/conformance");
    let path = folder.join(format!("{part}.txt"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("the table {} can be read: {error}", path.display()));
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        take(&mut rows, number + 1, line)
            .unwrap_or_else(|| panic!("{part}.txt:{}: {line:?} is out of place", number + 1));
    }
    rows
}

fn take(rows: &mut Vec<Row>, number: usize, line: &str) -> Option<()> {
    if line.trim().is_empty() || line.starts_with("//") {
        return Some(());
    }
    if let Some(name) = line.strip_prefix("# ") {
        rows.push(Row {
            name: name.to_owned(),
            calls: Vec::new(),
        });
        return Some(());
    }
    let calls = &mut rows.last_mut()?.calls;
    if let Some(call) = line.strip_prefix("> ") {
        let (method, path) = call.split_once(' ')?;
        calls.push(Call {
            line: number,
            method: method.to_owned(),
            path: path.to_owned(),
            ..Call::default()
        });
        return Some(());
    }
    let call = calls.last_mut()?;
    if let Some(answer) = line.strip_prefix("< ") {
        let (status, code) = match answer.split_once(' ') {
            Some((status, code)) => (status, Some(code.to_owned())),
            None => (answer, None),
        };
        call.expected = Some(Expected {
            status: status.parse().ok()?,
            code,
            ..Expected::default()
        });
        return Some(());
    }
    let (headers, body) = match &mut call.expected {
        None => (&mut call.headers, &mut call.body),
        Some(expected) => {
            if let Some(part) = line.strip_prefix("~ ") {
                expected.says.push(part.to_owned());
                return Some(());
            }
            (&mut expected.headers, &mut expected.body)
        }
    };
    if let Some(text) = line.strip_prefix('|') {
        let text = text.strip_prefix(' ').unwrap_or(text);
        *body = match body {
            Body::Text(before) => Body::Text(format!("{before}\n{text}")),
            Body::None | Body::Json(_) => Body::Text(text.to_owned()),
        };
    } else if line.starts_with(['{', '[']) {
        *body = Body::Json(line.to_owned());
    } else if line.starts_with(' ') {
        let Body::Json(json) = body else { return None };
        json.push_str(line);
    } else {
        let (name, value) = line
            .split_once(": ")
            .or(line.strip_suffix(':').map(|name| (name, "")))?;
        headers.push((name.to_owned(), value.to_owned()));
    }
    Some(())
}
