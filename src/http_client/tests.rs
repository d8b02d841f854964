#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::*;
use crate::provider::testing::{Step, TestServer, dead_url};

const OPEN: UrlPolicy = UrlPolicy { allow_insecure: true };
const STRICT: UrlPolicy = UrlPolicy { allow_insecure: false };
const LIMITS: RequestLimits = RequestLimits::new(Duration::from_secs(5), 1000);

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

async fn error_of(server: &TestServer, limits: RequestLimits) -> HttpError {
    HttpClient::new(OPEN).fetch(get(server.url.clone()), limits).await.unwrap_err()
}

fn short(millis: u64) -> RequestLimits {
    RequestLimits::new(Duration::from_millis(millis), 1000)
}

#[tokio::test]
async fn a_whole_answer_arrives_with_the_agents_name() {
    let server = TestServer::fixed(200, &[("x-drain-cost", "5")], "hello").await;
    let fetched = HttpClient::new(OPEN).fetch(get(server.at("/v1/docs")), LIMITS).await.unwrap();
    assert_eq!((fetched.status.as_u16(), fetched.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(fetched.headers["x-drain-cost"], "5");
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "GET /v1/docs");
    assert_eq!(seen.header("user-agent").unwrap(), concat!("drain-mcp/", env!("CARGO_PKG_VERSION")));
    assert_eq!(seen.header("accept-encoding"), None, "no compression is asked for");
    assert_eq!(seen.header("cookie"), None);
}

#[test]
fn m14_urls_are_judged_before_anything_is_sent() {
    for good in ["https://provider.example/api", "https://8.8.8.8", "https://[2606:4700::1111]:8443/"] {
        assert_eq!(check_url(&url(good), STRICT), Ok(()), "{good}");
    }
    for bad in ["http://provider.example", "ftp://provider.example", "file:///etc/passwd", "data:text/plain,x"] {
        assert!(matches!(check_url(&url(bad), STRICT), Err(UrlError::Scheme(_))), "{bad}");
    }
    for bad in ["https://user@provider.example", "https://user:pw@provider.example", "https://:pw@provider.example"] {
        assert_eq!(check_url(&url(bad), OPEN), Err(UrlError::Credentials), "{bad}");
    }
    for private in [
        "https://127.0.0.1",
        "https://127.1",
        "https://2130706433",
        "https://0x7f.1",
        "https://0",
        "https://[::1]",
        "https://[::]",
        "https://10.0.0.1",
        "https://172.16.9.9",
        "https://192.168.1.1",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1",
        "https://198.18.0.1",
        "https://192.0.2.7",
        "https://224.0.0.1",
        "https://255.255.255.255",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:8.8.8.8]",
        "https://[::127.0.0.1]",
        "https://[64:ff9b::10.0.0.1]",
        "https://[2002:7f00:1::]",
        "https://[fc00::1]",
        "https://[fd12::1]",
        "https://[fe80::1]",
        "https://[fec0::1]",
        "https://[ff02::1]",
        "https://[2001:db8::1]",
        "https://[100::1]",
    ] {
        assert!(matches!(check_url(&url(private), STRICT), Err(UrlError::Address { .. })), "{private}");
        assert_eq!(check_url(&url(private), OPEN), Ok(()), "{private}");
    }
    assert_eq!(check_url(&url("https://[64:ff9b::8.8.8.8]"), STRICT), Ok(()), "NAT64 of a public address");
    assert_eq!(check_url(&url("http://10.0.0.1"), OPEN), Ok(()));
}

#[test]
fn m14_a_loopback_directory_or_the_operator_allows_http() {
    for (directory, operator, allowed) in [
        ("https://handshake58.com/api/mcp/providers", false, false),
        ("https://handshake58.com/api/mcp/providers", true, true),
        ("http://127.0.0.1:9000/api", false, true),
        ("http://localhost:9000/api", false, true),
        ("http://[::1]:9000/api", false, true),
        ("http://10.0.0.1/api", false, false),
        ("https://localhost.example/api", false, false),
    ] {
        assert_eq!(UrlPolicy::new(&url(directory), operator).allow_insecure, allowed, "{directory}");
    }
}

#[tokio::test]
async fn m14_a_name_that_resolves_to_a_private_address_is_refused_while_connecting() {
    let server = TestServer::fixed(200, &[], "secret").await;
    let target = url(&format!("https://localhost:{}/", server.url.port().unwrap()));
    let error = HttpClient::new(STRICT).fetch(get(target), LIMITS).await.unwrap_err();
    assert!(matches!(error, HttpError::Refused(UrlError::Address { class: AddressClass::Loopback, .. })), "{error:?}");
    assert!(error.before_sent());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn m14_the_resolver_lets_the_same_name_through_where_the_policy_says_so() {
    let server = TestServer::fixed(200, &[], "ok").await;
    let target = url(&format!("http://localhost:{}/", server.url.port().unwrap()));
    assert_eq!(HttpClient::new(OPEN).fetch(get(target), LIMITS).await.unwrap().body, b"ok");
}

#[tokio::test]
async fn m14_http_is_refused_before_sending() {
    let server = TestServer::fixed(200, &[], "x").await;
    let error = HttpClient::new(STRICT).fetch(get(server.url.clone()), LIMITS).await.unwrap_err();
    assert_eq!(error, HttpError::Refused(UrlError::Scheme("http".into())));
    assert!(error.before_sent());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn m14_redirects_are_not_followed() {
    let target = TestServer::fixed(200, &[], "elsewhere").await;
    for status in [301, 302, 303, 307, 308] {
        let server = TestServer::fixed(status, &[("location", target.url.as_str())], "").await;
        let error = error_of(&server, LIMITS).await;
        assert_eq!(error, HttpError::Redirect { status });
        assert!(!error.before_sent());
    }
    assert!(target.seen().is_empty());
}

#[tokio::test]
async fn m15_nobody_listens_is_before_sent() {
    let error = HttpClient::new(OPEN).fetch(get(dead_url().await), LIMITS).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error:?}");
    assert!(error.before_sent());
    let unknown = url("https://no-such-host.invalid/");
    let error = HttpClient::new(STRICT).fetch(get(unknown), RequestLimits::new(Duration::from_secs(20), 10)).await;
    let error = error.unwrap_err();
    assert!(error.before_sent() || matches!(error, HttpError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn m15_a_failed_tls_handshake_is_before_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let garbage = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0_u8; 16];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
    let client = HttpClient::new(OPEN);
    let error = client.fetch(get(url(&format!("https://127.0.0.1:{port}/"))), LIMITS).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls(_)), "{error:?}");
    assert!(error.before_sent());
    garbage.await.unwrap();
}

#[tokio::test]
async fn m14_slow_drip_does_not_outlast_the_deadline() {
    let server = TestServer::start(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n".to_vec()),
            Step::Repeat(b".".to_vec(), Duration::from_millis(20)),
        ]
    })
    .await;
    let begun = std::time::Instant::now();
    let error = error_of(&server, short(300)).await;
    assert_eq!(error, HttpError::Timeout { before_sent: false });
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn m14_a_silent_server_and_a_dripped_head_time_out() {
    let silent = TestServer::start(|_| vec![Step::Hang]).await;
    assert_eq!(error_of(&silent, short(200)).await, HttpError::Timeout { before_sent: false });
    let head = TestServer::start(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec()), Step::Repeat(b"b".to_vec(), Duration::from_millis(10))]
    })
    .await;
    assert_eq!(error_of(&head, short(200)).await, HttpError::Timeout { before_sent: false });
}

#[tokio::test]
async fn m14_a_body_beyond_the_limit_is_refused_announced_or_not() {
    let announced = TestServer::fixed(200, &[], &"x".repeat(1001)).await;
    assert_eq!(error_of(&announced, LIMITS).await, HttpError::TooLarge { limit: 1000 });
    let endless = TestServer::start(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
            Step::Repeat(
                b"40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n".to_vec(),
                Duration::ZERO,
            ),
        ]
    })
    .await;
    let error = error_of(&endless, LIMITS).await;
    assert_eq!(error, HttpError::TooLarge { limit: 1000 });
    assert!(!error.before_sent());
    let exact = TestServer::fixed(200, &[], &"x".repeat(1000)).await;
    assert_eq!(HttpClient::new(OPEN).fetch(get(exact.url.clone()), LIMITS).await.unwrap().body.len(), 1000);
}

#[tokio::test]
async fn m15_a_cut_is_after_sent_wherever_it_happens() {
    for raw in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "\u{0}\u{1}\u{2}\u{3}garbage garbage garbage\r\n\r\n",
    ] {
        let server = TestServer::start(move |_| vec![Step::Send(raw.as_bytes().to_vec())]).await;
        let error = error_of(&server, LIMITS).await;
        assert!(matches!(error, HttpError::Cut(_)), "{raw:?}: {error:?}");
        assert!(!error.before_sent());
    }
}

#[tokio::test]
async fn m14_huge_headers_are_refused() {
    let server = TestServer::start(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Step::Repeat([b"x-filler: ".as_slice(), &[b'y'; 4000], b"\r\n"].concat(), Duration::ZERO),
        ]
    })
    .await;
    let error = error_of(&server, LIMITS).await;
    assert!(matches!(error, HttpError::Cut(_)), "{error:?}");
    assert!(!error.before_sent());
}

#[tokio::test]
async fn m14_an_encoded_body_is_not_guessed_at() {
    let gzip = TestServer::fixed(200, &[("content-encoding", "gzip")], "\u{1f}\u{8b}").await;
    assert_eq!(error_of(&gzip, LIMITS).await, HttpError::Encoding("gzip".into()));
    let identity = TestServer::fixed(200, &[("content-encoding", "Identity")], "plain").await;
    assert_eq!(HttpClient::new(OPEN).fetch(get(identity.url.clone()), LIMITS).await.unwrap().body, b"plain");
}

#[tokio::test]
async fn m12_errors_name_no_url() {
    let target = dead_url().await.join("/v1/pricing?key=hunter2").unwrap();
    let error = HttpClient::new(OPEN).fetch(get(target), LIMITS).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn many_requests_at_once_share_the_client() {
    let server = TestServer::fixed(200, &[], "ok").await;
    let client = HttpClient::new(OPEN);
    let all = (0..64).map(|_| client.fetch(get(server.url.clone()), LIMITS));
    for fetched in futures::future::join_all(all).await {
        assert_eq!(fetched.unwrap().body, b"ok");
    }
}

#[test]
fn starting_costs_nothing() {
    let client = HttpClient::new(STRICT);
    // The roots alone would take 40 ms: they are read with the first https request.
    assert!(client.inner.secure.get().is_none() && client.inner.plain.get().is_none());
}

#[test]
fn a_machine_without_ca_certificates_is_told_so() {
    let empty = tempfile::tempdir().unwrap();
    let file = empty.path().join("none.pem");
    std::fs::write(&file, "").unwrap();
    // The environment is the process's: another process tries it.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "http_client::tests::without_roots_child"])
        .env("SSL_CERT_FILE", &file)
        .env("SSL_CERT_DIR", empty.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

#[tokio::test]
#[ignore = "run by a_machine_without_ca_certificates_is_told_so"]
async fn without_roots_child() {
    if std::env::var_os("SSL_CERT_FILE").is_none() {
        return;
    }
    let server = TestServer::fixed(200, &[], "plain http needs none").await;
    let client = HttpClient::new(OPEN);
    client.fetch(get(server.url.clone()), LIMITS).await.unwrap();
    let error = client.fetch(get(url("https://127.0.0.1:9")), LIMITS).await.unwrap_err();
    assert_eq!(error, HttpError::NoRoots);
    assert!(error.before_sent() && error.to_string().contains("ca-certificates"));
}
