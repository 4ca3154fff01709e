//! Where the built daemon is, for the daemon's own tests and for those of crates that only speak to it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The program under test, built with the profile of this test.
///
/// Cargo builds it for the daemon's own tests and says where. Other crates use the one that `cargo test --workspace`
/// has just put beside them; where it is missing or older than its sources, as after `cargo test -p` of one crate, it is built.
pub(crate) fn tenured() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match option_env!("CARGO_BIN_EXE_tenured") {
        Some(path) => path.into(),
        None => beside_this_test(),
    })
}

fn beside_this_test() -> PathBuf {
    // Tests lie in `target/PROFILE/deps`, but for documented examples, which lie anywhere: the package that runs them has
    // a build script, whose directory is `target/PROFILE/build/PACKAGE/out`.
    let (path, depth) = match option_env!("OUT_DIR") {
        Some(out) => (PathBuf::from(out), 3),
        None => (
            std::env::current_exe().expect("a test knows its own path"),
            2,
        ),
    };
    let profile = path.ancestors().nth(depth);
    let profile = profile.expect("it lies that deep in a target directory");
    let tenured = profile.join("tenured");
    if !is_current(&tenured) {
        build(profile);
    }
    tenured
}

/// Whether it is there and younger than every source that it may be made of. (The list of these that the compiler writes
/// is put beside it by `cargo build` only.)
fn is_current(tenured: &Path) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = root
        .filter(|folder| folder.join("Cargo.lock").exists())
        .last();
    let root = root.expect("the crate lies in a workspace");
    let made_of = ["Cargo.lock", "api", "daemon"].map(|name| root.join(name));
    changed(tenured).is_some_and(|built| made_of.iter().all(|path| is_older(path, built)))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

/// Whether nothing in it that a compiler reads has changed since. Tests make no difference to the program.
fn is_older(path: &Path, built: SystemTime) -> bool {
    if !path.is_dir() {
        let is_source = path.extension().is_some_and(|ending| {
            ["rs", "toml", "lock", "json"]
                .iter()
                .any(|of| ending == *of)
        });
        return !is_source || changed(path).is_some_and(|changed| changed <= built);
    }
    let skipped = ["tests", "fuzz", "sim", "target"];
    let skipped = |name: &OsStr| skipped.iter().any(|skipped| name == *skipped);
    let entries = fs::read_dir(path).expect("a folder of the workspace can be read");
    entries
        .flatten()
        .all(|entry| skipped(&entry.file_name()) || is_older(&entry.path(), built))
}

fn build(profile: &Path) {
    let target = profile.parent().expect("a profile has a target directory");
    let name = profile.file_name().expect("it is named after the profile");
    let name = if name == "debug" {
        "dev".as_ref()
    } else {
        name
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--package",
            "tenured",
            "--bin",
            "tenured",
        ])
        .arg("--profile")
        .arg(name)
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    let built = built.expect("cargo can be started");
    assert!(built.success(), "the daemon cannot be built: {built}");
}
