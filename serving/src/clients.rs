//! Client certificates: admits clients whose certificate an authority signed and, if names are given, whose common
//! name is one of them. The handshake of any other client fails.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

/// Which clients are admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The authorities (PEM) that sign for them.
    pub authorities: Vec<u8>,
    /// Admitted common names; if empty, all.
    pub names: Vec<String>,
}

impl Clients {
    pub(crate) fn verifier(&self) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&self.authorities) {
            let authority = authority.context("the clients' authority is not PEM")?;
            roots.add(authority).context("the clients' authority can't be used")?;
        }
        let inner = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        let inner = inner.context("the clients' authority can't be used")?;
        Ok(if self.names.is_empty() {
            inner
        } else {
            Arc::new(NamedClients { inner, names: self.names.clone() })
        })
    }
}

#[derive(Debug)]
struct NamedClients {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let name = common_name(end_entity);
        if name.is_some_and(|name| self.names.iter().any(|known| known.as_bytes() == name)) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
/// 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// UTF8String, PrintableString, IA5String: texts whose bytes are UTF-8.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The common name of a certificate's subject (RFC 5280, 4.1), if it has exactly one.
fn common_name<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let (certificate, _) = value(certificate.as_ref(), SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (mut subject, _) = value(fields, SEQUENCE)?;
    let mut found = None;
    while !subject.is_empty() {
        let (mut set, rest) = value(subject, SET)?;
        subject = rest;
        while !set.is_empty() {
            let (attribute, rest) = value(set, SEQUENCE)?;
            set = rest;
            let (id, text) = value(attribute, OBJECT_ID)?;
            if id != COMMON_NAME {
                continue;
            }
            let (tag, text, _) = element(text)?;
            if found.is_some() || !TEXTS.contains(&tag) {
                return None;
            }
            found = Some(text);
        }
    }
    found
}

/// Content of the first element, which must have this tag, and the bytes after it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, value, rest)| (value, rest))
}

/// Tag and content of the first element (DER, one-byte tags), and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}
