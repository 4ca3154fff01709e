//! What the alert rules and the dashboard ask for, held against the pages of members that were put to work: metrics, the labels
//! that are selected, grouped by and shown, their values, and the types, since the rate of a gauge means nothing.
//!
//! Owns reading as much of PromQL as they are written in. What it does not know fails, so that nothing passes unread.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::common::{Setup, acquire, grant, machine};
use crate::metrics::Page;
use crate::tls::{Trust, form_by_tls};

/// What Prometheus itself says of each series.
const OF_SCRAPING: [&str; 2] = ["job", "instance"];
const AGGREGATIONS: [&str; 4] = ["count", "max", "min", "sum"];
const OF_COUNTERS: [&str; 2] = ["rate", "increase"];
const OF_GAUGES: [&str; 4] = ["changes", "deriv", "delta", "max_over_time"];

/// What members tell: of each metric its type, and the values of its labels.
#[derive(Default)]
struct Told {
    types: BTreeMap<String, String>,
    labels: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Told {
    fn add(&mut self, page: &Page) {
        self.types.extend(page.types.clone());
        for series in page.series.keys() {
            let mut rest = Tokens::of(series);
            let Some(Token::Word(name)) = rest.next() else {
                panic!("{series} has no name");
            };
            let labels = self.labels.entry(name).or_default();
            for selected in rest.selectors().expect("a page has no regular expressions") {
                let values = labels.entry(selected.label).or_default();
                values.insert(selected.value);
            }
        }
    }

    /// What is wrong with an expression, if anything is, and with what is shown of its labels.
    fn check(&self, expression: &str, shown: &str) -> Result<(), String> {
        let asked = Expression::of(expression)?;
        let has = |metric: &String, label: &str| {
            let labels = self.labels.get(metric);
            OF_SCRAPING.contains(&label) || labels.is_some_and(|labels| labels.contains_key(label))
        };
        for metric in &asked.metrics {
            self.check_metric(metric)?;
            let lacking = metric
                .grouped
                .iter()
                .find(|label| !has(&metric.name, label));
            if let Some(label) = lacking {
                return Err(format!("{} has no label {label} to group by", metric.name));
            }
        }
        for label in asked.matched.iter().cloned().chain(labels_shown(shown)) {
            if !asked.metrics.iter().any(|it| has(&it.name, &label)) {
                return Err(format!("nothing in {expression:?} has a label {label}"));
            }
        }
        Ok(())
    }

    fn check_metric(&self, asked: &Metric) -> Result<(), String> {
        let name = &asked.name;
        // It is Prometheus that tells it.
        if name == "up" {
            return Ok(());
        }
        let kind = self.types.get(name);
        let kind = kind.ok_or_else(|| format!("nobody tells {name}"))?;
        let labels = self.labels.get(name);
        let labels = labels.ok_or_else(|| format!("{name} is described, and has no series"))?;
        for Selector { label, value } in &asked.selected {
            if OF_SCRAPING.contains(&label.as_str()) {
                continue;
            }
            let values = labels.get(label);
            let values = values.ok_or_else(|| format!("{name} has no label {label}"))?;
            if !values.contains(value) {
                return Err(format!(
                    "{label} of {name} is never {value:?}, but {values:?}"
                ));
            }
        }
        let within = |functions: &[&str]| {
            let innermost = asked.within.last();
            innermost.is_some_and(|function| functions.contains(&function.as_str()))
        };
        match kind.as_str() {
            "gauge" if within(&OF_COUNTERS) => {
                return Err(format!("{name} is a gauge, of which there is no rate"));
            }
            "counter" | "histogram" if !within(&OF_COUNTERS) => {
                return Err(format!("{name} only grows: its rate is what is looked at"));
            }
            _ => {}
        }
        if asked.within.iter().any(|it| it == "histogram_quantile") {
            let is_aggregated = asked
                .within
                .iter()
                .any(|it| AGGREGATIONS.contains(&it.as_str()));
            if kind != "histogram" || !name.ends_with("_bucket") {
                return Err(format!("{name} has no buckets for a quantile"));
            }
            if is_aggregated && !asked.grouped.contains("le") {
                return Err(format!(
                    "the buckets of {name} are summed up without their bounds, le"
                ));
            }
        }
        Ok(())
    }
}

/// The labels that a legend shows as `{{label}}`, or an annotation as `$labels.label`.
fn labels_shown(text: &str) -> Vec<String> {
    let word = |text: &str| {
        let end = text.find(|c: char| !is_of_word(c)).unwrap_or(text.len());
        text[..end].to_owned()
    };
    let legends = text.split("{{").skip(1).map(|rest| word(rest.trim_start()));
    let annotations = text.split("$labels.").skip(1).map(word);
    legends
        .chain(annotations)
        .filter(|label| !label.is_empty())
        .collect()
}

/// A label that must have a value, or must not.
#[derive(Debug, PartialEq)]
struct Selector {
    label: String,
    value: String,
}

/// A metric as it is asked for.
#[derive(Debug)]
struct Metric {
    name: String,
    selected: Vec<Selector>,
    /// Labels that are left of it by aggregations around it.
    grouped: BTreeSet<String>,
    /// Functions and aggregations around it, the innermost last.
    within: Vec<String>,
}

/// What an expression asks for.
#[derive(Debug, Default)]
struct Expression {
    metrics: Vec<Metric>,
    /// Labels by which two of them are matched.
    matched: BTreeSet<String>,
}

impl Expression {
    fn of(text: &str) -> Result<Expression, String> {
        let mut read = Expression::default();
        let mut tokens = Tokens::of(text);
        // Of each open parenthesis the function, which may be none, and by what is grouped in it.
        let mut open: Vec<(String, BTreeSet<String>)> = Vec::new();
        while let Some(token) = tokens.next() {
            let word = match token {
                Token::Mark('(') => {
                    open.push(Default::default());
                    continue;
                }
                Token::Mark(')') => {
                    open.pop()
                        .ok_or("a parenthesis is closed that was not open")?;
                    continue;
                }
                Token::Mark('[') => {
                    tokens.skip_to(']');
                    continue;
                }
                Token::Mark(_) => continue,
                Token::Text(text) => return Err(format!("{text:?} stands alone")),
                Token::Word(word) => word,
            };
            match word.as_str() {
                "on" => read.matched.extend(tokens.list()?),
                "and" | "or" | "group_left" => {}
                aggregation if AGGREGATIONS.contains(&aggregation) => {
                    let grouped = match tokens.clone().next() {
                        Some(Token::Word(by)) if by == "by" => {
                            tokens.next();
                            tokens.list()?
                        }
                        _ => BTreeSet::new(),
                    };
                    tokens.expect('(')?;
                    open.push((word, grouped));
                }
                _ if tokens.clone().next() == Some(Token::Mark('(')) => {
                    let known = [
                        &OF_COUNTERS[..],
                        &OF_GAUGES,
                        &["floor", "histogram_quantile", "time"],
                    ];
                    if !known.concat().contains(&word.as_str()) {
                        return Err(format!("{word} is not known to this test"));
                    }
                    tokens.next();
                    open.push((word, BTreeSet::new()));
                }
                number if number.starts_with(|c: char| c.is_ascii_digit()) => {}
                _ => read.metrics.push(Metric {
                    name: word,
                    selected: tokens.selectors()?,
                    grouped: open.iter().flat_map(|(_, by)| by.clone()).collect(),
                    within: open
                        .iter()
                        .map(|(of, _)| of.clone())
                        .filter(|of| !of.is_empty())
                        .collect(),
                }),
            }
        }
        match (open.is_empty(), read.metrics.is_empty()) {
            (true, false) => Ok(read),
            _ => Err(format!("{text:?} asks for nothing, or does not end")),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || ['_', ':', '.'].contains(&character)
}

/// What is left to read of an expression, or of a series.
#[derive(Clone)]
struct Tokens<'a>(&'a str);

impl Tokens<'_> {
    fn of(text: &str) -> Tokens<'_> {
        Tokens(text)
    }

    fn take(&mut self, bytes: usize) -> String {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken.to_owned()
    }

    fn skip_to(&mut self, mark: char) {
        let at = self.0.find(mark).map_or(self.0.len(), |at| at + 1);
        self.take(at);
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            found => Err(format!("{mark:?} is expected, not {found:?}")),
        }
    }

    /// Labels in parentheses.
    fn list(&mut self) -> Result<BTreeSet<String>, String> {
        self.expect('(')?;
        let mut labels = BTreeSet::new();
        loop {
            match self.next() {
                Some(Token::Word(label)) => drop(labels.insert(label)),
                Some(Token::Mark(',')) => {}
                Some(Token::Mark(')')) => return Ok(labels),
                found => return Err(format!("a label is expected, not {found:?}")),
            }
        }
    }

    /// What stands in braces behind a metric, if there are any.
    fn selectors(&mut self) -> Result<Vec<Selector>, String> {
        let mut selectors = Vec::new();
        if self.clone().next() != Some(Token::Mark('{')) {
            return Ok(selectors);
        }
        self.next();
        loop {
            let label = match self.next() {
                Some(Token::Word(label)) => label,
                Some(Token::Mark(',')) => continue,
                Some(Token::Mark('}')) => return Ok(selectors),
                found => return Err(format!("a label is expected, not {found:?}")),
            };
            if self.clone().next() == Some(Token::Mark('!')) {
                self.next();
            }
            self.expect('=')?;
            match self.next() {
                Some(Token::Text(value)) => selectors.push(Selector { label, value }),
                found => return Err(format!("a value is expected, not {found:?}")),
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.0 = self.0.trim_start();
        let first = self.0.chars().next()?;
        if first == '"' {
            self.take(1);
            let end = self.0.find('"').unwrap_or(self.0.len());
            let text = self.take(end);
            self.skip_to('"');
            return Some(Token::Text(text));
        }
        if !is_of_word(first) {
            self.take(first.len_utf8());
            return Some(Token::Mark(first));
        }
        let end = self.0.find(|c: char| !is_of_word(c));
        Some(Token::Word(self.take(end.unwrap_or(self.0.len()))))
    }
}

/// The expressions of the rules, each with the words of its annotations.
fn rules() -> Vec<(String, String)> {
    let text = include_str!("../../../systemd/monitoring/alerts.yaml");
    let depth = |line: &str| line.len() - line.trim_start().len();
    let rule = |rule: &str| {
        let mut lines = rule.lines();
        let first = lines.find(|line| line.trim_start().starts_with("expr:"));
        let first = first.expect("a rule has an expression");
        let mut rest = lines.peekable();
        let mut expression = first.replacen("expr:", "", 1).trim().to_owned();
        if expression == ">-" {
            expression.clear();
        }
        while let Some(folded) = rest.next_if(|line| depth(first) < depth(line)) {
            expression.push_str(folded);
        }
        (expression, rest.collect::<String>())
    };
    text.split("- alert:").skip(1).map(rule).collect()
}

/// The expressions of the dashboard, each with its legend.
fn panels() -> Vec<(String, String)> {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../systemd/monitoring/dashboard.json"))
            .expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let text = |value: &serde_json::Value| value.as_str().expect("it is text").to_owned();
    let target =
        |target: &serde_json::Value| (text(&target["expr"]), text(&target["legendFormat"]));
    targets.flatten().map(target).collect()
}

#[test]
fn every_metric_and_label_that_the_rules_and_the_dashboard_ask_for_is_told_and_of_the_type_they_take_it_for()
 {
    let _machine = machine::shared();
    let trust = Trust::new();
    let mut cluster = Setup::of(3).prepare();
    for number in 0..3 {
        trust.secure_peers(&mut cluster, number);
        trust.secure_clients(&mut cluster, number);
    }
    form_by_tls(&mut cluster);
    let leader = cluster.leader();
    let mut client = cluster.members[leader].client();
    let lease = grant(&mut client, 60_000);
    acquire(&mut client, "held", &lease);
    let put = client.put("/v1/keys/a", b"x");
    put.expect("the member answers").expect(201);
    let renewed = client.post(&format!("/v1/leases/{lease}/renew"), &json!({}));
    renewed.expect("the member answers").expect(200);
    let mut told = Told::default();
    for member in &cluster.members {
        told.add(&Page::of(&mut member.client()));
    }

    let (rules, panels) = (rules(), panels());
    let counts = (rules.len(), panels.len());
    assert!(10 < counts.0 && 20 < counts.1, "they were read: {counts:?}");
    let checked = rules.iter().chain(&panels);
    let wrong: Vec<String> = checked
        .filter_map(|(expression, shown)| {
            let why = told.check(expression, shown).err()?;
            Some(format!("{expression}: {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_nobody_tells_and_what_is_taken_for_another_type_is_found() {
    let mut told = Told::default();
    let types = [
        ("t_role", "gauge"),
        ("t_silent", "gauge"),
        ("t_ends_total", "counter"),
        ("t_sync_bucket", "histogram"),
        ("t_none_total", "counter"),
    ];
    for (name, kind) in types {
        told.types.insert(name.to_owned(), kind.to_owned());
    }
    let series = [
        "t_role{role=\"leader\"}",
        "t_silent{peer=\"n2\"}",
        "t_ends_total{reason=\"a, {b}\"}",
        "t_sync_bucket{le=\"0.1\",file=\"log\"}",
    ];
    told.add(&Page {
        series: series.map(|series| (series.to_owned(), 1.0)).into(),
        types: BTreeMap::new(),
    });
    let check = |expression: &str, shown: &str, wrong: Option<&str>| {
        let found = told.check(expression, shown);
        match (&found, wrong) {
            (Ok(()), None) => {}
            (Err(words), Some(part)) if words.contains(part) => {}
            _ => panic!("{expression}: {found:?}, not {wrong:?}"),
        }
    };
    let quantile =
        |by: &str, of: &str| format!("histogram_quantile(0.99, sum{by} (rate({of}[$__i]))) > 2.5");
    check(
        "t_role{job=\"x\", role=\"leader\"} == 1",
        "{{instance}} {{role}}",
        None,
    );
    check("t_role{role=\"king\"}", "", Some("never \"king\""));
    check("t_role{rule=\"leader\"}", "", Some("no label rule"));
    check("t_rule", "", Some("nobody tells t_rule"));
    check("t_none_total", "", Some("no series"));
    check(
        "t_role",
        "as {{ $labels.peer }} sees it",
        Some("label peer"),
    );
    check(
        "count by (peer) (t_silent < 5 and on (instance, peer) t_role)",
        "",
        Some("t_role has no label peer"),
    );
    check(
        "count by (job) (t_silent < 5 and on (instance, peer) t_role) + 1 <= 1e9",
        "",
        None,
    );
    check("t_silent and on (pear) t_role", "", Some("label pear"));
    check(
        "increase(t_ends_total{reason!=\"a, {b}\"}[15m]) > 0",
        "{{reason}}",
        None,
    );
    check(
        "increase(t_ends_total{reason!=\"a\"}[15m]) > 0",
        "",
        Some("never \"a\""),
    );
    check("t_ends_total > 3", "", Some("only grows"));
    check("rate(t_silent[5m])", "", Some("is a gauge"));
    check("deriv(t_silent[5m]) - time() * 7", "{{peer}}", None);
    check(
        &quantile(" by (le, file)", "t_sync_bucket"),
        "{{file}}",
        None,
    );
    check(
        &quantile(" by (file)", "t_sync_bucket"),
        "",
        Some("without their bounds"),
    );
    check(
        &quantile("", "t_sync_bucket"),
        "",
        Some("without their bounds"),
    );
    check(&quantile(" by (le)", "t_sync_bucket"), "", None);
    check(
        &quantile(" by (reason)", "t_ends_total"),
        "",
        Some("no buckets"),
    );
    check(
        "avg_over_time(t_role[5m])",
        "",
        Some("avg_over_time is not known"),
    );
    check("sum(t_role", "", Some("does not end"));
    check("1 + 1", "", Some("asks for nothing"));
}
