//! One name means one thing: a public type or constant has a name that no other public one has.

use std::collections::BTreeMap;

use super::{name, sources};

/// Names that many modules use for the same role. Where two of them meet, the module's name stands before them.
const ROLES: &[&str] = &["Args", "Deps", "Error", "Settings", "SetupError", "StartError"];

const ITEMS: &[&str] = &["struct ", "enum ", "trait ", "type ", "const ", "static "];

/// What the line defines for other modules, if it does. What only the module around it sees is left out, and so is what
/// belongs to a type.
fn defined(line: &str) -> Option<&str> {
    let item = ["pub ", "pub(crate) "].iter().find_map(|public| line.strip_prefix(public)).or_else(|| {
        let path = line.strip_prefix("pub(in ")?;
        path.split_once(") ").map(|(_, item)| item)
    })?;
    let rest = ITEMS.iter().find_map(|kind| item.strip_prefix(kind))?;
    Some(name(rest)).filter(|name| !name.is_empty() && *name != "fn")
}

#[test]
fn a_public_name_means_one_thing() {
    let sources = sources();
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        for name in source.production().lines().filter_map(defined) {
            places.entry(name).or_default().push(&source.path);
        }
    }
    let twice = places.iter().filter(|(name, places)| places.len() > 1 && !ROLES.contains(name));
    let twice: Vec<String> = twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert!(places.len() > 400 && twice.is_empty(), "of {}:\n{}", places.len(), twice.join("\n"));
}
