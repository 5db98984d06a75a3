//! The authorities that a receiver's certificate may chain to: the system's, and those of a channel's `tls.caBundle`. There is
//! no way to skip verification.

use domain::{Digest, FileRef};

use crate::secrets::{FileProblem, Files, Secret};

/// The authorities that one channel trusts: the system's, and those of its bundle, if it has one.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    bundle: Option<(FileRef, Secret)>,
}

impl Trust {
    /// Reads a channel's bundle, if it has one.
    pub async fn read(files: &Files, bundle: Option<&FileRef>) -> Result<Self, FileProblem> {
        match bundle {
            None => Ok(Self::default()),
            Some(file) => Ok(Self { bundle: Some((file.clone(), files.read(file).await?)) }),
        }
    }

    /// The bundle's PEM, if there is a bundle.
    pub(crate) fn pem(&self) -> Option<&[u8]> {
        self.bundle.as_ref().map(|(_, pem)| pem.expose().as_bytes())
    }

    /// A hash of the bundle's content; `None` without a bundle.
    pub fn key(&self) -> Option<Digest> {
        self.bundle.as_ref().map(|(_, pem)| Digest::of(pem.expose()))
    }

    /// The problem of a bundle that can't be used.
    pub(crate) fn invalid(&self, why: &str) -> FileProblem {
        match &self.bundle {
            Some((file, _)) => FileProblem::invalid(file, why),
            None => FileProblem { reason: "TlsUnusable", message: why.to_owned() },
        }
    }
}

/// Caches the newest few values by key. With the bundle's hash in the key, a rotated bundle is used at once and old ones are
/// forgotten.
pub(crate) struct TlsCache<K, V>(std::sync::Mutex<Vec<(K, V)>>);

/// How many values are cached.
const KEPT: usize = 32;

impl<K: PartialEq, V: Clone> TlsCache<K, V> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::Mutex::new(Vec::new()))
    }

    /// The cached value, or a new one by `make`. Makes one value at a time.
    pub(crate) fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        // A panic under the lock leaves no broken entries.
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, value)) = kept.iter().find(|(have, _)| *have == key) {
            return Ok(value.clone());
        }
        let value = make()?;
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((key, value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
