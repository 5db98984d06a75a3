//! Over real sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;

/// Longer than anything here takes; only a hang lasts so long.
const HANG: Duration = Duration::from_mins(1);

const TUNNEL: Tunnel = Tunnel { path: "/tunnel", protocol: "x-tunnel" };

/// Requests that are never answered.
static SLOW: AtomicUsize = AtomicUsize::new(0);

/// Long answers that nothing holds any more.
static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

struct Long(Vec<u8>);

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        GIVEN_BACK.fetch_add(1, Ordering::SeqCst);
    }
}

async fn slow(count: usize) {
    while SLOW.load(Ordering::SeqCst) < count {
        tokio::task::yield_now().await;
    }
}

async fn started(caps: Caps, tls: Tls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(|| async { "here\n" }))
        .route("/long", get(|| async { Bytes::from_owner(Long(vec![b'x'; 64 << 20])) }))
        .route("/secret", get(|| async { StatusCode::UNAUTHORIZED }))
        .route(
            "/slow",
            get(|| {
                SLOW.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>()
            }),
        );
    let stop = CancellationToken::new();
    tokio::spawn(serve_with_tunnel(listener, tls, caps, router, Some(TUNNEL), stop));
    address
}

async fn from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(Ipv4Addr::new(127, 0, 0, host)), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut answer = [0; 1_024];
    let read = tokio::time::timeout(HANG, stream.read(&mut answer)).await.expect("an answer, or the end");
    String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
}

async fn ended(stream: &mut TcpStream) {
    let read = tokio::time::timeout(HANG, stream.read(&mut [0; 8])).await.expect("the end");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn thousands_of_silent_connections_of_one_peer_leave_room_for_others_and_for_itself() {
    let address = started(Caps { all: 64, per_peer: 48, silent: 40, silent_per_peer: 32 }, None).await;
    let mut before = from(2, address).await;
    assert!(ask(&mut before, "/").await.ends_with("here\n"));
    let mut silent = Vec::new();
    for _ in 0..2_000 {
        silent.push(from(1, address).await);
    }
    for host in [3, 1] {
        assert!(ask(&mut from(host, address).await, "/").await.ends_with("here\n"), "127.0.0.{host}");
    }
    // One that was there before is as it was, and the silent ones have gone, the oldest first.
    assert!(ask(&mut before, "/").await.ends_with("here\n"));
    ended(&mut silent[0]).await;
    ended(&mut silent[1_900]).await;
}

#[tokio::test]
async fn who_is_refused_is_as_silent_as_before_and_who_waits_for_an_answer_is_not() {
    let address = started(Caps { all: 8, per_peer: 3, silent: 4, silent_per_peer: 2 }, None).await;
    let mut waits = from(1, address).await;
    waits.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    slow(1).await;
    let mut refused = from(1, address).await;
    assert!(ask(&mut refused, "/secret").await.contains("401"));
    // All places of this peer are taken then: the refused one makes room.
    let mut known = from(1, address).await;
    assert!(ask(&mut known, "/").await.ends_with("here\n"));
    let mut new = from(1, address).await;
    assert!(ask(&mut new, "/").await.ends_with("here\n"));
    ended(&mut refused).await;
    // Of those that were answered well the one that is idle longest does, and one that waits for its answer does not.
    let mut newer = from(1, address).await;
    assert!(ask(&mut newer, "/").await.ends_with("here\n"));
    ended(&mut known).await;
    for stream in [&mut new, &mut newer] {
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    }
    slow(3).await;
    // All of this peer's are at work, and its next one is cut off; another's is answered.
    ended(&mut from(1, address).await).await;
    assert!(ask(&mut from(2, address).await, "/").await.ends_with("here\n"));
    let still = tokio::time::timeout(Duration::from_millis(1), waits.read(&mut [0; 8])).await;
    assert!(still.is_err(), "{still:?}");
}

#[tokio::test]
async fn a_reader_that_never_reads_its_answer_is_cut_off_and_the_answer_is_held_no_longer() {
    let address = started(Caps::new(64, 64), None).await;
    let mut never = from(1, address).await;
    never.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(never.read(&mut [0; 8]).await.unwrap() > 0, "its answer is on its way");
    let waited = async {
        while GIVEN_BACK.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HANG, waited).await.expect("the end");
    drop(never);
}

struct Authority(KeyPair, CertificateParams);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(KeyPair::generate().unwrap(), params)
    }

    fn pem(&self) -> String {
        self.1.self_signed(&self.0).unwrap().pem()
    }

    /// A certificate for that name, and its key.
    fn signs(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = Issuer::new(self.1.clone(), KeyPair::from_pem(&self.0.serialize_pem()).unwrap());
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_the_authority_and_one_of_the_names_is_let_in() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let [ours, other] = [Authority::new("ours"), Authority::new("other")];
    let (certificate, key) = ours.signs("server");
    let clients = |names: &[&str]| Clients {
        authorities: ours.pem().into_bytes(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    let with = |clients| tls(certificate.as_bytes(), key.as_bytes(), Some(&clients)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ours.pem().as_bytes()).unwrap()).unwrap();
    let asked = async |names: &[&str], own: Option<(String, String)>| {
        let (_current, tls) = watch::channel(with(clients(names)));
        let address = started(Caps::new(64, 64), Some(tls)).await;
        let client = ClientConfig::builder().with_root_certificates(roots.clone());
        let client = match own {
            None => client.with_no_client_auth(),
            Some((chain, key)) => client
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("localhost").unwrap();
        match connector.connect(name, from(1, address).await).await {
            Ok(mut stream) => ask(&mut stream, "/").await.ends_with("here\n"),
            Err(_) => false,
        }
    };
    assert!(asked(&["kube-apiserver"], Some(ours.signs("kube-apiserver"))).await);
    assert!(asked(&["x", "kube-apiserver"], Some(ours.signs("kube-apiserver"))).await);
    assert!(asked(&[], Some(ours.signs("anybody"))).await);
    assert!(!asked(&["kube-apiserver"], Some(ours.signs("kube-apiserver2"))).await);
    assert!(!asked(&["kube-apiserver"], Some(ours.signs("kubelet"))).await);
    assert!(!asked(&[], Some(other.signs("kube-apiserver"))).await);
    assert!(!asked(&["kube-apiserver"], Some(other.signs("kube-apiserver"))).await);
    assert!(!asked(&[], None).await);
    let wrong = Clients { authorities: b"nothing".to_vec(), names: Vec::new() };
    assert!(tls(certificate.as_bytes(), key.as_bytes(), Some(&wrong)).is_err());
}

#[test]
fn a_probe_is_answered_while_all_threads_of_the_runtime_are_busy() {
    let router = Router::new().route("/healthz", get(|| async { "alive\n" }));
    let probes = Probes::start("127.0.0.1:0".parse().unwrap(), router).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (begun, begins) = mpsc::channel();
    let (ends, end) = mpsc::channel::<()>();
    let end = Arc::new(std::sync::Mutex::new(end));
    for _ in 0..2 {
        let (begun, end) = (begun.clone(), Arc::clone(&end));
        runtime.spawn(async move {
            begun.send(()).unwrap();
            // Blocks the thread, as a long computation would.
            let _ = end.lock().unwrap().recv();
        });
    }
    for _ in 0..2 {
        begins.recv_timeout(HANG).expect("both threads are busy");
    }
    let answer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(probes.address()).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    assert!(answer.join().unwrap().ends_with("alive\n"));
    drop(ends);
}

/// Asks for a tunnel; the head of the answer.
async fn tunnel(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let request = "GET /tunnel HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: x-tunnel\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(HANG, stream.read_u8()).await.expect("an answer, or the end");
        head.push(byte.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn within_a_connection_whose_tls_ends_elsewhere_another_begins_with_a_handshake_of_its_own() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ours = Authority::new("ours");
    let (certificate, key) = ours.signs("server");
    let (_current, current) =
        watch::channel(tls(certificate.as_bytes(), key.as_bytes(), None).expect("a certificate"));
    let address = started(Caps::new(64, 64), Some(current)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ours.pem().as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("localhost").unwrap();
    let mut outer = connector.connect(name.clone(), from(1, address).await).await.unwrap();
    let head = tunnel(&mut outer).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut inner = connector.connect(name, outer).await.expect("a handshake in the tunnel");
    assert!(ask(&mut inner, "/").await.ends_with("here\n"));
    assert!(ask(&mut inner, "/").await.ends_with("here\n"), "and a second request");
    let head = tunnel(&mut inner).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "no tunnel in a tunnel: {head}");
}

#[tokio::test]
async fn a_tunnel_has_the_place_of_its_connection_and_a_silent_one_makes_room() {
    let address = started(Caps { all: 8, per_peer: 4, silent: 4, silent_per_peer: 2 }, None).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = from(1, address).await;
        assert!(tunnel(&mut stream).await.starts_with("HTTP/1.1 101 "));
        silent.push(stream);
    }
    ended(&mut silent[0]).await;
    let mut last = silent.pop().unwrap();
    assert!(ask(&mut last, "/").await.ends_with("here\n"), "the newest of them is heard");
    assert!(ask(&mut from(2, address).await, "/").await.ends_with("here\n"));
}
