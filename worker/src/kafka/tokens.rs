//! Bearer tokens for Kafka clients (OAUTHBEARER), renewed before they expire while a client uses them.
//!
//! librdkafka asks for a token on the polling thread, which must not wait; so a task keeps one ready. Invariants: one task for
//! each set of credentials, however many clients use them; while no new token can be had, clients get the last one until it
//! expires; no text holds a token or secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use delivery::{BearerToken, Http, Secret, Trust};
use domain::{Digest, Guard, OAuth};
use rdkafka::client::OAuthToken;
use tokio::sync::watch;

/// How long a token that no client uses is still renewed: clients are replaced from time to time.
const KEEP: Duration = Duration::from_mins(2);
/// The first and the longest wait before asking again after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// The tokens for all clusters of a worker.
pub struct KafkaTokens {
    http: Arc<Http>,
    guard: &'static Guard,
    kept: Mutex<BTreeMap<Digest, (KafkaToken, Instant)>>,
}

/// The present token of one set of credentials. Cheap to clone.
#[derive(Clone)]
pub struct KafkaToken(Arc<TokenState>);

struct TokenState {
    client_id: String,
    now: watch::Receiver<Option<Result<ExpiringToken, String>>>,
}

struct ExpiringToken {
    token: Secret,
    expires_ms: i64,
}

impl KafkaTokens {
    /// Asks token endpoints with `http`. Call it once in a process: it leaks the client's guard, which librdkafka's threads
    /// use.
    pub fn new(http: Arc<Http>) -> Self {
        let guard = Box::leak(Box::new(http.guard()));
        Self { http, guard, kept: Mutex::default() }
    }

    /// Which addresses a Kafka client may connect to.
    pub fn guard(&self) -> &'static Guard {
        self.guard
    }

    /// The token of these credentials with the key that names them, or why there is none. Waits only for the endpoint's first
    /// answer.
    pub async fn get(
        &self,
        oauth: &OAuth,
        secret: Secret,
        trust: Trust,
    ) -> Result<(KafkaToken, Digest), String> {
        let key = Digest::of(&(oauth, secret.expose(), trust.key()));
        let token = self.kept(&key, || {
            let (sender, now) = watch::channel(None);
            tokio::spawn(renew(Arc::clone(&self.http), oauth.clone(), secret, trust, sender));
            KafkaToken(Arc::new(TokenState { client_id: oauth.client_id.clone(), now }))
        });
        let mut now = token.0.now.clone();
        let answer = now.wait_for(Option::is_some).await;
        let refused = answer.map_or(Some("the worker stops".to_owned()), |answer| match &*answer {
            Some(Err(why)) => Some(why.clone()),
            _ => None,
        });
        refused.map_or(Ok((token, key)), Err)
    }

    fn kept(&self, key: &Digest, make: impl FnOnce() -> KafkaToken) -> KafkaToken {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (token, used)| used.elapsed() < KEEP || Arc::strong_count(&token.0) > 1);
        let (token, used) = kept.entry(key.clone()).or_insert_with(|| (make(), Instant::now()));
        *used = Instant::now();
        token.clone()
    }
}

impl std::fmt::Debug for KafkaToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl KafkaToken {
    /// The token in librdkafka's form, or why there is none.
    pub fn show(&self) -> Result<OAuthToken, String> {
        match &*self.0.now.borrow() {
            Some(Ok(granted)) if granted.expires_ms > now_ms() => Ok(OAuthToken {
                token: granted.token.expose().to_owned(),
                principal_name: self.0.client_id.clone(),
                lifetime_ms: granted.expires_ms,
            }),
            Some(Ok(_)) => Err("the token expired, and there is no other yet".to_owned()),
            Some(Err(why)) => Err(why.clone()),
            None => Err("no token yet".to_owned()),
        }
    }
}

/// Keeps `to` filled with a fresh token until all receivers are dropped.
async fn renew(
    http: Arc<Http>,
    oauth: OAuth,
    secret: Secret,
    trust: Trust,
    to: watch::Sender<Option<Result<ExpiringToken, String>>>,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let asked_ms = now_ms();
        let next = match http.bearer_token(&oauth, &secret, &trust).await {
            Ok(BearerToken { token, lifetime }) => {
                wait = FIRST_WAIT;
                let expires_ms = asked_ms + lifetime.as_millis() as i64;
                to.send_replace(Some(Ok(ExpiringToken { token, expires_ms })));
                // Before four fifths of the lifetime are over, when librdkafka asks for a new one.
                lifetime * 3 / 5
            }
            Err(why) => {
                let endpoint = delivery::named_endpoint(&oauth.token_endpoint);
                tracing::warn!(endpoint, why, "no token for Kafka");
                to.send_if_modified(|held| {
                    let lasts = matches!(held, Some(Ok(granted)) if granted.expires_ms > now_ms());
                    if !lasts {
                        *held = Some(Err(why));
                    }
                    !lasts
                });
                let longer = (wait * 2).min(LAST_WAIT);
                std::mem::replace(&mut wait, longer)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = to.closed() => return,
        }
    }
}

/// The wall clock, Unix ms. librdkafka compares a token's expiry with the same clock.
#[allow(clippy::disallowed_methods)]
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use domain::{FileKind, FileRef, Guard};
    use serde_json::json;
    use wiremock::matchers::method;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    struct Endpoint(MockServer, KafkaTokens, OAuth);

    impl Endpoint {
        async fn new() -> Self {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let server = MockServer::start().await;
            let http = Http::new(Guard::allowing_loopback_in_tests(false));
            let client_secret = FileRef { kind: FileKind::Secret, name: "s".to_owned(), key: "k".to_owned() };
            let oauth = OAuth {
                token_endpoint: server.uri(),
                client_id: "belfry".to_owned(),
                client_secret,
                scope: None,
                audience: None,
                ca_bundle: None,
            };
            Self(server, KafkaTokens::new(Arc::new(http)), oauth)
        }

        async fn answers(&self, template: ResponseTemplate) {
            self.0.reset().await;
            Mock::given(method("POST")).respond_with(template).mount(&self.0).await;
        }

        async fn get(&self, secret: &str) -> Result<KafkaToken, String> {
            let secret = Secret::new(secret.to_owned());
            self.1.get(&self.2, secret, Trust::default()).await.map(|(token, _)| token)
        }

        async fn asked(&self) -> usize {
            self.0.received_requests().await.unwrap().len()
        }
    }

    fn granted(token: &str, seconds: u64) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(json!({"access_token": token, "expires_in": seconds}))
    }

    #[tokio::test]
    async fn clients_with_the_same_credentials_share_a_token_and_others_have_their_own() {
        let endpoint = Endpoint::new().await;
        endpoint.answers(granted("one", 3600)).await;
        for _ in 0..3 {
            assert_eq!(endpoint.get("a").await.unwrap().show().unwrap().token, "one");
        }
        assert_eq!(endpoint.asked().await, 1);
        endpoint.get("b").await.unwrap();
        assert_eq!(endpoint.asked().await, 2);
    }

    #[tokio::test]
    async fn a_token_is_renewed_in_time_and_kept_until_it_expires_while_the_endpoint_is_down() {
        let endpoint = Endpoint::new().await;
        endpoint.answers(granted("one", 2)).await;
        let token = endpoint.get("a").await.unwrap();
        endpoint.answers(granted("two", 4)).await;
        while token.show().unwrap().token == "one" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        endpoint.answers(ResponseTemplate::new(503)).await;
        while endpoint.asked().await == 0 {
            assert_eq!(token.show().unwrap().token, "two");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(token.show().unwrap().token, "two", "a failure takes nothing away");
        let why = loop {
            match token.show() {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(why) => break why,
            }
        };
        assert!(why.contains("503") || why.contains("expired"), "{why}");
        endpoint.answers(granted("three", 60)).await;
        while token.show().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_the_endpoint_is_not_asked_again_before_the_wait_is_over() {
        let endpoint = Endpoint::new().await;
        let refused = json!({"error": "invalid_client"});
        endpoint.answers(ResponseTemplate::new(401).set_body_json(refused)).await;
        for _ in 0..10 {
            assert!(endpoint.get("canary").await.unwrap_err().contains("401 Unauthorized invalid_client"));
        }
        assert_eq!(endpoint.asked().await, 1);
    }
}
