//! What reaches a Kafka cluster, the same for sources and channels: brokers, topics, TLS and login.

use crds::kafka::{self as wire, KafkaSasl, KafkaTls};
use domain::{
    ClientCertificate, FileKind, FileRef, KafkaSecurity, Mechanism, OAuth, Password, Sasl, Username,
};

use super::Invalid;
use super::references::{ca_bundle, file, secret};

/// TLS and login, checked; `place` is where they are written.
pub(super) fn security(
    place: &str,
    wire_tls: Option<&KafkaTls>,
    wire_sasl: Option<&KafkaSasl>,
) -> Result<KafkaSecurity, Invalid> {
    let at = |invalid: Invalid| Invalid { message: format!("{place}.{}", invalid.message), ..invalid };
    let security = KafkaSecurity {
        tls: wire_tls.map(tls).transpose().map_err(at)?,
        sasl: wire_sasl.map(sasl).transpose().map_err(at)?,
    };
    let bare = match &security.sasl {
        Some(Sasl::Password(Password { mechanism, .. })) => *mechanism == Mechanism::Plain,
        Some(Sasl::OAuth(_)) => true,
        None => false,
    };
    if bare && security.tls.is_none() {
        return Err(Invalid::spec(format!(
            "{place}.sasl: mechanism Plain and OAuthBearer show password or token as it is, so they need {place}.tls; ScramSha256 and ScramSha512 do not"
        )));
    }
    Ok(security)
}

/// The files that they refer to, as far as they are written well.
pub(super) fn files(wire_tls: Option<&KafkaTls>, wire_sasl: Option<&KafkaSasl>) -> Vec<FileRef> {
    let tls = wire_tls.and_then(|wire| tls(wire).ok());
    let sasl = wire_sasl.and_then(|wire| sasl(wire).ok());
    KafkaSecurity { tls, sasl }.files().into_iter().cloned().collect()
}

/// `host:port` each, sorted, each once; none at an address that no worker may connect to.
pub(super) fn servers(place: &str, servers: &[String]) -> Result<Vec<String>, Invalid> {
    let mut sorted = servers.to_vec();
    sorted.sort();
    sorted.dedup();
    let good = |server: &String| {
        server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte))
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    match sorted.iter().find(|server| !good(server)) {
        Some(bad) => Err(Invalid::spec(format!("{place}: {bad:?} is not host:port"))),
        None if sorted.is_empty() => Err(Invalid::spec(format!("{place}: at least one host:port is needed"))),
        None => {
            sorted.iter().try_for_each(|server| super::reachable(place, server))?;
            Ok(sorted)
        }
    }
}

/// A topic's name, as Kafka allows it.
pub(super) fn topic(place: &str, name: &str) -> Result<String, Invalid> {
    let good = (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    good.then(|| name.to_owned()).ok_or_else(|| {
        Invalid::spec(format!(
            "{place}: {name:?} is not a topic: letters, digits, '.', '_' and '-', at most 249"
        ))
    })
}

fn tls(wire: &KafkaTls) -> Result<domain::KafkaTls, Invalid> {
    let own = |own: &wire::CertificateRef| {
        Ok(ClientCertificate {
            certificate: file(FileKind::Secret, &own.name, &own.certificate_key)?,
            key: file(FileKind::Secret, &own.name, &own.key_key)?,
        })
    };
    Ok(domain::KafkaTls {
        ca_bundle: wire.ca_bundle.as_ref().map(ca_bundle).transpose()?,
        certificate: wire.certificate_ref.as_ref().map(own).transpose().map_err(|invalid: Invalid| {
            Invalid { message: format!("tls.certificateRef: {}", invalid.message), ..invalid }
        })?,
    })
}

fn sasl(wire: &KafkaSasl) -> Result<Sasl, Invalid> {
    let mechanism = match wire.mechanism {
        wire::SaslMechanism::Plain => Mechanism::Plain,
        wire::SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        wire::SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
        wire::SaslMechanism::OAuthBearer => return token(wire).map(Sasl::OAuth),
    };
    let username = match (&wire.username, &wire.username_secret_ref) {
        (Some(text), None) if !text.is_empty() && !text.chars().any(char::is_control) => {
            Username::Text(text.clone())
        }
        (Some(_), None) => return Err(Invalid::spec("sasl.username: control characters are not allowed")),
        (None, Some(reference)) => Username::File(secret(reference)?),
        _ => {
            return Err(Invalid::spec("sasl: exactly one of username and usernameSecretRef is needed"));
        }
    };
    if wire.oauth.is_some() {
        return Err(Invalid::spec("sasl.oauth is for mechanism OAuthBearer only"));
    }
    let Some(password) = &wire.password_secret_ref else {
        return Err(Invalid::spec("sasl.passwordSecretRef is needed"));
    };
    let password = file(FileKind::Secret, &password.name, &password.key)?;
    Ok(Sasl::Password(Password { mechanism, username, password }))
}

fn token(wire: &KafkaSasl) -> Result<OAuth, Invalid> {
    let password = wire.username.is_some() || wire.username_secret_ref.is_some();
    if password || wire.password_secret_ref.is_some() {
        return Err(Invalid::spec(
            "sasl: mechanism OAuthBearer knows no username and password; who logs in is oauth.clientId",
        ));
    }
    let Some(oauth) = &wire.oauth else {
        return Err(Invalid::spec("sasl: mechanism OAuthBearer needs oauth"));
    };
    if oauth.token_endpoint.strip_prefix("https://").is_none_or(str::is_empty) {
        return Err(Invalid::spec(
            "sasl.oauth.tokenEndpoint: an https URL is needed, such as https://id.example.com/token",
        ));
    }
    super::reachable("sasl.oauth.tokenEndpoint", &oauth.token_endpoint)?;
    Ok(OAuth {
        token_endpoint: oauth.token_endpoint.clone(),
        client_id: oauth.client_id.clone(),
        client_secret: secret(&oauth.client_secret_ref)?,
        scope: oauth.scope.clone(),
        audience: oauth.audience.clone(),
        ca_bundle: oauth.ca_bundle.as_ref().map(ca_bundle).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(tls: &Value, sasl: &Value) -> Result<KafkaSecurity, Invalid> {
        let tls: Option<KafkaTls> = serde_json::from_value(tls.clone()).unwrap();
        let sasl: Option<KafkaSasl> = serde_json::from_value(sasl.clone()).unwrap();
        security("source.kafka", tls.as_ref(), sasl.as_ref())
    }

    #[test]
    fn the_same_brokers_in_another_order_are_the_same_source() {
        let a = servers("x", &["b:1".to_owned(), "a:1".to_owned()]).unwrap();
        let b = servers("x", &["a:1".to_owned(), "b:1".to_owned(), "a:1".to_owned()]).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn what_is_not_a_broker_or_a_topic_is_refused_with_its_place() {
        for bad in ["a", "a:0", ":1", "a b:1", "a:70000", "a\n:1"] {
            assert!(servers("x", &[bad.to_owned()]).unwrap_err().message.starts_with("x: "), "{bad:?}");
        }
        for bad in ["", ".", "..", "a b", "a/b"] {
            assert!(topic("x", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_kafka_user_of_strimzi_writes_needs_no_names_of_keys() {
        let tls = json!({
            "caBundle": {"secretRef": {"name": "streams-cluster-ca-cert", "key": "ca.crt"}},
            "certificateRef": {"name": "alerts"},
        });
        let sasl = json!({"mechanism": "ScramSha512", "username": "alerts", "passwordSecretRef": {"name": "alerts"}});
        let read = read(&tls, &sasl).unwrap();
        let paths: Vec<String> = read.files().into_iter().map(FileRef::path).collect();
        assert_eq!(
            paths,
            [
                "secrets/streams-cluster-ca-cert/ca.crt",
                "secrets/alerts/user.crt",
                "secrets/alerts/user.key",
                "secrets/alerts/password",
            ]
        );
    }

    #[test]
    fn combinations_that_can_not_work_or_would_show_a_password_are_refused_with_what_is_allowed() {
        let login = |more: Value| {
            let mut sasl = json!({"mechanism": "Plain", "passwordSecretRef": {"name": "s"}});
            sasl.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            sasl
        };
        let reference = json!({"name": "s", "key": "user"});
        let token = |endpoint: &str| {
            let oauth = json!({"tokenEndpoint": endpoint, "clientId": "c", "clientSecretRef": reference});
            json!({"mechanism": "OAuthBearer", "oauth": oauth})
        };
        for (tls, sasl, says) in [
            (json!(null), login(json!({"username": "u"})), "need source.kafka.tls"),
            (json!({}), login(json!({})), "exactly one of username"),
            (json!({}), login(json!({"username": "u", "usernameSecretRef": reference})), "exactly one of"),
            (json!({}), login(json!({"username": "a\nb"})), "control characters"),
            (json!({"caBundle": {}}), json!(null), "exactly one of configMapRef and secretRef"),
            (json!({"certificateRef": {"name": ".."}}), json!(null), "source.kafka.tls.certificateRef"),
            (json!({"certificateRef": {"name": "s", "keyKey": "../x"}}), json!(null), "is not a key"),
            (json!(null), token("https://id/t"), "need source.kafka.tls"),
            (json!({}), token("http://id/t"), "https URL"),
            (json!({}), json!({"mechanism": "OAuthBearer"}), "needs oauth"),
            (
                json!({}),
                login(json!({"mechanism": "OAuthBearer", "username": "u"})),
                "no username and password",
            ),
            (json!({}), json!({"mechanism": "ScramSha512", "username": "u"}), "passwordSecretRef is needed"),
        ] {
            let refused = read(&tls, &sasl).unwrap_err();
            assert!(refused.message.contains(says), "{}", refused.message);
        }
        for good in [login(json!({"username": "u"})), token("https://id/t")] {
            assert!(read(&json!({}), &good).is_ok(), "{good}");
        }
    }
}
