//! Writes a command's result to standard output or to a file.
//!
//! A file is written whole or not at all: under a temporary name in the same folder, and then renamed.

use std::path::Path;

use anyhow::Context as _;

use crate::terminal;

/// Writes `text` to `path`, or to standard output for `-`.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return terminal::document(text).context("writing to standard output");
    }
    let name = path.file_name().with_context(|| format!("{} is no file", path.display()))?;
    let beside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // Remove the incomplete temporary file.
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.yaml");
        write(&file, "one").unwrap();
        write(&file, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        let taken = folder.path().join("folder");
        std::fs::create_dir_all(taken.join("in")).unwrap();
        assert!(write(&taken, "three").is_err());
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
