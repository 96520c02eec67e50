//! `check-config`: loads the settings as `serve` would and shows what came out, or every fault.

use std::io::Write;
use std::process::ExitCode;

use super::refuse;
use crate::config::{Faults, Loaded, Shown};

/// Prints one setting a line, `name = value   # source`, on standard output and the warnings on standard error.
pub fn run(loaded: Result<Loaded, Faults>) -> ExitCode {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults),
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    // Whoever closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(aligned(&loaded.sources).as_bytes());
    ExitCode::SUCCESS
}

/// A value longer than this does not push the sources of the others aside.
const MAX_COLUMN: usize = 30;

fn aligned(settings: &[Shown]) -> String {
    let name_width = settings.iter().map(|setting| setting.path.len()).max().unwrap_or(0);
    let widths = settings.iter().map(|setting| setting.value.chars().count());
    let value_width = widths.filter(|width| *width <= MAX_COLUMN).max().unwrap_or(0);
    let line = |setting: &Shown| {
        let Shown { path, value, source } = setting;
        format!("{path:name_width$} = {value:value_width$}   # {source}\n")
    };
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_sources_stand_below_each_other() {
        let shown =
            |path, value: &str, source: &str| Shown { path, value: value.to_owned(), source: source.to_owned() };
        let lines = aligned(&[shown("a", "1", "default"), shown("long.name", "\"x\"", ".env LONG_NAME")]);
        assert_eq!(lines, "a         = 1     # default\nlong.name = \"x\"   # .env LONG_NAME\n");
    }
}
