//! `belfry completions` and `belfry man`: completions and manual pages, made from the definition of the command line.

use std::path::Path;

use anyhow::Context as _;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::terminal;

/// Prints a shell's completions; always returns true.
pub(crate) fn completions(command: Command, shell: Shell) -> anyhow::Result<bool> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut no_files(command), "belfry", &mut text);
    terminal::document(&String::from_utf8(text)?)?;
    Ok(true)
}

/// The name under which kubectl calls this program to complete the words after `kubectl belfry`.
pub(crate) const COMPLETER: &str = "kubectl_complete-belfry";

/// The candidates for the last word, one per line, and then a directive for the shell (the protocol of kubectl and cobra: `:4`
/// offers no files, `:0` offers them).
pub(crate) fn complete_words(command: Command, words: &[String]) -> Vec<String> {
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

/// Whether `word` is the name of this option, without a value.
fn is_named(argument: &Arg, word: &str) -> bool {
    let long = argument.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
    let mut chars = word.chars().skip(1);
    long || argument.get_short().is_some() && chars.next() == argument.get_short() && chars.next().is_none()
}

/// Stops shells from offering files for arguments that are not files.
fn no_files(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_free = argument.get_action().takes_values()
            && argument.get_value_hint() == ValueHint::Unknown
            && argument.get_possible_values().is_empty();
        if is_free { argument.value_hint(ValueHint::Other) } else { argument }
    });
    command.mut_subcommands(no_files)
}

/// The section on exit codes, in roff.
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

/// Prints the manual page, or writes a page for each command into a folder; always returns true.
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

/// Sets the usage text with the names of arguments, which the manual pages would leave out.
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

/// The name of a page's file, and its text.
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
            complete_words(crate::Flags::command_line(), &words)
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
