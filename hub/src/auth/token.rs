//! What can be read from a bearer token without believing it: its hash, its audience and its expiry.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

/// Longest token taken, bytes: longer than any API server issues.
const LONGEST: usize = 16 * 1024;

/// SHA-256 of a token: what the cache knows it by.
pub(super) type Hash = [u8; 32];

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, &'static str> {
    let value = headers.get(header::AUTHORIZATION).ok_or("a bearer token is needed")?;
    let text = value.to_str().map_err(|_| "the authorization header is not text")?;
    let (scheme, token) = text.split_once(' ').ok_or("a bearer token is needed")?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err("a bearer token is needed");
    }
    if token.len() > LONGEST {
        return Err("the token is too long");
    }
    Ok(token)
}

pub(super) fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// What a JWT (RFC 7519) says of itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    /// `exp`, Unix seconds.
    pub(super) exp: Option<i64>,
    /// `aud`.
    pub(super) audiences: Vec<String>,
}

/// The claims of a token that has the form of a JWT. They are not believed: they serve to refuse, and to choose the
/// question to the API server. A token gains nothing by them until the API server confirms it.
pub(super) fn claims(token: &str) -> Option<Claims> {
    #[derive(Deserialize)]
    struct Payload {
        #[serde(default)]
        exp: Option<f64>,
        #[serde(default)]
        aud: Option<Audiences>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        One(String),
        Many(Vec<String>),
    }
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
    let object = |part: &str| decode(part).filter(|json| json.trim_ascii_start().starts_with(b"{"));
    serde_json::from_slice::<IgnoredAny>(&object(header)?).ok()?;
    let payload: Payload = serde_json::from_slice(&object(payload)?).ok()?;
    if decode(signature)?.is_empty() {
        return None;
    }
    let audiences = match payload.aud {
        None => Vec::new(),
        Some(Audiences::One(one)) => vec![one],
        Some(Audiences::Many(many)) => many,
    };
    Some(Claims { exp: payload.exp.filter(|exp| exp.is_finite()).map(|exp| exp as i64), audiences })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_are_read_and_junk_has_none() {
        let token = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        let read = |payload: &str| claims(&token(payload));
        let exp = Some(1_800_000_000);
        let one = Claims { exp, audiences: vec!["belfry-hub".to_owned()] };
        assert_eq!(read(r#"{"exp":1800000000,"aud":"belfry-hub","sub":"x"}"#), Some(one.clone()));
        assert_eq!(read(r#"{"exp":1800000000,"aud":["belfry-hub"]}"#), Some(one));
        assert_eq!(read("{}"), Some(Claims::default()));
        for junk in
            ["", "junk", "a.b", "a.b.c", "a.b.c.d", "e30.bnVsbA.c2ln", "e30.e30.", "W10.e30.c2ln", ".."]
        {
            assert_eq!(claims(junk), None, "{junk:?}");
        }
        for junk in ["[]", "1", r#"{"exp":"soon"}"#, r#"{"aud":7}"#, "{", "\u{0}"] {
            assert_eq!(read(junk), None, "{junk:?}");
        }
        assert_eq!(claims(&format!("{}.e30", token("{}"))), None, "four parts");
    }

    #[test]
    fn only_a_bearer_of_sane_length_is_a_token() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            headers
        };
        assert_eq!(bearer(&with("bearer abc")), Ok("abc"));
        for bad in ["abc", "Basic abc", "Bearer ", "Bearer  "] {
            assert!(bearer(&with(bad)).is_err(), "{bad:?}");
        }
        assert!(bearer(&with(&format!("Bearer {}", "x".repeat(LONGEST + 1)))).is_err());
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
