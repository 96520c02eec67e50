//! Every setting: name, default, bounds, where it came from.
//!
//! Owns the [`SETTINGS`] table and the way from file, `.env`, environment and flags to a [`Config`]. Promises that a
//! [`Config`] is within every bound and goes together, that all faults are listed and not only the first, and that no
//! message holds a secret. Leaves acting on the settings to those who get them, and parsing the command line to
//! [`cli`](crate::cli).
//!
//! Rules of reading:
//!
//! - file < `.env` < environment < flags. A bad value is a fault even where a higher layer overrides it.
//! - An empty variable is unset, in the environment as in `.env`. An empty text in the file or a flag unsets a setting
//!   that has no default.
//! - In the file the TOML type must fit: an integer in quotes is refused. Byte sizes are integers, or texts with a unit
//!   (`"16 MiB"`), in variables and flags too.
//! - `.env` is read as it stands: `$` is a character like any other. A name given twice takes the later value.
//! - Lists are comma- or line-separated; in the file they may also be arrays of texts.
//! - Files that settings name are read at the start, and may have 1 MiB. Those that open doors are read again while the
//!   daemon runs, by whoever calls [`tokens_in`] and its like; so are the settings themselves ([`Loaded::reload`]).

mod checks;
mod cross_checks;
mod dotenv;
mod effective;
mod fault;
mod files;
mod kind;
mod layers;
mod model;
mod named;
mod names;
mod probe;
mod redis_url;
mod reload;
mod render;
mod secret;
mod table;
mod tls;
mod unheard;

use std::path::PathBuf;

pub use self::fault::{SettingFault, SettingFaults};
pub use self::files::{authorities_in, identity_in, password_in, text_in, tls_in, tokens_in, webhook_secrets_in};
pub use self::kind::SettingKind;
pub use self::model::*;
pub use self::named::{FAMILIES, Family, find, named_by_flag, settings_of};
pub use self::probe::{ProbeAddress, probe_address};
pub use self::redis_url::has_password;
pub use self::reload::{FileSnapshot, Reloaded};
pub use self::render::{default_in_words, default_toml, markdown_table};
pub use self::secret::{MASK, Pem, Secret, WebhookSecret};
pub use self::table::{DefaultValue, Privacy, SETTINGS, SOURCE_SETTINGS, STORE_SETTINGS, Setting};
pub use self::tls::{TlsFiles, TlsPems};

use self::effective::Effective;
use self::layers::Layers;

/// Where settings are looked for if `--config` does not say; it need not exist.
pub const DEFAULT_FILE: &str = "config/default.toml";

/// What the command line says about settings.
#[derive(Debug, Default, Clone)]
pub struct Args {
    /// `--config`; such a file must exist.
    pub file: Option<PathBuf>,
    /// In the order of rising precedence.
    pub flags: Vec<Flag>,
    /// Faults of the command line itself, to be listed with the others.
    pub faults: Vec<SettingFault>,
}

/// A setting given by flag.
#[derive(Clone)]
pub struct Flag {
    /// The row of [`SETTINGS`] that the flag sets.
    pub setting: &'static Setting,
    /// The text behind the flag, not yet checked.
    pub value: String,
    /// How it was given: `--fetch-pool-size`, or `--embedded`.
    pub given_as: String,
}

impl std::fmt::Debug for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.given_as)
    }
}

/// Settings that may be used.
#[derive(Debug)]
pub struct Loaded {
    /// The settings as the program uses them.
    pub config: Config,
    /// What is allowed but surely not meant, for the log.
    pub warnings: Vec<String>,
    /// Every setting as it came out, in the order of the table.
    pub sources: Vec<ShownSetting>,
    effective: Effective,
}

/// A setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// The name of the setting, as in the file: `fetch.pool_size`.
    pub path: &'static str,
    /// The value as TOML; `***` for a secret, `none` if it is unset.
    pub value: String,
    /// `default`, the file, `.env FETCH_POOL_SIZE`, `environment FETCH_POOL_SIZE` or `flag --fetch-pool-size`.
    pub source: String,
}

impl ShownSetting {
    /// A setting that is there no more.
    fn unset(path: &'static str) -> Self {
        ShownSetting { path, value: "none".to_owned(), source: "default".to_owned() }
    }
}

impl Config {
    /// Reads all layers: the file and `.env` from the working directory, the process's environment, and the flags.
    ///
    /// # Errors
    /// Every fault of every layer, of what does not go together, and of the files that settings name.
    pub fn load(args: Args) -> Result<Loaded, SettingFaults> {
        finish(Layers::of(args))
    }

    /// The defaults and these settings alone, as a variable would give them (`("port", "0")`): no file, no environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Config, SettingFaults> {
        let mut layers = Layers::new();
        layers.add_pairs(pairs);
        finish(layers).map(|loaded| loaded.config)
    }
}

/// A secret that a command takes from the process's environment; an empty one is none.
#[must_use]
pub fn secret_variable(name: &str) -> Option<Secret> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new)
}

impl Layers {
    fn of(args: Args) -> Self {
        let mut layers = Layers::new();
        layers.add_file(args.file.as_deref());
        layers.add_dotenv();
        let names = || std::env::vars_os().map(|(name, _)| name);
        layers.add_environment(names(), |name| std::env::var_os(name));
        layers.add_flags(&args.flags);
        layers.warn_of_unheard(std::env::vars_os().map(|(name, _)| name), |name| std::env::var_os(name));
        layers.add_faults(args.faults);
        layers
    }
}

fn finish(layers: Layers) -> Result<Loaded, SettingFaults> {
    let (effective, warnings, faults) = layers.merge();
    complete(effective, warnings, faults)
}

fn complete(
    effective: Effective,
    mut warnings: Vec<String>,
    mut faults: Vec<SettingFault>,
) -> Result<Loaded, SettingFaults> {
    cross_checks::check(&effective, &mut faults, &mut warnings);
    let files = files::read(&effective, &mut faults);
    if !faults.is_empty() {
        return Err(SettingFaults(faults));
    }
    let sources = render::shown(&effective);
    let config = model::build(effective.clone(), files).map_err(|fault| SettingFaults(vec![fault]))?;
    Ok(Loaded { config, warnings, sources, effective })
}

#[cfg(test)]
mod tests;
