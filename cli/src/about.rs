//! `belfry completions` and `belfry man`: the command line about itself.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use crate::terminal;

/// A shell's completions; the answer is always yes.
pub(crate) fn completions(mut command: Command, shell: Shell) -> anyhow::Result<bool> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "belfry", &mut text);
    terminal::document(&String::from_utf8(text)?)?;
    Ok(true)
}

/// The manual, or a page for each command in a folder; the answer is always yes.
pub(crate) fn manual(command: Command, folder: Option<&Path>) -> anyhow::Result<bool> {
    if let Some(folder) = folder {
        let written =
            std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
        written.with_context(|| format!("writing to {}", folder.display()))?;
    } else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        terminal::document(&String::from_utf8(text)?)?;
    }
    Ok(true)
}
