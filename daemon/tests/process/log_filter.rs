//! Which log lines a member writes, changed while it runs.

use serde_json::json;

use crate::common::{Client, Member, Process, SOON, Setup, machine, wait};

/// Of every request, at the level `debug`.
const DEBUG_LINE: &str = "request was answered";

fn shown(client: &mut Client) -> String {
    let status = client.get("/v1/status").expect("the member answers");
    status.expect(200).str("log_filter")
}

fn reload(member: &Member) -> String {
    let arguments = [
        "reload".into(),
        "--data-dir".into(),
        member.data_dir.clone(),
    ];
    let output = Process::tenured(arguments).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_filter_is_in_force_until_the_settings_are_read_again() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("log-filter", "info").start();
    let member = &cluster.members[0];
    let mut client = member.client();
    assert_eq!(shown(&mut client), "info");
    assert!(!member.output().contains(DEBUG_LINE));

    let set = |client: &mut Client, filter: &str| {
        let body = json!({ "log_filter": filter });
        client
            .json("PATCH", "/v1/status", &body)
            .expect("the member answers")
    };
    let answer = set(&mut client, "warn,tenured=debug").expect(200);
    assert_eq!(answer.str("log_filter"), "warn,tenured=debug");
    assert_eq!(shown(&mut client), "warn,tenured=debug");
    wait::until("it writes of requests", SOON, || {
        member.output().contains(DEBUG_LINE).then_some(())
    });
    let told = member.output();
    let audit = told.lines().find(|line| line.contains("audit"));
    let audit = audit.unwrap_or_else(|| panic!("it is not told: {told}"));
    assert!(
        audit.contains("log_filter of this member") && audit.contains("tenured=debug"),
        "{audit}"
    );

    for (filter, accepted) in [
        (
            "loud",
            "off, error, warn, info, debug or trace are accepted",
        ),
        ("[request]=debug", "after TARGET= as in tenured=debug"),
        ("", "separated by commas"),
        // Whoever may change the filter may not hide what is done.
        ("audit=off,off", "by the settings of a member alone"),
    ] {
        let refused = set(&mut client, filter).expect(400);
        assert_eq!(refused.code(), "invalid-request");
        let detail = refused.str("detail");
        assert!(
            detail.contains(&format!("{filter:?}")) && detail.contains(accepted),
            "{detail}"
        );
    }
    let nothing = client.json("PATCH", "/v1/status", &json!({}));
    let detail = nothing
        .expect("the member answers")
        .expect(400)
        .str("detail");
    assert!(detail.contains("log_filter"), "{detail}");
    assert_eq!(shown(&mut client), "warn,tenured=debug");

    // Of all lines, those of the audit stay.
    set(&mut client, "off").expect(200);
    set(&mut client, "error").expect(200);
    wait::until("the audit goes on", SOON, || {
        let told = member.output();
        let mut audit = told.lines().filter(|line| line.contains("audit"));
        let last = audit.next_back()?;
        last.contains("error").then_some(())
    });

    assert_eq!(reload(member), "in force now: log_filter\n");
    assert_eq!(shown(&mut client), "info");
    let lines = member.output().matches(DEBUG_LINE).count();
    shown(&mut client);
    assert_eq!(member.output().matches(DEBUG_LINE).count(), lines);
    assert_eq!(reload(member), "no setting differs from those in force\n");
}
