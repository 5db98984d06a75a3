//! Commands find the hub by a kubeconfig: an API server forwards their connections, and inside these is TLS to the hub.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use serving::{Caps, Tunnel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const ID: &str = "a17dbef1-601d-5bcc-806b-b0e6bf808605";
const GONE: &str = "a17dbef1-601d-5bcc-806b-b0e6bf808606";

/// What an API server and a hub were asked.
#[derive(Default, Clone)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn story(id: &str, state: &str) -> Value {
    json!({
        "notification": {
            "id": id, "namespace": "payments", "severity": "critical", "title": "pay: 20 bad log lines", "summary": "s",
            "group": {}, "orderingKey": "k", "created": "2026-01-05T01:00:00.5Z",
            "cause": {"type": "Record", "rule": id, "name": "errors",
                      "record": {"time": "2026-01-05T00:59:59Z", "topic": "logs", "partition": 3, "offset": 42}},
        },
        "deliveries": [
            {"id": id, "channel": "mail", "recipient": "a@example.com", "state": state, "reason": "why",
             "expires": "2026-01-06T01:00:00Z", "attempts": []},
            {"id": id, "channel": "slack", "recipient": "", "state": "Delivered", "reason": "",
             "expires": "2026-01-06T01:00:00Z", "attempts": []},
        ],
    })
}

async fn notifications(State(asked): State<Asked>, query: RawQuery, headers: HeaderMap) -> Response {
    let who = headers.get(header::AUTHORIZATION).map_or("", |who| who.to_str().unwrap());
    asked.note(format!("hub {who} {}", query.0.unwrap_or_default()));
    // Busy, once.
    if asked.all().iter().filter(|what| what.starts_with("hub ")).count() == 1 {
        let body =
            json!({"reason": "OverQuota", "message": "8 requests of one person are under way"}).to_string();
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], body).into_response();
    }
    json!({"items": [story(ID, "Dead")]}).to_string().into_response()
}

async fn notification(State(asked): State<Asked>, Path((ns, id)): Path<(String, String)>) -> Response {
    asked.note(format!("hub {ns} {id}"));
    match id.as_str() {
        ID => story(ID, "Delivered").to_string().into_response(),
        GONE => {
            let body =
                json!({"reason": "NotFound", "message": "this namespace has no notification of that id"});
            (StatusCode::NOT_FOUND, body.to_string()).into_response()
        }
        _ => story(&id, "Pending").to_string().into_response(),
    }
}

/// An authority, and what it signed for a name.
fn certificate(name: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = KeyPair::generate().unwrap();
    let pem = params.self_signed(&authority).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params, authority);
    let signed = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (pem, signed.pem(), key.serialize_pem())
}

async fn hub(asked: Asked, certificate: &str, key: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/namespaces/payments/notifications", get(notifications))
        .route("/v1/namespaces/{ns}/notifications/{id}", get(notification))
        .route(
            "/v1/namespaces/payments/dead-letters",
            get(|| async {
                json!({"items": [], "topics": [{"rule": "errors", "topic": "logs-dead"}]}).to_string()
            }),
        )
        .with_state(asked);
    let (current, tls) = watch::channel(serving::tls(certificate.as_bytes(), key.as_bytes(), None).unwrap());
    let tunnel = Tunnel { path: protocol::paths::TUNNEL, protocol: protocol::paths::TUNNEL_PROTOCOL };
    tokio::spawn(async move {
        let _current = current;
        let stop = CancellationToken::new();
        serving::serve_with_tunnel(listener, Some(tls), Caps::new(64, 64), router, Some(tunnel), stop).await;
    });
    address
}

/// An API server: answers for what the command asks, and passes on what goes to the hub, ending the outer TLS itself as
/// the real one does, without looking at the certificate.
async fn api_server(asked: Asked, hub: SocketAddr, authority: String, refuses: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (asked, authority) = (asked.clone(), authority.clone());
            tokio::spawn(async move {
                let _ = one(stream, asked, hub, authority, refuses).await;
            });
        }
    });
    address
}

async fn one(
    mut near: TcpStream,
    asked: Asked,
    hub: SocketAddr,
    authority: String,
    refuses: bool,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
    let mut body = vec![0; length];
    near.read_exact(&mut body).await?;
    let line = head.lines().next().unwrap().to_owned();
    asked.note(format!("{line} {}", String::from_utf8_lossy(&body)));
    let system = "/api/v1/namespaces/belfry-system";
    let (status, answer) = match line.split(' ').nth(1).unwrap() {
        path if path == format!("{system}/services/https:belfry-hub:https/proxy/v1/tunnel") => {
            let mut far = unverified(hub).await;
            far.write_all(b"GET /v1/tunnel HTTP/1.1\r\nhost: hub\r\nconnection: Upgrade\r\nupgrade: belfry-tunnel\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut near, &mut far).await?;
            return Ok(());
        }
        path if path.starts_with(&format!("{system}/configmaps/belfry-ca")) => (
            200,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "belfry-ca"}, "data": {"ca.crt": authority}}),
        ),
        path if path.starts_with("/apis/authentication.k8s.io/v1/selfsubjectreviews") => (
            201,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}, "status": {"userInfo": {"username": "https://issuer#ann"}}}),
        ),
        path if path.starts_with(&format!("{system}/serviceaccounts/belfry-people/token")) && refuses => {
            let why = "serviceaccounts \"belfry-people\" is forbidden: ValidatingAdmissionPolicy 'belfry-people' with binding 'belfry-people' denied request: to read notifications of a namespace you need the right to get alertrules.belfry.dev there";
            (
                403,
                json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403, "message": why}),
            )
        }
        path if path.starts_with(&format!("{system}/serviceaccounts/belfry-people/token")) => (
            201,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {"audiences": []}, "status": {"token": "given", "expirationTimestamp": "2030-01-01T00:00:00Z"}}),
        ),
        _ => (
            404,
            json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
        ),
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    );
    near.write_all(head.as_bytes()).await
}

/// The outer TLS, of which nothing is verified, as between an API server and a Service.
async fn unverified(hub: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    #[derive(Debug)]
    struct Anything;
    impl rustls::client::danger::ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(hub).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// A cluster with a hub, and a kubeconfig for it.
struct Bed {
    asked: Asked,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Bed {
    /// With the hub's certificate for that name; `tells` is the authority that the cluster tells of, the hub's own if absent.
    async fn new(name: &str, tells: Option<String>, refuses: bool) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = Asked::default();
        let (authority, certificate, key) = certificate(name);
        let hub = hub(asked.clone(), &certificate, &key).await;
        let server = api_server(asked.clone(), hub, tells.unwrap_or(authority), refuses).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("config");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": format!("http://{server}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "payments"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        Self { asked, kubeconfig, _folder: folder }
    }

    async fn belfry(&self, arguments: &[&str]) -> (i32, String, String) {
        let output: Output = tokio::process::Command::new(env!("CARGO_BIN_EXE_belfry"))
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .await
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

const NAME: &str = "belfry-hub.belfry-system.svc";

#[tokio::test(flavor = "multi_thread")]
async fn with_a_kubeconfig_alone_the_hub_is_found_verified_and_asked_by_a_token_for_this_namespace() {
    let bed = Bed::new(NAME, None, false).await;
    let (code, out, told) =
        bed.belfry(&["list", "--rule", "errors", "--state", "dead", "--since", "2h"]).await;
    assert_eq!(code, 0, "{told}");
    let lines: Vec<&str> = out.lines().collect();
    let [header, line] = lines.as_slice() else { panic!("a header and the dead delivery alone: {out}") };
    assert!(header.starts_with("DECIDED ") && header.ends_with(" TITLE"), "{header}");
    for part in ["2026-01-05T01:00:00Z", "record", "rule/errors", "mail", "Dead", ID, "pay: 20 bad log lines"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(told.contains("asking again in 1 s"), "a hub that is busy is asked again: {told}");
    let asked = bed.asked.all();
    let token = asked.iter().find(|it| it.contains("/token")).expect("a token is asked for");
    assert!(token.contains(r#""audiences":["belfry-hub/payments/https://issuer#ann"]"#), "{token}");
    assert!(token.contains(r#""expirationSeconds":600"#), "{token}");
    let last = asked.last().unwrap();
    for part in ["hub Bearer given ", "rule=errors", "state=Dead", "since=20", "limit=20"] {
        assert!(last.contains(part), "{part} in {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_ask_says_whether_all_were_delivered() {
    let bed = Bed::new(NAME, None, false).await;
    let (code, out, told) = bed.belfry(&["ask", ID]).await;
    assert_eq!(code, 0, "{told}");
    assert!(out.contains(&format!("delivery {ID}")), "{out}");
    let pending = "a17dbef1-601d-5bcc-806b-b0e6bf808607";
    let (code, out, told) = bed.belfry(&["ask", pending, "-o", "json"]).await;
    assert_eq!(code, 1, "{told}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["notification"]["id"], pending);
    let (code, out, told) = bed.belfry(&["-n", "orders", "ask", GONE]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{told}");
    assert!(told.contains("no notification of that id"), "{told}");
    assert!(
        bed.asked.all().last().unwrap().contains("hub orders"),
        "the namespace that is named, before the command too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_ends_at_its_limit_of_lines() {
    let bed = Bed::new(NAME, None, false).await;
    let (code, out, told) = bed.belfry(&["list", "--limit", "1", "-o", "wide"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(out.lines().count(), 2, "a header, and one of two deliveries: {out}");
    assert!(!out.contains('\u{1b}'), "no colours in a pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_certificate_gets_no_token() {
    let (stranger, ..) = certificate(NAME);
    for (name, tells) in [(NAME, Some(stranger)), ("other.belfry-system.svc", None)] {
        let bed = Bed::new(name, tells, false).await;
        let (code, out, told) = bed.belfry(&["list"]).await;
        assert_eq!((code, out.as_str()), (2, ""), "{told}");
        assert!(!bed.asked.all().iter().any(|it| it.starts_with("hub ")), "{:?}", bed.asked.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_sees_the_policys_message() {
    let bed = Bed::new(NAME, None, true).await;
    let (code, _, told) = bed.belfry(&["list"]).await;
    assert_eq!(code, 2);
    assert!(
        told.contains(
            "namespace \"payments\": to read notifications of a namespace you need the right to get"
        ),
        "{told}"
    );
    let (code, _, told) = bed.belfry(&["list", "--installation", "elsewhere/belfry"]).await;
    assert!(code == 2 && told.contains("not installed as elsewhere/belfry"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_hub_keeps_no_dead_letter_the_answer_names_the_topics() {
    let bed = Bed::new(NAME, None, false).await;
    let (code, out, told) = bed.belfry(&["dead-letters"]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{told}");
    assert!(told.contains("rule/errors has such records put into the topic logs-dead"), "{told}");
}
