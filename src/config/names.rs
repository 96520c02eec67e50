//! Names of settings and groups: what may stand where, and what was probably meant.

use strsim::levenshtein;

use super::sources::{NAME_ALLOWED, SOURCES, is_source_name, nearest_of_source, source_settings};
use super::table::{SETTINGS, Setting};

/// Of a name that was given, so much is looked at.
const MAX_COMPARED_BYTES: usize = 100;

/// Whether settings stand below this name.
pub fn is_group(name: &str) -> bool {
    let is_source = || name.strip_prefix("sources.").is_some_and(is_source_name);
    !name.is_empty() && (name == SOURCES || is_source() || SETTINGS.iter().any(|setting| setting.group() == name))
}

/// What may stand in a group; for the top level also the groups.
pub fn in_group(group: &str) -> String {
    if group == SOURCES {
        return format!("in {SOURCES}: a table for each source, under {NAME_ALLOWED}");
    }
    if let Some(source) = group.strip_prefix("sources.") {
        let leaves: Vec<&str> = source_settings(source).iter().map(Setting::leaf).collect();
        return format!("in {group}: {}", leaves.join(", "));
    }
    let mut names: Vec<&str> = Vec::new();
    for setting in SETTINGS {
        let name = match setting.group() {
            own if own == group => setting.leaf(),
            own if group.is_empty() => own,
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if group.is_empty() {
        names.push(SOURCES);
    }
    let place = if group.is_empty() { String::new() } else { format!("in {group}: ") };
    format!("{place}{}", names.join(", "))
}

/// The setting or group that was probably meant: a few letters off, or the same leaf elsewhere.
pub fn nearest(path: &str) -> Option<&'static str> {
    let given = path.get(..MAX_COMPARED_BYTES).unwrap_or(path);
    if given.starts_with("sources.") {
        return nearest_of_source(given);
    }
    let names = SETTINGS.iter().flat_map(|setting| [setting.path, setting.group()]).chain([SOURCES]);
    let (edits, name) = names.filter(|name| !name.is_empty()).map(|name| (levenshtein(given, name), name)).min()?;
    if edits <= 3 && edits * 2 <= path.len() {
        return Some(name);
    }
    let leaf = path.rsplit('.').next().unwrap_or(path);
    SETTINGS.iter().find(|setting| setting.leaf() == leaf).map(|setting| setting.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_wrong_letters_or_a_wrong_group_are_recognised() {
        let near = [
            ("fetch.pool_sise", Some("fetch.pool_size")),
            ("PORT", Some("port")),
            ("ftech", Some("fetch")),
            ("attempts", Some("fetch.attempts")),
            ("xyzzy.frobnicate", None),
            ("", None),
        ];
        for (given, want) in near {
            let lower = given.to_ascii_lowercase();
            assert_eq!(nearest(&lower), want, "{given}");
        }
    }
}
