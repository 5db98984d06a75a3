//! Bearer tokens by the client credentials grant of OAuth 2.0 (RFC 6749, section 4.4), with which a Kafka client logs in.
//!
//! The client authenticates by HTTP Basic (section 2.3.1) and follows no redirect, so its secret goes only to the endpoint.
//! The caller decides when to ask again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{OAuth, Outcome};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;

use crate::http::{Http, HttpRequest, parse_url};
use crate::text::{Mask, quote_for_reason};
use crate::{Secret, Trust};

/// How long the endpoint's answer may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// How long a token lasts if the answer does not say, seconds.
const UNSAID: u64 = 300;
/// No token counts as lasting longer, seconds: it could not be revoked.
const LONGEST: u64 = 24 * 3600;

/// A bearer token.
#[derive(Debug, Clone)]
pub struct BearerToken {
    /// The token itself.
    pub token: Secret,
    /// How long it lasts from the request on, 1 s to 24 h.
    pub lifetime: Duration,
}

/// A response with a token (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expires_in: Option<u64>,
}

/// A response without a token (section 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorResponse {
    error: String,
    error_description: String,
}

impl Http {
    /// Asks for a token. The error says why there is none, without the secret.
    pub async fn bearer_token(
        &self,
        oauth: &OAuth,
        secret: &Secret,
        trust: &Trust,
    ) -> Result<BearerToken, String> {
        let url = parse_url(&oauth.token_endpoint).ok_or("the token endpoint is not an https URL")?;
        let form = [
            ("grant_type", Some("client_credentials")),
            ("scope", oauth.scope.as_deref()),
            ("audience", oauth.audience.as_deref()),
        ];
        let body = form_encoded(form.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let (id, password) = (form_encoded_value(&oauth.client_id), form_encoded_value(secret.expose()));
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{password}")));
        let mut mask = Mask::default();
        mask.hide(secret.expose());
        mask.hide_password(&id, &password);
        mask.hide_rest(&url);
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut basic = HeaderValue::try_from(basic).map_err(|_| "the client's secret is not text")?;
        basic.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, basic);
        let body = Bytes::from(body);
        let method = Method::POST;
        let request =
            HttpRequest { method, url, headers, body, trust, timeout: TIMEOUT, follow: false, mask: &mask };
        let answer = self.send(request).await.map_err(reason_of)?;
        if !answer.status.is_success() {
            let refused: ErrorResponse = serde_json::from_str(&answer.body).unwrap_or_default();
            let words = [refused.error, refused.error_description].join(" ");
            let words = quote_for_reason(words.trim(), &mask);
            return Err(format!("{} answered {} {words}", answer.host, answer.status).trim_end().to_owned());
        }
        let granted: TokenResponse = serde_json::from_str(&answer.body)
            .map_err(|_| format!("{} answered without an access_token (RFC 6749, 5.1)", answer.host))?;
        let lifetime = Duration::from_secs(granted.expires_in.unwrap_or(UNSAID).clamp(1, LONGEST));
        Ok(BearerToken { token: Secret::new(granted.access_token), lifetime })
    }
}

fn reason_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Later { reason, .. }
        | Outcome::NotSent { reason }
        | Outcome::Unknown { reason }
        | Outcome::Refused { reason } => reason,
        Outcome::Delivered => String::new(),
    }
}

/// A token endpoint as logs may name it: without query, fragment and userinfo, where people put secrets.
pub fn named_endpoint(url: &str) -> String {
    let Some(mut url) = parse_url(url) else { return "not an https URL".to_owned() };
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs without a host, which `parse_url` refuses.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}

/// Encodes pairs as a form (application/x-www-form-urlencoded).
fn form_encoded<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    // A URL's query has the same encoding.
    let Ok(mut url) = reqwest::Url::parse("https://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// Encodes a client id or secret for HTTP Basic, like a form's value (RFC 6749, section 2.3.1).
fn form_encoded_value(text: &str) -> String {
    form_encoded([("", text)].into_iter()).trim_start_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use domain::{FileKind, FileRef, Guard};
    use serde_json::json;
    use wiremock::matchers::{body_string, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    async fn ask(server: &MockServer, secret: &str) -> Result<BearerToken, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Http::new(Guard::allowing_loopback_in_tests(false));
        let client_secret = FileRef { kind: FileKind::Secret, name: "s".to_owned(), key: "k".to_owned() };
        let oauth = OAuth {
            token_endpoint: format!("{}/token", server.uri()),
            client_id: "belfry:1".to_owned(),
            client_secret,
            scope: Some("read write".to_owned()),
            audience: None,
            ca_bundle: None,
        };
        http.bearer_token(&oauth, &Secret::new(secret.to_owned()), &Trust::default()).await
    }

    async fn answering(answer: ResponseTemplate) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        server
    }

    #[tokio::test]
    async fn the_grant_is_asked_for_as_rfc_6749_writes_it() {
        let server = MockServer::start().await;
        Mock::given(path("/token"))
            .and(header("content-type", "application/x-www-form-urlencoded"))
            // base64 of "belfry%3A1:se%26cret%3D", both parts encoded as RFC 6749, 2.3.1 wants.
            .and(header("authorization", "Basic YmVsZnJ5JTNBMTpzZSUyNmNyZXQlM0Q="))
            .and(body_string("grant_type=client_credentials&scope=read+write"))
            .respond_with(
                ResponseTemplate::new(200).set_body_json(json!({"access_token": "abc", "expires_in": 60})),
            )
            .mount(&server)
            .await;
        let bearer = ask(&server, "se&cret=").await.unwrap();
        assert_eq!((bearer.token.expose(), bearer.lifetime), ("abc", Duration::from_mins(1)));
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_servers_words_without_the_secret() {
        let refused = json!({"error": "invalid_client", "error_description": "canary-secret is wrong"});
        let server = answering(ResponseTemplate::new(401).set_body_json(refused)).await;
        let why = ask(&server, "canary-secret").await.unwrap_err();
        assert!(why.ends_with("answered 401 Unauthorized invalid_client *** is wrong"), "{why}");
        let basic = STANDARD.encode("belfry%3A1:canary-secret");
        let refused =
            json!({"error": "invalid_client", "error_description": format!("no {basic}, belfry:1")});
        let server = answering(ResponseTemplate::new(401).set_body_json(refused)).await;
        let why = ask(&server, "canary-secret").await.unwrap_err();
        assert!(why.ends_with("invalid_client no ***, belfry:1"), "{why}");
        let server = answering(ResponseTemplate::new(200).set_body_string("<html>")).await;
        assert!(ask(&server, "s").await.unwrap_err().contains("without an access_token"));
    }

    #[test]
    fn an_endpoint_is_named_without_what_people_hide_in_it() {
        let named = named_endpoint("https://canary:canary@id.example.com:8443/token?key=canary#canary");
        assert_eq!(named, "https://id.example.com:8443/token");
        assert_eq!(named_endpoint("canary"), "not an https URL");
    }

    #[tokio::test]
    async fn no_reason_names_more_of_an_endpoint_than_its_host() {
        let server = answering(ResponseTemplate::new(500).set_body_string("no")).await;
        for base in [server.uri(), "http://127.0.0.1:1".to_owned()] {
            let oauth = OAuth {
                token_endpoint: format!(
                    "{}/token/canary?key=canary",
                    base.replace("://", "://canary:canary@")
                ),
                client_id: "belfry:1".to_owned(),
                client_secret: FileRef { kind: FileKind::Secret, name: "s".to_owned(), key: "k".to_owned() },
                scope: None,
                audience: None,
                ca_bundle: None,
            };
            let http = Http::new(Guard::allowing_loopback_in_tests(false));
            let why =
                http.bearer_token(&oauth, &Secret::new("s".to_owned()), &Trust::default()).await.unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[tokio::test]
    async fn the_secret_does_not_follow_a_redirect() {
        let other = answering(ResponseTemplate::new(200)).await;
        let to = ResponseTemplate::new(307).insert_header("location", other.uri());
        let server = answering(to).await;
        let why = ask(&server, "s").await.unwrap_err();
        assert!(why.contains("answered 307"), "{why}");
        assert_eq!(other.received_requests().await.unwrap().len(), 0);
    }
}
