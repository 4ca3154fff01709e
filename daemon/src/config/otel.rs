//! The settings of traces: the environment variables that OpenTelemetry has standardized, and no others.
//!
//! Owns what they may be. Nothing is sent unless one of them names an endpoint. A value that is not understood is an
//! error here, where the libraries would go on with another one; what may be a secret is not shown in it.

mod headers;

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;

use super::ConfigError;
use crate::tls::is_secure;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const COMPRESSION: &str = "OTEL_EXPORTER_OTLP_COMPRESSION";
const TRACES_COMPRESSION: &str = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION";
const AUTHORITIES: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const TRACES_AUTHORITIES: &str = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const TRACES_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
const TRACES_KEY: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const PROPAGATORS: &str = "OTEL_PROPAGATORS";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const EXPORT_TIMEOUT: &str = "OTEL_BSP_EXPORT_TIMEOUT";

/// A member answers thousands of requests a second, and each write is eight spans. Where nobody says how many are to be
/// seen, it begins no more traces than this by itself; whoever comes with a sampled trace is followed all the same.
const ROOTS_A_SECOND: u32 = 10;
/// The most spans that may be let wait: some 100 MiB.
const MOST_QUEUED: u64 = 200_000;

/// Where and how spans are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// The whole URL. What is behind its authority may be a secret: [`TraceSettings::shown_endpoint`].
    pub endpoint: String,
    /// What is sent with each request, which `Debug` does not show.
    pub headers: HeaderMap,
    /// Whom it is believed that it is the collector, and what it is shown; where the URL is https.
    pub certificates: Certificates,
    /// How they are encoded.
    pub encoding: Encoding,
    /// How long one try to send some may take, with what is repeated.
    pub timeout: Duration,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// Whether the trace of a caller is gone on with.
    pub follows_callers: bool,
    /// How many spans wait at most to be sent; more are dropped.
    pub queue: usize,
    /// How many are sent together at most.
    pub batch: usize,
    /// How long the first of them waits for others.
    pub delay: Duration,
}

/// By what a collector with https and this member know each other. The files are read when the member starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Certificates {
    /// The authorities of the collector's certificate; those of the machine where none are named.
    pub authorities: Option<NamedFile>,
    /// What the collector is shown, and its key; nothing where none is named.
    pub own: Option<(NamedFile, NamedFile)>,
}

/// A file, and the variable that names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedFile {
    /// The variable.
    pub variable: &'static str,
    /// Where the file lies.
    pub path: PathBuf,
}

/// How spans are encoded, over HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// `http/protobuf`.
    Protobuf,
    /// `http/json`.
    Json,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Whether a caller that brings a trace decides.
    pub by_parent: bool,
    /// Which of those that nobody has decided on.
    pub roots: Roots,
}

/// Which traces are begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Roots {
    /// All.
    All,
    /// None.
    None,
    /// This part of them, from 0 to 1.
    Part(f64),
    /// No more than this in a second.
    AtMostASecond(u32),
}

impl TraceSettings {
    /// The settings as the environment has them; none where no spans are to be sent.
    ///
    /// # Errors
    ///
    /// Where a variable has a value that is not accepted.
    pub fn of_environment() -> Result<Option<TraceSettings>, ConfigError> {
        TraceSettings::read(&|name| std::env::var(name).ok())
    }

    /// Where spans are sent, as everybody may see it: without the path and what is asked there, which some collectors
    /// have as a key.
    pub fn shown_endpoint(&self) -> String {
        let parsed = self.endpoint.parse::<http::Uri>().unwrap_or_default();
        let scheme = parsed.scheme_str().unwrap_or_default();
        let authority = parsed
            .authority()
            .map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}")
    }

    fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<TraceSettings>, ConfigError> {
        // An empty variable is one that is not set (OpenTelemetry, Environment Variable Specification).
        let get = |name: &'static str| {
            let value = get(name)?;
            let value = value.trim();
            (!value.is_empty()).then(|| (name, value.to_owned()))
        };
        let either = |specific, general| get(specific).or_else(|| get(general));
        let disabled = get(DISABLED).is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
        if disabled || !exports(get(EXPORTER))? {
            return Ok(None);
        }
        let Some(endpoint) = endpoint(get(TRACES_ENDPOINT), get(ENDPOINT))? else {
            return Ok(None);
        };
        let certificates = certificates(
            &endpoint,
            either(TRACES_AUTHORITIES, AUTHORITIES),
            either(TRACES_CERTIFICATE, CERTIFICATE),
            either(TRACES_KEY, KEY),
        )?;
        check_compression(either(TRACES_COMPRESSION, COMPRESSION))?;
        let queue = number(get(QUEUE), 2048, 1..=MOST_QUEUED)?;
        let batch = number(get(BATCH), 512.min(queue), 1..=queue)?;
        let timeout = milliseconds(either(TRACES_TIMEOUT, TIMEOUT), 10_000)?;
        let settings = TraceSettings {
            endpoint,
            headers: headers(either(TRACES_HEADERS, HEADERS))?,
            certificates,
            encoding: encoding(either(TRACES_PROTOCOL, PROTOCOL))?,
            timeout: timeout.min(milliseconds(get(EXPORT_TIMEOUT), 30_000)?),
            sampling: sampling(get(SAMPLER), get(SAMPLER_ARG))?,
            follows_callers: follows_callers(get(PROPAGATORS))?,
            queue: queue as usize,
            batch: batch as usize,
            delay: milliseconds(get(DELAY), 5_000)?,
        };
        Ok(Some(settings))
    }
}

/// A variable and its value.
type Given = (&'static str, String);

fn refused(given: Given, accepted: impl Into<String>) -> ConfigError {
    let (setting, value) = given;
    let accepted = accepted.into();
    ConfigError::Value {
        setting,
        value,
        accepted,
    }
}

/// As [`refused`], of a value that nobody may see.
fn hidden(setting: &'static str, accepted: String) -> ConfigError {
    refused((setting, "…".to_owned()), accepted)
}

fn exports(given: Option<Given>) -> Result<bool, ConfigError> {
    match given {
        None => Ok(true),
        Some((_, value)) if value == "otlp" => Ok(true),
        Some((_, value)) if value == "none" => Ok(false),
        Some(given) => Err(refused(given, "otlp or none is accepted")),
    }
}

/// What names the endpoint of traces is taken as it is; to the one of everything their path is added.
fn endpoint(
    of_traces: Option<Given>,
    of_all: Option<Given>,
) -> Result<Option<String>, ConfigError> {
    let (given, path, never) = match (of_traces, of_all) {
        (Some(given), _) => (given, "", &['@', '#'][..]),
        // Behind a query no path can be added.
        (None, Some(given)) => (given, "/v1/traces", &['@', '#', '?'][..]),
        (None, None) => return Ok(None),
    };
    let (setting, value) = given;
    if value.contains(never) {
        let accepted = format!(
            "a URL is accepted that has none of {never:?}; for a secret there is {HEADERS} (it is not shown, because it \
             may have one)"
        );
        return Err(hidden(setting, accepted));
    }
    let url = match path {
        "" => value.clone(),
        path => format!("{}{path}", value.trim_end_matches('/')),
    };
    let parsed = url.parse::<http::Uri>();
    let usable = parsed.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    if usable {
        return Ok(Some(url));
    }
    let shown = value.split('?').next().unwrap_or_default().to_owned();
    Err(refused(
        (setting, shown),
        "a URL is accepted, such as http://127.0.0.1:4318 or https://collector.example:4318",
    ))
}

/// Certificates are refused rather than left out in silence where they would not be looked at: nobody is to take a collector for
/// checked, or this member for known to it, who is not.
fn certificates(
    endpoint: &str,
    authorities: Option<Given>,
    certificate: Option<Given>,
    key: Option<Given>,
) -> Result<Certificates, ConfigError> {
    let given = [&authorities, &certificate, &key];
    if let Some(given) = given.into_iter().flatten().next()
        && !is_secure(endpoint)
    {
        return Err(refused(
            given.clone(),
            "the endpoint is http, and certificates are looked at with https only: an https endpoint is accepted beside it, or none of them",
        ));
    }
    let file = |(variable, path): Given| NamedFile {
        variable,
        path: path.into(),
    };
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((file(certificate), file(key))),
        (None, None) => None,
        (Some(alone), None) => {
            return Err(refused(
                alone,
                format!("it is accepted with {KEY} beside it"),
            ));
        }
        (None, Some(alone)) => {
            return Err(refused(
                alone,
                format!("it is accepted with {CERTIFICATE} beside it"),
            ));
        }
    };
    Ok(Certificates {
        authorities: authorities.map(file),
        own,
    })
}

fn encoding(given: Option<Given>) -> Result<Encoding, ConfigError> {
    match given {
        None => Ok(Encoding::Protobuf),
        Some((_, value)) if value == "http/protobuf" => Ok(Encoding::Protobuf),
        Some((_, value)) if value == "http/json" => Ok(Encoding::Json),
        Some(given) => Err(refused(
            given,
            "http/protobuf or http/json is accepted; collectors take them on port 4318",
        )),
    }
}

fn check_compression(given: Option<Given>) -> Result<(), ConfigError> {
    match given {
        None => Ok(()),
        Some((_, value)) if value == "none" => Ok(()),
        Some(given) => Err(refused(given, "only none is accepted")),
    }
}

fn headers(given: Option<Given>) -> Result<HeaderMap, ConfigError> {
    let Some((setting, value)) = given else {
        return Ok(HeaderMap::default());
    };
    // A value may be a secret, and a slip may put it anywhere: nothing of it is shown.
    headers::parse(&value).map_err(|place| {
        let accepted =
            "NAME=VALUE,NAME=VALUE is accepted, with values that are not empty and may be percent-encoded";
        let why = "it is not shown, because it may be a secret";
        hidden(
            setting,
            format!("header {place} of it is none; {accepted} ({why})"),
        )
    })
}

fn follows_callers(given: Option<Given>) -> Result<bool, ConfigError> {
    let Some(given) = given else { return Ok(true) };
    let known = ["tracecontext", "baggage", "none"];
    let names = || given.1.split(',').map(str::trim);
    match names().all(|name| known.contains(&name)) {
        true => Ok(names().any(|name| name == "tracecontext")),
        false => Err(refused(
            given,
            "tracecontext, baggage (which says nothing here) and none are accepted, separated by commas",
        )),
    }
}

fn sampling(given: Option<Given>, argument: Option<Given>) -> Result<Sampling, ConfigError> {
    let Some(given) = given else {
        return Ok(Sampling {
            by_parent: true,
            roots: Roots::AtMostASecond(ROOTS_A_SECOND),
        });
    };
    let (by_parent, name) = match given.1.strip_prefix("parentbased_") {
        Some(rest) => (true, rest),
        None => (false, given.1.as_str()),
    };
    let roots = match name {
        "always_on" => Roots::All,
        "always_off" => Roots::None,
        "traceidratio" => Roots::Part(part(argument)?),
        _ => {
            return Err(refused(
                given,
                "always_on, always_off and traceidratio are accepted, and each of them after parentbased_",
            ));
        }
    };
    Ok(Sampling { by_parent, roots })
}

fn part(given: Option<Given>) -> Result<f64, ConfigError> {
    let Some(given) = given else { return Ok(1.0) };
    match given.1.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err(refused(given, "a number from 0 to 1 is accepted")),
    }
}

fn number(
    given: Option<Given>,
    usual: u64,
    accepted: std::ops::RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    let Some(given) = given else {
        return Ok(usual);
    };
    match given.1.parse() {
        Ok(number) if accepted.contains(&number) => Ok(number),
        _ => {
            let (least, most) = accepted.into_inner();
            Err(refused(
                given,
                format!("a number from {least} to {most} is accepted"),
            ))
        }
    }
}

fn milliseconds(given: Option<Given>, usual: u64) -> Result<Duration, ConfigError> {
    number(given, usual, 1..=600_000).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, String> {
        let get = |wanted: &str| {
            let mut found = variables.iter().filter(|(name, _)| *name == wanted);
            found.next().map(|(_, value)| (*value).to_owned())
        };
        TraceSettings::read(&get).map_err(|error| error.to_string())
    }

    fn with(more: &[(&str, &str)]) -> Result<Option<TraceSettings>, String> {
        let endpoint = [(ENDPOINT, "http://127.0.0.1:4318")];
        read(&[&endpoint, more].concat())
    }

    fn settings(more: &[(&str, &str)]) -> TraceSettings {
        let read = with(more).expect("they are accepted");
        read.expect("there is an endpoint")
    }

    #[test]
    fn without_an_endpoint_nothing_is_sent_whatever_else_is_set() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(SAMPLER, "always_on"), (TIMEOUT, "5")]), Ok(None));
        assert_eq!(read(&[(ENDPOINT, "  ")]), Ok(None));
        assert_eq!(with(&[(DISABLED, "TRUE")]), Ok(None));
        assert_eq!(with(&[(EXPORTER, "none")]), Ok(None));
        assert!(with(&[(DISABLED, "false"), (EXPORTER, "otlp")]).is_ok_and(|read| read.is_some()));
    }

    #[test]
    fn the_endpoint_of_traces_is_taken_as_it_is_and_the_general_one_gets_their_path() {
        assert_eq!(settings(&[]).endpoint, "http://127.0.0.1:4318/v1/traces");
        let own = settings(&[(TRACES_ENDPOINT, "https://c.example/mine")]);
        assert_eq!(own.endpoint, "https://c.example/mine");
        let slash = read(&[(ENDPOINT, "http://c:1/otel/")]).expect("it is accepted");
        assert_eq!(
            slash.expect("it is set").endpoint,
            "http://c:1/otel/v1/traces"
        );
    }

    #[test]
    fn what_is_said_of_traces_goes_before_what_is_said_of_everything() {
        let set = settings(&[
            (PROTOCOL, "http/protobuf"),
            (TRACES_PROTOCOL, "http/json"),
            (TIMEOUT, "1"),
            (TRACES_TIMEOUT, "2000"),
            (EXPORT_TIMEOUT, "1500"),
            (QUEUE, "100"),
            (DELAY, "20"),
            (PROPAGATORS, "baggage"),
        ]);
        assert_eq!(set.encoding, Encoding::Json);
        assert_eq!(set.timeout, Duration::from_millis(1500));
        assert_eq!((set.queue, set.batch), (100, 100));
        assert_eq!(set.delay, Duration::from_millis(20));
        assert!(!set.follows_callers);
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let check = |name: &str, argument: &str, by_parent, roots| {
            let set = settings(&[(SAMPLER, name), (SAMPLER_ARG, argument)]);
            assert_eq!(set.sampling, Sampling { by_parent, roots }, "{name}");
        };
        check("", "", true, Roots::AtMostASecond(ROOTS_A_SECOND));
        check("always_on", "", false, Roots::All);
        check("parentbased_always_on", "", true, Roots::All);
        check("always_off", "", false, Roots::None);
        check("parentbased_always_off", "", true, Roots::None);
        check("traceidratio", "0.25", false, Roots::Part(0.25));
        check("parentbased_traceidratio", "", true, Roots::Part(1.0));
    }

    #[test]
    fn a_value_that_is_not_accepted_is_named_with_what_would_be() {
        let check = |name: &str, value: &str, why: &str| {
            let error = with(&[(SAMPLER, "traceidratio"), (name, value)]);
            let error = error.expect_err("it is not accepted");
            assert!(
                error.starts_with(&format!("{name} is {value:?}: ")),
                "{error}"
            );
            assert!(error.contains(why), "{error}");
        };
        check(TRACES_ENDPOINT, "collector:4318", "http://127.0.0.1:4318");
        check(TRACES_ENDPOINT, "ftp://c:1", "a URL is accepted");
        check(PROTOCOL, "grpc", "http/protobuf or http/json");
        check(SAMPLER_ARG, "1.5", "from 0 to 1");
        check(QUEUE, "0", "from 1 to 200000");
        check(BATCH, "4096", "from 1 to 2048");
        check(TIMEOUT, "ten", "from 1 to 600000");
        check(COMPRESSION, "gzip", "only none");
        check(EXPORTER, "zipkin", "otlp or none");
        check(PROPAGATORS, "b3", "tracecontext");
        let sampler = with(&[(SAMPLER, "xray")]).expect_err("it is not accepted");
        assert!(sampler.contains("\"xray\": always_on"), "{sampler}");
    }

    #[test]
    fn what_may_have_a_secret_is_refused_without_showing_it() {
        let check = |name: &'static str, value: &str, why: &str| {
            let error = read(&[(ENDPOINT, "http://c:1"), (name, value)]);
            let error = error.expect_err("it is not accepted");
            assert!(error.starts_with(&format!("{name} is \"…\": ")), "{error}");
            assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
        };
        check(HEADERS, "a=b,bearer s3cret", "header 2");
        check(TRACES_HEADERS, "api-key=s3cret%0A", "header 1");
        check(TRACES_ENDPOINT, "https://me:s3cret@c.example", HEADERS);
        let error = read(&[(ENDPOINT, "https://c.example?api-key=s3cret")]);
        let error = error.expect_err("no path can be added");
        assert!(
            error.contains("'?'") && !error.contains("s3cret"),
            "{error}"
        );
        let error = read(&[(TRACES_ENDPOINT, "c.example?api-key=s3cret")]);
        let error = error.expect_err("it is no URL");
        assert!(
            error.contains("\"c.example\": a URL") && !error.contains("s3cret"),
            "{error}"
        );
    }

    #[test]
    fn a_key_in_a_url_is_sent_and_shown_to_nobody() {
        let url = "https://c.example:4318/s3cret?api-key=s3cret";
        let set = settings(&[(TRACES_ENDPOINT, url)]);
        assert_eq!(set.endpoint, url);
        assert_eq!(set.shown_endpoint(), "https://c.example:4318");
    }

    #[test]
    fn empty_headers_of_traces_do_not_hide_those_of_everything() {
        let set = settings(&[(TRACES_HEADERS, ""), (HEADERS, "api-key=a")]);
        assert_eq!(set.headers["api-key"], "a");
    }

    #[test]
    fn certificates_are_taken_for_https_and_those_of_traces_go_before() {
        let of = |more: &[(&'static str, &'static str)]| {
            let endpoint = [(ENDPOINT, "https://c.example:4318")];
            read(&[&endpoint, more].concat()).map(|set| set.expect("it is set").certificates)
        };
        let file = |variable, path: &str| NamedFile {
            variable,
            path: path.into(),
        };
        assert_eq!(of(&[(AUTHORITIES, " ")]), Ok(Certificates::default()));
        let taken = of(&[
            (AUTHORITIES, "/all.pem"),
            (TRACES_AUTHORITIES, "/ca.pem"),
            (CERTIFICATE, "/own.pem"),
            (KEY, "/own.key"),
        ]);
        let taken = taken.expect("they are accepted");
        assert_eq!(taken.authorities, Some(file(TRACES_AUTHORITIES, "/ca.pem")));
        let own = (file(CERTIFICATE, "/own.pem"), file(KEY, "/own.key"));
        assert_eq!(taken.own, Some(own));
        for (alone, other) in [(TRACES_CERTIFICATE, KEY), (KEY, CERTIFICATE)] {
            let error = of(&[(alone, "/one.pem")]).expect_err("its other half is missing");
            let said = format!("{alone} is \"/one.pem\": it is accepted with {other} beside it");
            assert!(error.starts_with(&said), "{error}");
        }
    }

    #[test]
    fn certificates_that_would_not_be_looked_at_are_refused_by_name() {
        for name in [AUTHORITIES, TRACES_CERTIFICATE, KEY] {
            let error = with(&[(name, "/etc/tenure/ca.pem")]).expect_err("it is http");
            let said = format!("{name} is \"/etc/tenure/ca.pem\": the endpoint is http");
            assert!(error.starts_with(&said), "{error}");
            assert_eq!(with(&[(name, " ")]).map(|set| set.is_some()), Ok(true));
        }
    }
}
