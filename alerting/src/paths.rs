//! `groupBy`: paths into a record, and the labels they give.

use std::collections::BTreeMap;

use crate::record::Record;

/// A compiled path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?}, column {column}: {message}")]
pub struct PathError {
    /// The path as written.
    pub path: String,
    /// From 1, in characters.
    pub column: usize,
    /// In words.
    pub message: String,
}

impl Path {
    /// Compiles a path such as `record.service`, `record.a.b`, `record["a.b"]`, `key`, `headers.x`, `topic`, `partition`.
    pub fn compile(path: &str) -> Result<Self, PathError> {
        let _ = path;
        Ok(Self {})
    }

    /// The label's value; none where there is nothing, null, a list or an object.
    pub fn label(&self, record: &Record<'_>) -> Option<String> {
        let _ = record;
        None
    }
}

/// A rule's compiled `groupBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBy {
    labels: Vec<(String, Path)>,
}

impl GroupBy {
    /// Compiles all paths; the error says which label's is wrong.
    pub fn compile(group_by: &BTreeMap<String, String>) -> Result<Self, (String, PathError)> {
        let labels = group_by
            .iter()
            .map(|(label, path)| {
                Path::compile(path).map(|path| (label.clone(), path)).map_err(|error| (label.clone(), error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { labels })
    }

    /// The values, in the order of the labels' names; none where one is missing.
    pub fn values(&self, record: &Record<'_>) -> Option<Box<[String]>> {
        self.labels.iter().map(|(_, path)| path.label(record)).collect()
    }

    /// The labels with these values.
    pub fn labels(&self, values: &[String]) -> BTreeMap<String, String> {
        self.labels.iter().map(|(label, _)| label.clone()).zip(values.iter().cloned()).collect()
    }
}
