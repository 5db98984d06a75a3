//! `spec.email` → [`EmailPlan`].

use crds::channel::{self as wire, Email};
use crds::common::SecretKeyRef;
use domain::{EmailPlan, SmtpTls, Target};

use super::Receiver;
use crate::validate::{Invalid, reachable, references::secret};

impl Receiver for Email {
    fn target(&self) -> Result<Target, Invalid> {
        let username = self.username_secret_ref.as_ref().map(secret).transpose()?;
        let password = self.password_secret_ref.as_ref().map(secret).transpose()?;
        if username.is_some() != password.is_some() {
            return Err(Invalid::spec("email: usernameSecretRef and passwordSecretRef go together"));
        }
        if self.tls == wire::SmtpTls::None && password.is_some() && !self.allow_cleartext_login {
            return Err(Invalid::spec(format!("email: {}", wire::CLEARTEXT_LOGIN)));
        }
        if self.to.is_empty() {
            return Err(Invalid::spec("email.to: at least one recipient is needed"));
        }
        for mailbox in self.to.iter().chain([&self.from]) {
            if !mailbox.contains('@') || mailbox.chars().any(char::is_control) {
                return Err(Invalid::spec(format!("email: {mailbox:?} is not a mailbox")));
            }
        }
        reachable("email.host", &self.host)?;
        let plan = EmailPlan {
            host: self.host.clone(),
            port: u16::try_from(self.port)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| Invalid::spec(format!("email.port: {} is not from 1 to 65535", self.port)))?,
            tls: match self.tls {
                wire::SmtpTls::None => SmtpTls::None,
                wire::SmtpTls::StartTls => SmtpTls::StartTls,
                wire::SmtpTls::Implicit => SmtpTls::Implicit,
            },
            username,
            password,
            from: self.from.clone(),
            to: self.to.clone(),
        };
        Ok(plan.into())
    }

    fn secrets(&self) -> Vec<&SecretKeyRef> {
        self.username_secret_ref.iter().chain(&self.password_secret_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_without_tls_is_refused_unless_it_is_allowed_by_name() {
        let mail = |tls: &str, allowed: bool, login: bool| {
            let mut email = serde_json::json!({"host": "smtp.example.com", "port": 25, "tls": tls,
                "allowCleartextLogin": allowed, "from": "b@example.com", "to": ["a@example.com"]});
            if login {
                let reference = |key: &str| serde_json::json!({"name": "notify", "key": key});
                email["usernameSecretRef"] = reference("user");
                email["passwordSecretRef"] = reference("password");
            }
            serde_json::from_value::<Email>(email)
                .unwrap()
                .target()
                .map(drop)
                .map_err(|invalid| invalid.message)
        };
        assert_eq!(
            mail("None", false, true),
            Err("email: with tls: None everybody on the way reads the password: use StartTls or Implicit, or set \
                allowCleartextLogin: true"
                .to_owned())
        );
        for (tls, allowed, login) in [
            ("None", true, true),
            ("None", false, false),
            ("StartTls", false, true),
            ("Implicit", false, true),
        ] {
            assert_eq!(mail(tls, allowed, login), Ok(()), "{tls} {allowed} {login}");
        }
    }
}
