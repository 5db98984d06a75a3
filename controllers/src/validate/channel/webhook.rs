//! `spec.webhook` → [`WebhookPlan`].
//!
//! No header may change how the request is read, or show a credential to those who can read the object.

use crds::channel as wire;
use crds::common::SecretKeyRef;
use domain::{
    PayloadText, Target, WebhookAuth, WebhookFormat, WebhookHeader, WebhookMethod, WebhookPlan, WebhookUrl,
    WebhookValue,
};

use templates::names::Names;

use super::Receiver;
use crate::validate::references::secret_at;
use crate::validate::{Faults, Invalid, reachable, text};

/// The most headers.
const MAX_HEADERS: usize = 16;
/// The longest name and value, bytes.
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 1_024;

/// Headers that Belfry sets.
const OURS: [&str; 4] = ["content-type", "idempotency-key", "user-agent", "x-belfry-notification"];
/// Prefixes of such headers.
const OURS_BEGIN: [&str; 2] = ["webhook-", "ce-"];
/// Headers of the connection and of the message's framing (RFC 9110, 7.6.1 and 8.4 to 8.6; RFC 9112). Other values
/// would make it another request.
const HTTPS_OWN: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// Headers whose value is a credential.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Receiver for wire::Webhook {
    fn target(&self) -> Result<Target, Invalid> {
        plan(self).map(Target::from)
    }

    fn secrets(&self) -> Vec<&SecretKeyRef> {
        let basic = self.basic_auth.iter().flat_map(|it| [&it.username_secret_ref, &it.password_secret_ref]);
        (self.signing_secret_ref.iter())
            .chain(&self.url_secret_ref)
            .chain(self.headers.iter().filter_map(|header| header.secret_key_ref.as_ref()))
            .chain(basic)
            .chain(&self.bearer_token_secret_ref)
            .collect()
    }

    fn payload(&self) -> Result<Option<PayloadText>, Invalid> {
        self.body.as_ref().map(payload).transpose()
    }
}

fn plan(wire: &wire::Webhook) -> Result<WebhookPlan, Invalid> {
    let mut faults = Faults::default();
    let url = faults.take(url(wire));
    let headers = faults.take(headers(wire));
    let auth = faults.take(auth(wire));
    let signing = wire.signing_secret_ref.as_ref();
    let signing = faults.take(signing.map(|it| secret_at("webhook.signingSecretRef", it)).transpose());
    if wire.body.is_some() && wire.format != wire::WebhookFormat::Json {
        faults.add(Invalid::spec("webhook: body says all that is sent: leave out format"));
    }
    let shown = wire.basic_auth.is_some()
        || wire.bearer_token_secret_ref.is_some()
        || wire.headers.iter().any(|header| header.secret_key_ref.is_some());
    let bare = wire.url.as_ref().is_some_and(|url| url.starts_with("http://"));
    if bare && shown && !wire.allow_cleartext_login.unwrap_or(false) {
        faults.add(Invalid::spec(format!("webhook: {}", wire::CLEARTEXT_CREDENTIALS)));
    }
    faults.end((|| {
        Some(WebhookPlan {
            url: url?,
            method: match wire.method {
                None | Some(wire::WebhookMethod::Post) => WebhookMethod::Post,
                Some(wire::WebhookMethod::Put) => WebhookMethod::Put,
            },
            headers: headers?,
            auth: auth?,
            allow_cleartext_login: wire.allow_cleartext_login.unwrap_or(false),
            signing: signing?,
            format: match wire.format {
                wire::WebhookFormat::Json => WebhookFormat::Json,
                wire::WebhookFormat::CloudEventsBinary => WebhookFormat::CloudEventsBinary,
                wire::WebhookFormat::CloudEventsStructured => WebhookFormat::CloudEventsStructured,
            },
        })
    })())
}

fn url(wire: &wire::Webhook) -> Result<WebhookUrl, Invalid> {
    match (&wire.url, &wire.url_secret_ref) {
        (Some(url), None) => {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Invalid::spec("webhook.url: must begin with http:// or https://"));
            }
            reachable("webhook.url", url)?;
            Ok(WebhookUrl::Plain(url.clone()))
        }
        (None, Some(reference)) => secret_at("webhook.urlSecretRef", reference).map(WebhookUrl::Secret),
        _ => Err(Invalid::spec("webhook: exactly one of url and urlSecretRef is needed")),
    }
}

fn auth(wire: &wire::Webhook) -> Result<Option<WebhookAuth>, Invalid> {
    match (&wire.basic_auth, &wire.bearer_token_secret_ref) {
        (None, None) => Ok(None),
        (Some(basic), None) => Ok(Some(WebhookAuth::Basic {
            username: secret_at("webhook.basicAuth.usernameSecretRef", &basic.username_secret_ref)?,
            password: secret_at("webhook.basicAuth.passwordSecretRef", &basic.password_secret_ref)?,
        })),
        (None, Some(token)) => {
            Ok(Some(WebhookAuth::Bearer { token: secret_at("webhook.bearerTokenSecretRef", token)? }))
        }
        (Some(_), Some(_)) => Err(Invalid::spec(
            "webhook: either basicAuth or bearerTokenSecretRef: both are the header Authorization",
        )),
    }
}

/// Checks the user's own body.
fn payload(body: &wire::WebhookBody) -> Result<PayloadText, Invalid> {
    let mut faults = Faults::default();
    let content_type = faults.take(content_type(body));
    faults.take(text("webhook.body.template", &body.template, &Names::for_webhook_body()));
    faults.end(content_type.map(|content_type| PayloadText { template: body.template.clone(), content_type }))
}

fn content_type(body: &wire::WebhookBody) -> Result<String, Invalid> {
    let text = body.content_type.as_deref().unwrap_or("application/json");
    if is_value(text) && text.contains('/') {
        return Ok(text.to_owned());
    }
    Err(Invalid::spec(format!("webhook.body.contentType: {text:?} is not a content type such as text/plain")))
}

fn headers(wire: &wire::Webhook) -> Result<Vec<WebhookHeader>, Invalid> {
    let listed = &wire.headers;
    if listed.len() > MAX_HEADERS {
        return Err(Invalid::spec(format!("webhook.headers: {}; at most {MAX_HEADERS}", listed.len())));
    }
    let (mut headers, mut faults): (Vec<WebhookHeader>, _) =
        (Vec::with_capacity(listed.len()), Faults::default());
    for (at, header) in listed.iter().enumerate() {
        let is_there = headers.iter().any(|other| other.name == header.name.to_ascii_lowercase());
        headers.extend(faults.take(self::header(wire, at, header, is_there)));
    }
    faults.end(Some(headers))
}

fn header(
    wire: &wire::Webhook,
    at: usize,
    header: &wire::WebhookHeader,
    is_there: bool,
) -> Result<WebhookHeader, Invalid> {
    let invalid = |why: &str| Invalid::spec(format!("webhook.headers[{at}]: {} {why}", header.name));
    let name = header.name.to_ascii_lowercase();
    if let Some(why) = refused(&name) {
        return Err(invalid(why));
    }
    if is_there {
        return Err(invalid("is there already; upper and lower case are one name"));
    }
    let has_auth = wire.basic_auth.is_some() || wire.bearer_token_secret_ref.is_some();
    if name == "authorization" && has_auth {
        return Err(invalid("is what basicAuth and bearerTokenSecretRef set: leave one of them out"));
    }
    let value = match (&header.value, &header.secret_key_ref) {
        (Some(_), None) if CREDENTIALS.contains(&name.as_str()) => {
            return Err(invalid("is a credential: put it into a Secret and use secretKeyRef"));
        }
        (Some(value), None) if is_value(value) => WebhookValue::Plain(value.clone()),
        (Some(_), None) => {
            return Err(invalid("has a value that is not printable ASCII of at most 1,024 characters"));
        }
        (None, Some(reference)) => {
            let place = format!("webhook.headers[{at}].secretKeyRef");
            WebhookValue::Secret(secret_at(&place, reference)?)
        }
        _ => return Err(invalid("needs exactly one of value and secretKeyRef")),
    };
    Ok(WebhookHeader { name, value })
}

/// Why this header may not be set, if so.
fn refused(name: &str) -> Option<&'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_token) {
        return Some("is not a name of a header");
    }
    if OURS.contains(&name) || OURS_BEGIN.iter().any(|begin| name.starts_with(begin)) {
        return Some(match name {
            "content-type" => "is set by Belfry: with a body of your own, webhook.body.contentType says it",
            _ => "is set by Belfry: leave it out",
        });
    }
    HTTPS_OWN.contains(&name).then_some("belongs to HTTP itself, which sets it: leave it out")
}

/// Printable ASCII without spaces around it.
fn is_value(text: &str) -> bool {
    text.len() <= MAX_VALUE && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn with(more: &Value) -> Result<WebhookPlan, String> {
        let mut wire = json!({"url": "https://example.com/hook"});
        for (name, value) in more.as_object().unwrap() {
            wire[name] = value.clone();
        }
        wire.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        plan(&serde_json::from_value(wire).unwrap()).map_err(|invalid| invalid.message)
    }

    fn header(name: &str) -> Result<WebhookPlan, String> {
        with(&json!({"headers": [{"name": name, "value": "x"}]}))
    }

    #[test]
    fn a_header_that_belfry_sets_or_that_http_needs_is_refused_with_what_to_do() {
        for (name, told) in [
            (
                "Content-Type",
                "webhook.headers[0]: Content-Type is set by Belfry: with a body of your own, webhook.body.contentType says it",
            ),
            ("Webhook-Signature", "webhook.headers[0]: Webhook-Signature is set by Belfry: leave it out"),
            ("ce-id", "webhook.headers[0]: ce-id is set by Belfry: leave it out"),
            ("Idempotency-Key", "webhook.headers[0]: Idempotency-Key is set by Belfry: leave it out"),
            ("HOST", "webhook.headers[0]: HOST belongs to HTTP itself, which sets it: leave it out"),
            (
                "Transfer-Encoding",
                "webhook.headers[0]: Transfer-Encoding belongs to HTTP itself, which sets it: leave it out",
            ),
            (
                "Content-Length",
                "webhook.headers[0]: Content-Length belongs to HTTP itself, which sets it: leave it out",
            ),
            ("a b", "webhook.headers[0]: a b is not a name of a header"),
            ("a:", "webhook.headers[0]: a: is not a name of a header"),
            (
                "Authorization",
                "webhook.headers[0]: Authorization is a credential: put it into a Secret and use secretKeyRef",
            ),
            (
                "Cookie",
                "webhook.headers[0]: Cookie is a credential: put it into a Secret and use secretKeyRef",
            ),
        ] {
            assert_eq!(header(name).unwrap_err(), told);
        }
        assert_eq!(header("X-Team").unwrap().headers[0].name, "x-team");
    }

    #[test]
    fn headers_are_told_apart_whatever_their_case_and_have_one_value() {
        let both = |second: Value| with(&json!({"headers": [{"name": "X-A", "value": "x"}, second]}));
        assert_eq!(
            both(json!({"name": "x-a", "value": "y"})).unwrap_err(),
            "webhook.headers[1]: x-a is there already; upper and lower case are one name"
        );
        let reference = json!({"name": "notify", "key": "k"});
        for wrong in [json!({"name": "x-b"}), json!({"name": "x-b", "value": "y", "secretKeyRef": reference})]
        {
            assert!(both(wrong).unwrap_err().ends_with("x-b needs exactly one of value and secretKeyRef"));
        }
        for value in ["a\r\nb: c", " x", "é"] {
            let told = both(json!({"name": "x-b", "value": value})).unwrap_err();
            assert!(told.contains("not printable ASCII"), "{told}");
        }
    }

    #[test]
    fn credentials_come_from_secrets_and_not_over_http_unless_allowed_by_name() {
        let reference = json!({"name": "notify", "key": "k"});
        let basic = json!({"usernameSecretRef": reference, "passwordSecretRef": reference});
        let secret = json!([{"name": "X-Api-Key", "secretKeyRef": reference}]);
        for more in [
            json!({"bearerTokenSecretRef": reference}),
            json!({"basicAuth": basic}),
            json!({"headers": secret}),
        ] {
            let plan = with(&more).unwrap();
            assert!(plan.shows_credentials() && !Target::from(plan).files().is_empty());
            let mut bare = more.clone();
            bare["url"] = json!("http://example.com/");
            assert_eq!(
                with(&bare).unwrap_err(),
                "webhook: over http:// everybody on the way reads credentials: use https://, or set allowCleartextLogin: true"
            );
            bare["allowCleartextLogin"] = json!(true);
            assert!(with(&bare).is_ok());
        }
        assert_eq!(
            with(&json!({"basicAuth": basic, "bearerTokenSecretRef": reference})).unwrap_err(),
            "webhook: either basicAuth or bearerTokenSecretRef: both are the header Authorization"
        );
        let own = json!([{"name": "Authorization", "secretKeyRef": reference}]);
        assert!(
            with(&json!({"headers": own, "basicAuth": basic})).unwrap_err().contains("leave one of them out")
        );
        assert!(with(&json!({"headers": own})).is_ok());
    }

    #[test]
    fn the_url_stands_in_the_manifest_or_in_a_secret() {
        let reference = json!({"name": "notify", "key": "url"});
        let plan = with(&json!({"url": null, "urlSecretRef": reference})).unwrap();
        assert_eq!(Target::from(plan).files()[0].path(), "secrets/notify/url");
        for wrong in [json!({"urlSecretRef": reference}), json!({"url": null})] {
            assert_eq!(with(&wrong).unwrap_err(), "webhook: exactly one of url and urlSecretRef is needed");
        }
    }

    #[test]
    fn a_body_of_ones_own_has_a_content_type_and_no_format() {
        let body =
            |more: Value| payload(&serde_json::from_value(more).unwrap()).map_err(|invalid| invalid.message);
        assert_eq!(body(json!({"template": "{}"})).unwrap().content_type, "application/json");
        assert!(with(&json!({"body": {"template": "x"}, "format": "CloudEventsBinary"})).is_err());
        assert_eq!(
            body(json!({"template": "x", "contentType": "text"})).unwrap_err(),
            "webhook.body.contentType: \"text\" is not a content type such as text/plain"
        );
        let told = body(json!({"template": "{{ x"})).unwrap_err();
        assert!(told.starts_with("webhook.body.template: "), "{told}");
    }
}
