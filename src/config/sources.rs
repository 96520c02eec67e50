//! The settings of sources: `sources.NAME.*`, a table for each producer. They are made of [`SOURCE_SETTINGS`], with a source's
//! name in place of `NAME`, as soon as a layer names it.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use strsim::levenshtein;

use super::table::{SETTINGS, SOURCE_SETTINGS, Setting};

/// The group in which the tables of sources stand.
pub const SOURCES: &str = "sources";
/// What a source may be called, for messages.
pub const NAME_ALLOWED: &str = "a name of 1 to 32 lower-case letters and digits that begins with a letter";
/// Characters of a name, at most.
const MAX_NAME: usize = 32;
/// Different names in the life of the process, at most: settings live as long as it does.
const MAX_NAMES: usize = 1024;

/// `[a-z][a-z0-9]{0,31}`
pub fn is_source_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// All settings of this source, in the order of the table; none if that is no name of a source.
pub fn source_settings(name: &str) -> &'static [Setting] {
    static MADE: LazyLock<Mutex<BTreeMap<String, &'static [Setting]>>> = LazyLock::new(Mutex::default);
    if !is_source_name(name) {
        return &[];
    }
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(settings) = made.get(name) {
        return settings;
    }
    if made.len() == MAX_NAMES {
        return &[];
    }
    let settings: Vec<Setting> = SOURCE_SETTINGS.iter().map(|setting| setting.of_source(name)).collect();
    let settings: &'static [Setting] = settings.leak();
    made.insert(name.to_owned(), settings);
    settings
}

/// The setting of this path, of a source or not.
pub fn find(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.path == path).or_else(|| find_of_source(path))
}

/// The setting of this path, `sources.minio.format`.
fn find_of_source(path: &str) -> Option<&'static Setting> {
    let (name, _) = path.strip_prefix("sources.")?.split_once('.')?;
    source_settings(name).iter().find(|setting| setting.path == path)
}

/// The setting of this variable, `SOURCES_MINIO_FORMAT`.
pub fn of_variable(variable: &str) -> Option<&'static Setting> {
    settings_beside(variable).iter().find(|setting| setting.variable() == variable)
}

/// The settings of the source that a variable seems to mean.
fn settings_beside(variable: &str) -> &'static [Setting] {
    let name = variable.strip_prefix("SOURCES_").and_then(|rest| Some(rest.split_once('_')?.0));
    // A variable is in capitals, all of it.
    match name.filter(|name| !name.bytes().any(|byte| byte.is_ascii_lowercase())) {
        Some(name) => source_settings(&name.to_ascii_lowercase()),
        None => &[],
    }
}

/// The variable that was probably meant by one that is no setting's.
pub fn nearest_variable(variable: &str) -> Option<String> {
    let variables = settings_beside(variable).iter().map(Setting::variable);
    let (edits, nearest) = variables.map(|own| (levenshtein(&own, variable), own)).min()?;
    (edits <= 2).then_some(nearest)
}

/// The setting that was probably meant by the path of one that is none.
pub fn nearest_of_source(path: &str) -> Option<&'static str> {
    let (name, leaf) = path.strip_prefix("sources.")?.split_once('.')?;
    let settings = source_settings(name).iter();
    let (edits, nearest) = settings.map(|own| (levenshtein(own.leaf(), leaf), own.path)).min()?;
    (edits <= 3 && edits * 2 <= leaf.len()).then_some(nearest)
}

/// The name of a source that a flag sets something of: `minio` of `--sources-minio-format`.
pub fn source_of_flag(flag: &str) -> Option<&str> {
    let name = flag.strip_prefix("--sources-")?.split(['-', '=']).next()?;
    is_source_name(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_settings_of_its_own_by_path_variable_and_flag() {
        let setting = find_of_source("sources.minio.tokens_file").expect("a setting");
        assert_eq!((setting.group(), setting.leaf()), ("sources.minio", "tokens_file"));
        assert_eq!(
            (setting.variable(), setting.flag()),
            ("SOURCES_MINIO_TOKENS_FILE".into(), "sources-minio-tokens-file".into())
        );
        let same = of_variable("SOURCES_MINIO_TOKENS_FILE").expect("a setting");
        assert!(std::ptr::eq(setting, same), "made once");
        for none in
            ["sources.minio", "sources.minio.nonsense", "sources.Minio.format", "sources.1x.format", "sources..format"]
        {
            assert!(find_of_source(none).is_none(), "{none}");
        }
        for none in ["SOURCES_MINIO", "SOURCES_minio_FORMAT", "SOURCES__FORMAT", "SOURCES_A_B_FORMAT", "PORT"] {
            assert!(of_variable(none).is_none(), "{none}");
        }
        assert_eq!(source_of_flag("--sources-s3eu-format=s3"), Some("s3eu"));
        assert_eq!(source_of_flag("--sources-NAME-format"), None);
    }

    #[test]
    fn a_few_wrong_letters_are_recognised() {
        assert_eq!(nearest_of_source("sources.minio.fromat"), Some("sources.minio.format"));
        assert_eq!(nearest_of_source("sources.minio.xyzzy"), None);
        assert_eq!(nearest_variable("SOURCES_MINIO_FROMAT").as_deref(), Some("SOURCES_MINIO_FORMAT"));
        assert_eq!(nearest_variable("SOURCES_LIST"), None);
    }
}
