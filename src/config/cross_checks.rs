//! Settings that must go together, and those that have no effect beside others.

mod sources;
mod stores;

use super::effective::Effective;
use super::fault::SettingFault;
use super::kind::for_message;
use super::named::{SOURCES, STORES, find};
use super::redis_url;
use super::table::Privacy;

/// The first may not exceed the second. `times`: what one of the first counts in the second.
const LIMITS: [(&str, u64, &str); 5] = [
    ("event.max_events", 1, "intake.max_in_flight"),
    ("http.max_body_bytes", 1, "intake.max_in_flight_bytes"),
    ("fetch.max_blob_bytes", 1, "intake.max_in_flight_bytes"),
    ("event.max_keys", 256, "intake.max_in_flight_bytes"),
    ("event.default_ttl_seconds", 1, "event.max_ttl_seconds"),
];

/// The first should not exceed the second: what comes of it.
const DOUBTFUL: [(&str, &str, &str); 7] = [
    ("event.max_events", "journal.max_events", "a larger request that the journal is to keep is answered 413"),
    ("redis.connect_timeout_ms", "redis.retry_ms", "connecting is cut to what is left"),
    ("redis.response_timeout_ms", "redis.retry_ms", "an attempt is cut to what is left"),
    ("redis.retry_ms", "event.deadline_ms", "an event is answered before its operations are given up"),
    ("fetch.connect_timeout_ms", "fetch.timeout_ms", "an attempt ends before connecting does"),
    ("fetch.timeout_ms", "fetch.deadline_ms", "an attempt is cut to what is left"),
    ("fetch.deadline_ms", "event.deadline_ms", "an event is answered before its blobs are given up"),
];

const MODE: &str = "redis.mode";

/// Settings that have an effect only in sentinel mode.
const SENTINELS: [&str; 5] = [
    "redis.sentinel_master",
    "redis.sentinel_username",
    "redis.sentinel_password",
    "redis.sentinel_password_file",
    "redis.sentinel_tls",
];

pub fn check(settings: &Effective, faults: &mut Vec<SettingFault>, warnings: &mut Vec<String>) {
    for (smaller, times, larger) in LIMITS {
        faults.extend(exceeds(settings, smaller, times, larger));
    }
    faults.extend(both(settings, "redis.password", "redis.password_file"));
    faults.extend(both(settings, "redis.sentinel_password", "redis.sentinel_password_file"));
    faults.extend(alone(settings, "redis.tls_cert", "redis.tls_key"));
    faults.extend(alone(settings, "redis.tls_key", "redis.tls_cert"));
    check_listener(settings, faults);
    faults.extend(alone(settings, "http.tls_client_ca", "http.tls_cert"));
    faults.extend(database_of_cluster(settings));
    if settings.text(MODE) == Some("sentinel") {
        faults.extend(alone(settings, MODE, "redis.nodes"));
        faults.extend(alone(settings, MODE, "redis.sentinel_master"));
    }
    faults.extend(required_lock(settings));
    for name in settings.names(SOURCES) {
        sources::check(settings, name, faults, warnings);
    }
    for name in settings.names(STORES) {
        stores::check(settings, name, faults);
    }
    warnings.extend(without_effect(settings));
    warnings.extend(DOUBTFUL.iter().filter_map(|(first, second, what)| contradicts(settings, first, second, what)));
}

/// Only the settings that say where and how the daemon listens.
pub fn check_listener(settings: &Effective, faults: &mut Vec<SettingFault>) {
    faults.extend(alone(settings, "http.tls_cert", "http.tls_key"));
    faults.extend(alone(settings, "http.tls_key", "http.tls_cert"));
    faults.extend(same_port(settings));
}

/// What lets some in and keeps others out.
const LOCKS: [&str; 5] =
    ["auth.tokens", "auth.tokens_file", "auth.webhook_secrets", "auth.webhook_secrets_file", "http.tls_client_ca"];

fn required_lock(settings: &Effective) -> Option<SettingFault> {
    const REQUIRED: &str = "auth.required";
    let is_asked = LOCKS.iter().any(|lock| settings.is_bad(lock) || settings.get(lock).is_some());
    if is_asked || settings.get(REQUIRED)?.clone().into_bool().ok() != Some(true) {
        return None;
    }
    let reason = format!("no lock is set; set one of {}", LOCKS.join(", "));
    Some(SettingFault::Usage(format!("{}: {reason}", described(settings, REQUIRED))))
}

fn exceeds(settings: &Effective, smaller: &str, times: u64, larger: &str) -> Option<SettingFault> {
    if settings.is_bad(smaller) || settings.is_bad(larger) {
        return None;
    }
    let (low, high) = (settings.number(smaller)?, settings.number(larger)?);
    if low.saturating_mul(times) <= high {
        return None;
    }
    let reason = match times {
        1 => format!("{smaller} must not exceed {larger}"),
        _ => format!("{times} times {smaller} must not exceed {larger}"),
    };
    Some(SettingFault::Pair { first: described(settings, smaller), second: described(settings, larger), reason })
}

fn contradicts(settings: &Effective, first: &str, second: &str, what: &str) -> Option<String> {
    if settings.is_bad(first) || settings.is_bad(second) || settings.number(first)? <= settings.number(second)? {
        return None;
    }
    let (first, second) = (described(settings, first), described(settings, second));
    Some(format!("{first} exceeds {second}: {what}"))
}

fn both(settings: &Effective, first: &str, second: &str) -> Option<SettingFault> {
    settings.get(first)?;
    settings.get(second)?;
    let reason = "only one of the two may be given".to_owned();
    Some(SettingFault::Pair { first: described(settings, first), second: described(settings, second), reason })
}

fn same_port(settings: &Effective) -> Option<SettingFault> {
    let (port, admin) = (settings.number("port")?, settings.number("admin_port")?);
    let reason = "the two must differ".to_owned();
    let fault =
        || SettingFault::Pair { first: described(settings, "port"), second: described(settings, "admin_port"), reason };
    (port == admin && port != 0 && !settings.is_bad("port") && !settings.is_bad("admin_port")).then(fault)
}

fn alone(settings: &Effective, given: &str, missing: &str) -> Option<SettingFault> {
    settings.get(given)?;
    if settings.get(missing).is_some() || settings.is_bad(missing) {
        return None;
    }
    let reason = "the first needs the second".to_owned();
    Some(SettingFault::Pair { first: described(settings, given), second: format!("{missing} (unset)"), reason })
}

/// A Redis Cluster has one database.
fn database_of_cluster(settings: &Effective) -> Option<SettingFault> {
    if settings.text(MODE) != Some("cluster") || settings.is_bad("redis.db") {
        return None;
    }
    let of_url = settings.text("redis.url").and_then(|url| redis_url::parse(url).ok()?.db);
    let second = match of_url {
        Some(0) => return None,
        Some(db) => format!("redis.db = {db} (redis.url, {})", settings.origin("redis.url")),
        None if settings.number("redis.db")? == 0 => return None,
        None => described(settings, "redis.db"),
    };
    let reason = "a cluster has only database 0".to_owned();
    Some(SettingFault::Pair { first: described(settings, MODE), second, reason })
}

/// `event.max_events = 30000 (environment EVENT_MAX_EVENTS)`; what is or may hold a secret is left out.
fn described(settings: &Effective, path: &str) -> String {
    let origin = settings.origin(path);
    match settings.get(path).filter(|_| is_open(path)).and_then(|value| for_message(&value.kind)) {
        Some(value) => format!("{path} = {value} ({origin})"),
        None => format!("{path} ({origin})"),
    }
}

fn is_open(path: &str) -> bool {
    find(path).is_none_or(|setting| setting.privacy == Privacy::Open)
}

fn without_effect(settings: &Effective) -> Vec<String> {
    let mut warnings = Vec::new();
    let url = settings.text("redis.url").and_then(|url| redis_url::parse(url).ok());
    let tls = url.as_ref().map_or(settings.is_on("redis.tls"), |url| url.tls);
    let mode = settings.text(MODE).unwrap_or_default();
    let of_sentinels = SENTINELS.iter().map(|path| (*path, &["sentinel"][..]));
    for (path, modes) in [("redis.nodes", &["cluster", "sentinel"][..])].into_iter().chain(of_sentinels) {
        if settings.get(path).is_some() && !modes.contains(&mode) && !settings.is_bad(MODE) {
            warnings.push(format!("{path} ({}) has no effect: redis.mode is {mode}", settings.origin(path)));
        }
    }
    if url.is_some() && settings.is_on("redis.tls") && !tls {
        let (own, wins) = (settings.origin("redis.tls"), settings.origin("redis.url"));
        warnings.push(format!("redis.tls ({own}) has no effect: redis.url ({wins}) says redis://, which means no TLS"));
    }
    for path in ["redis.tls_ca", "redis.tls_cert", "redis.tls_key"] {
        if settings.get(path).is_some() && !tls && !settings.is_on("redis.sentinel_tls") {
            warnings
                .push(format!("{path} ({}) has no effect: the connection to Redis has no TLS", settings.origin(path)));
        }
    }
    warnings
}
