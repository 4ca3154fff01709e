//! Where the built daemon is, for the daemon's own tests and for those of crates that only speak to it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
    let test = std::env::current_exe().expect("a test knows its own path");
    // Tests lie in `target/PROFILE/deps`.
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test lies two levels deep");
    let tenured = profile.join("tenured");
    if !is_current(&tenured) {
        build(profile);
    }
    tenured
}

/// Whether it is there and younger than every file that it was made of, which the compiler has listed beside it.
fn is_current(tenured: &Path) -> bool {
    let changed = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let (Some(built), Ok(list)) = (
        changed(tenured),
        fs::read_to_string(tenured.with_extension("d")),
    ) else {
        return false;
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    sources
        .split_whitespace()
        .all(|source| changed(Path::new(source)).is_some_and(|changed| changed <= built))
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
