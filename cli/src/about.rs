//! `belfry completions` and `belfry man`: the command line about itself.

use std::path::Path;

use anyhow::Context as _;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::terminal;

/// A shell's completions; the answer is always yes.
pub(crate) fn completions(command: Command, shell: Shell) -> anyhow::Result<bool> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut no_files(command), "belfry", &mut text);
    terminal::document(&String::from_utf8(text)?)?;
    Ok(true)
}

/// What kubectl calls to complete the words after `kubectl belfry`.
pub(crate) const COMPLETER: &str = "kubectl_complete-belfry";

/// What may stand in place of the last word, a line each, and what the shell is to do (kubectl's and cobra's protocol: 4 is
/// to offer no files, 0 to offer them).
pub(crate) fn completed(command: Command, words: &[String]) -> Vec<String> {
    let mut command = no_files(command);
    command.build();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let (mut here, mut wants): (&Command, Option<&Arg>) = (&command, None);
    for word in before {
        if wants.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            let takes = |argument: &&Arg| argument.get_action().takes_values() && is_named(argument, word);
            wants = here.get_arguments().find(takes);
        } else if let Some(below) = here.find_subcommand(word) {
            here = below;
        }
    }
    let shown = |argument: &&Arg| !argument.is_hide_set();
    let positional = here.get_positionals().filter(shown);
    let of: Vec<&Arg> = wants.map_or_else(|| positional.collect(), |wanted| vec![wanted]);
    let values = of.iter().flat_map(|argument| argument.get_possible_values());
    let mut offered: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    if wants.is_none() && last.starts_with('-') {
        let named = here.get_arguments().filter(shown).filter_map(Arg::get_long);
        offered = named.map(|name| format!("--{name}")).collect();
    } else if wants.is_none() {
        let commands = here.get_subcommands().filter(|it| !it.is_hide_set());
        offered.extend(commands.map(|it| it.get_name().to_owned()));
    }
    offered.retain(|it| it.starts_with(last));
    let hints = |argument: &Arg| !matches!(argument.get_value_hint(), ValueHint::Unknown | ValueHint::Other);
    let files = offered.is_empty() && of.iter().any(|argument| hints(argument));
    offered.push(if files { ":0" } else { ":4" }.to_owned());
    offered
}

/// Whether a word is the option, alone.
fn is_named(argument: &Arg, word: &str) -> bool {
    let long = argument.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
    let mut chars = word.chars().skip(1);
    long || argument.get_short().is_some() && chars.next() == argument.get_short() && chars.next().is_none()
}

/// Where no file is asked for, none is offered.
fn no_files(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_free = argument.get_action().takes_values()
            && argument.get_value_hint() == ValueHint::Unknown
            && argument.get_possible_values().is_empty();
        if is_free { argument.value_hint(ValueHint::Other) } else { argument }
    });
    command.mut_subcommands(no_files)
}

/// What a command's exit code says, as roff.
const EXIT_STATUS: &str = ".SH \"EXIT STATUS\"
.TP
0
All is well.
.TP
1
The answer is no: an error that `lint` found, a test that failed, a message that did not arrive, an event that was refused.
.TP
2
It could not be asked or done; standard error says why.
";

/// The manual, or a page for each command in a folder; the answer is always yes.
pub(crate) fn manual(command: Command, folder: Option<&Path>) -> anyhow::Result<bool> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let command = with_usage(command);
    if let Some(folder) = folder {
        let written = std::fs::create_dir_all(folder).and_then(|()| pages(&command, folder));
        written.with_context(|| format!("writing to {}", folder.display()))?;
    } else {
        let (_, text) = page(&command)?;
        terminal::document(&String::from_utf8(text)?)?;
    }
    Ok(true)
}

/// The usage with the names of what it takes, which the pages would leave out.
fn with_usage(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    command.override_usage(usage).mut_subcommands(with_usage)
}

fn pages(command: &Command, folder: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        pages(below, folder)?;
    }
    let (name, text) = page(command)?;
    std::fs::write(folder.join(name), text)
}

/// A page and the name of its file.
fn page(command: &Command) -> std::io::Result<(String, Vec<u8>)> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render(&mut text)?;
    text.extend_from_slice(EXIT_STATUS.as_bytes());
    Ok((man.get_filename(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_is_offered_commands_options_and_values() {
        let offered = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
            completed(crate::Flags::built(), &words)
        };
        assert!(offered(&[""]).contains(&"dead-letters".to_owned()));
        assert_eq!(offered(&["li"]), ["lint", "list", ":4"].map(str::to_owned));
        assert_eq!(offered(&["rule", "t"]), ["try", "test", ":4"].map(str::to_owned));
        assert_eq!(offered(&["list", "--state", "de"]), ["delivered", "dead", ":4"].map(str::to_owned));
        assert_eq!(offered(&["list", "-n", "a", "--sta"]), ["--state", ":4"].map(str::to_owned));
        assert_eq!(offered(&["list", "--rule", ""]), [":4".to_owned()]);
        assert_eq!(offered(&["lint", "-f", ""]), [":0".to_owned()]);
    }
}
