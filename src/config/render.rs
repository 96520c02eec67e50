//! What follows from the table for people: `config/default.toml`, the table of docs/settings.md, and settings as they came out.

use super::ShownSetting;
use super::effective::Effective;
use super::kind::{SettingKind, as_text, human_bytes, quoted, toml_literal};
use super::named::FAMILIES;
use super::redis_url::{self, RedisUrl};
use super::secret::MASK;
use super::table::{DefaultValue, Privacy, SETTINGS, Setting};

const HEAD: &str = "\
# Every setting with its default. The same setting can be given, each winning over those before it, here, in .env, as a
# variable (fetch.pool_size is FETCH_POOL_SIZE) and as a flag (--fetch-pool-size). Those commented out are unset; their
# values are examples. `redis-cache-sync check-config` shows what is in effect and where it came from. What is live takes
# effect while the service runs, when this file or .env changes, or on SIGHUP.
";

const SOURCES_HEAD: &str = "
# A source is a route for one producer of notifications, POST /sources/NAME: a table for each, under a name of lower-case
# letters and digits. SOURCES_MINIO_FORMAT and --sources-minio-format set the same as format below [sources.minio].
# [sources.minio]
";

const STORES_HEAD: &str = "
# A store is where objects are fetched from, with credentials: a table for each, under a name of lower-case letters and digits.
# STORES_MAIN_KIND and --stores-main-kind set the same as kind below [stores.main].
# [stores.main]
";

/// `config/default.toml`, word for word.
pub fn default_toml() -> String {
    let mut out = HEAD.to_owned();
    for group in groups() {
        out.push('\n');
        if !group.is_empty() {
            out.push_str(&format!("[{group}]\n"));
        }
        for setting in SETTINGS.iter().filter(|setting| setting.group() == group) {
            let (doc, line) = doc_and_line(setting);
            out.push_str(&format!("{doc}\n{line}\n"));
        }
    }
    for (family, head) in FAMILIES.iter().zip([SOURCES_HEAD, STORES_HEAD]) {
        out.push_str(head);
        for setting in family.settings {
            let (doc, line) = doc_and_line(setting);
            out.push_str(&format!("{doc}\n# {}\n", line.trim_start_matches("# ")));
        }
    }
    out
}

/// What a setting is, and how it is written, commented out if it is unset.
fn doc_and_line(setting: &Setting) -> (String, String) {
    let line = match setting.default {
        DefaultValue::Unset(example) => format!("# {} = {example}", setting.leaf()),
        DefaultValue::Cores => format!("# {} = 4", setting.leaf()),
        _ => format!("{} = {}", setting.leaf(), toml_literal(&setting.default_value())),
    };
    let live = if setting.is_live { " Live." } else { "" };
    (format!("# {}. Allowed: {}.{live}", setting.doc, setting.kind.allowed()), line)
}

/// The table of settings in docs/settings.md, as Markdown.
pub fn markdown_table() -> String {
    let mut out = "| setting | default | allowed | what it is |\n| --- | --- | --- | --- |\n".to_owned();
    for setting in all() {
        let (default, allowed) = (default_in_words(setting), setting.kind.allowed());
        let live = if setting.is_live { " *(live)*" } else { "" };
        out.push_str(&format!("| `{}` | {default} | {allowed} | {}{live} |\n", setting.path, setting.doc));
    }
    out
}

/// Every row of the table, those with `NAME` in their paths last.
fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(FAMILIES.iter().flat_map(|family| family.settings))
}

/// The default for a person: `16 MiB` rather than 16777216.
pub fn default_in_words(setting: &Setting) -> String {
    match (setting.default, &setting.kind) {
        (DefaultValue::Unset(_), _) => "none".to_owned(),
        (DefaultValue::Cores, _) => "cores".to_owned(),
        (DefaultValue::Text(""), _) => "empty".to_owned(),
        (DefaultValue::Number(number), SettingKind::Bytes { .. }) => human_bytes(number),
        (DefaultValue::Number(number), _) => number.to_string(),
        (DefaultValue::Switch(on), _) => on.to_string(),
        (DefaultValue::Text(text), _) => format!("`{text}`"),
    }
}

/// Every setting as it came out, without its secrets. What `redis.url` says stands in place of what it overrides.
pub(super) fn shown(settings: &Effective) -> Vec<ShownSetting> {
    let url = settings.text("redis.url").and_then(|url| redis_url::parse(url).ok());
    let url_origin = format!("redis.url, {}", settings.origin("redis.url"));
    let one = |setting: &Setting| match url.as_ref().and_then(|url| of_url(url, setting.path)) {
        Some(value) => ShownSetting { path: setting.path, value, source: url_origin.clone() },
        None => {
            ShownSetting { path: setting.path, value: value(settings, setting), source: settings.origin(setting.path) }
        }
    };
    settings.settings().map(one).collect()
}

fn value(settings: &Effective, setting: &Setting) -> String {
    let Some(value) = settings.get(setting.path) else {
        return "none".to_owned();
    };
    match setting.privacy {
        Privacy::Open => toml_literal(&value.kind),
        Privacy::Secret => MASK.to_owned(),
        Privacy::Url => as_text(value).map_or(MASK.to_owned(), |url| quoted(&redis_url::masked(url))),
    }
}

/// What the URL says about this setting.
fn of_url(url: &RedisUrl, path: &str) -> Option<String> {
    match path {
        "redis.host" => Some(quoted(&url.host)),
        "redis.port" => url.port.map(|port| port.to_string()),
        // A user without a password is taken for one.
        "redis.username" if url.password.is_none() => url.username.as_ref().map(|_| MASK.to_owned()),
        "redis.username" => url.username.as_deref().map(quoted),
        "redis.password" => url.password.as_ref().map(|password| password.to_string()),
        "redis.db" => url.db.map(|db| db.to_string()),
        "redis.tls" => Some(url.tls.to_string()),
        _ => None,
    }
}

/// The groups in the order of the table.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for setting in SETTINGS {
        if !groups.contains(&setting.group()) {
            groups.push(setting.group());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_markdown_table_lists_every_setting_once() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), all().count() + 2);
        for setting in all() {
            assert_eq!(table.matches(&format!("| `{}` |", setting.path)).count(), 1, "{}", setting.path);
        }
        assert!(table.lines().all(|line| line.matches('|').count() == 5), "{table}");
    }
}
