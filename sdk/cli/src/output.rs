//! What is printed: tables for people, JSON for programs.
//!
//! Owns stdout. A reader that has gone away is no failure: `tenure watch … | head -1` ends quietly. Text that came from
//! users is shown without control characters, so that nobody writes to somebody else's terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde_json::json;
use tenure::Found;
use unicode_width::UnicodeWidthStr;

/// How answers are written: for people, or for programs with the fields of the REST API.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Output {
    // Without help of their own: it would make clap set apart a long form of every help.
    #[default]
    Table,
    Json,
}

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
const HEAD: Style = Style::new().bold();

/// Writes text to stdout, with its colours where they are wanted.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes bytes to stdout as they are.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Ends when nobody reads stdout any more, which is otherwise seen only by writing to it. Never, where it is a file.
pub(crate) async fn abandoned() {
    let (sender, gone) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let stdout = io::stdout();
        // What is wrong with it is told without being asked for.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while let Ok(_) | Err(rustix::io::Errno::INTR) = poll(&mut watched, None) {
            let told = watched[0].revents();
            if told.intersects(PollFlags::ERR | PollFlags::HUP) {
                let _ = sender.send(());
                return;
            }
            if !told.is_empty() {
                return;
            }
        }
    });
    if gone.await.is_err() {
        std::future::pending().await
    }
}

/// Writes one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    bytes(&line)
}

/// Writes what a list has found, as the REST API shows a page of it.
pub(crate) fn found<T: Serialize>(of: &str, found: &Found<T>) -> io::Result<()> {
    json(
        &json!({of: found.all, "more": found.next.is_some(), "next": found.next, "count": found.count,
            "revision": found.revision}),
    )
}

/// A list, as a table; words in place of one that is empty, and a line where it goes on.
pub(crate) fn listed<T>(table: &Table, found: &Found<T>, none: &str) -> io::Result<()> {
    let mut shown = table.render();
    if found.all.is_empty() {
        shown = format!("{DIM}{none}{DIM:#}\n");
    }
    if found.next.is_some() {
        shown += &format!("of {}: --limit says how many are shown\n", found.count);
    }
    text(&shown)
}

/// Says something beside the answer, on stderr. Where nobody reads that, the work goes on.
pub(crate) fn note(what: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "tenure: {}", what.as_ref());
}

/// Text of others, fit to be shown: control characters, and what turns the direction of writing, are escaped.
pub(crate) fn shown(text: &str) -> String {
    let foul = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .flat_map(|letter| {
            let escaped: Vec<char> = if foul(letter) {
                letter.escape_default().collect()
            } else {
                vec![letter]
            };
            escaped
        })
        .collect()
}

/// Rows under headings, each column as wide as its widest cell.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// A cell: text, and how it looks.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Cell {
        Cell {
            text: shown(text.as_ref()),
            style,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::styled(text, Style::new())
    }
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Table {
        Table {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// The text, with colours; empty without rows.
    pub(crate) fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.width());
            cells.chain([self.head[column].width()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        let head = self.head.iter().map(|head| (*head, HEAD));
        line(&mut text, head, &widths);
        for row in &self.rows {
            let cells = row.iter().map(|cell| (cell.text.as_str(), cell.style));
            line(&mut text, cells, &widths);
        }
        text
    }
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = (&'a str, Style)>, widths: &[usize]) {
    let start = text.len();
    for (place, ((cell, style), width)) in cells.zip(widths).enumerate() {
        if place > 0 {
            text.push_str("  ");
        }
        let padding = width - cell.width();
        text.push_str(&format!("{style}{cell}{style:#}{:padding$}", ""));
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_seen_of_their_cells() {
        let mut table = Table::new(&["NAME", "FENCE"]);
        table.row(vec!["jobs/nightly".into(), "7".into()]);
        table.row(vec!["日本".into(), Cell::styled("121", GOOD)]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(
            plain,
            "NAME          FENCE\njobs/nightly  7\n日本          121\n"
        );
        assert_eq!(Table::new(&["NAME"]).render(), "");
    }

    #[test]
    fn text_of_others_does_nothing_to_a_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(shown("abc\u{202e}def"), "abc\\u{202e}def");
        assert_eq!(shown("grün 日本"), "grün 日本");
    }
}
