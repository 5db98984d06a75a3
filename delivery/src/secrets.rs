//! Values of Secrets and ConfigMaps: mounted as files, and read at each use, so that a rotation needs no restart.
//!
//! A value lives in a [`Secret`], whose `Debug` and `Display` are masked. A key that is not there (yet) is a [`FileProblem`]:
//! nothing is sent, no attempt is counted, and the message waits until the key appears.
//!
//! No path leaves the root, and no value reaches a log, a metric or an error.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use domain::{FileKind, FileRef, Outcome};

/// The largest Secret or ConfigMap that Kubernetes stores, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The root below which referenced files are mounted.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

/// A secret value. `Debug` and `Display` are masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the code that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a referenced file can't be used. Names the key, never its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct FileProblem {
    /// `SecretKeyNotFound`, `SecretKeyInvalid`, `ConfigMapKeyNotFound` or `ConfigMapKeyInvalid`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl FileProblem {
    /// The key is not there.
    pub fn missing(file: &FileRef) -> Self {
        let reason = match file.kind {
            FileKind::Secret => "SecretKeyNotFound",
            FileKind::ConfigMap => "ConfigMapKeyNotFound",
        };
        Self {
            reason,
            message: format!(
                "{} is not there: the {} is missing, or only the key in it",
                name(file),
                kind(file)
            ),
        }
    }

    /// The key is there and can't be used; `why` must not hold the value.
    pub fn invalid(file: &FileRef, why: &str) -> Self {
        let reason = match file.kind {
            FileKind::Secret => "SecretKeyInvalid",
            FileKind::ConfigMap => "ConfigMapKeyInvalid",
        };
        Self { reason, message: format!("{} {why}", name(file)) }
    }
}

impl From<FileProblem> for Outcome {
    fn from(problem: FileProblem) -> Self {
        Self::NotSent { reason: problem.to_string() }
    }
}

fn kind(file: &FileRef) -> &'static str {
    match file.kind {
        FileKind::Secret => "Secret",
        FileKind::ConfigMap => "ConfigMap",
    }
}

/// `key "x" of Secret "y"`.
fn name(file: &FileRef) -> String {
    format!("key {:?} of {} {:?}", file.key, kind(file), file.name)
}

/// Whether Kubernetes accepts the name for an object or a key. Such a name is one component of a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name != "."
        && !name.starts_with("..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Files {
    /// Files below `root`, each at [`FileRef::path`].
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_owned() }
    }

    /// Reads a value: UTF-8 text of at most 1 MiB, without one newline at its end.
    #[allow(clippy::unused_async, reason = "whoever reads should not care how")]
    pub async fn read(&self, file: &FileRef) -> Result<Secret, FileProblem> {
        if !is_plain(&file.name) || !is_plain(&file.key) {
            return Err(FileProblem::invalid(file, "is not a name that Kubernetes accepts"));
        }
        let unusable = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileProblem::missing(file),
            kind => FileProblem::invalid(file, &format!("can't be read: {kind}")),
        };
        // Blocks: the files are small and in memory, so a thread for each would cost more, and might not be free.
        let bytes = bounded(&self.root.join(file.path())).map_err(|error| unusable(&error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileProblem::invalid(file, "is longer than 1 MiB"));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| FileProblem::invalid(file, "is not text"))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(FileProblem::invalid(file, "is empty"));
        }
        Ok(Secret(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, key: &str) -> FileRef {
        FileRef { kind: FileKind::Secret, name: name.to_owned(), key: key.to_owned() }
    }

    fn mounted(content: &[u8]) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("secrets/s")).unwrap();
        std::fs::write(root.path().join("secrets/s/k"), content).unwrap();
        let files = Files::new(root.path());
        (root, files)
    }

    #[tokio::test]
    async fn one_newline_at_the_end_is_not_part_of_the_value() {
        for (content, value) in [("v", "v"), ("v\n", "v"), ("v\r\n", "v"), ("a\nb\n\n", "a\nb\n")] {
            let (_root, files) = mounted(content.as_bytes());
            assert_eq!(files.read(&file("s", "k")).await.unwrap().expose(), value);
        }
    }

    #[tokio::test]
    async fn a_missing_key_is_named() {
        let (_root, files) = mounted(b"v");
        for missing in [file("s", "other"), file("other", "k")] {
            let problem = files.read(&missing).await.unwrap_err();
            assert_eq!(
                problem.to_string(),
                format!(
                    "SecretKeyNotFound: key {:?} of Secret {:?} is not there: the Secret is missing, or only the key in it",
                    missing.key, missing.name
                )
            );
        }
    }

    #[tokio::test]
    async fn no_name_leaves_the_root() {
        let (root, _) = mounted(b"v");
        let files = Files::new(root.path().join("secrets"));
        for bad in
            [file("..", "k"), file("../s", "k"), file("s", "../../x"), file("/etc", "passwd"), file("", "k")]
        {
            assert_eq!(files.read(&bad).await.unwrap_err().reason, "SecretKeyInvalid", "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_value_that_can_not_be_text_is_told_without_the_value() {
        for content in [&b"\xff\xfe"[..], b"", b"\n", &vec![b'x'; 1024 * 1024 + 1]] {
            let (_root, files) = mounted(content);
            assert_eq!(files.read(&file("s", "k")).await.unwrap_err().reason, "SecretKeyInvalid");
        }
    }

    #[test]
    fn debug_and_display_of_a_secret_are_masked() {
        let secret = Secret::new("canary".to_owned());
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)), "*** *** Some(\n    ***,\n)");
    }
}
