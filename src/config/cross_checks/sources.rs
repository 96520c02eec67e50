//! The settings of a source among themselves, and what the service cannot do for one.

use super::super::effective::Effective;
use super::super::fault::SettingFault;
use super::super::named::{STORES, is_name, source_settings};
use super::{alone, described, exceeds};
use crate::event::sources::Format;

pub fn check(settings: &Effective, name: &str, faults: &mut Vec<SettingFault>, warnings: &mut Vec<String>) {
    let path = |leaf: &str| source_settings(name).iter().find(|own| own.leaf() == leaf).map_or("", |own| own.path);
    let text = |leaf| settings.text(path(leaf)).unwrap_or_default();
    faults.extend(exceeds(settings, path("ttl"), 1, "event.max_ttl_seconds"));
    faults.extend(alone(settings, path("oidc_audience"), path("oidc_issuer")));
    faults.extend(alone(settings, path("oidc_issuer"), path("oidc_audience")));
    faults.extend(alone(settings, path("oidc_subjects"), path("oidc_issuer")));
    let store = settings.text(path("store"));
    if let Some(store) = store.filter(|store| !settings.names(STORES).contains(store)) {
        let name = if is_name(store) { store } else { "NAME" };
        let what = format!("there is no store of this name; set stores.{name}.kind and the settings of its kind");
        faults.push(SettingFault::Usage(format!("{}: {what}", described(settings, path("store")))));
    }
    let has_no_journal = settings.text("cache.backend") == Some("embedded") && settings.get("journal.url").is_none();
    if text("accept") == "journal" && has_no_journal {
        let reason = "the embedded cache has no journal; set journal.url, or accept = done".to_owned();
        let first = described(settings, path("accept"));
        faults.push(SettingFault::Pair { first, second: described(settings, "cache.backend"), reason });
    }
    let format = described(settings, path("format"));
    let has_bytes = store.is_some() || text("format").parse().map_or(true, Format::may_name_url);
    if !has_bytes && text("value") == "object" && !settings.is_bad(path("value")) {
        warnings.push(format!(
            "{format} and {}: such notifications name no URL, and the source has no store, so every object that is set is \
             rejected; set store, or value to facts or none",
            described(settings, path("value"))
        ));
    }
    if text("format") == "seaweedfs" && text("accept") == "done" {
        warnings.push(format!(
            "{format} and {}: SeaweedFS sends a notification once, so what is lost while the service or Redis is down stays \
             lost: set accept = journal; `redis-cache-sync reconcile {name}` brings the cache in step",
            described(settings, path("accept"))
        ));
    }
}
