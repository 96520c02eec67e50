//! The layers: each is read and checked whole, then laid over those below by the `config` crate, whose values remember
//! the layer that they came from.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::Path;

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::dotenv::{self, DOTENV};
use super::effective::{Effective, Layer};
use super::fault::SettingFault;
use super::files::{read_bounded, what_failed};
use super::kind::for_message;
use super::named::{Family, NAME_ALLOWED, SOURCES, family, find, is_name, of_variable, settings_of};
use super::names::{in_group, is_group, nearest};
use super::redis_url::has_password;
use super::table::{Privacy, SETTINGS, Setting};
use super::{DEFAULT_FILE, Flag, unheard};

/// The layers read so far, the lowest first.
pub struct Layers {
    layers: Vec<Layer>,
    faults: Vec<SettingFault>,
    warnings: Vec<String>,
    bad: HashSet<&'static str>,
    files: Vec<String>,
}

impl Layers {
    /// The defaults alone.
    pub fn new() -> Self {
        let origin = "default".to_owned();
        let value = |setting: &Setting| (setting.path.to_owned(), Value::new(Some(&origin), setting.default_value()));
        let defaults = Layer(SETTINGS.iter().map(value).collect());
        Layers {
            layers: vec![defaults],
            faults: Vec::new(),
            warnings: Vec::new(),
            bad: HashSet::new(),
            files: Vec::new(),
        }
    }

    /// The file that was asked for, which must exist, or the default one, which need not.
    pub fn add_file(&mut self, given: Option<&Path>) {
        let path = given.unwrap_or(Path::new(DEFAULT_FILE));
        let name = path.display().to_string();
        let text = match read_bounded(path) {
            Err(error) if given.is_none() && is_absent(&error) => return,
            Err(error) => return self.settings_file(name, what_failed(&error)),
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(_) => return self.settings_file(name, "not UTF-8".to_owned()),
            },
        };
        self.files.push(name.clone());
        match File::from_str(text.trim_start_matches('\u{feff}'), FileFormat::Toml).collect() {
            Ok(table) => self.add_toml(&name, table),
            Err(error) => self.settings_file(name, toml_reason(&error)),
        }
    }

    /// `.env` in the working directory, if there is one. The process's environment stays as it is.
    pub fn add_dotenv(&mut self) {
        let bytes = match read_bounded(Path::new(DOTENV)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.settings_file(DOTENV.to_owned(), what_failed(&error)),
        };
        self.files.push(DOTENV.to_owned());
        let mut layer = Layer::default();
        for pair in dotenv::pairs(&bytes) {
            match pair {
                Ok((name, value)) => {
                    let fixed = SETTINGS.iter().find(|setting| setting.variable() == name);
                    if let Some(setting) = fixed.or_else(|| of_variable(&name)) {
                        self.add_variable(&mut layer, setting, DOTENV, value);
                    }
                }
                Err(line) => self.settings_file(DOTENV.to_owned(), format!("line {line} is not NAME=value")),
            }
        }
        self.layers.push(layer);
    }

    /// The variables of the process: `names` are all of them, and `variable` looks one up.
    pub fn add_environment(
        &mut self,
        names: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) {
        let mut layer = Layer::default();
        let of_sources = names.filter_map(|name| of_variable(name.to_str()?));
        for setting in SETTINGS.iter().chain(of_sources) {
            let name = setting.variable();
            match variable(&name).map(OsString::into_string) {
                None => {}
                Some(Ok(value)) => self.add_variable(&mut layer, setting, "environment", value),
                Some(Err(_)) => self.bad_value(setting, None, format!("environment {name}"), "not UTF-8".to_owned()),
            }
        }
        self.layers.push(layer);
    }

    /// Warns of variables that look as if they were to say something and do not. After all layers.
    pub fn warn_of_unheard(
        &mut self,
        names: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) {
        self.warnings.extend(unheard::misspelt(names));
        let last = self.layers.iter().rev().find_map(|layer| layer.0.get("fetch.proxy"));
        if last.is_none_or(|value| value.kind == ValueKind::Nil) {
            self.warnings.extend(unheard::proxies(variable));
        }
    }

    pub fn add_flags(&mut self, flags: &[Flag]) {
        let mut layer = Layer::default();
        for flag in flags {
            let shows_secret = match flag.setting.privacy {
                Privacy::Open => false,
                Privacy::Secret => !flag.value.is_empty(),
                Privacy::Url => has_password(&flag.value),
            };
            if shows_secret {
                let (given, variable) = (&flag.given_as, flag.setting.variable());
                self.warnings.push(format!("process lists show the secret in {given}: use {variable} or a file"));
            }
            self.add_text(&mut layer, flag.setting, format!("flag {}", flag.given_as), &flag.value);
        }
        self.layers.push(layer);
    }

    /// Settings of the program's own.
    pub fn add_pairs(&mut self, pairs: &[(&str, &str)]) {
        let mut layer = Layer::default();
        for (path, value) in pairs {
            match find(path) {
                Some(setting) => self.add_text(&mut layer, setting, "fixed".to_owned(), value),
                None => self.unknown(path, "fixed"),
            }
        }
        self.layers.push(layer);
    }

    pub fn add_faults(&mut self, faults: Vec<SettingFault>) {
        self.faults.extend(faults);
    }

    /// Lays the layers over each other.
    pub fn merge(mut self) -> (Effective, Vec<String>, Vec<SettingFault>) {
        self.add_defaults_of_names();
        let builder =
            self.layers.into_iter().fold(config::Config::builder(), |builder, layer| builder.add_source(layer));
        let tree = builder.build().unwrap_or_else(|error| {
            self.faults.push(SettingFault::Usage(error.to_string()));
            config::Config::default()
        });
        (Effective { tree, bad: self.bad, files: self.files }, self.warnings, self.faults)
    }

    /// Whatever a layer names has all settings of its kind.
    fn add_defaults_of_names(&mut self) {
        let named: BTreeSet<(String, String)> =
            self.layers.iter().flat_map(|layer| layer.0.keys()).filter_map(|path| named_in(path)).collect();
        let Some(defaults) = self.layers.first_mut() else { return };
        for setting in named.iter().flat_map(|(group, name)| settings_of(group, name)) {
            defaults.put(setting, "default".to_owned(), setting.default_value());
        }
    }

    fn add_toml(&mut self, file: &str, table: Map<String, Value>) {
        let mut layer = Layer::default();
        for (name, value) in sorted(table) {
            match value.kind {
                ValueKind::Table(inner) if is_group(&name) => {
                    for (leaf, value) in sorted(inner) {
                        match family(&name) {
                            Some(family) => self.add_toml_named(&mut layer, file, (family, &leaf), value.kind),
                            None => self.add_toml_value(&mut layer, file, &format!("{name}.{leaf}"), &value.kind),
                        }
                    }
                }
                kind if is_group(&name) => self.faults.push(SettingFault::BadValue {
                    // Who gives a group a text may have meant its secret.
                    value: for_message(&kind).filter(|shown| !shown.contains('"')),
                    origin: file.to_owned(),
                    reason: "a group of settings, not a setting".to_owned(),
                    allowed: in_group(&name),
                    setting: name,
                }),
                // A quoted name with a dot is not the path that it looks like.
                _ if name.contains('.') => self.unknown(&format!("\"{name}\""), file),
                kind => self.add_toml_value(&mut layer, file, &name, &kind),
            }
        }
        self.layers.push(layer);
    }

    fn add_toml_named(&mut self, layer: &mut Layer, file: &str, (family, name): (&Family, &str), value: ValueKind) {
        let Family { group, what, .. } = family;
        let fault = |reason: &str, allowed: String| SettingFault::BadValue {
            setting: shortened(&format!("{group}.{name}")),
            value: None,
            origin: file.to_owned(),
            reason: reason.to_owned(),
            allowed,
        };
        match value {
            _ if !is_name(name) => {
                self.faults.push(fault(&format!("not the name of {what}"), NAME_ALLOWED.to_owned()));
            }
            ValueKind::Table(inner) => {
                for (leaf, value) in sorted(inner) {
                    self.add_toml_value(layer, file, &format!("{group}.{name}.{leaf}"), &value.kind);
                }
            }
            _ => {
                let allowed = in_group(&format!("{group}.{name}"));
                self.faults.push(fault(&format!("{what} is a table of settings"), allowed));
            }
        }
    }

    fn add_toml_value(&mut self, layer: &mut Layer, file: &str, path: &str, value: &ValueKind) {
        let Some(setting) = find(path) else {
            return self.unknown(path, file);
        };
        match setting.kind.from_toml(value, setting.is_optional()) {
            Ok(normal) if is_empty_lock(setting, &normal) => {
                self.bad_value(setting, None, file.to_owned(), EMPTY_LOCK.to_owned());
            }
            Ok(normal) => layer.put(setting, file.to_owned(), normal),
            Err(reason) => self.bad_value(setting, Some(value), file.to_owned(), reason),
        }
    }

    fn add_variable(&mut self, layer: &mut Layer, setting: &'static Setting, layer_name: &str, value: String) {
        let origin = format!("{layer_name} {}", setting.variable());
        if value.is_empty() && !is_lock(setting) {
            return;
        }
        if setting.leaf().ends_with("port") && value.starts_with("tcp://") {
            self.warnings.push(format!("{origin} is a Kubernetes service link: ignored"));
            return;
        }
        self.add_text(layer, setting, origin, &value);
    }

    fn add_text(&mut self, layer: &mut Layer, setting: &'static Setting, origin: String, text: &str) {
        match setting.kind.from_text(text, setting.is_optional()) {
            Ok(normal) if is_empty_lock(setting, &normal) => {
                self.bad_value(setting, None, origin, EMPTY_LOCK.to_owned())
            }
            Ok(normal) => layer.put(setting, origin, normal),
            Err(reason) => self.bad_value(setting, Some(&ValueKind::String(text.to_owned())), origin, reason),
        }
    }

    fn bad_value(&mut self, setting: &'static Setting, value: Option<&ValueKind>, origin: String, reason: String) {
        let value = value.filter(|_| setting.privacy == Privacy::Open).and_then(for_message);
        let allowed = setting.kind.allowed();
        self.bad.insert(setting.path);
        self.faults.push(SettingFault::BadValue { setting: setting.path.to_owned(), value, origin, reason, allowed });
    }

    fn unknown(&mut self, path: &str, origin: &str) {
        let group = path.rsplit_once('.').map_or("", |(group, _)| group);
        self.faults.push(SettingFault::UnknownName {
            name: shortened(path),
            origin: origin.to_owned(),
            nearest: nearest(path).map(str::to_owned),
            allowed: in_group(if is_group(group) { group } else { "" }),
        });
    }

    fn settings_file(&mut self, file: String, reason: String) {
        self.faults.push(SettingFault::SettingsFile { file, reason });
    }
}

/// There is no file, or what should be its folder is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sorted(table: Map<String, Value>) -> Vec<(String, Value)> {
    let mut members: Vec<(String, Value)> = table.into_iter().collect();
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    members
}

/// A name as a message may show it.
fn shortened(path: &str) -> String {
    path.chars().take(100).collect::<String>().escape_debug().to_string()
}

/// Group and name of the source or store of which this is a setting's path.
fn named_in(path: &str) -> Option<(String, String)> {
    let (group, rest) = path.split_once('.')?;
    let (name, _) = rest.split_once('.')?;
    family(group).map(|_| (group.to_owned(), name.to_owned()))
}

/// An empty lock is a door left open by mistake: a variable that was not set where it was to be filled in.
const EMPTY_LOCK: &str = "empty; leave it out, or give it a value";

fn is_lock(setting: &Setting) -> bool {
    let is_of_source = || named_in(setting.path).is_some_and(|(group, _)| group == SOURCES);
    match setting.leaf() {
        "tokens" | "tokens_file" | "webhook_secrets" | "oidc_issuer" | "oidc_audience" if is_of_source() => true,
        _ => setting.path.starts_with("auth."),
    }
}

fn is_empty_lock(setting: &Setting, value: &ValueKind) -> bool {
    is_lock(setting)
        && match value {
            ValueKind::Nil => true,
            ValueKind::Array(items) => items.is_empty(),
            ValueKind::String(text) => text.trim().is_empty(),
            _ => false,
        }
}

impl Layer {
    /// What is given twice in one layer: the later wins.
    fn put(&mut self, setting: &Setting, origin: String, normal: ValueKind) {
        self.0.insert(setting.path.to_owned(), Value::new(Some(&origin), normal));
    }
}

/// The place and the reason, without the line itself, which may hold a secret.
fn toml_reason(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => "not TOML".to_owned(),
        [only] => format!("not TOML: {only}"),
        [place, .., reason] => format!("{place}: {reason}"),
    }
}
