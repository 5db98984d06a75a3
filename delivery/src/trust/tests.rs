//! Tests receivers with a certificate of a private authority, over HTTPS and SMTP.

use std::sync::Arc;
use std::time::Duration;

use domain::{EmailPlan, Outcome, SmtpTls, Target, WebhookFormat};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Kit;
use crate::fixtures::{alert, kit, message, plan, secret};

/// An authority (PEM) and a server's end of TLS with its certificate for `name`.
fn authority(name: &str) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn listen<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    port
}

async fn https(tls: TlsAcceptor) -> u16 {
    listen(move |stream| {
        let tls = tls.clone();
        async move {
            let Ok(mut stream) = tls.accept(stream).await else { return };
            let mut buffer = vec![0; 64 * 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// Answers every command with success; returns the stream once the client asks for STARTTLS.
async fn smtp<S: AsyncRead + AsyncWrite + Unpin>(stream: S, greeting: &str, offer: &str) -> Option<S> {
    let mut stream = BufReader::new(stream);
    stream.write_all(greeting.as_bytes()).await.ok()?;
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let answer = match line.trim_end() {
            "." => {
                in_data = false;
                "250 taken\r\n".to_owned()
            }
            _ if in_data => continue,
            "DATA" => {
                in_data = true;
                "354 go on\r\n".to_owned()
            }
            "STARTTLS" => {
                stream.write_all(b"220 go on\r\n").await.ok()?;
                return Some(stream.into_inner());
            }
            hello if hello.starts_with("EHLO") => format!("250-here\r\n250 {offer}\r\n"),
            login if login.starts_with("AUTH") => "235 welcome\r\n".to_owned(),
            _ => "250 ok\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn smtps(tls: TlsAcceptor, mode: SmtpTls) -> u16 {
    listen(move |stream| {
        let tls = tls.clone();
        async move {
            let mut greeting = "220 ready\r\n";
            let stream = if mode == SmtpTls::StartTls {
                let Some(stream) = smtp(stream, greeting, "STARTTLS").await else { return };
                greeting = "";
                stream
            } else {
                stream
            };
            if let Ok(stream) = tls.accept(stream).await {
                smtp(stream, greeting, "AUTH PLAIN").await;
            }
        }
    })
    .await
}

async fn deliver(kit: &Kit, target: Target, with_bundle: bool) -> Outcome {
    let mut plan = plan(target);
    plan.ca_bundle = with_bundle.then(|| secret("ca"));
    let mut message = message(alert(), "oncall@example.com");
    message.timeout = Duration::from_secs(20);
    kit.channel(&plan).deliver(&message).await
}

fn webhook(port: u16) -> Target {
    crate::fixtures::webhook(format!("https://localhost:{port}/"), None, WebhookFormat::Json)
}

fn email(port: u16, tls: SmtpTls) -> Target {
    let plan = EmailPlan {
        host: "localhost".to_owned(),
        port,
        tls,
        username: Some(secret("user")),
        password: Some(secret("password")),
        from: "belfry@example.com".to_owned(),
        to: Vec::new(),
    };
    plan.into()
}

const LOGIN: [(&str, &str); 2] = [("user", "canary-user"), ("password", "canary-password")];

#[tokio::test]
async fn a_bundle_adds_only_its_own_authority() {
    let (ca, tls) = authority("localhost");
    let (_files, kit) = kit(&[("ca", &ca)]);
    let port = https(tls).await;
    assert_eq!(deliver(&kit, webhook(port), true).await, Outcome::Delivered);
    let unknown = deliver(&kit, webhook(port), false).await;
    assert!(
        matches!(&unknown, Outcome::Later { reason, .. } if reason.contains("certificate")),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_accepted() {
    let (ca, tls) = authority("example.org");
    let (_files, kit) = kit(&[("ca", &ca), LOGIN[0], LOGIN[1]]);
    let outcome = deliver(&kit, webhook(https(tls.clone()).await), true).await;
    assert!(matches!(&outcome, Outcome::Later { .. }), "{outcome:?}");
    for mode in [SmtpTls::Implicit, SmtpTls::StartTls] {
        let outcome = deliver(&kit, email(smtps(tls.clone(), mode).await, mode), true).await;
        assert!(matches!(&outcome, Outcome::Later { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_rotated_bundle_is_taken_up_without_a_restart() {
    let (old, _) = authority("localhost");
    let (new, tls) = authority("localhost");
    let (files, kit) = kit(&[("ca", &old)]);
    let port = https(tls).await;
    assert!(matches!(deliver(&kit, webhook(port), true).await, Outcome::Later { .. }));
    std::fs::write(files.path().join("secrets/notify/ca"), new).unwrap();
    assert_eq!(deliver(&kit, webhook(port), true).await, Outcome::Delivered);
}

#[tokio::test]
async fn e_mail_goes_over_tls_from_the_start_and_by_starttls() {
    let (ca, tls) = authority("localhost");
    let (_files, kit) = kit(&[("ca", &ca), LOGIN[0], LOGIN[1]]);
    for mode in [SmtpTls::Implicit, SmtpTls::StartTls] {
        let port = smtps(tls.clone(), mode).await;
        assert_eq!(deliver(&kit, email(port, mode), true).await, Outcome::Delivered, "{mode:?}");
        let unknown = deliver(&kit, email(port, mode), false).await;
        assert!(matches!(&unknown, Outcome::Later { .. }), "{mode:?}: {unknown:?}");
    }
}
