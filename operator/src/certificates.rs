//! The certificates of webhook and hub: our own authority, and one server certificate for both, in one Secret. The
//! chart creates the Secret empty, so the operator needs no right to create Secrets or to read another one. A ConfigMap
//! has the authority alone, for people.
//!
//! A certificate is renewed when a third of its time is left, an authority when a year is left. Clients trust a new
//! authority, besides the old one, a day before a server shows a certificate of it. If two replicas renew at once, the
//! Secret's resourceVersion lets one win, and the other takes what that one made. No key is in a log or an error.

use std::time::Duration;

use anyhow::Context as _;
use controllers::metrics::Metrics;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;
use tokio::sync::watch;

/// How long an authority is valid, and how long before its end the next one is made.
const AUTHORITY: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
const AUTHORITY_LEFT: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long a new authority is published before it signs, for a server that has a certificate of the one before.
const KNOWN: SignedDuration = SignedDuration::from_hours(24);
/// How long a server's certificate is valid, and how long before its end the next one is made.
const SERVER: SignedDuration = SignedDuration::from_hours(90 * 24);
const SERVER_LEFT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How far the clocks of a cluster's machines may differ.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

const AUTHORITY_EXPIRES: &str = "belfry.dev/authority-expires";
const SERVER_EXPIRES: &str = "belfry.dev/certificate-expires";
const NAMES: &str = "belfry.dev/certificate-names";

/// What the Secret holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// The authorities to trust (PEM): the current one, and the one before it while that is valid.
    pub(crate) authorities: String,
    authority_key: String,
    authority_expires: Timestamp,
    /// The server's certificate (PEM).
    pub(crate) certificate: String,
    /// Its key (PEM).
    pub(crate) key: String,
    expires: Timestamp,
    /// The DNS names of the certificate.
    names: Vec<String>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("names", &self.names)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// The certificates to use from `now` on: `held`, or new ones where these end soon.
    fn renewed(held: Option<Self>, names: &[String], now: Timestamp) -> Result<Self, rcgen::Error> {
        let held = held.filter(|held| held.expires > now && held.authority_expires > now);
        let Some(held) = held else { return Self::with_authority(now)?.with_server(names, now) };
        if held.authority_expires - AUTHORITY_LEFT <= now {
            let next = Self::with_authority(now)?;
            let latest = held.authorities.split_inclusive("-----END CERTIFICATE-----\n").next();
            let authorities = next.authorities + latest.unwrap_or_default();
            return Ok(Self {
                authorities,
                authority_key: next.authority_key,
                authority_expires: next.authority_expires,
                ..held
            });
        }
        let known = held.authority_expires - AUTHORITY + KNOWN <= now;
        if held.names != names || (known && held.expires - SERVER_LEFT <= now) {
            return held.with_server(names, now);
        }
        Ok(held)
    }

    /// A new authority that has signed nothing yet.
    fn with_authority(now: Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let expires = now + AUTHORITY;
        Ok(Self {
            authorities: authority(now, expires)?.self_signed(&key)?.pem(),
            authority_key: key.serialize_pem(),
            authority_expires: expires,
            certificate: String::new(),
            key: String::new(),
            expires: now,
            names: Vec::new(),
        })
    }

    fn with_server(self, names: &[String], now: Timestamp) -> Result<Self, rcgen::Error> {
        let issuer =
            Issuer::new(authority(now, self.authority_expires)?, KeyPair::from_pem(&self.authority_key)?);
        let key = KeyPair::generate()?;
        let expires = (now + SERVER).min(self.authority_expires);
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "belfry");
        (params.not_before, params.not_after) = (date(now - SKEW), date(expires));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), expires, names: names.to_vec(), ..self })
    }

    /// Reads the certificates from a Secret; `None` if a part is missing.
    fn from_secret(secret: &Secret) -> Option<Self> {
        let text = |key: &str| {
            let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
        };
        let note = |name: &str| secret.metadata.annotations.as_ref()?.get(name).cloned();
        Some(Self {
            authorities: text("ca.crt")?,
            authority_key: text("ca.key")?,
            authority_expires: note(AUTHORITY_EXPIRES)?.parse().ok()?,
            certificate: text("tls.crt")?,
            key: text("tls.key")?,
            expires: note(SERVER_EXPIRES)?.parse().ok()?,
            names: note(NAMES)?.split(',').map(str::to_owned).collect(),
        })
    }

    fn write_to(&self, secret: &mut Secret) {
        let pairs = [
            ("ca.crt", &self.authorities),
            ("ca.key", &self.authority_key),
            ("tls.crt", &self.certificate),
            ("tls.key", &self.key),
        ];
        let data = pairs.map(|(name, text)| (name.to_owned(), ByteString(text.clone().into_bytes())));
        secret.data = Some(data.into());
        let notes = secret.metadata.annotations.get_or_insert_default();
        notes.insert(AUTHORITY_EXPIRES.to_owned(), self.authority_expires.to_string());
        notes.insert(SERVER_EXPIRES.to_owned(), self.expires.to_string());
        notes.insert(NAMES.to_owned(), self.names.join(","));
    }
}

fn authority(now: Timestamp, expires: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Belfry's own authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date(now - SKEW), date(expires));
    Ok(params)
}

fn date(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// Keeps the certificates current in the cluster: where they are stored, and who has to trust them.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    /// Of the Secret.
    pub(crate) namespace: String,
    /// Of the Secret.
    pub(crate) secret: String,
    /// The ConfigMap with the authorities, in the same namespace.
    pub(crate) authorities: String,
    /// The `ValidatingWebhookConfiguration`, if there is one.
    pub(crate) webhook: Option<String>,
    /// DNS names of the server's certificate.
    pub(crate) names: Vec<String>,
    /// Show when the certificates end.
    pub(crate) metrics: Metrics,
}

impl Keeper {
    /// Renews the certificates and publishes them to `current`. Never ends.
    pub(crate) async fn keep(self, current: watch::Sender<Option<Certificates>>) {
        loop {
            let wait = match self.current(crate::now()).await {
                Ok(certificates) => {
                    let ends = (certificates.expires.as_second(), certificates.authority_expires.as_second());
                    self.metrics.certificates_end(ends.0, ends.1);
                    current.send_if_modified(|held| {
                        let differs = held.as_ref() != Some(&certificates);
                        *held = Some(certificates);
                        differs
                    });
                    LOOK
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the certificates are not as they should be; looked at again soon");
                    LOOK_AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// The certificates to use, made or renewed if needed, once the API server trusts them. Writes only what differs.
    async fn current(&self, now: Timestamp) -> anyhow::Result<Certificates> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut secret =
            secrets.get(&self.secret).await.with_context(|| format!("read Secret {}", self.secret))?;
        let held = Certificates::from_secret(&secret);
        let current = Certificates::renewed(held.clone(), &self.names, now).context("make a certificate")?;
        if held.as_ref() != Some(&current) {
            current.write_to(&mut secret);
            // This fails if another replica was faster; the next look takes what that one made.
            secrets
                .replace(&self.secret, &PostParams::default(), &secret)
                .await
                .with_context(|| format!("write Secret {}", self.secret))?;
            tracing::info!(names = current.names.join(","), expires = %current.expires, "a new certificate");
        }
        self.publish_to_people(&current.authorities)
            .await
            .with_context(|| format!("write ConfigMap {}", self.authorities))?;
        if let Some(webhook) = &self.webhook {
            let published = self.publish_to_api_server(webhook, &current.authorities).await;
            published.with_context(|| format!("write ValidatingWebhookConfiguration {webhook}"))?;
        }
        Ok(current)
    }

    /// Writes the authorities to the ConfigMap, for people.
    async fn publish_to_people(&self, authorities: &str) -> kube::Result<()> {
        const KEY: &str = "ca.crt";
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get(&self.authorities).await?;
        if map.data.as_ref().and_then(|data| data.get(KEY)).is_some_and(|held| held == authorities) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"data": {KEY: authorities}}));
        maps.patch(&self.authorities, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Writes the authorities to the webhook's configuration, for the API server.
    async fn publish_to_api_server(&self, webhook: &str, authorities: &str) -> kube::Result<()> {
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = webhooks.get(webhook).await?;
        let bundle = ByteString(authorities.as_bytes().to_vec());
        let hooks = configuration.webhooks.unwrap_or_default();
        if hooks.iter().all(|hook| hook.client_config.ca_bundle.as_ref() == Some(&bundle)) {
            return Ok(());
        }
        let hooks: Vec<_> = hooks
            .iter()
            .map(|hook| json!({"name": hook.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        let patch = Patch::Strategic(json!({"webhooks": hooks}));
        webhooks.patch(webhook, &PatchParams::default(), &patch).await.map(drop)
    }
}

/// How often the certificates are checked, and how soon after a failure.
const LOOK: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-25T00:00:00Z".parse().unwrap()
    }

    fn names() -> Vec<String> {
        vec!["belfry-webhook.belfry-system.svc".to_owned()]
    }

    /// Whether a client that trusts `authorities` takes `certificate` at `at`.
    fn trusts(authorities: &str, certificates: &Certificates, at: Timestamp) -> bool {
        use rustls::client::danger::ServerCertVerifier as _;
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
        let mut roots = rustls::RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let own = CertificateDer::from_pem_slice(certificates.certificate.as_bytes()).unwrap();
        let name = ServerName::try_from(names()[0].clone()).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second() as u64));
        verifier.verify_server_cert(&own, &[], &name, &[], at).is_ok()
    }

    #[test]
    fn what_is_made_is_trusted_until_it_ends_and_kept_until_a_third_is_left() {
        let first = Certificates::renewed(None, &names(), now()).unwrap();
        for (days, trusted) in [(0, true), (89, true), (91, false)] {
            assert_eq!(trusts(&first.authorities, &first, now() + DAY * days), trusted, "{days} days");
        }
        let again = |days| Certificates::renewed(Some(first.clone()), &names(), now() + DAY * days).unwrap();
        assert!(again(59) == first);
        let second = again(61);
        assert!(second != first && second.authorities == first.authorities);
        assert!(trusts(&first.authorities, &second, now() + DAY * 100), "clients need not change");
        let other = vec!["other.svc".to_owned()];
        assert!(Certificates::renewed(Some(first.clone()), &other, now()).unwrap() != first, "other names");
    }

    #[test]
    fn a_new_authority_is_trusted_beside_the_one_before_it_and_no_further_back() {
        let mut held = Certificates::renewed(None, &names(), now()).unwrap();
        for turn in 1..4 {
            let at = now() + DAY * (365 * 9 + 10) * turn;
            // It was kept up to date in the years between, and would be renewed now.
            let kept = Certificates { authority_expires: at + DAY * 366, ..held }
                .with_server(&names(), at - DAY * 61)
                .unwrap();
            let kept = Certificates { authority_expires: at + DAY * 355, ..kept };
            let renewed =
                |held: &Certificates, at| Certificates::renewed(Some(held.clone()), &names(), at).unwrap();
            let known = renewed(&kept, at);
            assert_eq!(known.authorities.matches("BEGIN CERTIFICATE").count(), 2);
            assert!(known.certificate == kept.certificate && trusts(&known.authorities, &known, at));
            assert!(trusts(&kept.authorities, &known, at), "clients need not hurry");
            assert!(renewed(&known, at + DAY - SignedDuration::from_mins(1)) == known);
            let next = renewed(&known, at + DAY);
            assert!(next.certificate != kept.certificate && next.authorities == known.authorities);
            assert!(
                trusts(&known.authorities, &next, at + DAY) && !trusts(&kept.authorities, &next, at + DAY)
            );
            let before = kept.authorities.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
            assert!(next.authorities.ends_with(before));
            held = next;
        }
    }

    #[test]
    fn the_secret_gives_back_what_was_put_in_and_half_of_it_is_nothing() {
        let made = Certificates::renewed(None, &names(), now()).unwrap();
        let mut secret = Secret::default();
        assert!(Certificates::from_secret(&secret).is_none());
        made.write_to(&mut secret);
        assert!(Certificates::from_secret(&secret) == Some(made.clone()));
        secret.data.as_mut().unwrap().remove("tls.key");
        assert!(Certificates::from_secret(&secret).is_none());
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
