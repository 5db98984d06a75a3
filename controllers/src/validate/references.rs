//! References to Secrets and `ConfigMaps`. Each becomes a path in the worker's pod, which must not leave its folder.

use crds::common::{CaBundle, SecretKeyRef};
use domain::{FileKind, FileRef};

use super::Invalid;

pub(super) fn secret(reference: &SecretKeyRef) -> Result<FileRef, Invalid> {
    file(FileKind::Secret, &reference.name, &reference.key)
}

/// The same, with its place in front of a fault.
pub(super) fn secret_at(place: &str, reference: &SecretKeyRef) -> Result<FileRef, Invalid> {
    secret(reference).map_err(|invalid| invalid.below(&format!("{place}.")))
}

/// Checks that neither name nor key can leave the folder of the path that they become.
pub(super) fn file(kind: FileKind, name: &str, key: &str) -> Result<FileRef, Invalid> {
    let plain = |text: &str, more: &[u8]| {
        (1..=253).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if !plain(name, b"-.") || name.starts_with('.') {
        return Err(Invalid::spec(format!("name: {name:?} is not a name of a {kind:?}")));
    }
    if !plain(key, b"-._") || key == "." || key.starts_with("..") {
        return Err(Invalid::spec(format!("key: {key:?} is not a key of a {kind:?}")));
    }
    Ok(FileRef { kind, name: name.to_owned(), key: key.to_owned() })
}

pub(super) fn ca_bundle(bundle: &CaBundle) -> Result<FileRef, Invalid> {
    match (&bundle.config_map_ref, &bundle.secret_ref) {
        (Some(reference), None) => file(FileKind::ConfigMap, &reference.name, &reference.key)
            .map_err(|invalid| invalid.below("tls.caBundle.configMapRef.")),
        (None, Some(reference)) => secret_at("tls.caBundle.secretRef", reference),
        _ => Err(Invalid::spec("tls.caBundle: exactly one of configMapRef and secretRef is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_can_not_leave_its_folder() {
        for (name, key) in [
            ("..", "k"),
            ("a/b", "k"),
            ("", "k"),
            ("s", ".."),
            ("s", "../x"),
            ("s", "a/b"),
            ("s", ""),
            ("s", "."),
        ] {
            assert!(file(FileKind::Secret, name, key).is_err(), "{name:?} {key:?}");
        }
        assert!(file(FileKind::Secret, "s", ".dockerconfigjson").is_ok());
    }
}
