//! How a Kafka cluster is reached, the same for sources and channels: brokers, topics, TLS and login.

use crds::kafka::{self as wire, KafkaSasl, KafkaTls};
use domain::{
    ClientCertificate, FileKind, FileRef, KafkaSecurity, OAuth, PasswordLogin, PasswordMechanism, Sasl,
    Username,
};

use super::references::{ca_bundle, file, secret_at};
use super::{Faults, Invalid};

/// Checks TLS and login; `place` is the field that has them.
pub(super) fn security(
    place: &str,
    wire_tls: Option<&KafkaTls>,
    wire_sasl: Option<&KafkaSasl>,
) -> Result<KafkaSecurity, Invalid> {
    let at = |invalid: Invalid| invalid.below(&format!("{place}."));
    let mut faults = Faults::default();
    let tls = faults.take(wire_tls.map(tls).transpose().map_err(at));
    let sasl = faults.take(wire_sasl.map(sasl).transpose().map_err(at));
    let bare = wire_sasl.is_some_and(|wire| {
        matches!(wire.mechanism, wire::SaslMechanism::Plain | wire::SaslMechanism::OAuthBearer)
    });
    if bare && wire_tls.is_none() {
        faults.add(Invalid::spec(format!(
            "{place}.sasl: mechanism Plain and OAuthBearer show password or token as it is, so they need {place}.tls; ScramSha256 and ScramSha512 do not"
        )));
    }
    faults.end(tls.zip(sasl).map(|(tls, sasl)| KafkaSecurity { tls, sasl }))
}

/// The files that they refer to, except invalid references.
pub(super) fn files(wire_tls: Option<&KafkaTls>, wire_sasl: Option<&KafkaSasl>) -> Vec<FileRef> {
    let tls = wire_tls.and_then(|wire| tls(wire).ok());
    let sasl = wire_sasl.and_then(|wire| sasl(wire).ok());
    KafkaSecurity { tls, sasl }.files().into_iter().cloned().collect()
}

/// Checks brokers, each `host:port`; returns them sorted, each once. An address to which no worker may connect is
/// refused.
pub(super) fn servers(place: &str, servers: &[String]) -> Result<Vec<String>, Invalid> {
    let mut faults = Faults::default();
    let good = |server: &String| {
        server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte))
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    for (at, server) in servers.iter().enumerate() {
        let place = format!("{place}[{at}]");
        if good(server) {
            faults.take(super::reachable(&place, server));
        } else {
            faults.add(Invalid::spec(format!("{place}: {server:?} is not host:port")));
        }
    }
    if servers.is_empty() {
        faults.add(Invalid::spec(format!("{place}: at least one host:port is needed")));
    }
    let mut sorted = servers.to_vec();
    sorted.sort();
    sorted.dedup();
    faults.end(Some(sorted))
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
    let mut faults = Faults::default();
    let bundle = faults.take(wire.ca_bundle.as_ref().map(ca_bundle).transpose());
    let certificate = wire.certificate_ref.as_ref().map(own).transpose();
    let certificate =
        faults.take(certificate.map_err(|invalid: Invalid| invalid.below("tls.certificateRef.")));
    let tls = bundle.zip(certificate);
    faults.end(tls.map(|(ca_bundle, certificate)| domain::KafkaTls { ca_bundle, certificate }))
}

fn sasl(wire: &KafkaSasl) -> Result<Sasl, Invalid> {
    let mechanism = match wire.mechanism {
        wire::SaslMechanism::Plain => PasswordMechanism::Plain,
        wire::SaslMechanism::ScramSha256 => PasswordMechanism::ScramSha256,
        wire::SaslMechanism::ScramSha512 => PasswordMechanism::ScramSha512,
        wire::SaslMechanism::OAuthBearer => return token(wire).map(Sasl::OAuth),
    };
    let mut faults = Faults::default();
    let username = faults.take(match (&wire.username, &wire.username_secret_ref) {
        (Some(text), None) if !text.is_empty() && !text.chars().any(char::is_control) => {
            Ok(Username::Text(text.clone()))
        }
        (Some(_), None) => Err(Invalid::spec("sasl.username: control characters are not allowed")),
        (None, Some(reference)) => secret_at("sasl.usernameSecretRef", reference).map(Username::File),
        _ => Err(Invalid::spec("sasl: exactly one of username and usernameSecretRef is needed")),
    });
    if wire.oauth.is_some() {
        faults.add(Invalid::spec("sasl.oauth: it is for mechanism OAuthBearer only"));
    }
    let password = faults.take(match &wire.password_secret_ref {
        Some(password) => file(FileKind::Secret, &password.name, &password.key)
            .map_err(|invalid| invalid.below("sasl.passwordSecretRef.")),
        None => Err(Invalid::spec("sasl.passwordSecretRef is needed")),
    });
    let login = username.zip(password);
    faults.end(
        login.map(|(username, password)| Sasl::Password(PasswordLogin { mechanism, username, password })),
    )
}

fn token(wire: &KafkaSasl) -> Result<OAuth, Invalid> {
    let mut faults = Faults::default();
    let password = wire.username.is_some() || wire.username_secret_ref.is_some();
    if password || wire.password_secret_ref.is_some() {
        faults.add(Invalid::spec(
            "sasl: mechanism OAuthBearer knows no username and password; who logs in is oauth.clientId",
        ));
    }
    let Some(oauth) = &wire.oauth else {
        faults.add(Invalid::spec("sasl: mechanism OAuthBearer needs oauth"));
        return faults.end(None);
    };
    if oauth.token_endpoint.strip_prefix("https://").is_none_or(str::is_empty) {
        faults.add(Invalid::spec(
            "sasl.oauth.tokenEndpoint: an https URL is needed, such as https://id.example.com/token",
        ));
    } else {
        faults.take(super::reachable("sasl.oauth.tokenEndpoint", &oauth.token_endpoint));
    }
    let secret = faults.take(secret_at("sasl.oauth.clientSecretRef", &oauth.client_secret_ref));
    let bundle = oauth.ca_bundle.as_ref().map(ca_bundle).transpose();
    let bundle = faults.take(bundle.map_err(|invalid| {
        let message = invalid.message.replacen("tls.", "sasl.oauth.", 1);
        Invalid { message, ..invalid }
    }));
    faults.end(secret.zip(bundle).map(|(client_secret, ca_bundle)| OAuth {
        token_endpoint: oauth.token_endpoint.clone(),
        client_id: oauth.client_id.clone(),
        client_secret,
        scope: oauth.scope.clone(),
        audience: oauth.audience.clone(),
        ca_bundle,
    }))
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
            assert!(servers("x", &[bad.to_owned()]).unwrap_err().message.starts_with("x[0]: "), "{bad:?}");
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
