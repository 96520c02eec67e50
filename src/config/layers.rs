//! The layers: each is read and checked whole, then laid over those below by the `config` crate, whose values remember
//! the layer that they came from.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::{cell::Cell, rc::Rc};

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use strsim::levenshtein;

use super::fault::Fault;
use super::files::{read_bounded, what_failed};
use super::kind::{as_text, for_message};
use super::names::{in_group, is_group, nearest};
use super::table::{Privacy, SETTINGS, Setting, find};
use super::{DEFAULT_FILE, Flag};

/// Shorter names are near to too many others.
const MIN_MISSPELT: usize = 8;
/// Warnings of this kind, at most.
const MAX_MISSPELT: usize = 10;

/// What is looked for beside the file of settings.
pub const DOTENV: &str = ".env";

/// The layers read so far, the lowest first.
pub struct Layers {
    layers: Vec<Layer>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    bad: HashSet<&'static str>,
    files: Vec<String>,
}

/// One layer's good values in normal form, by path.
#[derive(Debug, Clone, Default)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
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
            Err(error) if error.kind() == io::ErrorKind::NotFound && given.is_none() => return,
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
        let line = Rc::new(Cell::new(0));
        let mut layer = Layer::default();
        let bytes = as_it_stands(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
        for item in dotenvy::from_read_iter(LineByLine { rest: &bytes, line: line.clone() }) {
            match item {
                Ok((name, value)) => {
                    if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
                        self.add_variable(&mut layer, setting, DOTENV, value);
                    }
                }
                // The library's message quotes the line, which may hold a secret.
                Err(_) => self.settings_file(DOTENV.to_owned(), format!("line {} is not NAME=value", line.get())),
            }
        }
        self.layers.push(layer);
    }

    /// The variables of the process; `variable` looks one up.
    pub fn add_environment(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        let mut layer = Layer::default();
        for setting in SETTINGS {
            let name = setting.variable();
            match variable(&name).map(OsString::into_string) {
                None => {}
                Some(Ok(value)) => self.add_variable(&mut layer, setting, "environment", value),
                Some(Err(_)) => self.bad_value(setting, None, format!("environment {name}"), "not UTF-8".to_owned()),
            }
        }
        self.layers.push(layer);
    }

    /// Warns of variables that are no setting's and differ from one by a letter or two. `names` are those of the process.
    pub fn warn_of_misspelt(&mut self, names: impl Iterator<Item = OsString>) {
        let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        let mut warned = 0;
        for name in names.filter_map(|name| name.into_string().ok()) {
            let has_a_name_of_ours = name.len() >= MIN_MISSPELT && !variables.contains(&name);
            if !has_a_name_of_ours || warned == MAX_MISSPELT {
                continue;
            }
            let near = variables.iter().find(|own| own.len().abs_diff(name.len()) <= 2 && levenshtein(own, &name) <= 2);
            if let Some(near) = near {
                warned += 1;
                self.warnings.push(format!("environment {name} is no setting and ignored: is {near} meant?"));
            }
        }
    }

    pub fn add_flags(&mut self, flags: &[Flag]) {
        let mut layer = Layer::default();
        for flag in flags {
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

    pub fn add_faults(&mut self, faults: Vec<Fault>) {
        self.faults.extend(faults);
    }

    /// Lays the layers over each other.
    pub fn merge(mut self) -> (Effective, Vec<String>, Vec<Fault>) {
        let builder =
            self.layers.into_iter().fold(config::Config::builder(), |builder, layer| builder.add_source(layer));
        let tree = builder.build().unwrap_or_else(|error| {
            self.faults.push(Fault::Usage(error.to_string()));
            config::Config::default()
        });
        (Effective { tree, bad: self.bad, files: self.files }, self.warnings, self.faults)
    }

    fn add_toml(&mut self, file: &str, table: Map<String, Value>) {
        let mut layer = Layer::default();
        let mut names: Vec<(String, Value)> = table.into_iter().collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, value) in names {
            match value.kind {
                ValueKind::Table(inner) if is_group(&name) => {
                    let mut inner: Vec<(String, Value)> = inner.into_iter().collect();
                    inner.sort_by(|(a, _), (b, _)| a.cmp(b));
                    for (leaf, value) in inner {
                        self.add_toml_value(&mut layer, file, &format!("{name}.{leaf}"), &value.kind);
                    }
                }
                kind if is_group(&name) => self.faults.push(Fault::BadValue {
                    value: Some(for_message(&kind)),
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
            self.warnings.push(format!("{origin} is a Kubernetes service link and ignored"));
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
        let value = value.filter(|_| setting.privacy == Privacy::Open).map(for_message);
        let allowed = setting.kind.allowed();
        self.bad.insert(setting.path);
        self.faults.push(Fault::BadValue { setting: setting.path.to_owned(), value, origin, reason, allowed });
    }

    fn unknown(&mut self, path: &str, origin: &str) {
        let group = path.split_once('.').map_or("", |(group, _)| group);
        self.faults.push(Fault::UnknownName {
            name: path.chars().take(100).collect::<String>().escape_debug().to_string(),
            origin: origin.to_owned(),
            nearest: nearest(path).map(str::to_owned),
            allowed: in_group(if is_group(group) { group } else { "" }),
        });
    }

    fn settings_file(&mut self, file: String, reason: String) {
        self.faults.push(Fault::SettingsFile { file, reason });
    }
}

/// An empty lock is a door left open by mistake: a variable that was not set where it was to be filled in.
const EMPTY_LOCK: &str = "given but empty; leave it out, or fill it";

fn is_lock(setting: &Setting) -> bool {
    setting.path.starts_with("auth.")
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

/// The settings as they came out of all layers.
#[derive(Clone)]
pub struct Effective {
    tree: config::Config,
    bad: HashSet<&'static str>,
    /// Those of the layers that were there.
    files: Vec<String>,
}

/// Without the values: some are secret.
impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settings of {:?}", self.files)
    }
}

impl Effective {
    /// With those settings of `other` that `are_taken`.
    pub fn with(&self, other: &Effective, are_taken: impl Fn(&Setting) -> bool) -> Result<Effective, Fault> {
        let value = |setting: &'static Setting| {
            let from = if are_taken(setting) { other } else { self };
            Some((setting.path.to_owned(), from.at(setting.path)?.clone()))
        };
        let layer = Layer(SETTINGS.iter().filter_map(value).collect());
        let tree = config::Config::builder().add_source(layer).build();
        let tree = tree.map_err(|error| Fault::Usage(error.to_string()))?;
        Ok(Effective { tree, bad: HashSet::new(), files: other.files.clone() })
    }

    /// Whether it came out the same in both.
    pub fn agrees(&self, other: &Effective, path: &str) -> bool {
        self.get(path).map(|value| &value.kind) == other.get(path).map(|value| &value.kind)
    }

    /// The files of settings that were read.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Whether some layer gave a bad value, so that what came out means nothing.
    pub fn is_bad(&self, path: &str) -> bool {
        self.bad.contains(path)
    }

    /// None if it is unset.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.at(path).filter(|value| match &value.kind {
            ValueKind::Nil => false,
            ValueKind::Array(items) => !items.is_empty(),
            _ => true,
        })
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path).and_then(as_text)
    }

    pub fn number(&self, path: &str) -> Option<u64> {
        match self.get(path)?.kind {
            ValueKind::I64(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    pub fn is_on(&self, path: &str) -> bool {
        matches!(self.get(path).map(|value| &value.kind), Some(ValueKind::Boolean(true)))
    }

    /// Where it came from.
    pub fn origin(&self, path: &str) -> String {
        self.at(path).and_then(Value::origin).unwrap_or("default").to_owned()
    }

    pub fn into_tree(self) -> config::Config {
        self.tree
    }

    fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.tree.cache, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
    }
}

/// The text of a `.env` with each `$` as a character like any other: dotenvy would put a variable in its place, or nothing.
/// Within single quotes it does not, and knows no escapes.
fn as_it_stands(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut quote, mut is_escaped, mut is_comment, mut last) = (None, false, false, b'\n');
    for &byte in text {
        let begins_word = last.is_ascii_whitespace();
        match byte {
            b'\n' if quote.is_none() => is_comment = false,
            _ if is_comment || is_escaped => {}
            b'#' if quote.is_none() && begins_word => is_comment = true,
            b'\'' | b'"' if quote == Some(byte) => quote = None,
            b'\'' | b'"' if quote.is_none() => quote = Some(byte),
            b'$' if quote != Some(b'\'') => out.push(b'\\'),
            _ => {}
        }
        is_escaped = byte == b'\\' && !is_escaped && !is_comment && quote != Some(b'\'');
        last = byte;
        out.push(byte);
    }
    out
}

/// Hands out one line a call, so that `line` is the number of the line that is being parsed.
struct LineByLine<'a> {
    rest: &'a [u8],
    line: Rc<Cell<usize>>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |newline| newline + 1);
        let taken = end.min(buffer.len());
        let (line, rest) = self.rest.split_at(taken);
        if taken == end && taken > 0 {
            self.line.set(self.line.get() + 1);
        }
        buffer[..taken].copy_from_slice(line);
        self.rest = rest;
        Ok(taken)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_in_a_dotenv_is_a_character_like_any_other() {
        let text = "A=$x\nB=\"a$HOME b\"\nC='$y'\nD=p\\$q # it's $z\n# don't\nE=${A}$\nF=\"two\n$lines\"\n";
        let text = as_it_stands(text.as_bytes());
        let read: Vec<String> =
            dotenvy::from_read_iter(&text[..]).map(|item| item.map(|(_, value)| value).unwrap()).collect();
        assert_eq!(read, ["$x", "a$HOME b", "$y", "p$q", "${A}$", "two\n$lines"]);
    }
}
