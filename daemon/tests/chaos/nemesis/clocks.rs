//! Wall clocks that jump, by a preloaded library. No lease and no deadline may notice.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use super::Evidence;
use crate::common::wait;
use crate::round::Run;

/// Where Debian has the library, for programs with threads.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The library, where it is installed.
pub(crate) fn faketime() -> Option<&'static Path> {
    let path = Path::new(FAKETIME);
    path.exists().then_some(path)
}

/// All members' wall clocks go an hour forth and back, ten times a second.
pub(super) fn jump(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let file = run
        .rig
        .wall_clock
        .as_ref()
        .ok_or("members run without the library")?;
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    let mut hours = Vec::new();
    for turn in 0..20 {
        set(file, if turn % 2 == 0 { "+3600\n" } else { "-3600\n" });
        wait::pass(Duration::from_millis(100), || false);
        let mut client = member.client().with_patience(Duration::from_secs(1));
        if let Ok(answer) = client.get("/livez") {
            let date = answer.header("date").unwrap_or_default().to_owned();
            // `Sat, 28 Nov 2026 02:39:02 GMT`
            hours.extend(date.split([' ', ':']).nth(4).map(str::to_owned));
        }
    }
    set(file, "+0\n");
    // The server makes its date anew only when its clock has gone on, so it may show just one of the two.
    let now = hour();
    hours.retain(|shown| *shown != now);
    hours.sort();
    hours.dedup();
    match hours.len() {
        0 => Err(format!(
            "{} never said that it is not {now} o'clock",
            member.name
        )),
        _ => Ok(format!(
            "{} said that it is {hours:?} o'clock at {now}",
            member.name
        )),
    }
}

/// The hour of the day as a date in an answer shows it.
fn hour() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let hours = since.map_or(0, |since| since.as_secs() / 3600);
    format!("{:02}", hours % 24)
}

/// In one step, so that nobody reads half of it.
fn set(file: &PathBuf, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("there is room for a line");
    std::fs::rename(&new, file).expect("the file can be replaced");
}
