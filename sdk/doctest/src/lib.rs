//! For the documented examples of the client: a member of its own for each, which is started when the example begins and
//! killed when it ends.
//!
//! Examples call this in hidden lines. It is no part of the client: only its tests depend on it.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the tests of the daemon, which use all of it"
)]
#[path = "../../../daemon/tests/process/common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use tempfile::TempDir;

/// An example that takes longer than this hangs.
const MOST: Duration = Duration::from_secs(60);

/// The least that there is: a member that is alone waits for nobody's heartbeats, and examples are many.
const ALONE_MS: u32 = 150;

/// What an example comes to.
pub type Told = Result<(), Box<dyn Error>>;

/// Runs an example of the asynchronous client, given the URL of a member.
///
/// # Panics
///
/// Where the example fails, or does not end.
pub fn run(example: impl AsyncFnOnce(String) -> Told) {
    run_blocking(|url| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let told = tokio::time::timeout(MOST, example(url)).await;
            told.map_err(|_| format!("the example has not ended after {MOST:?}"))?
        })
    });
}

/// Runs an example that waits by itself, given the URL of a member.
///
/// # Panics
///
/// Where the example fails.
pub fn run_blocking(example: impl FnOnce(String) -> Told) {
    let setup = common::Setup::of(1).with("election-timeout-ms", ALONE_MS);
    let cluster = setup.start();
    let url = format!("http://{}", cluster.members[0].client);
    if let Err(error) = example(url) {
        panic!("the example failed: {error}");
    }
}

/// A directory with what a client of TLS is given: `ca.pem`, `client.pem`, `client.key` and `token`.
///
/// # Errors
///
/// Where they cannot be made or written.
pub fn certificates() -> Result<TempDir, Box<dyn Error>> {
    let dir = TempDir::new()?;
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
    let authority = rcgen::generate_simple_self_signed(["authority".to_owned()])?;
    write("ca.pem", &authority.cert.pem())?;
    let client = rcgen::generate_simple_self_signed(["client".to_owned()])?;
    write("client.pem", &client.cert.pem())?;
    write("client.key", &client.signing_key.serialize_pem())?;
    write("token", "ci.c2VjcmV0\n")?;
    Ok(dir)
}
