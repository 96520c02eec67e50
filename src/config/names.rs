//! Names of settings and groups: what may stand where, and what was probably meant.

use strsim::levenshtein;

use super::named::{FAMILIES, NAME_ALLOWED, family, is_name, nearest_named, settings_of};
use super::table::{SETTINGS, Setting};

/// Bytes of a given name that are looked at, at most.
const MAX_COMPARED_BYTES: usize = 100;

/// Whether settings stand below this name.
pub fn is_group(name: &str) -> bool {
    let is_named = || name.split_once('.').is_some_and(|(group, name)| family(group).is_some() && is_name(name));
    !name.is_empty() && (family(name).is_some() || is_named() || SETTINGS.iter().any(|setting| setting.group() == name))
}

/// What may stand in a group; for the top level also the groups.
pub fn in_group(group: &str) -> String {
    if let Some(family) = family(group) {
        let one = family.what.trim_start_matches("a ");
        return format!("in {group}: a table for each {one}, under {NAME_ALLOWED}");
    }
    if let Some((of, name)) = group.split_once('.') {
        let leaves: Vec<&str> = settings_of(of, name).iter().map(Setting::leaf).collect();
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
        names.extend(FAMILIES.iter().map(|family| family.group));
    }
    let place = if group.is_empty() { String::new() } else { format!("in {group}: ") };
    format!("{place}{}", names.join(", "))
}

/// The setting or group that was probably meant: a few letters off, or the same leaf elsewhere.
pub fn nearest(path: &str) -> Option<&'static str> {
    let given = path.get(..MAX_COMPARED_BYTES).unwrap_or(path);
    if given.split_once('.').is_some_and(|(group, _)| family(group).is_some()) {
        return nearest_named(given);
    }
    let names = SETTINGS
        .iter()
        .flat_map(|setting| [setting.path, setting.group()])
        .chain(FAMILIES.iter().map(|family| family.group));
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
