//! Traces: what members tell of a request that is sampled, to whom, and that nobody waits for a collector.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, global};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::authority::{Authority, Wanted, write};
use crate::common::collector::{Collector, Told};
use crate::common::{
    Answer, Client, Cluster, Line, Member, Process, SOON, Secure, Setup, machine, wait,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// Of a write, at the member that was asked and at the leader.
const ASKED: [&str; 3] = ["PUT /v1/keys/{key}", "forward", "apply"];
const LEADER: [&str; 4] = ["propose", "wait for an entry", "write the log", "replicate"];

/// Starts members with these variables.
fn start(cluster: &Cluster, variables: &[(&str, &str)]) {
    for member in &cluster.members {
        start_one(member, variables);
    }
    cluster.wait_until_ready();
}

fn start_one(member: &Member, variables: &[(&str, &str)]) {
    let mut command = Process::tenured(member.arguments());
    member.start_as(command.envs(variables.iter().copied()));
    member.with(|process| process.wait_for_output("ready: http://", SOON));
}

fn put_traced(client: &mut Client, trace: &str, flags: &str) -> Answer {
    let parent = format!("00-{trace}-{CALLER}-{flags}");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    let put = client.call("PUT", "/v1/keys/a-secret-name", &headers, b"a-secret-value");
    put.expect("the member answers")
}

fn parent_of<'a>(spans: &'a BTreeMap<String, Told>, name: &str) -> &'a str {
    let parent = spans[name].str("parentSpanId");
    let found = spans.iter().find(|(_, told)| told.str("spanId") == parent);
    found.map_or(parent, |(name, _)| name.as_str())
}

fn nanos(told: &Told, field: &str) -> u64 {
    told.str(field).parse().expect("a moment is a number")
}

#[test]
fn a_write_at_a_follower_is_one_trace_across_two_members() {
    let _machine = machine::shared();
    let collector = Collector::start();
    let cluster = Setup::of(3).prepare();
    start(
        &cluster,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            ),
        ],
    );
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut client = cluster.members[follower].client();
    let put = put_traced(&mut client, TRACE, "01").expect(201);
    assert!(put.header("traceparent").is_none());

    let names = [&ASKED[..], &LEADER[..]].concat();
    let spans = collector.wait_for(TRACE, &names);
    assert_eq!(spans.len(), names.len(), "{:?}", spans.keys());
    let expected = [
        ("PUT /v1/keys/{key}", CALLER),
        ("forward", "PUT /v1/keys/{key}"),
        ("apply", "forward"),
        ("propose", "forward"),
        ("wait for an entry", "propose"),
        ("write the log", "propose"),
        ("replicate", "propose"),
    ];
    for (name, parent) in expected {
        assert_eq!(parent_of(&spans, name), parent, "the parent of {name:?}");
    }
    let id = |member: usize| {
        let status = cluster.members[member].status().expect("it answers");
        status["member"].as_str().expect("an id").to_owned()
    };
    for (names, member) in [(&ASKED[..], follower), (&LEADER[..], leader)] {
        for name in names {
            let resource = &spans[*name].resource;
            assert_eq!(resource["service.instance.id"], id(member), "{name}");
            assert_eq!(resource["tenure.member.name"], cluster.members[member].name);
            assert_eq!(resource["service.name"], "tenure");
            assert_eq!(resource["deployment.environment.name"], "test");
        }
    }
    for (name, told) in &spans {
        assert!(
            nanos(told, "startTimeUnixNano") <= nanos(told, "endTimeUnixNano"),
            "{name}"
        );
    }
    let request = &spans["PUT /v1/keys/{key}"];
    assert_eq!(request.str("traceState"), "vendor=1");
    assert_eq!(
        request.attribute("http.response.status_code").as_deref(),
        Some("201")
    );
    assert_eq!(
        request.attribute("http.route").as_deref(),
        Some("/v1/keys/{key}")
    );
    assert_eq!(
        spans["forward"].attribute("tenure.leader"),
        Some(id(leader))
    );
    let requests = spans["wait for an entry"].attribute("tenure.entry.requests");
    assert_eq!(requests.as_deref(), Some("1"));
    let told = String::from_utf8_lossy(&collector.bytes()).into_owned();
    assert!(!told.contains("secret"), "a name or a value is told");

    // A caller that does not trace is not traced, and what is no trace is no fault.
    let other = "1af7651916cd43dd8448eb211c80319c";
    put_traced(&mut client, other, "00").expect(200);
    let garbage = [("traceparent", "00-zz"), ("tracestate", ",,=,")];
    let put = client.call("PUT", "/v1/keys/a-secret-name", &garbage, b"x");
    put.expect("the member answers").expect(200);
    // At the leader nothing is forwarded.
    let third = "2af7651916cd43dd8448eb211c80319c";
    put_traced(&mut cluster.members[leader].client(), third, "01").expect(200);
    let names = [&["PUT /v1/keys/{key}", "apply"][..], &LEADER[..]].concat();
    let spans = collector.wait_for(third, &names);
    assert_eq!(spans.len(), names.len(), "{:?}", spans.keys());
    assert_eq!(parent_of(&spans, "propose"), "PUT /v1/keys/{key}");
    assert_eq!(parent_of(&spans, "write the log"), "propose");
    assert!(collector.spans(other).is_empty());
}

#[test]
fn renewals_and_what_is_refused_are_traced_too() {
    let _machine = machine::shared();
    let collector = Collector::start();
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                &format!("{}/v1/traces", collector.url()),
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    let mut client = cluster.members[0].client();
    let lease = crate::common::grant(&mut client, 60_000);
    let headers = [("traceparent", &*format!("00-{TRACE}-{CALLER}-01"))];
    let renew = format!("/v1/leases/{lease}/renew");
    let renewed = client.call("POST", &renew, &headers, b"");
    renewed.expect("the member answers").expect(200);
    let names = [
        "POST /v1/leases/{id}/renew",
        "propose",
        "replicate",
        "apply",
    ];
    collector.wait_for(TRACE, &names);

    let other = "1af7651916cd43dd8448eb211c80319c";
    let headers = [("traceparent", &*format!("00-{other}-{CALLER}-01"))];
    let missing = client.call("GET", "/v1/keys/a-secret-name", &headers, b"");
    missing.expect("the member answers").expect(404);
    let spans = collector.wait_for(other, &["GET /v1/keys/{key}", "confirm a read"]);
    let request = &spans["GET /v1/keys/{key}"];
    assert_eq!(
        request.attribute("tenure.problem").as_deref(),
        Some("key-not-found")
    );
    assert!(
        request.span["status"]["code"].as_i64().unwrap_or(0) != 2,
        "{request:?}"
    );
}

#[test]
fn nothing_is_sent_unless_an_endpoint_is_set_and_tracing_is_not_disabled() {
    let _machine = machine::shared();
    let collector = Collector::start();
    let url = collector.url();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str());
    let cases: [&[(&str, &str)]; 3] = [
        &[("OTEL_TRACES_SAMPLER", "always_on")],
        &[endpoint, ("OTEL_SDK_DISABLED", "true")],
        &[endpoint, ("OTEL_TRACES_EXPORTER", "none")],
    ];
    for variables in cases {
        let cluster = Setup::of(1).prepare();
        start(&cluster, variables);
        let mut client = cluster.members[0].client();
        put_traced(&mut client, TRACE, "01").expect(201);
        let page = client.get("/metrics").expect("the member answers").text();
        for outcome in ["exported", "dropped", "failed"] {
            let none = format!("tenure_trace_spans_total{{outcome=\"{outcome}\"}} 0\n");
            assert!(page.contains(&none), "{page}");
        }
        // What it had to send would be sent before it ends.
        cluster.members[0].signal(Signal::TERM);
        assert_eq!(cluster.members[0].exit_code(SOON), 0);
        assert_eq!(collector.connections(), 0, "{variables:?}");
    }
}

#[test]
fn a_stop_sends_what_waits() {
    let _machine = machine::shared();
    let collector = Collector::start();
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ],
    );
    put_traced(&mut cluster.members[0].client(), TRACE, "01").expect(201);
    cluster.members[0].signal(Signal::TERM);
    assert_eq!(cluster.members[0].exit_code(SOON), 0);
    assert!(!collector.spans(TRACE).is_empty());
}

#[test]
fn a_collector_that_hangs_slows_neither_writes_nor_the_stop_and_what_is_lost_is_counted_and_told_once()
 {
    let _machine = machine::shared();
    let collector = Collector::that_hangs();
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_TRACES_SAMPLER", "always_on"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "600000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "20"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ],
    );
    let member = &cluster.members[0];
    let mut client = member.client();
    let slowest = (0..200)
        .map(|number| {
            let began = Instant::now();
            let put = client.put(&format!("/v1/keys/{number}"), b"x");
            put.expect("the member answers").expect(201);
            began.elapsed()
        })
        .max();
    assert!(slowest < Some(Duration::from_secs(5)), "{slowest:?}");
    let page = client.get("/metrics").expect("the member answers").text();
    let dropped = page
        .lines()
        .find_map(|line| line.strip_prefix("tenure_trace_spans_total{outcome=\"dropped\"} "));
    let dropped: u64 = dropped
        .expect("it is told")
        .parse()
        .expect("it is a number");
    assert!(dropped > 500, "{dropped}");
    assert_eq!(collector.connections(), 1);
    let lost = member.output().matches("spans of traces are lost").count();
    assert_eq!(lost, 1, "{}", member.output());

    let began = Instant::now();
    member.signal(Signal::TERM);
    assert_eq!(member.exit_code(SOON), 0);
    // A second for the spans, and what else a stop takes on a busy machine.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_collector_that_is_not_there_is_told_and_nothing_else_happens() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).prepare();
    // Nobody listens on the address of another member of no cluster.
    start(
        &cluster,
        &[
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://127.255.255.254:9/v1/traces?api-key=s3cret",
            ),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ],
    );
    let member = &cluster.members[0];
    put_traced(&mut member.client(), TRACE, "01").expect(201);
    wait::until("it says that spans are lost", SOON, || {
        member
            .output()
            .contains("spans of traces are lost")
            .then_some(())
    });
    assert!(failed(member) > 0);
    // Why is told, and where without what may be a key.
    let told = member.output();
    assert!(told.contains("Connection refused"), "{told}");
    assert!(
        told.contains("http://127.255.255.254:9") && !told.contains("s3cret"),
        "{told}"
    );
}

/// The side of a collector that this authority knows, and that wants to be shown a certificate of it.
fn known_to(authority: &Authority) -> Secure {
    let issued = authority.issue(Wanted::named(&["127.0.0.1"]));
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem)).expect("an authority");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&ring));
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_client_cert_verifier(verifier.build().expect("there are roots"))
        .with_single_cert(vec![der(&issued.certificate)], key);
    let config = Arc::new(config.expect("a pair"));
    Arc::new(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Box::new(Accepted(stream)))
    })
}

/// A connection by TLS, from the side that was called.
struct Accepted(StreamOwned<ServerConnection, TcpStream>);

impl io::Read for Accepted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for Accepted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Line for Accepted {
    fn tcp(&self) -> &TcpStream {
        &self.0.sock
    }
}

/// By whom the certificate of the collector must be signed.
fn authorities(path: &str) -> [(&str, &str); 1] {
    [("OTEL_EXPORTER_OTLP_CERTIFICATE", path)]
}

#[test]
fn a_collector_with_https_is_checked_and_shown_who_this_member_is_by_the_files_that_are_named() {
    let _machine = machine::shared();
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::over(known_to(&authority));
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    write(dir.path(), "ca.pem", &authority.pem);
    write(dir.path(), "other-ca.pem", &other.pem);
    let own = authority.issue(Wanted::named(&["member.example"]).for_clients());
    own.write(dir.path(), "own");
    let (certificate, key) = (path("own.pem"), path("own.key"));
    let url = collector.url();
    let always = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let shown = [
        (
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            certificate.as_str(),
        ),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
    ];
    let (right, wrong) = (path("ca.pem"), path("other-ca.pem"));
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[&always[..], &shown, &authorities(&right)].concat(),
    );
    let member = &cluster.members[0];
    put_traced(&mut member.client(), TRACE, "01").expect(201);
    collector.wait_for(TRACE, &["PUT /v1/keys/{key}", "apply"]);
    assert_eq!(failed(member), 0);

    let received = collector.bytes().len();
    for (variables, why) in [
        (
            [&always[..], &shown, &authorities(&wrong)].concat(),
            "no trust between this member and the collector: its certificate is not accepted: it is signed by none of the \
             authorities known here",
        ),
        (
            [&always[..], &authorities(&right)].concat(),
            "no trust between this member and the collector: the other side ends the TLS handshake with the alert \
             CertificateRequired",
        ),
    ] {
        member.kill();
        start(&cluster, &variables);
        let put = put_traced(&mut member.client(), TRACE, "01");
        assert!(put.status < 300, "{}", put.text());
        wait::until(why, SOON, || {
            let told = member.output();
            (told.contains("spans of traces are lost") && told.contains(why)).then_some(())
        });
        assert!(failed(member) > 0, "what is lost is counted");
    }
    assert_eq!(collector.bytes().len(), received, "nobody else is told");

    member.kill();
    let mut command = Process::tenured(member.arguments());
    let variables = [&always[..], &authorities("/nowhere/ca.pem")].concat();
    member.start_as(command.envs(variables));
    let said = "OTEL_EXPORTER_OTLP_CERTIFICATE is \"/nowhere/ca.pem\": it cannot be read";
    member.with(|process| process.wait_for_output(said, SOON));
    assert_eq!(member.exit_code(SOON), 2);
}

fn failed(member: &Member) -> u64 {
    let page = member.client().get("/metrics").expect("the member answers");
    let text = page.text();
    let failed = text
        .lines()
        .find_map(|line| line.strip_prefix("tenure_trace_spans_total{outcome=\"failed\"} "));
    let failed = failed.expect("it is told");
    failed.parse().expect("it is a number")
}

#[test]
fn spans_that_a_collector_answers_200_to_and_rejects_are_not_counted_as_exported() {
    let _machine = machine::shared();
    let collector = Collector::that_rejects();
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            // Empty is as good as unset, for headers too.
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", ""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b%2520"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    let member = &cluster.members[0];
    put_traced(&mut member.client(), TRACE, "01").expect(201);
    wait::until("it says that spans are lost", SOON, || {
        let told = member.output();
        (told.contains("the collector rejected 1 of") && told.contains("one is too old"))
            .then_some(())
    });
    assert!(failed(member) > 0);
    let heads = collector.heads();
    assert!(heads.contains("x-key: a b%20\r\n"), "{heads}");
}

#[test]
fn a_long_tracestate_of_a_caller_is_not_kept_and_none_is_kept_twice() {
    let _machine = machine::shared();
    let collector = Collector::start();
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    let mut client = cluster.members[0].client();
    let other = "1af7651916cd43dd8448eb211c80319c";
    // No value of a vendor is longer than 256 bytes.
    let fits = format!("a={},b={}", "x".repeat(254), "x".repeat(253));
    assert_eq!(fits.len(), 512);
    let long = format!("{fits}x");
    for (trace, state, kept) in [(TRACE, &fits, fits.as_str()), (other, &long, "")] {
        let parent = format!("00-{trace}-{CALLER}-01");
        let headers = [("traceparent", &*parent), ("tracestate", state)];
        let put = client.call("PUT", "/v1/keys/a", &headers, b"x");
        assert!(put.expect("the member answers").status < 300);
        let names = ["PUT /v1/keys/{key}", "propose", "apply", "write the log"];
        for (name, told) in collector.wait_for(trace, &names) {
            let expected = match name == names[0] {
                true => kept,
                false => "",
            };
            assert_eq!(told.str("traceState"), expected, "{name}");
        }
    }
}

#[test]
fn a_variable_with_a_value_that_is_not_accepted_keeps_the_member_from_starting() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).prepare();
    let member = &cluster.members[0];
    let mut command = Process::tenured(member.arguments());
    member.start_as(
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    );
    member.with(|process| {
        process.wait_for_output(
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\": http/protobuf or http/json is accepted",
            SOON,
        );
    });
    assert_eq!(member.exit_code(SOON), 2);
}

/// Keeps the spans that a program has made.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Kept {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Kept {
    /// The spans of a trace by name.
    fn of(&self, trace: &str) -> BTreeMap<String, SpanData> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_trace = kept
            .iter()
            .filter(|span| span.span_context.trace_id().to_string() == trace);
        of_trace
            .map(|span| (span.name.to_string(), span.clone()))
            .collect()
    }
}

#[test]
fn a_call_of_the_client_is_the_beginning_of_what_members_tell() {
    let _machine = machine::shared();
    let collector = Collector::start();
    let cluster = Setup::of(1).prepare();
    start(
        &cluster,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    // One provider for the whole process: calls of other tests are in no trace that is sampled.
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(kept.clone())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    global::set_tracer_provider(provider.build());
    let work = SpanContext::new(
        TraceId::from_hex(TRACE).expect("it is a trace"),
        SpanId::from_hex(CALLER).expect("it is a span"),
        TraceFlags::SAMPLED,
        true,
        TraceState::from_key_value([("vendor", "1")]).expect("it is a state"),
    );
    let within = Context::new().with_remote_span_context(work);
    let url = format!("http://{}", cluster.members[0].client);
    let runtime = tokio::runtime::Runtime::new().expect("there is a runtime");
    runtime.block_on(async {
        let client = tenure::Client::connect([url]).expect("it is a URL");
        let put = async { client.put("a-secret-name", "a-secret-value").await };
        let put = put.with_context(within.clone()).await;
        put.expect("it is put");
        let missing = async { client.get("another-secret").await };
        let missing = missing.with_context(within).await;
        assert!(missing.is_ok_and(|found| found.is_none()));
    });

    let told = collector.wait_for(TRACE, &["PUT /v1/keys/{key}", "propose", "apply"]);
    let spans = kept.of(TRACE);
    let names: Vec<&String> = spans.keys().collect();
    assert_eq!(
        names,
        ["GET", "PUT", "tenure GET /v1/keys", "tenure PUT /v1/keys"]
    );
    let (call, attempt) = (&spans["tenure PUT /v1/keys"], &spans["PUT"]);
    assert_eq!(call.parent_span_id.to_string(), CALLER);
    assert_eq!(attempt.parent_span_id, call.span_context.span_id());
    let request = &told["PUT /v1/keys/{key}"];
    let tried = attempt.span_context.span_id().to_string();
    assert_eq!(request.str("parentSpanId"), tried);
    assert_eq!(request.str("traceState"), "vendor=1");
    let attribute = |span: &SpanData, key: &str| {
        let mut found = span
            .attributes
            .iter()
            .filter(|pair| pair.key.as_str() == key);
        found.next().map(|pair| pair.value.to_string())
    };
    let status = attribute(attempt, "http.response.status_code");
    assert_eq!(status.as_deref(), Some("201"));
    let said = format!("{spans:?}");
    assert!(!said.contains("secret"), "{said}");
}
