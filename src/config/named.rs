//! Settings that stand below a name which the operator chose: `sources.NAME.*`, a table for each producer, and `stores.NAME.*`,
//! one for each store. They are made of the rows of the table, with the name in place of `NAME`, as soon as a layer names it.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use strsim::levenshtein;

use super::table::{SETTINGS, SOURCE_SETTINGS, STORE_SETTINGS, Setting};

/// Tables of one kind, each under a name of its own.
pub struct Family {
    /// The group in which the tables stand.
    pub group: &'static str,
    /// One of them, for messages.
    pub what: &'static str,
    /// The rows, with `NAME` in their paths.
    pub settings: &'static [Setting],
}

/// The group in which the tables of sources stand.
pub const SOURCES: &str = "sources";
/// The group in which the tables of stores stand.
pub const STORES: &str = "stores";

/// All kinds of named tables.
pub static FAMILIES: [Family; 2] = [
    Family { group: SOURCES, what: "a source", settings: SOURCE_SETTINGS },
    Family { group: STORES, what: "a store", settings: STORE_SETTINGS },
];

/// What a source or a store may be called, for messages.
pub const NAME_ALLOWED: &str = "a name of 1 to 32 lower-case letters and digits that begins with a letter";
/// Characters of a name, at most.
const MAX_NAME: usize = 32;
/// Different names in the life of the process, at most: settings live as long as it does.
const MAX_NAMES: usize = 1024;

/// `[a-z][a-z0-9]{0,31}`
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The family of this group.
pub fn family(group: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.group == group)
}

/// All settings of this source, in the order of the table; none if that is no name of a source.
pub fn source_settings(name: &str) -> &'static [Setting] {
    settings_of(SOURCES, name)
}

/// The same of a store.
pub fn store_settings(name: &str) -> &'static [Setting] {
    settings_of(STORES, name)
}

/// All settings below `group.name`, in the order of the table; none if nothing stands there.
pub fn settings_of(group: &str, name: &str) -> &'static [Setting] {
    static MADE: LazyLock<Mutex<BTreeMap<String, &'static [Setting]>>> = LazyLock::new(Mutex::default);
    let Some(family) = family(group).filter(|_| is_name(name)) else { return &[] };
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = format!("{group}.{name}");
    if let Some(settings) = made.get(&path) {
        return settings;
    }
    if made.len() == MAX_NAMES {
        return &[];
    }
    let settings: Vec<Setting> = family.settings.iter().map(|setting| setting.under(name)).collect();
    let settings: &'static [Setting] = settings.leak();
    made.insert(path, settings);
    settings
}

/// The setting of this path, below a name or not.
pub fn find(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.path == path).or_else(|| find_named(path))
}

/// The setting of this path, `sources.minio.format`.
fn find_named(path: &str) -> Option<&'static Setting> {
    let (group, rest) = path.split_once('.')?;
    let (name, _) = rest.split_once('.')?;
    settings_of(group, name).iter().find(|setting| setting.path == path)
}

/// The setting of this variable, `SOURCES_MINIO_FORMAT`.
pub fn of_variable(variable: &str) -> Option<&'static Setting> {
    settings_beside(variable).iter().find(|setting| setting.variable() == variable)
}

/// The settings below the name that a variable seems to mean.
fn settings_beside(variable: &str) -> &'static [Setting] {
    // A variable is in capitals, all of it.
    let is_lower = |name: &str| name.bytes().any(|byte| byte.is_ascii_lowercase());
    let below = |family: &Family| {
        let rest = variable.strip_prefix(&*family.group.to_ascii_uppercase())?.strip_prefix('_')?;
        let (name, _) = rest.split_once('_').filter(|(name, _)| !is_lower(name))?;
        Some(settings_of(family.group, &name.to_ascii_lowercase()))
    };
    FAMILIES.iter().find_map(below).unwrap_or_default()
}

/// The variable that was probably meant by one that is no setting's.
pub fn nearest_variable(variable: &str) -> Option<String> {
    let variables = settings_beside(variable).iter().map(Setting::variable);
    let (edits, nearest) = variables.map(|own| (levenshtein(&own, variable), own)).min()?;
    (edits <= 2).then_some(nearest)
}

/// The setting that was probably meant by the path of one that is none, below a name.
pub fn nearest_named(path: &str) -> Option<&'static str> {
    let (group, rest) = path.split_once('.')?;
    let (name, leaf) = rest.split_once('.')?;
    let settings = settings_of(group, name).iter();
    let (edits, nearest) = settings.map(|own| (levenshtein(own.leaf(), leaf), own.path)).min()?;
    (edits <= 3 && edits * 2 <= leaf.len()).then_some(nearest)
}

/// Group and name of what a flag sets something of: `sources` and `minio` of `--sources-minio-format`.
pub fn named_by_flag(flag: &str) -> Option<(&'static str, &str)> {
    let flag = flag.strip_prefix("--")?;
    FAMILIES.iter().find_map(|family| {
        let name = flag.strip_prefix(family.group)?.strip_prefix('-')?.split(['-', '=']).next()?;
        is_name(name).then_some((family.group, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_name_has_settings_of_its_own_by_path_variable_and_flag() {
        for (path, variable, flag) in [
            ("sources.minio.tokens_file", "SOURCES_MINIO_TOKENS_FILE", "sources-minio-tokens-file"),
            ("stores.main.access_key_id", "STORES_MAIN_ACCESS_KEY_ID", "stores-main-access-key-id"),
        ] {
            let setting = find_named(path).expect("a setting");
            assert_eq!((setting.variable().as_str(), setting.flag().as_str()), (variable, flag));
            let same = of_variable(variable).expect("a setting");
            assert!(std::ptr::eq(setting, same), "made once");
        }
        let setting = find("sources.minio.tokens_file").expect("a setting");
        assert_eq!((setting.group(), setting.leaf()), ("sources.minio", "tokens_file"));
        for none in [
            "sources.minio",
            "sources.minio.nonsense",
            "sources.Minio.format",
            "sources.1x.format",
            "sources..format",
            "stores.main.format",
        ] {
            assert!(find_named(none).is_none(), "{none}");
        }
        for none in ["SOURCES_MINIO", "SOURCES_minio_FORMAT", "SOURCES__FORMAT", "SOURCES_A_B_FORMAT", "PORT"] {
            assert!(of_variable(none).is_none(), "{none}");
        }
        assert_eq!(named_by_flag("--sources-s3eu-format=s3"), Some(("sources", "s3eu")));
        assert_eq!(named_by_flag("--stores-main-kind"), Some(("stores", "main")));
        assert_eq!(named_by_flag("--sources-NAME-format"), None);
    }

    #[test]
    fn a_few_wrong_letters_are_recognised() {
        assert_eq!(nearest_named("sources.minio.fromat"), Some("sources.minio.format"));
        assert_eq!(nearest_named("stores.main.endpoin"), Some("stores.main.endpoint"));
        assert_eq!(nearest_named("sources.minio.xyzzy"), None);
        assert_eq!(nearest_variable("SOURCES_MINIO_FROMAT").as_deref(), Some("SOURCES_MINIO_FORMAT"));
        assert_eq!(nearest_variable("SOURCES_LIST"), None);
    }
}
