//! What may be read off a bearer token without believing it: its hash, and when it says that it ends.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use serde::Deserialize;
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

/// The claim `exp` (RFC 7519), Unix seconds, where the token is a JWT that has one. Nothing else of it is looked at, and
/// it serves only to refuse: a token that the API server has not confirmed gains nothing by it.
pub(super) fn expiry(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&json).ok()?;
    claims.exp.is_finite().then_some(claims.exp as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_read_and_junk_has_none() {
        let payload = URL_SAFE_NO_PAD.encode(br#"{"exp":1800000000,"sub":"x"}"#);
        assert_eq!(expiry(&format!("e30.{payload}.sig")), Some(1_800_000_000));
        for junk in ["", "junk", "a.b", "a.b.c", "a.b.c.d", "e30.e30.e30", "e30.bnVsbA.x"] {
            assert_eq!(expiry(junk), None, "{junk:?}");
        }
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
