//! Disks that are wiped, and disks that go back to what they were: their members are replaced while everybody works on.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::Evidence;
use crate::common::{SOON, wait};
use crate::member::{Member, PEER_PORT};
use crate::network::Network;
use crate::round::Run;

/// What a member ends with whose data is not its own any more (`api.md` §9).
const NOT_OURS: i32 = 3;

/// A member loses its disk, the leader as well as another, and is replaced by one of the same name and addresses.
pub(super) fn wiped_disk(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    let old = id_of(run, member)?;
    member.kill();
    wipe(member)?;
    member.start(&run.rig.network);
    let new = replaced(run, member, &old)?;
    Ok(format!("{} was {old} and is {new}", member.name))
}

/// A disk goes back to what it was before the last start of its member, who must not vote with it again: it ends, and is
/// replaced.
pub(super) fn disk_put_back(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    let old = id_of(run, member)?;
    member.kill();
    member.disk.keep();
    member.start(&run.rig.network);
    // What it said since then it has forgotten when its disk goes back.
    wait::found(SOON, || member.is_ready().then_some(()))
        .ok_or_else(|| format!("{} did not come back", member.name))?;
    wait::pass(Duration::from_millis(rng.u64(100..1_000)), || false);
    member.kill();
    member.disk.put_back();
    let code = match member.start_or_end(&run.rig.network) {
        Ok(()) => member.exit_code(SOON),
        Err(code) => Some(code),
    };
    if code != Some(NOT_OURS) {
        return Err(format!("{} ended with {code:?}", member.name));
    }
    wipe(member)?;
    member.start(&run.rig.network);
    let new = replaced(run, member, &old)?;
    let name = &member.name;
    Ok(format!(
        "{name} ended with {NOT_OURS}; it was {old} and is {new}"
    ))
}

fn wipe(member: &Member) -> Result<(), String> {
    let data = member.disk.path().join("data");
    std::fs::remove_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))
}

/// The id under which the cluster knows a member.
fn id_of(run: &Run<'_>, member: &Member) -> Result<String, String> {
    let shown = wait::found(SOON, || shown(run, member));
    let id = shown.and_then(|shown| shown["id"].as_str().map(str::to_owned));
    id.ok_or_else(|| format!("nobody shows {}", member.name))
}

/// A member as any of the others shows it; of two of its name, the newer one.
fn shown(run: &Run<'_>, member: &Member) -> Option<Value> {
    run.rig.members.iter().find_map(|asked| {
        let mut client = asked.client().with_patience(Duration::from_secs(1));
        let answer = client.get("/v1/cluster").ok()?;
        let cluster = (answer.status == 200).then(|| answer.json())?;
        let mut members = cluster["members"].as_array()?.iter();
        members
            .rfind(|shown| shown["name"] == member.name.as_str())
            .cloned()
    })
}

/// Has the member that waits at its addresses take the place of the one that was there; answers its id once it votes.
fn replaced(run: &Run<'_>, member: &Member, old: &str) -> Result<String, String> {
    let at = |port: u16| format!("http://{}:{port}", Network::address(member.number));
    let asked = json!({
        "name": member.name,
        "peer_url": at(PEER_PORT),
        "client_url": format!("http://{}", member.client),
    });
    let path = format!("/v1/cluster/members/{old}/replace");
    let mut refused = String::new();
    let others = || {
        run.rig
            .members
            .iter()
            .filter(|it| it.number != member.number)
    };
    let began = wait::found(SOON, || {
        others().find_map(|other| {
            let mut client = other.client().with_patience(Duration::from_secs(8));
            let answer = client.post(&path, &asked).ok()?;
            if answer.status == 201 {
                return Some(());
            }
            refused = answer.text();
            None
        })
    });
    began.ok_or_else(|| format!("{} is not replaced: {refused}", member.name))?;
    let votes = wait::found(SOON, || {
        let shown = shown(run, member)?;
        let id = shown["id"].as_str().filter(|id| *id != old)?;
        (shown["role"] == "voter" && shown["replaces"].is_null()).then(|| id.to_owned())
    });
    votes.ok_or_else(|| format!("{} got no vote within {SOON:?}", member.name))
}
