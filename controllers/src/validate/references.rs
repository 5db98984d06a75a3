//! References to Secrets and `ConfigMaps`: each becomes a path in the worker's pod, which can't leave its folder.

use crds::common::{CaBundle, SecretKeyRef};
use domain::{FileKind, FileRef};

use super::Invalid;

pub(super) fn secret(reference: &SecretKeyRef) -> Result<FileRef, Invalid> {
    file(FileKind::Secret, &reference.name, &reference.key)
}

/// A reference becomes a path in the worker's pod: neither part may leave its folder.
pub(super) fn file(kind: FileKind, name: &str, key: &str) -> Result<FileRef, Invalid> {
    let plain = |text: &str, more: &[u8]| {
        (1..=253).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if !plain(name, b"-.") || name.starts_with('.') {
        return Err(Invalid::spec(format!("{name:?} is not a name of a {kind:?}")));
    }
    if !plain(key, b"-._") || key == "." || key.starts_with("..") {
        return Err(Invalid::spec(format!("{key:?} is not a key of a {kind:?}")));
    }
    Ok(FileRef { kind, name: name.to_owned(), key: key.to_owned() })
}

pub(super) fn ca_bundle(bundle: &CaBundle) -> Result<FileRef, Invalid> {
    match (&bundle.config_map_ref, &bundle.secret_ref) {
        (Some(reference), None) => file(FileKind::ConfigMap, &reference.name, &reference.key),
        (None, Some(reference)) => secret(reference),
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
