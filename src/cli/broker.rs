//! `semel serve` and `semel config`: the broker's own settings, which flags, environment and file give.

use super::{CliError, output};
use crate::serve::{Setting, Settings, Source, add_arguments, serve as serve_with};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use std::io::{IsTerminal as _, Write as _};

/// A flag for each of the broker's settings.
#[derive(Clone, Debug)]
pub struct SettingsArgs(ArgMatches);

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        add_arguments(command)
    }
    fn augment_args_for_update(command: Command) -> Command {
        add_arguments(command)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingsArgs, clap::Error> {
        Ok(SettingsArgs(matches.clone()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

impl SettingsArgs {
    /// Environment and file alone.
    pub(super) fn without_flags() -> SettingsArgs {
        SettingsArgs(add_arguments(Command::new("semel")).get_matches_from(["semel"]))
    }

    fn settings(&self) -> Result<Settings, CliError> {
        Ok(Settings::collect(&self.0, |name| std::env::var(name).ok())?)
    }
}

/// Serves until a signal.
pub(super) fn serve(arguments: &SettingsArgs) -> Result<(), CliError> {
    Ok(serve_with(&arguments.settings()?)?)
}

/// Prints all settings: a table for people, JSON in a pipe.
pub(super) fn config(arguments: &SettingsArgs) -> Result<(), CliError> {
    let settings = arguments.settings()?;
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        let rows: Vec<Vec<String>> = settings
            .all()
            .map(|(setting, value, source)| {
                [setting.name, value, &source.to_string(), setting.help].map(String::from).to_vec()
            })
            .collect();
        let columns = [
            output::text("setting"),
            output::text("value"),
            output::text("from"),
            output::text("what it does"),
        ];
        drop(out);
        return Ok(output::print_table(&columns, &rows)?);
    }
    let row = |(setting, value, source): (&Setting, &str, &Source)| {
        let row = serde_json::json!({ "value": value, "from": source.to_string(), "help": setting.help });
        (setting.name.to_owned(), row)
    };
    let all: serde_json::Map<String, serde_json::Value> = settings.all().map(row).collect();
    Ok(writeln!(out, "{}", serde_json::Value::Object(all))?)
}
