//! Access to a Kafka cluster: its brokers, and the credentials and certificates from the mounted files.
//!
//! Invariants: brokers' certificates and names are verified; the fingerprint changes with any value that was read; no text
//! made here holds a value; only clients that connect where the guard allows get to know the brokers. librdkafka gets the
//! contents of files, never a path that a tenant named.

use delivery::{FileProblem, Files, Mask, Secret, Trust};
use domain::{Digest, FileRef, Guard, KafkaSecurity, Outcome, PasswordLogin, Sasl, Username};
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult};

use super::{ClientMonitor, KafkaToken, KafkaTokens, native};

/// The brokers and present credentials of a cluster. Cheap enough to clone.
#[derive(Debug, Clone)]
pub struct ClusterAccess {
    servers: Vec<String>,
    settings: Vec<(&'static str, Secret)>,
    token: Option<KafkaToken>,
    fingerprint: Digest,
    guard: &'static Guard,
    /// Hides the secrets that brokers get, in case their answers repeat them.
    mask: Mask,
}

/// Reason: the token endpoint gave no token.
const TOKEN_REFUSED: &str = "KafkaTokenRefused";

/// Why there is no access: the reason of a status condition, and a message without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct AccessError {
    /// The reason of a [`FileProblem`], or [`TOKEN_REFUSED`].
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl From<FileProblem> for AccessError {
    fn from(FileProblem { reason, message }: FileProblem) -> Self {
        Self { reason, message }
    }
}

impl From<AccessError> for Outcome {
    fn from(none: AccessError) -> Self {
        if none.reason == TOKEN_REFUSED {
            return Self::Later { reason: none.to_string(), wait: None, channel_wide: false };
        }
        Self::NotSent { reason: none.to_string() }
    }
}

impl ClusterAccess {
    /// Reads the files that `security` refers to, and gets a token if it wants one. The error says which key is missing or
    /// can't be used, or why there is no token.
    pub async fn read(
        servers: &[String],
        security: &KafkaSecurity,
        files: &Files,
        tokens: &KafkaTokens,
    ) -> Result<Self, AccessError> {
        let mut settings = Vec::new();
        let mut token = None;
        let mut mask = Mask::default();
        let mut set = |name, value: Secret| settings.push((name, value));
        let protocol = match (&security.tls, &security.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        set("security.protocol", fixed(protocol));
        if let Some(tls) = &security.tls {
            set("enable.ssl.certificate.verification", fixed("true"));
            set("ssl.endpoint.identification.algorithm", fixed("https"));
            match &tls.ca_bundle {
                Some(file) => set("ssl.ca.pem", pem(files, file, CERTIFICATE).await?),
                // librdkafka probes the places where distributions keep the public authorities.
                None => set("ssl.ca.location", fixed("probe")),
            }
            if let Some(own) = &tls.certificate {
                set("ssl.certificate.pem", pem(files, &own.certificate, CERTIFICATE).await?);
                set("ssl.key.pem", pem(files, &own.key, KEY).await?);
            }
        }
        match &security.sasl {
            Some(Sasl::Password(PasswordLogin { mechanism, username, password })) => {
                set("sasl.mechanism", fixed(mechanism.name()));
                let username = match username {
                    Username::Text(text) => fixed(text),
                    Username::File(file) => {
                        let text = one_text(files, file).await?;
                        mask.hide(text.expose());
                        text
                    }
                };
                set("sasl.username", username);
                let password = one_text(files, password).await?;
                mask.hide(password.expose());
                set("sasl.password", password);
            }
            Some(Sasl::OAuth(oauth)) => {
                set("sasl.mechanism", fixed("OAUTHBEARER"));
                let secret = one_text(files, &oauth.client_secret).await?;
                let trust = Trust::read(files, oauth.ca_bundle.as_ref()).await?;
                let got = tokens.get(oauth, secret, trust).await;
                token = Some(got.map_err(|why| AccessError {
                    reason: TOKEN_REFUSED,
                    message: format!("no token for {}: {why}", oauth.client_id),
                })?);
            }
            None => {}
        }
        let values: Vec<_> = settings.iter().map(|(name, value)| (name, value.expose())).collect();
        let (token, key) = token.unzip();
        let fingerprint = Digest::of(&(servers, values, key));
        Ok(Self { servers: servers.to_vec(), settings, token, fingerprint, guard: tokens.guard(), mask })
    }

    /// A hash of brokers, settings and token key: it differs if any value that was read differs.
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// The brokers, separated by commas, for people.
    pub fn servers(&self) -> String {
        self.servers.join(", ")
    }

    /// A monitor for a client with this access: it masks the secrets and gives the client tokens.
    pub fn monitor(&self) -> ClientMonitor {
        ClientMonitor::new(self.token.clone(), self.mask.clone())
    }

    /// Makes a client with the settings `config`, which begin with [`Self::config`], and gives it the brokers. Only here does
    /// a client get to know them.
    pub fn client<C>(&self, config: &ClientConfig, monitor: ClientMonitor) -> KafkaResult<C>
    where
        C: FromClientConfigAndContext<ClientMonitor> + native::RawClient,
    {
        let client = C::from_config_and_context(config, monitor)?;
        native::connect_guarded(&client, self.guard, &self.servers.join(","))
            .map_err(KafkaError::ClientCreation)?;
        Ok(client)
    }

    /// The security settings of a client, without brokers.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.settings {
            config.set(*name, value.expose());
        }
        config
    }
}

fn fixed(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// Why a client can't be made. Leaves out the setting's value, which the crate's own text shows.
pub fn unusable(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, setting, _) => format!("{setting}: {why}"),
        other => other.to_string(),
    }
}

/// A text that a PEM file must contain, and the fault if it does not.
type Holds = (&'static str, &'static str);
const CERTIFICATE: Holds = ("-----BEGIN CERTIFICATE-----", "holds no certificate (PEM)");
const KEY: Holds = ("PRIVATE KEY-----", "holds no private key (PEM)");

async fn pem(files: &Files, file: &FileRef, (mark, why): Holds) -> Result<Secret, FileProblem> {
    let text = one_text(files, file).await?;
    if !text.expose().contains(mark) {
        return Err(FileProblem::invalid(file, why));
    }
    if text.expose().contains("ENCRYPTED") {
        return Err(FileProblem::invalid(file, "is encrypted: a key without a pass phrase is needed"));
    }
    Ok(Secret::new(format!("{}\n", text.expose())))
}

/// Reads a value that C can take: without NUL.
async fn one_text(files: &Files, file: &FileRef) -> Result<Secret, FileProblem> {
    let text = files.read(file).await?;
    if text.expose().contains('\0') {
        return Err(FileProblem::invalid(file, "is not text"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use delivery::Http;
    use domain::{ClientCertificate, FileKind, Guard, KafkaTls, PasswordMechanism};

    use super::*;

    fn file(key: &str) -> FileRef {
        FileRef { kind: FileKind::Secret, name: "user".to_owned(), key: key.to_owned() }
    }

    fn security() -> KafkaSecurity {
        KafkaSecurity {
            tls: Some(KafkaTls {
                ca_bundle: Some(file("ca.crt")),
                certificate: Some(ClientCertificate { certificate: file("user.crt"), key: file("user.key") }),
            }),
            sasl: Some(Sasl::Password(PasswordLogin {
                mechanism: PasswordMechanism::ScramSha512,
                username: Username::Text("alerts".to_owned()),
                password: file("password"),
            })),
        }
    }

    struct Mounted(tempfile::TempDir);

    impl Mounted {
        fn new() -> Self {
            let mounted = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir_all(mounted.0.path().join("secrets/user")).unwrap();
            let certificate = "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n";
            mounted.write("ca.crt", certificate);
            mounted.write("user.crt", certificate);
            mounted.write("user.key", "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n");
            mounted.write("password", "canary-password\n");
            mounted
        }

        fn write(&self, key: &str, value: &str) {
            std::fs::write(self.0.path().join("secrets/user").join(key), value).unwrap();
        }

        async fn read(&self) -> Result<ClusterAccess, AccessError> {
            let files = Files::new(self.0.path());
            let tokens = KafkaTokens::new(Arc::new(Http::new(Guard::new(false))));
            ClusterAccess::read(&["kafka:9093".to_owned()], &security(), &files, &tokens).await
        }
    }

    #[tokio::test]
    async fn each_value_is_read_and_verification_is_on() {
        let config = Mounted::new().read().await.unwrap().config();
        for (name, value) in [
            ("security.protocol", "sasl_ssl"),
            ("enable.ssl.certificate.verification", "true"),
            ("ssl.endpoint.identification.algorithm", "https"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "alerts"),
            ("sasl.password", "canary-password"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
        assert!(config.get("ssl.key.pem").is_some_and(|pem| pem.ends_with("-----END PRIVATE KEY-----\n")));
    }

    #[tokio::test]
    async fn the_fingerprint_changes_only_with_the_content() {
        let mounted = Mounted::new();
        let first = mounted.read().await.unwrap();
        assert_eq!(mounted.read().await.unwrap().fingerprint(), first.fingerprint());
        mounted.write("password", "another");
        assert_ne!(mounted.read().await.unwrap().fingerprint(), first.fingerprint());
    }

    #[tokio::test]
    async fn a_missing_or_useless_key_is_named_and_no_value_is_shown() {
        let mounted = Mounted::new();
        mounted.write("user.key", "canary");
        let problem = mounted.read().await.unwrap_err();
        assert_eq!(
            problem.to_string(),
            "SecretKeyInvalid: key \"user.key\" of Secret \"user\" holds no private key (PEM)"
        );
        std::fs::remove_file(mounted.0.path().join("secrets/user/ca.crt")).unwrap();
        assert_eq!(mounted.read().await.unwrap_err().reason, "SecretKeyNotFound");
        let shown = format!("{:?}", Mounted::new().read().await.unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[tokio::test]
    async fn a_certificate_that_can_not_be_read_makes_no_client_and_is_not_shown() {
        use rdkafka::consumer::BaseConsumer;
        let config = Mounted::new().read().await.unwrap().config();
        let error = config.create::<BaseConsumer>().err().expect("not a certificate");
        let why = unusable(&error);
        assert!(!why.contains("canary"), "{why}");
    }
}
