//! The effective settings: all layers laid over each other.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use config::{ConfigError, Map, Source, Value, ValueKind};

use super::fault::SettingFault;
use super::kind::as_text;
use super::named::{FAMILIES, settings_of};
use super::table::{SETTINGS, Setting};

/// One layer's good values in normal form, by path.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(pub(super) Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The settings as they came out of all layers.
#[derive(Clone)]
pub struct Effective {
    pub(super) tree: config::Config,
    pub(super) bad: HashSet<&'static str>,
    /// The names of the files that were there.
    pub(super) files: Vec<String>,
}

/// Without the values: some are secret.
impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settings of {:?}", self.files)
    }
}

impl Effective {
    /// With those settings of `other` that `are_taken`.
    pub fn with(&self, other: &Effective, are_taken: impl Fn(&Setting) -> bool) -> Result<Effective, SettingFault> {
        let value = |setting: &'static Setting| {
            let from = if are_taken(setting) { other } else { self };
            Some((setting.path.to_owned(), from.at(setting.path)?.clone()))
        };
        let layer = Layer(all_of([self, other]).filter_map(value).collect());
        let tree = config::Config::builder().add_source(layer).build();
        let tree = tree.map_err(|error| SettingFault::Usage(error.to_string()))?;
        Ok(Effective { tree, bad: HashSet::new(), files: other.files.clone() })
    }

    /// The names below this group, `sources` or `stores`, in their order.
    pub fn names(&self, group: &str) -> Vec<&str> {
        let mut names: Vec<&str> = match self.at(group).map(|tables| &tables.kind) {
            Some(ValueKind::Table(tables)) => tables.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        names.sort_unstable();
        names
    }

    /// Every setting that there is, those below a name last.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        all_of([self, self])
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

/// Every setting of both, each once.
pub fn all_of(both: [&Effective; 2]) -> impl Iterator<Item = &'static Setting> + use<> {
    let named = FAMILIES.iter().flat_map(|family| {
        let names = both.iter().flat_map(|one| one.names(family.group));
        names.map(|name| (family.group, name.to_owned())).collect::<BTreeSet<_>>()
    });
    let named: Vec<&'static Setting> = named.flat_map(|(group, name)| settings_of(group, &name)).collect();
    SETTINGS.iter().chain(named)
}
