//! What can be wrong with the settings. No fault ever holds a secret or the contents of a file.

use std::fmt;

/// One thing wrong: what, where it came from and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingFault {
    /// A name that no setting has, in the file, in the environment or among the flags.
    #[error("{name} ({origin}): no such setting{}; allowed: {allowed}", hint(.nearest))]
    UnknownName {
        /// The name as it was given.
        name: String,
        /// The layer that it was found in, as [`ShownSetting::source`](super::ShownSetting::source) names it.
        origin: String,
        /// The setting that was probably meant; None: nothing is near enough.
        nearest: Option<String>,
        /// What would be accepted there, in words.
        allowed: String,
    },
    /// `value` is as it was given, cut to a length that fits a line; none for what is or may hold a secret.
    #[error("{setting}{} ({origin}): {reason}; allowed: {allowed}", shown(.value))]
    BadValue {
        /// The path of the setting: `fetch.pool_size`.
        setting: String,
        /// The value as it was given.
        value: Option<String>,
        /// The layer that the value came from.
        origin: String,
        /// Why the value is not accepted.
        reason: String,
        /// What would be accepted, in words with bounds and unit.
        allowed: String,
    },
    /// Two settings, each with its value and origin, that do not go together.
    #[error("{first} and {second}: {reason}")]
    Pair {
        /// One of the two, with its value and origin.
        first: String,
        /// The other one, likewise.
        second: String,
        /// Why both cannot hold, and what to change.
        reason: String,
    },
    /// A file that a setting names.
    #[error("{setting} ({origin}): {path}: {reason}")]
    NamedFile {
        /// The path of the setting that names the file.
        setting: &'static str,
        /// The layer that the setting came from.
        origin: String,
        /// The file as it was named; `***` for a text that may hold a secret.
        path: String,
        /// Why the file is of no use: not readable, larger than 1 MiB, or not in its form.
        reason: String,
    },
    /// A file that holds settings.
    #[error("{file}: {reason}")]
    SettingsFile {
        /// The file as it was named: `--config`, the default file or `.env`.
        file: String,
        /// Why it cannot be read, with line and column where they are known.
        reason: String,
    },
    /// The command line itself.
    #[error("{0}")]
    Usage(String),
}

/// Every fault that was found, in the order of the layers; never empty. `Display` gives one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFaults(pub Vec<SettingFault>);

impl fmt::Display for SettingFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingFaults {}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

fn shown(value: &Option<String>) -> String {
    value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default()
}
