//! The settings of a source among themselves, and what the service cannot do for one.

use super::super::effective::Effective;
use super::super::fault::Fault;
use super::super::sources::source_settings;
use super::{alone, described, exceeds};

/// Formats whose notifications name no URL, and so no bytes.
const WITHOUT_URL: [&str; 4] = ["s3", "sns", "eventbridge", "seaweedfs"];

pub fn check(settings: &Effective, name: &str, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) {
    let path = |leaf: &str| source_settings(name).iter().find(|own| own.leaf() == leaf).map_or("", |own| own.path);
    let text = |leaf| settings.text(path(leaf)).unwrap_or_default();
    faults.extend(exceeds(settings, path("ttl"), 1, "event.max_ttl_seconds"));
    faults.extend(alone(settings, path("oidc_audience"), path("oidc_issuer")));
    faults.extend(alone(settings, path("oidc_issuer"), path("oidc_audience")));
    faults.extend(alone(settings, path("oidc_subjects"), path("oidc_issuer")));
    if settings.get(path("store")).is_some() {
        let what = "no store is set, so there is none of this name; leave it out, and set value to facts or none";
        faults.push(Fault::Usage(format!("{}: {what}", described(settings, path("store")))));
    }
    let has_no_journal = settings.text("cache.backend") == Some("embedded") && settings.get("journal.url").is_none();
    if text("accept") == "journal" && has_no_journal {
        let reason = "the embedded cache has no journal; set journal.url, or accept = done".to_owned();
        let first = described(settings, path("accept"));
        faults.push(Fault::Pair { first, second: described(settings, "cache.backend"), reason });
    }
    let format = described(settings, path("format"));
    if WITHOUT_URL.contains(&text("format")) && text("value") == "object" && !settings.is_bad(path("value")) {
        warnings.push(format!(
            "{format} and {}: such notifications name no URL, and no store is set, so every object that is set is rejected; \
             set value to facts or none",
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
