//! What can be wrong with the settings. No fault ever holds a secret or the contents of a file.

use std::fmt;

/// One thing wrong: what, where it came from and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{name} ({origin}): there is no such setting{}; allowed: {allowed}", hint(.nearest))]
    UnknownName { name: String, origin: String, nearest: Option<String>, allowed: String },
    /// `value` is as it was given, cut to a length that fits a line; none for a secret.
    #[error("{setting}{} ({origin}): {reason}; allowed: {allowed}", shown(.value))]
    BadValue { setting: String, value: Option<String>, origin: String, reason: String, allowed: String },
    /// Two settings, each with its value and origin, that do not go together.
    #[error("{first} and {second}: {reason}")]
    Pair { first: String, second: String, reason: String },
    /// A file that a setting names.
    #[error("{setting} ({origin}): {path}: {reason}")]
    NamedFile { setting: &'static str, origin: String, path: String, reason: String },
    /// A file that holds settings.
    #[error("{file}: {reason}")]
    SettingsFile { file: String, reason: String },
    /// The command line itself.
    #[error("{0}")]
    Usage(String),
}

/// Every fault that was found, in the order of the layers; never empty. `Display` gives one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
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

impl std::error::Error for Faults {}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

fn shown(value: &Option<String>) -> String {
    value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default()
}
