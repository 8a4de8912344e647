//! `semel serve` and `semel config`.

use crate::serve::{Settings, add_arguments, serve as serve_with};
use clap::{ArgMatches, Command};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

pub(super) fn commands() -> [Command; 2] {
    let serve = Command::new("serve").about("Serve until SIGTERM or Ctrl-C");
    let config = Command::new("config").about("Print the effective settings and where each comes from");
    [add_arguments(serve), add_arguments(config)]
}

fn settings(matches: &ArgMatches) -> Result<Settings, ExitCode> {
    Settings::collect(matches, |name| std::env::var(name).ok()).map_err(|error| fail(&error))
}

/// One line on standard error: what happened, and what to do.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "semel: {error}");
    ExitCode::FAILURE
}

pub(super) fn serve(matches: &ArgMatches) -> ExitCode {
    let settings = match settings(matches) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match serve_with(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

pub(super) fn config(matches: &ArgMatches) -> ExitCode {
    let settings = match settings(matches) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header([
            "setting",
            "value",
            "from",
            "what it does",
        ]);
        for (setting, value, source) in settings.all() {
            table.add_row([setting.name, value, &source.to_string(), setting.help]);
        }
        let _ = writeln!(out, "{table}");
    } else {
        let row = |(setting, value, source): (&crate::serve::Setting, &str, &crate::serve::Source)| {
            let row = serde_json::json!({ "value": value, "from": source.to_string(), "help": setting.help });
            (setting.name.to_owned(), row)
        };
        let all: serde_json::Map<String, serde_json::Value> = settings.all().map(row).collect();
        let _ = writeln!(out, "{}", serde_json::Value::Object(all));
    }
    ExitCode::SUCCESS
}
