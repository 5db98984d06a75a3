//! One conversation with an SMTP server (RFC 5321), step by step, so that the outcome can depend on how far it came.
//!
//! | observation | outcome |
//! | --- | --- |
//! | 2xx after the message | `Delivered` |
//! | 4xx at any step | `Later` |
//! | 5xx to the sender, the recipient, DATA or the message | `Refused` |
//! | 5xx before that (greeting, EHLO, STARTTLS, login) | `Later`: it says nothing about the message, and a login works again once its Secret is mended |
//! | STARTTLS or a login method is not offered, certificate not trusted | `Later`: nothing was sent, above all no password |
//! | connection refused, lost, or no answer in time, before the message | `Later` |
//! | connection lost, or no answer in time, from the message's first byte on | `Unknown` |
//! | address not allowed | `Refused` |
//!
//! Invariants:
//! - the socket connects to an address that the guard has allowed, while TLS verifies the host's name;
//! - no plain text is taken for something said under TLS ([`StartTlsStream`]);
//! - if the channel asks for TLS, neither credentials nor the message are sent without it;
//! - a reason holds neither user name nor password, nor the server's words at the login, which may repeat them in any form.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use domain::{Digest, EmailPlan, Outcome, SmtpTls};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::starttls::StartTlsStream;
use crate::lookup::Lookup;
use crate::lookup::LookupError;
use crate::secrets::{FileProblem, Secret};
use crate::text::{Mask, error_in_words, quote_for_reason};
use crate::trust::{TlsCache, Trust};

/// How long one address may take to accept the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long QUIT may take after the message was accepted.
const QUIT_TIMEOUT: Duration = Duration::from_millis(500);

/// Speaks SMTP with addresses that the guard allows.
pub(crate) struct Smtp {
    lookup: Arc<Lookup>,
    tls: TlsCache<(String, Option<Digest>), TlsParameters>,
}

/// The server and how to log in.
pub(super) struct Server<'a> {
    pub(super) plan: &'a EmailPlan,
    pub(super) login: Option<Login>,
    pub(super) trust: Trust,
}

/// Credentials of the login.
pub(super) struct Login {
    pub(super) username: Secret,
    pub(super) password: Secret,
}

/// The step that a conversation has reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SmtpStep {
    Connect,
    StartTls,
    Login,
    Sender,
    Recipient,
    Data,
    Message,
}

const STEPS: [SmtpStep; 7] = [
    SmtpStep::Connect,
    SmtpStep::StartTls,
    SmtpStep::Login,
    SmtpStep::Sender,
    SmtpStep::Recipient,
    SmtpStep::Data,
    SmtpStep::Message,
];

impl SmtpStep {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "the greeting",
            Self::StartTls => "STARTTLS",
            Self::Login => "the login",
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "the message",
        }
    }
}

/// Why a conversation ended early.
enum Interrupted {
    /// An error of the conversation; the outcome depends on the step.
    Smtp(Error),
    /// The outcome is already known.
    Known(Outcome),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Smtp(error)
    }
}

impl From<FileProblem> for Interrupted {
    fn from(problem: FileProblem) -> Self {
        Self::Known(problem.into())
    }
}

impl Smtp {
    pub(crate) fn new(lookup: Arc<Lookup>) -> Self {
        Self { lookup, tls: TlsCache::new() }
    }

    /// Makes one attempt within `limit`.
    pub(super) async fn send(&self, server: &Server<'_>, mail: &lettre::Message, limit: Duration) -> Outcome {
        let step = CurrentStep(AtomicU8::new(0));
        let at = format!("{}:{}", server.plan.host, server.plan.port);
        match timeout(limit, self.converse(server, mail, &step)).await {
            Ok(Ok(mut connection)) => {
                // The message is accepted: how the conversation ends changes nothing.
                let _ = timeout(QUIT_TIMEOUT, connection.quit()).await;
                Outcome::Delivered
            }
            Ok(Err(Interrupted::Known(outcome))) => outcome,
            Ok(Err(Interrupted::Smtp(error))) => outcome(&at, step.get(), &error, server.login.as_ref()),
            Err(_) => {
                let reason = format!("{at} did not answer to {} within {limit:?}", step.get().name());
                if step.get() == SmtpStep::Message {
                    Outcome::Unknown { reason }
                } else {
                    Outcome::later(reason)
                }
            }
        }
    }

    async fn converse(
        &self,
        server: &Server<'_>,
        mail: &lettre::Message,
        step: &CurrentStep,
    ) -> Result<AsyncSmtpConnection, Interrupted> {
        let known = |outcome| Err(Interrupted::Known(outcome));
        let addresses = match self.lookup.addresses(&server.plan.host, server.plan.port).await {
            Ok(addresses) => addresses,
            Err(LookupError::Denied(why)) => return known(Outcome::refused(why.to_string())),
            Err(LookupError::Dns(error)) => {
                return known(Outcome::later(format!("{} can't be resolved: {error}", server.plan.host)));
            }
        };
        let hello = ClientId::Domain(
            mail.envelope().from().map_or("belfry.invalid", |from| from.domain()).to_owned(),
        );
        let tls = match server.plan.tls {
            SmtpTls::None => None,
            SmtpTls::StartTls | SmtpTls::Implicit => Some(self.parameters(server)?),
        };
        let mut connection = match (server.plan.tls, &tls) {
            (SmtpTls::Implicit, tls) => {
                let limit = Some(CONNECT_TIMEOUT);
                AsyncSmtpConnection::connect_tokio1(&addresses[..], limit, &hello, tls.clone(), None).await?
            }
            (SmtpTls::StartTls, _) => {
                let stream = Box::new(StartTlsStream::new(connect(server, &addresses).await?));
                AsyncSmtpConnection::connect_with_transport(stream, &hello).await?
            }
            (SmtpTls::None, _) => {
                let stream = Box::new(connect(server, &addresses).await?);
                AsyncSmtpConnection::connect_with_transport(stream, &hello).await?
            }
        };
        if let (SmtpTls::StartTls, Some(tls)) = (server.plan.tls, tls) {
            step.set(SmtpStep::StartTls);
            if !connection.can_starttls() {
                return known(Outcome::later(format!("{} does not offer STARTTLS", server.plan.host)));
            }
            connection.starttls(tls, &hello).await?;
        }
        if let Some(login) = &server.login {
            step.set(SmtpStep::Login);
            let credentials =
                Credentials::new(login.username.expose().to_owned(), login.password.expose().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        let content = mail.formatted();
        step.set(SmtpStep::Sender);
        let options = mail_options(&connection, mail, &content, &server.plan.host)?;
        connection.command(Mail::new(mail.envelope().from().cloned(), options)).await?;
        step.set(SmtpStep::Recipient);
        for to in mail.envelope().to() {
            connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
        }
        step.set(SmtpStep::Data);
        connection.command(Data).await?;
        step.set(SmtpStep::Message);
        connection.message(&content).await?;
        Ok(connection)
    }

    /// TLS parameters that verify the host's name, made once for each host and bundle of authorities.
    fn parameters(&self, server: &Server<'_>) -> Result<TlsParameters, FileProblem> {
        let trust = &server.trust;
        self.tls.get((server.plan.host.clone(), trust.key()), || {
            let mut builder = TlsParameters::builder(server.plan.host.clone());
            if let Some(pem) = trust.pem() {
                let bundle = Certificate::from_pem(pem)
                    .ok()
                    .filter(|_| String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----"))
                    .ok_or_else(|| trust.invalid("holds no certificates (PEM)"))?;
                builder = builder.add_root_certificate(bundle);
            }
            builder.build_rustls().map_err(|_| trust.invalid("holds a certificate that can't be used"))
        })
    }
}

/// Connects to the first of the addresses that accepts.
async fn connect(server: &Server<'_>, addresses: &[SocketAddr]) -> Result<TcpStream, Interrupted> {
    let at = format!("{}:{}", server.plan.host, server.plan.port);
    let mut why = format!("{at} could not be connected to: there is no address");
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                why = format!("no server listens at {at}: {error}");
            }
            Ok(Err(error)) => why = format!("{at} could not be connected to: {error}"),
            Err(_) => {
                why = format!("{at} could not be connected to: no connection within {CONNECT_TIMEOUT:?}");
            }
        }
    }
    Err(Interrupted::Known(Outcome::later(why)))
}

/// The step that a conversation has reached. It outlives the conversation if the time is up.
struct CurrentStep(AtomicU8);

impl CurrentStep {
    fn set(&self, step: SmtpStep) {
        self.0.store(step as u8, Ordering::Release);
    }

    fn get(&self) -> SmtpStep {
        let at = usize::from(self.0.load(Ordering::Acquire));
        *STEPS.get(at).unwrap_or(&SmtpStep::Message)
    }
}

/// The parameters of `MAIL FROM` that the message needs. Refuses the message if the server lacks SMTPUTF8 and an address
/// needs it.
fn mail_options(
    connection: &AsyncSmtpConnection,
    mail: &lettre::Message,
    content: &[u8],
    host: &str,
) -> Result<Vec<MailParameter>, Interrupted> {
    let offers = |feature| connection.server_info().supports_feature(feature);
    let mut options = Vec::new();
    let mut addresses = mail.envelope().from().into_iter().chain(mail.envelope().to());
    if !addresses.all(|address| AsRef::<str>::as_ref(address).is_ascii()) {
        if !offers(Extension::SmtpUtfEight) {
            let reason = format!("{host} does not take addresses outside ASCII (SMTPUTF8)");
            return Err(Interrupted::Known(Outcome::Refused { reason }));
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    if !content.is_ascii() && offers(Extension::EightBitMime) {
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(options)
}

/// The outcome of a conversation that ended early at `step`, by the table at this module's head.
fn outcome(at: &str, step: SmtpStep, error: &Error, login: Option<&Login>) -> Outcome {
    let mut mask = Mask::default();
    if let Some(Login { username, password }) = login {
        mask.hide_login(username.expose(), password.expose());
    }
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let what = match last.to_string() {
        // A text of the server stays as it is.
        words if error.status().is_some() => quote_for_reason(&words, &mask),
        _ if !error.is_response() => quote_for_reason(&error_in_words(last), &mask),
        words if words == "incomplete response" => "the connection was closed".to_owned(),
        // lettre's own text would quote what the server sent.
        _ => "what it said is not SMTP, or too much of it".to_owned(),
    };
    let name = step.name();
    if let Some(code) = error.status() {
        let reason = match step {
            SmtpStep::Login => format!("{at} answered {code} to {name}"),
            _ => format!("{at} answered {code} to {name}: {what}"),
        };
        return if error.is_permanent() && step >= SmtpStep::Sender {
            Outcome::Refused { reason }
        } else {
            Outcome::later(reason)
        };
    }
    let reason = format!("{at}: the conversation broke at {name}: {what}");
    if step == SmtpStep::Message { Outcome::Unknown { reason } } else { Outcome::later(reason) }
}
