//! A program whose token file lies on a disk that hangs, as one that is mounted over a network may: it ends all the same.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use tenure::Client;
use tokio::runtime::{Builder, Runtime};

/// Whoever opens it to read waits until somebody writes, which nobody does.
fn hang(file: &Path) {
    let pipe = file.with_extension("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("there is mkfifo").success());
    std::fs::rename(&pipe, file).expect("it takes its place");
}

fn runtime() -> Runtime {
    let built = Builder::new_multi_thread().enable_all().build();
    built.expect("there are threads")
}

#[test]
fn a_token_file_that_hangs_keeps_no_program_from_ending() {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("token");
    std::fs::write(&file, "00000000000000a1.5ecre7").expect("it is written");
    let runtime = runtime();
    runtime.block_on(async {
        // Nobody listens there.
        let client = Client::builder(["http://127.0.0.1:1"]).token_file(&file);
        let client = client.patience(Duration::from_millis(50));
        let client = client.build().expect("there is a token");
        hang(&file);
        // It is read again after a second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        client.get("a").await.expect_err("nobody answers");
    });
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        drop(runtime);
        sender.send(())
    });
    let ended = ended.recv_timeout(Duration::from_secs(10));
    assert!(ended.is_ok(), "the runtime waits for who reads the file");
}
