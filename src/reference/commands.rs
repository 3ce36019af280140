//! Every command's help.

use clap::CommandFactory;

use crate::cli::Cli;

/// The page of the commands.
pub fn page() -> String {
    let mut text = "# Commands\n\n\
        Results go to stdout, messages to stderr; `--json` prints one JSON document.\n\
        The exit code is 0 on success, 2 when an input is wrong, and 1 when a run fails; a run that a signal stops \
        ends by that signal.\n"
        .to_owned();
    let mut cli = Cli::command().term_width(100);
    cli.build();
    describe(&mut cli, 2, &mut text);
    text
}

fn describe(command: &mut clap::Command, level: usize, text: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    *text += &format!("\n{} `{name}`\n\n```text\n{}\n```\n", "#".repeat(level), help.join("\n").trim_end());
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
        describe(inner, (level + 1).min(4), text);
    }
}
