//! What is asked of every request before it is looked at: that it is meant for us, and that we may answer it.
//!
//! Owns the checks of `Host`, `Origin`, `Sec-Fetch-Site`, `Tenure-Cluster` and `Accept`, and the id of a request.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    ACCEPT, CONNECTION, CONTENT_ENCODING, HOST, HeaderName, HeaderValue, ORIGIN, TRANSFER_ENCODING,
};
use http::{HeaderMap, Uri, Version};
use tenure_api::{Code, EVENT_STREAM, JSON, header};

use super::failure::Failure;
use super::text;

/// Where a request of a browser comes from (W3C Fetch Metadata Request Headers, §2.4).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names under which this member may be called.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnHosts(Vec<String>);

impl OwnHosts {
    /// Those that were configured, and that of the client URL.
    pub(super) fn new(configured: &[String], client_url: &str) -> OwnHosts {
        let own = client_url
            .split_once("://")
            .map_or(client_url, |(_, rest)| rest);
        let own = own.split('/').next().unwrap_or_default();
        let names = configured
            .iter()
            .map(String::as_str)
            .chain([own, "localhost"]);
        OwnHosts(
            names
                .filter(|name| !name.is_empty())
                .map(|name| host_of(name).to_ascii_lowercase())
                .collect(),
        )
    }

    /// Whether a host is ours, on a connection that was made to `local`. A page of a stranger whose name was made to
    /// point here ("DNS rebinding") still carries the stranger's name; an address cannot be made to point elsewhere.
    fn contains(&self, host: &str, local: SocketAddr) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address)
                if address.to_canonical() == local.ip().to_canonical() || address.is_loopback() =>
            {
                true
            }
            _ => self.0.iter().any(|own| own.eq_ignore_ascii_case(host)),
        }
    }
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') =>
        {
            if host.contains(':') && !host.starts_with('[') {
                authority
            } else {
                host
            }
        }
        _ => authority,
    }
}

/// Refuses a request whose body could be understood in two ways, or not at all.
///
/// # Errors
///
/// `invalid-request` for an HTTP/1.1 request without `Host` (RFC 9112 §3.2) or one that is coded in another way than
/// in chunks for its transfer (§6.1); `unsupported-media-type` for a coded content, which would be kept as if it were
/// plain.
pub(super) fn check_form(version: Version, headers: &HeaderMap) -> Result<(), Failure> {
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(Failure::invalid(
            "there is no Host header; a request of HTTP/1.1 has one",
        ));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !is_chunked(coding)) || codings.next().is_some() {
        let detail = "the header Transfer-Encoding is not `chunked`, the only one that is accepted";
        // Where this body ends is a matter of opinion, so nothing behind it is read.
        return Err(
            Failure::invalid(detail).with_header(CONNECTION, HeaderValue::from_static("close"))
        );
    }
    let coded = headers.get_all(CONTENT_ENCODING).iter();
    match coded
        .into_iter()
        .find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        None => Ok(()),
        Some(value) => {
            let coding = text::shown(&String::from_utf8_lossy(value.as_bytes()));
            let detail = format!(
                "the content encoding is {coding}; send the body plain, without the header `Content-Encoding`"
            );
            Err(Failure::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// Refuses a request that says twice where it goes.
///
/// # Errors
///
/// `invalid-request`.
pub(super) fn check_one_host(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get_all(HOST).iter().count() {
        0 | 1 => Ok(()),
        _ => Err(Failure::invalid("there is more than one Host header")),
    }
}

/// Refuses a request that was made under a name which is not ours.
///
/// # Errors
///
/// `forbidden`.
pub(super) fn check_host(
    own: &OwnHosts,
    uri: &Uri,
    headers: &HeaderMap,
    local: SocketAddr,
) -> Result<(), Failure> {
    let (in_header, in_uri) = authorities(uri, headers);
    for authority in in_header.into_iter().chain(in_uri) {
        if !own.contains(host_of(authority), local) {
            let host = text::shown(host_of(authority));
            let detail = format!(
                "host {host} is not a name or address of this member; add it to client_hosts"
            );
            return Err(Failure::new(Code::Forbidden, detail));
        }
    }
    Ok(())
}

/// Where a request goes, as its header and its target say.
fn authorities<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> (Option<&'a str>, Option<&'a str>) {
    let in_header = headers
        .get(HOST)
        .map(|value| value.to_str().unwrap_or("\u{fffd}"));
    (in_header, uri.authority().map(http::uri::Authority::as_str))
}

/// Refuses a request that a page of a foreign origin made a browser send.
///
/// # Errors
///
/// `forbidden`.
pub(super) fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let forbidden = |detail: String| Err(Failure::new(Code::Forbidden, detail));
    let (in_header, in_uri) = authorities(uri, headers);
    // A browser names no origin where a page only embeds what it asks for, as an image; this it always says.
    let foreign = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .find(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if let Some(site) = foreign {
        let site = text::shown(&String::from_utf8_lossy(site.as_bytes()));
        return forbidden(format!(
            "the header Sec-Fetch-Site is {site}: a page of a foreign origin made the browser ask; accepted are \
             `same-origin` and `none`"
        ));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("\u{fffd}");
    let from = origin.split_once("://").map(|(_, authority)| authority);
    let same = from.is_some_and(|from| {
        in_uri
            .or(in_header)
            .is_some_and(|authority| authority.eq_ignore_ascii_case(from))
    });
    if same {
        Ok(())
    } else {
        forbidden(format!(
            "origin {} is foreign; accepted are that of the address that is asked, and none",
            text::shown(origin)
        ))
    }
}

/// Refuses a request that is meant for another cluster.
///
/// # Errors
///
/// `wrong-cluster`.
pub(super) fn check_cluster(own: &str, headers: &HeaderMap) -> Result<(), Failure> {
    match headers
        .get_all(header::CLUSTER)
        .iter()
        .find(|value| value.as_bytes() != own.as_bytes())
    {
        None => Ok(()),
        Some(value) => {
            let meant = text::shown(&String::from_utf8_lossy(value.as_bytes()));
            let detail = format!("the request is meant for cluster {meant}, this is {own}");
            Err(Failure::new(Code::WrongCluster, detail).with("cluster", own))
        }
    }
}

/// Refuses to answer in JSON where that is not accepted.
///
/// # Errors
///
/// `not-acceptable`, saying what there is.
pub(super) fn check_accepts_json(headers: &HeaderMap) -> Result<(), Failure> {
    let ranges: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .collect();
    if ranges.iter().all(|range| range.trim().is_empty()) || accepts(&ranges, JSON) {
        return Ok(());
    }
    let asked = text::shown(ranges.join(",").trim());
    let detail =
        format!("accepted is {asked}; this call answers `application/json` in this version");
    Err(Failure::new(Code::NotAcceptable, detail))
}

/// Whether a stream of events is asked for: by its name, and before JSON where both are named.
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    let ranges: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .collect();
    let essence = |range: &&str| {
        range
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let named = ranges.iter().map(essence).find(|name| {
        let streams = name.eq_ignore_ascii_case(EVENT_STREAM);
        (streams && accepts(&ranges, EVENT_STREAM))
            || (name.eq_ignore_ascii_case(JSON) && accepts(&ranges, JSON))
    });
    named.is_some_and(|name| name.eq_ignore_ascii_case(EVENT_STREAM))
}

/// Whether one of the ranges takes a media type; the most specific one decides (RFC 9110 §12.5.1).
fn accepts(ranges: &[&str], media_type: &str) -> bool {
    let kind = media_type.split('/').next().unwrap_or_default();
    let weight = |wanted: &str| {
        ranges.iter().find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts
                .next()
                .filter(|range| range.eq_ignore_ascii_case(wanted))?;
            let refused = parts
                .filter_map(|part| part.split_once('='))
                .any(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("q")
                        && value.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
                });
            Some(!refused)
        })
    };
    weight(media_type)
        .or_else(|| weight(&format!("{kind}/*")))
        .or_else(|| weight("*/*"))
        .unwrap_or(false)
}

/// The id of a request: the caller's, where it is one.
///
/// # Errors
///
/// `invalid-request`, saying what is accepted.
pub(super) fn request_id(headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
    let Some(value) = headers.get(header::REQUEST_ID) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let fine = (1..=64).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fine {
        return Ok(Some(value.clone()));
    }
    let given = text::shown(&String::from_utf8_lossy(bytes));
    Err(Failure::invalid(format!(
        "the header `Tenure-Request-Id` is {given}; accepted are 1 to 64 of letters, digits, `.`, `_` and `-`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = HeaderName::try_from(*name).expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        });
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn only_our_own_names_and_addresses_are_hosts() {
        let own = OwnHosts::new(
            &["Tenure.example.org".into(), "proxy:8443".into()],
            "http://n1.internal:7379",
        );
        let check = |host: &str, expected: bool| {
            let local: SocketAddr = "10.0.0.1:7379".parse().expect("an address");
            let result = check_host(
                &own,
                &Uri::from_static("/"),
                &headers(&[("host", host)]),
                local,
            );
            assert_eq!(result.is_ok(), expected, "{host}");
        };
        for host in [
            "localhost",
            "LOCALHOST:7379",
            "127.0.0.1:7379",
            "[::1]:7379",
            "[::1]",
            "10.0.0.1",
            "10.0.0.1:80",
            "n1.internal:7379",
            "N1.internal.",
            "tenure.example.org",
            "proxy",
            "[::ffff:10.0.0.1]:7379",
        ] {
            check(host, true);
        }
        for host in [
            "evil.test",
            "evil.test:7379",
            "10.0.0.2",
            "localhost.evil.test",
            "n1.internal.evil.test",
            "",
            ":7379",
            "127.0.0.1.evil.test",
            "[::2]:7379",
            "localhost@evil.test",
            "evil.test#localhost",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn an_absolute_target_and_a_second_host_do_not_slip_by() {
        let own = OwnHosts::new(&[], "http://127.0.0.1:7379");
        let local: SocketAddr = "127.0.0.1:7379".parse().expect("an address");
        let one = headers(&[("host", "localhost")]);
        let absolute = Uri::from_static("http://evil.test/v1/status");
        assert_eq!(
            check_host(&own, &absolute, &one, local)
                .expect_err("foreign")
                .code,
            Code::Forbidden
        );
        let two = headers(&[("host", "localhost"), ("host", "evil.test")]);
        assert!(check_one_host(&two).is_err());
        assert!(check_one_host(&one).is_ok());
        assert!(check_host(&own, &Uri::from_static("/"), &HeaderMap::new(), local).is_ok());
    }

    #[test]
    fn a_body_that_can_be_understood_in_two_ways_is_refused() {
        let check = |version, pairs: &[(&str, &str)], expected: Option<Code>| {
            let result = check_form(version, &headers(pairs));
            assert_eq!(
                result.err().map(|failure| failure.code),
                expected,
                "{pairs:?}"
            );
        };
        let host = ("host", "localhost");
        let invalid = Some(Code::InvalidRequest);
        check(Version::HTTP_11, &[host], None);
        check(Version::HTTP_11, &[], invalid);
        check(Version::HTTP_10, &[], None);
        check(Version::HTTP_2, &[], None);
        check(
            Version::HTTP_11,
            &[host, ("transfer-encoding", "Chunked")],
            None,
        );
        check(
            Version::HTTP_11,
            &[host, ("transfer-encoding", "gzip, chunked")],
            invalid,
        );
        check(
            Version::HTTP_11,
            &[host, ("transfer-encoding", "chunked, chunked")],
            invalid,
        );
        check(
            Version::HTTP_11,
            &[
                host,
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            invalid,
        );
        check(
            Version::HTTP_11,
            &[host, ("content-encoding", "identity")],
            None,
        );
        check(
            Version::HTTP_11,
            &[host, ("content-encoding", "gzip")],
            Some(Code::UnsupportedMediaType),
        );
    }

    #[test]
    fn an_origin_is_ours_only_with_our_port() {
        let check = |origin: &str, expected: bool| {
            let headers = headers(&[("host", "localhost:7379"), ("origin", origin)]);
            assert_eq!(
                check_origin(&Uri::from_static("/"), &headers).is_ok(),
                expected,
                "{origin}"
            );
        };
        check("http://localhost:7379", true);
        check("http://LOCALHOST:7379", true);
        check("http://localhost:3000", false);
        check("http://localhost", false);
        check("http://evil.test", false);
        check("null", false);
        check("", false);
    }

    #[test]
    fn a_foreign_page_that_embeds_an_answer_is_refused_though_it_names_no_origin() {
        let check = |sites: &[&str], expected: Option<Code>| {
            let mut pairs = vec![("host", "localhost:7379")];
            pairs.extend(sites.iter().map(|site| ("sec-fetch-site", *site)));
            let result = check_origin(&Uri::from_static("/"), &headers(&pairs));
            assert_eq!(
                result.err().map(|failure| failure.code),
                expected,
                "{sites:?}"
            );
        };
        check(&[], None);
        check(&["same-origin"], None);
        // The address was typed, or is a bookmark.
        check(&["none"], None);
        check(&["cross-site"], Some(Code::Forbidden));
        // Another port of this machine is another origin.
        check(&["same-site"], Some(Code::Forbidden));
        check(&["none", "cross-site"], Some(Code::Forbidden));
        check(&[""], Some(Code::Forbidden));
    }

    #[test]
    fn json_is_given_to_those_who_take_it() {
        let check = |accept: &[&str], expected: bool| {
            let pairs: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
            assert_eq!(
                check_accepts_json(&headers(&pairs)).is_ok(),
                expected,
                "{accept:?}"
            );
        };
        check(&[], true);
        check(&[""], true);
        check(&["*/*"], true);
        check(&["application/json"], true);
        check(&["text/html, application/*;q=0.1"], true);
        check(&["text/html", "Application/JSON; q=0.5"], true);
        check(&["text/html"], false);
        check(&["text/event-stream"], false);
        check(&["*/*, application/json;q=0"], false);
        check(&["application/problem+json"], false);
    }

    #[test]
    fn a_stream_is_for_those_who_name_it() {
        let check = |accept: &[&str], expected: bool| {
            let pairs: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
            assert_eq!(wants_events(&headers(&pairs)), expected, "{accept:?}");
        };
        check(&["text/event-stream"], true);
        check(&["Text/Event-Stream; q=0.5, */*"], true);
        check(&["text/event-stream, application/json"], true);
        check(&["application/json, text/event-stream"], false);
        check(&["application/json;q=0, text/event-stream"], true);
        check(&["text/event-stream;q=0"], false);
        check(&["text/*"], false);
        check(&["*/*"], false);
        check(&[], false);
    }

    #[test]
    fn another_cluster_is_refused() {
        let own = "0123456789abcdef0123456789abcdef";
        assert!(check_cluster(own, &headers(&[])).is_ok());
        assert!(check_cluster(own, &headers(&[("tenure-cluster", own)])).is_ok());
        for other in ["", "x", "0123456789abcdef0123456789abcde0"] {
            let failure =
                check_cluster(own, &headers(&[("tenure-cluster", other)])).expect_err(other);
            assert_eq!(failure.code, Code::WrongCluster);
        }
        let both = headers(&[("tenure-cluster", own), ("tenure-cluster", "x")]);
        assert!(check_cluster(own, &both).is_err());
    }

    #[test]
    fn a_request_id_is_echoed_only_where_it_is_harmless() {
        assert_eq!(
            request_id(&headers(&[("tenure-request-id", "a.B_9-")])).expect("fine"),
            Some("a.B_9-".parse().expect("fine"))
        );
        for bad in ["", "a b", "a\tb", "é", &"x".repeat(65)] {
            assert!(
                request_id(&headers(&[("tenure-request-id", bad)])).is_err(),
                "{bad:?}"
            );
        }
    }
}
