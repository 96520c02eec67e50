use std::fs;
use std::time::Duration;

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    Config::from_pairs(pairs).unwrap_or_else(|faults| panic!("{pairs:?}: {faults}"))
}

#[test]
fn every_setting_reaches_the_program() {
    let default = format!("{:?}", config(&[]));
    // These bring a secret, which Debug hides, or name a file, or need another beside them.
    let elsewhere = ["auth.required", "auth.tokens", "auth.webhook_secrets", "redis.password", "redis.mode"];
    for setting in SETTINGS.iter().filter(|setting| !elsewhere.contains(&setting.path)) {
        let value = match (&setting.kind, setting.default) {
            (SettingKind::Integer { min, .. } | SettingKind::Bytes { min, .. }, DefaultValue::Number(number))
                if number == *min =>
            {
                (number + 1).to_string()
            }
            (SettingKind::Integer { .. } | SettingKind::Bytes { .. }, DefaultValue::Number(number)) => {
                (number - 1).to_string()
            }
            (SettingKind::Integer { .. }, _) => "77".to_owned(),
            (SettingKind::Switch, DefaultValue::Switch(on)) => (!on).to_string(),
            (SettingKind::Switch, _) => "true".to_owned(),
            (SettingKind::Choice { allowed, .. }, DefaultValue::Text(text)) => {
                allowed.iter().find(|choice| **choice != text).expect("another choice").to_string()
            }
            _ if setting.path.contains("_file") || setting.path.contains("tls_") => continue,
            _ if matches!(setting.path, "redis.url" | "journal.url") => "redis://other".to_owned(),
            _ if matches!(setting.path, "fetch.proxy" | "traces.endpoint" | "http.peers") => {
                "http://other:1".to_owned()
            }
            _ if setting.path == "bind" => "::1".to_owned(),
            (SettingKind::List { .. }, _) if setting.path == "http.hosts" => "other".to_owned(),
            (SettingKind::List { .. }, _) if setting.path == "http.trusted_proxies" => "10.0.0.0/8".to_owned(),
            (SettingKind::List { .. }, _) => "other:1".to_owned(),
            _ => "other".to_owned(),
        };
        let given = format!("{:?}", config(&[(setting.path, &value)]));
        assert!(given != default, "{} = {value} changes nothing", setting.path);
    }
}

#[test]
fn secrets_reach_the_program_but_not_its_debug_output() {
    let config =
        config(&[("auth.tokens", "first#, second#\nfirst#"), ("redis.password", " p w "), ("redis.username", "u")]);
    let tokens = config.auth.all_tokens();
    assert_eq!(tokens.iter().map(Secret::expose).collect::<Vec<_>>(), ["first#", "second#"]);
    assert_eq!(config.redis.password.as_ref().map(Secret::expose), Some(" p w "));
    let shown = format!("{config:?}");
    assert!(!shown.contains('#') && !shown.contains(" p w "), "{shown}");
}

#[test]
fn durations_and_sizes_come_in_their_own_types() {
    let config = config(&[("http.shutdown_seconds", "3"), ("redis.retry_ms", "3"), ("http.max_body_bytes", "2 KiB")]);
    assert_eq!(config.http.shutdown, Duration::from_secs(3));
    assert_eq!(config.redis.retry, Duration::from_millis(3));
    assert_eq!(config.http.max_body_bytes, 2048);
    assert_eq!(config.event.default_ttl_seconds, None);
}

#[test]
fn the_redis_url_wins_and_what_it_leaves_out_comes_from_the_settings() {
    let separate = [
        ("redis.host", "separate"),
        ("redis.port", "1"),
        ("redis.username", "su"),
        ("redis.password", "sp"),
        ("redis.db", "1"),
        ("redis.tls", "true"),
    ];
    let full = config(&[&separate[..], &[("redis.url", "redis://uu:up@url:2/2")]].concat()).redis;
    let password = full.password.as_ref().map(Secret::expose);
    let login = (full.username.as_deref(), password);
    assert_eq!((full.host.as_str(), full.port, full.db, full.tls), ("url", 2, 2, false));
    assert_eq!(login, (Some("uu"), Some("up")));

    let bare = config(&[&separate[..], &[("redis.url", "rediss://url")]].concat()).redis;
    let password = bare.password.as_ref().map(Secret::expose);
    let login = (bare.username.as_deref(), password);
    assert_eq!((bare.host.as_str(), bare.port, bare.db, bare.tls), ("url", 1, 1, true));
    assert_eq!(login, (Some("su"), Some("sp")));
}

#[test]
fn tokens_and_password_are_also_read_from_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let tokens = path("tokens", "two\r\nthree, four\n");
    let password = path("password", " p w \r\n");
    let pairs = [("auth.tokens", "one,two"), ("auth.tokens_file", &tokens), ("redis.password_file", &password)];
    let config = config(&pairs);
    let tokens = config.auth.all_tokens();
    assert_eq!(tokens.iter().map(Secret::expose).collect::<Vec<_>>(), ["one", "two", "three", "four"]);
    assert_eq!(config.redis.password.as_ref().map(Secret::expose), Some(" p w "));
}

#[test]
fn pairs_are_checked_like_any_layer() {
    let faults = Config::from_pairs(&[("port", "x"), ("nonsense", "1")]).expect_err("two faults");
    assert_eq!(faults.0.len(), 2, "{faults}");
    assert_eq!(faults.to_string().lines().count(), 2);
}
