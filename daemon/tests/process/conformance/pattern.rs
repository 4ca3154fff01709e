//! What is expected of a value whose digits nobody knows beforehand.
//!
//! In an expected body every field must be there and no other. A string that begins with `@` stands for any value of a
//! kind: `@int`, `@text`, `@bool`, `@hex16`, `@hex32`, `@url`, `@any`, or a whole number in a range such as
//! `@1..15000`; ` as name` behind it keeps the value, and `@=name` is a number that was kept. `["@each",p]` is a list of any length whose every item is `p`; the
//! field `"@more"` allows fields that are not named.

use std::collections::BTreeMap;

use serde_json::Value;

/// The values that were kept.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<String, String>);

impl Kept {
    /// The text with what was kept in place of `${name}`, and lists in place of `$(n of …)`.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        let text = repeat(text)?;
        let mut filled = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("`${` is not closed")?;
            filled += before;
            filled += &self.value(name)?;
            rest = after;
        }
        Ok(filled + rest)
    }

    pub(super) fn keep(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    fn value(&self, name: &str) -> Result<String, String> {
        let (bare, step) = match (name.strip_suffix("+1"), name.strip_suffix("-1")) {
            (Some(bare), _) => (bare, 1),
            (_, Some(bare)) => (bare, -1),
            (None, None) => (name, 0),
        };
        let value = self
            .0
            .get(bare)
            .ok_or(format!("nothing was kept as {bare}"))?;
        if step == 0 {
            return Ok(value.clone());
        }
        let number: i64 = value.parse().map_err(|_| format!("{bare} is no number"))?;
        Ok((number + step).to_string())
    }

    /// Tells where a value is not as expected.
    pub(super) fn compare(
        &mut self,
        at: &str,
        expected: &Value,
        actual: &Value,
        told: &mut Vec<String>,
    ) {
        let differs = match (expected, actual) {
            (Value::String(kind), _) if kind.starts_with('@') => !self.is_of(kind, actual),
            (Value::Object(fields), Value::Object(_)) => {
                self.compare_fields(at, fields, actual, told);
                false
            }
            (Value::Array(items), Value::Array(actual)) => match &items[..] {
                [each, item] if each == "@each" => {
                    for (number, actual) in actual.iter().enumerate() {
                        self.compare(&format!("{at}[{number}]"), item, actual, told);
                    }
                    false
                }
                _ => {
                    for (number, (item, actual)) in items.iter().zip(actual).enumerate() {
                        self.compare(&format!("{at}[{number}]"), item, actual, told);
                    }
                    items.len() != actual.len()
                }
            },
            _ => expected != actual,
        };
        if differs {
            told.push(format!("{at} is {actual} and not {expected}"));
        }
    }

    fn compare_fields(
        &mut self,
        at: &str,
        expected: &serde_json::Map<String, Value>,
        actual: &Value,
        told: &mut Vec<String>,
    ) {
        for (name, value) in expected.iter().filter(|(name, _)| *name != "@more") {
            match actual.get(name) {
                Some(actual) => self.compare(&format!("{at}.{name}"), value, actual, told),
                None => told.push(format!("{at}.{name} is missing")),
            }
        }
        let more = expected.contains_key("@more");
        let names = actual
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys());
        for name in names.filter(|name| !more && !expected.contains_key(*name)) {
            told.push(format!(
                "{at}.{name} is not in the contract: {}",
                actual[name]
            ));
        }
    }

    /// Whether a value is of the kind, keeping it where that is asked for.
    pub(super) fn is_of(&mut self, kind: &str, value: &Value) -> bool {
        let (kind, name) = match kind.split_once(" as ") {
            Some((kind, name)) => (kind, Some(name)),
            None => (kind, None),
        };
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let hex = |digits| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == digits && text.bytes().all(lower)
        };
        let is_text = value.is_string();
        let is = match kind.trim_start_matches('@') {
            "any" => true,
            same if same.starts_with('=') => self.0.get(&same[1..]) == Some(&text),
            "int" => value.is_u64(),
            "bool" => value.is_boolean(),
            "text" => is_text && !text.is_empty(),
            "url" => is_text && text.starts_with("http://"),
            "hex16" => is_text && hex(16),
            "hex32" => is_text && hex(32),
            range => match range
                .split_once("..")
                .map(|(least, most)| (least.parse(), most.parse()))
            {
                Some((Ok(least), Ok(most))) => value
                    .as_i64()
                    .is_some_and(|n: i64| (least..=most).contains(&n)),
                _ => panic!("{kind} is no kind"),
            },
        };
        if let (true, Some(name)) = (is, name) {
            self.keep(name, &text);
        }
        is
    }
}

/// The text with `n` times what stands in `$(n of …)`, with commas between and the number in place of `#`.
fn repeat(text: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        let (inside, after) = after.split_once(')').ok_or("`$(` is not closed")?;
        let (count, item) = inside.split_once(" of ").ok_or("`$(` has no ` of `")?;
        let count: usize = count.parse().map_err(|_| format!("{count} is no number"))?;
        let items: Vec<String> = (1..=count)
            .map(|number| item.replace('#', &number.to_string()))
            .collect();
        filled += before;
        filled += &items.join(",");
        rest = after;
    }
    Ok(filled + rest)
}
