//! Settings as they are seen from outside: the binary's own answers, in an empty directory with an empty environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use redis_cache_sync::config::{DefaultValue, SETTINGS, Setting, SettingKind, default_toml, markdown_table};
use tempfile::TempDir;

const SECRET: &str = "hunter2-never-show-me";
const WEBHOOK: &str = "whsec_hunter2AAAAAAAAAAAAAAAAAAAAAAAAA";

/// A run of the binary, in a directory of its own.
struct Run {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Run {
    fn new() -> Self {
        Run { dir: tempfile::tempdir().expect("a directory"), env: Vec::new() }
    }

    fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a directory");
        fs::write(path, text).expect("a file");
        self
    }

    fn default_file(self, text: &str) -> Self {
        self.file("config/default.toml", text)
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn call(&self, args: &[&str]) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .envs(self.env.iter().cloned())
            .output()
            .expect("the binary runs");
        Answer::new(output)
    }

    /// `check-config` with these flags behind it.
    fn check(&self, flags: &[&str]) -> Answer {
        self.call(&[&["check-config"], flags].concat())
    }
}

struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    fn new(output: Output) -> Self {
        Answer {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Name to (value, source), from a run that found no fault.
    fn settings(&self) -> BTreeMap<&str, (&str, &str)> {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
            .lines()
            .filter(|line| !line.starts_with("source ") && !line.starts_with("token "))
            .map(|line| {
                let (name, rest) = line.split_once(" = ").expect("name = value");
                let (value, source) = rest.rsplit_once("   # ").expect("value   # source");
                (name.trim(), (value.trim(), source))
            })
            .collect()
    }

    fn setting(&self, name: &str) -> (&str, &str) {
        self.settings()[name]
    }

    /// Refused with 64, and each of these texts is on one line of the message.
    fn refused(&self, lines: &[&[&str]]) {
        assert_eq!(self.code, Some(64), "{}{}", self.out, self.err);
        for texts in lines {
            let found = self.err.lines().any(|line| texts.iter().all(|text| line.contains(text)));
            assert!(found, "no line with {texts:?} in:\n{}", self.err);
        }
    }

    fn hides_the_secret(&self) -> &Self {
        assert!(!self.out.contains("hunter2") && !self.err.contains("hunter2"), "{}{}", self.out, self.err);
        self
    }
}

#[test]
fn without_any_layer_every_setting_has_its_default() {
    let answer = Run::new().check(&[]);
    let settings = answer.settings();
    assert_eq!(settings.len(), SETTINGS.len());
    assert!(settings.values().all(|(_, source)| *source == "default"), "{}", answer.out);
    let want = [
        ("port", "8080"),
        ("bind", "\"0.0.0.0\""),
        ("cluster", "\"\""),
        ("log_level", "\"info\""),
        ("log_format", "\"text\""),
        ("cache.backend", "\"redis\""),
        ("cache.max_bytes", "268435456"),
        ("auth.tokens", "none"),
        ("redis.url", "none"),
        ("redis.host", "\"localhost\""),
        ("redis.port", "6379"),
        ("redis.db", "0"),
        ("redis.tls", "false"),
        ("redis.pool_size", "2"),
        ("redis.batch_max", "512"),
        ("redis.batch_max_bytes", "1048576"),
        ("redis.connect_timeout_ms", "1000"),
        ("redis.response_timeout_ms", "2000"),
        ("redis.retry_ms", "5000"),
        ("redis.mode", "\"standalone\""),
        ("redis.wait_replicas", "0"),
        ("redis.version_prefix", "\"rcs:v:\""),
        ("redis.version_window_seconds", "86400"),
        ("http.max_body_bytes", "16777216"),
        ("http.max_answer_bytes", "67108864"),
        ("http.head_timeout_ms", "5000"),
        ("http.body_timeout_ms", "30000"),
        ("http.shutdown_seconds", "25"),
        ("live.stall_seconds", "10"),
        ("event.max_events", "10000"),
        ("event.max_keys", "1000"),
        ("event.max_key_bytes", "1024"),
        ("event.default_ttl_seconds", "none"),
        ("event.max_ttl_seconds", "315360000"),
        ("event.allow_match_all", "false"),
        ("event.deadline_ms", "28000"),
        ("intake.pool_size", "0"),
        ("validation.pool_size", "0"),
        ("intake.max_in_flight", "20000"),
        ("intake.max_in_flight_bytes", "268435456"),
        ("fetch.pool_size", "2"),
        ("fetch.concurrency", "64"),
        ("fetch.per_host", "64"),
        ("fetch.connect_timeout_ms", "2000"),
        ("fetch.timeout_ms", "10000"),
        ("fetch.attempts", "4"),
        ("fetch.deadline_ms", "25000"),
        ("fetch.max_blob_bytes", "67108864"),
        ("fetch.allowed_hosts", "none"),
        ("fetch.propagate_trace", "false"),
        ("fetch.ca_file", "none"),
    ];
    for (name, value) in want {
        assert_eq!(settings[name].0, value, "{name}");
    }
    let cores = std::thread::available_parallelism().expect("a number of cores").to_string();
    assert_eq!(settings["http.workers"].0, cores);
}

#[test]
fn the_guide_lists_the_settings_as_the_table_renders_them() {
    const BEGIN: &str = "<!-- settings -->\n";
    const END: &str = "<!-- /settings -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
    let page = fs::read_to_string(path).expect("docs/settings.md");
    let (before, rest) = page.split_once(BEGIN).expect("the place where the table begins");
    let (_, after) = rest.split_once(END).expect("the place where the table ends");
    let want = format!("{before}{BEGIN}{}{END}{after}", markdown_table());
    if std::env::var_os("RENEW_DEFAULT_TOML").is_some() {
        fs::write(path, &want).expect("the file is written");
    } else {
        assert!(page == want, "docs/settings.md is out of date: run this test with RENEW_DEFAULT_TOML=1");
    }
}

#[test]
fn the_default_file_is_what_the_table_renders_and_changes_nothing() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml");
    if std::env::var_os("RENEW_DEFAULT_TOML").is_some() {
        fs::write(path, default_toml()).expect("the file is written");
    }
    let file = fs::read_to_string(path).expect("config/default.toml");
    assert!(file == default_toml(), "config/default.toml is out of date: run this test with RENEW_DEFAULT_TOML=1");

    let with = Run::new().default_file(&file).check(&[]);
    let without = Run::new().check(&[]);
    let values = |answer: &Answer| -> Vec<(String, String)> {
        answer.settings().iter().map(|(name, (value, _))| (name.to_string(), value.to_string())).collect()
    };
    assert_eq!(values(&with), values(&without));
}

#[test]
fn every_example_of_the_default_file_is_allowed() {
    let uncommented: Vec<String> = default_toml()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.split_once(" = ").is_some_and(|(name, _)| !name.contains([' ', '`'])) => {
                setting.to_owned()
            }
            Some(table) if table.starts_with("[sources.") || table.starts_with("[stores.") => table.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let answer = Run::new().default_file(&uncommented.join("\n")).check(&[]);
    // The files of the examples do not exist, a password may be given once only, and a store has one kind: nothing else is wrong.
    assert_eq!(answer.code, Some(64), "{}", answer.out);
    for line in answer.err.lines().skip(1) {
        let expected = ["there is no such file", "only one of the two", "this kind of store does not have the setting"];
        assert!(expected.iter().any(|expected| line.contains(expected)), "{line}");
    }
}

/// A value that is allowed, differs from the default and goes with the others', as text and as TOML.
fn another(setting: &Setting) -> (String, String) {
    let quoted = |text: &str| (text.to_owned(), format!("\"{text}\""));
    match (&setting.kind, setting.default) {
        (SettingKind::Integer { max, .. } | SettingKind::Bytes { max, .. }, DefaultValue::Number(default)) => {
            let number = if default > 1 { default - 1 } else { (default + 1).min(*max) };
            (number.to_string(), number.to_string())
        }
        (SettingKind::Integer { .. }, _) => ("7".to_owned(), "7".to_owned()),
        (SettingKind::Switch, DefaultValue::Switch(default)) => ((!default).to_string(), (!default).to_string()),
        (SettingKind::Choice { allowed }, DefaultValue::Text(default)) => {
            quoted(allowed.iter().rev().find(|choice| **choice != default).unwrap_or(&allowed[0]))
        }
        _ => match setting.path {
            "bind" => quoted("127.0.0.1"),
            "auth.tokens" => ("one,two".to_owned(), "[\"one\", \"two\"]".to_owned()),
            "auth.tokens_file" => quoted("tokens"),
            "auth.webhook_secrets" => (WEBHOOK.to_owned(), format!("[\"{WEBHOOK}\"]")),
            "auth.webhook_secrets_file" => quoted("webhooks"),
            "redis.url" | "journal.url" => quoted("rediss://h:7/3"),
            "redis.password_file" | "redis.sentinel_password_file" => quoted("password"),
            "redis.sentinel_tls" => ("true".to_owned(), "true".to_owned()),
            "http.peers" => ("http://another:1/".to_owned(), "[\"http://another:1/\"]".to_owned()),
            "http.hosts" => ("another".to_owned(), "[\"another\"]".to_owned()),
            "http.trusted_proxies" => ("10.0.0.0/8".to_owned(), "[\"10.0.0.0/8\"]".to_owned()),
            "redis.nodes" => ("a:1,b:2".to_owned(), "[\"a:1\", \"b:2\"]".to_owned()),
            "redis.tls_ca" | "redis.tls_cert" | "fetch.ca_file" | "http.tls_cert" | "http.tls_client_ca" => {
                quoted("cert.pem")
            }
            "redis.tls_key" | "http.tls_key" => quoted("key.pem"),
            "fetch.allowed_hosts" => ("a.example,b.example".to_owned(), "[\"a.example\", \"b.example\"]".to_owned()),
            "fetch.proxy" | "traces.endpoint" => quoted("http://another:1/"),
            _ => quoted("another"),
        },
    }
}

/// What `check-config` shows for [`another`].
fn another_shown(setting: &Setting) -> String {
    match setting.path {
        "auth.tokens" | "auth.webhook_secrets" | "redis.password" | "redis.sentinel_password" => "***".to_owned(),
        _ => another(setting).1,
    }
}

/// One layer gives every setting another value, in three rounds: `redis.url` overrides others, and a password is given
/// either itself or as a file.
fn every_setting_through(give: impl Fn(Run, &[&'static Setting]) -> Answer, source: impl Fn(&Setting) -> String) {
    for without in [
        &["redis.url", "redis.password_file", "redis.sentinel_password_file"][..],
        &["redis.url", "redis.password", "redis.sentinel_password"],
        &["redis.host", "redis.port", "redis.db", "redis.tls", "redis.password", "redis.sentinel_password"],
    ] {
        let run = Run::new()
            .file("tokens", "three\n")
            .file("webhooks", WEBHOOK)
            .file("password", "word\n")
            .file("cert.pem", pem("CERTIFICATE", CERTIFICATE))
            .file("key.pem", pem("PRIVATE KEY", KEY));
        let given: Vec<&Setting> = SETTINGS.iter().filter(|setting| !without.contains(&setting.path)).collect();
        let answer = give(run, &given);
        let shown = answer.settings();
        for setting in given {
            let want = (another_shown(setting), source(setting));
            assert_eq!(shown[setting.path], (want.0.as_str(), want.1.as_str()), "{}", setting.path);
        }
    }
}

#[test]
fn every_setting_can_be_given_in_the_file() {
    let give = |run: Run, settings: &[&'static Setting]| {
        let mut groups: BTreeMap<&str, String> = BTreeMap::new();
        for setting in settings {
            let group = groups.entry(setting.group()).or_default();
            group.push_str(&format!("{} = {}\n", setting.leaf(), another(setting).1));
        }
        let text: String = groups
            .iter()
            .map(|(group, lines)| if group.is_empty() { lines.clone() } else { format!("[{group}]\n{lines}") })
            .collect();
        run.default_file(&text).check(&[])
    };
    every_setting_through(give, |_| "config/default.toml".to_owned());
}

#[test]
fn every_setting_can_be_given_in_dotenv() {
    let give = |run: Run, settings: &[&'static Setting]| {
        let lines = settings.iter().map(|setting| format!("{}='{}'\n", setting.variable(), another(setting).0));
        run.file(".env", lines.collect::<String>()).check(&[])
    };
    every_setting_through(give, |setting| format!(".env {}", setting.variable()));
}

#[test]
fn every_setting_can_be_given_in_the_environment() {
    let give = |mut run: Run, settings: &[&'static Setting]| {
        run.env.extend(settings.iter().map(|setting| (setting.variable(), another(setting).0)));
        run.check(&[])
    };
    every_setting_through(give, |setting| format!("environment {}", setting.variable()));
}

#[test]
fn every_setting_can_be_given_by_flag() {
    let flags = |settings: &[&'static Setting]| -> Vec<String> {
        settings.iter().flat_map(|setting| [format!("--{}", setting.flag()), another(setting).0]).collect()
    };
    let behind = |run: Run, settings: &[&'static Setting]| {
        run.check(&flags(settings).iter().map(String::as_str).collect::<Vec<_>>())
    };
    let before = |run: Run, settings: &[&'static Setting]| {
        let flags = flags(settings);
        run.call(&flags.iter().map(String::as_str).chain(["check-config"]).collect::<Vec<_>>())
    };
    every_setting_through(behind, |setting| format!("flag --{}", setting.flag()));
    every_setting_through(before, |setting| format!("flag --{}", setting.flag()));
}

#[test]
fn each_layer_wins_over_those_below_it() {
    let run = Run::new();
    assert_eq!(run.check(&[]).setting("fetch.pool_size"), ("2", "default"));
    let run = run.default_file("[fetch]\npool_size = 3\n");
    assert_eq!(run.check(&[]).setting("fetch.pool_size"), ("3", "config/default.toml"));
    let run = run.file(".env", "FETCH_POOL_SIZE=4\n");
    assert_eq!(run.check(&[]).setting("fetch.pool_size"), ("4", ".env FETCH_POOL_SIZE"));
    let run = run.env("FETCH_POOL_SIZE", "5");
    assert_eq!(run.check(&[]).setting("fetch.pool_size"), ("5", "environment FETCH_POOL_SIZE"));
    assert_eq!(run.check(&["--fetch-pool-size", "6"]).setting("fetch.pool_size"), ("6", "flag --fetch-pool-size"));
    let answer = run.call(&["--fetch-pool-size=7", "check-config", "--fetch-pool-size=8"]);
    assert_eq!(answer.setting("fetch.pool_size"), ("8", "flag --fetch-pool-size"));
}

#[test]
fn another_file_is_read_instead_of_the_default_one() {
    let run = Run::new().default_file("port = 1\n").file("other.toml", "cluster = \"c\"\n");
    for args in [["check-config", "--config", "other.toml"], ["--config", "other.toml", "check-config"]] {
        let answer = run.call(&args);
        assert_eq!(answer.setting("port"), ("8080", "default"));
        assert_eq!(answer.setting("cluster"), ("\"c\"", "other.toml"));
    }
}

#[test]
fn an_empty_variable_is_unset() {
    let run =
        Run::new().default_file("port = 1\n").file(".env", "PORT=\nCLUSTER=c\n").env("PORT", "").env("CLUSTER", "");
    let answer = run.check(&[]);
    assert_eq!(answer.setting("port"), ("1", "config/default.toml"));
    assert_eq!(answer.setting("cluster"), ("\"c\"", ".env CLUSTER"));
}

#[test]
fn an_empty_text_in_a_higher_layer_unsets_what_may_be_unset() {
    let run = Run::new().default_file("[redis]\nusername = \"u\"\n[fetch]\nallowed_hosts = [\"a\"]\n");
    let answer = run.check(&["--redis-username", "", "--fetch-allowed-hosts="]);
    assert_eq!(answer.setting("redis.username"), ("none", "flag --redis-username"));
    assert_eq!(answer.setting("fetch.allowed_hosts"), ("none", "flag --fetch-allowed-hosts"));
    run.check(&["--redis-host", ""]).refused(&[&["redis.host", "flag --redis-host"]]);
}

#[test]
fn unknown_variables_are_nobodys_business() {
    let run = Run::new().file(".env", "FETCH_POOL=x\n").env("FETCH_POOLSIZE", "x").env("fetch_pool_size", "x");
    assert_eq!(run.check(&[]).setting("fetch.pool_size"), ("2", "default"));
}

#[test]
fn a_variable_that_is_a_letter_off_a_settings_is_warned_of() {
    let run =
        Run::new().env("REDIS_PASWORD", "secret-4711").env("FETCH_POOL_SIZES", "3").env("REDIS_PORT_6379_TCP", "x");
    let answer = run.check(&[]);
    for (name, meant) in [("REDIS_PASWORD", "REDIS_PASSWORD"), ("FETCH_POOL_SIZES", "FETCH_POOL_SIZE")] {
        let warning = format!("environment {name} is not a setting and is ignored; did you mean {meant}?");
        assert!(answer.err.contains(&warning), "{}", answer.err);
    }
    assert!(!answer.err.contains("4711") && !answer.err.contains("6379_TCP"), "{}", answer.err);
}

#[test]
fn a_dollar_in_a_dotenv_stays_and_opens_no_door() {
    let answer = Run::new().file(".env", "AUTH_TOKENS=$x\nCLUSTER=a$HOME\n").check(&[]);
    assert_eq!(answer.setting("auth.tokens"), ("***", ".env AUTH_TOKENS"));
    assert_eq!(answer.setting("cluster").0, "\"a$HOME\"");
}

#[test]
fn a_kubernetes_service_link_is_ignored_with_a_warning() {
    let run = Run::new().file(".env", "PORT=tcp://10.0.0.2:8080\n").env("REDIS_PORT", "tcp://10.0.0.1:6379");
    let run = run.env("ADMIN_PORT", "tcp://10.0.0.3:1");
    let answer = run.check(&[]);
    assert_eq!(answer.setting("redis.port"), ("6379", "default"));
    assert_eq!(answer.setting("port"), ("8080", "default"));
    for name in ["environment REDIS_PORT", "environment ADMIN_PORT", ".env PORT"] {
        assert!(answer.err.contains(&format!("warning: {name} is a Kubernetes service link")), "{}", answer.err);
    }
    Run::new().env("FETCH_POOL_SIZE", "tcp://x").check(&[]).refused(&[&["fetch.pool_size", "not an integer"]]);
}

#[test]
fn an_unknown_name_in_the_file_is_named_with_its_source_and_what_is_allowed() {
    let run =
        Run::new().default_file("prot = 1\nPort = 1\n[fetch]\npool_sise = 1\nnonsense = 1\n[ftech]\nattempts = 1\n");
    run.check(&[]).refused(&[
        &["prot (config/default.toml)", "did you mean port?", "log_level"],
        &["Port (config/default.toml)", "no such setting"],
        &["fetch.pool_sise (config/default.toml)", "did you mean fetch.pool_size?", "per_host"],
        &["fetch.nonsense (config/default.toml)", "max_blob_bytes"],
        &["ftech (config/default.toml)", "did you mean fetch?"],
    ]);
    let run = Run::new().file("x.toml", "\"fetch.pool_size\" = 3\n");
    run.check(&["--config", "x.toml"]).refused(&[&["fetch.pool_size", "x.toml", "no such setting"]]);
}

#[test]
fn unknown_flags_are_all_named() {
    let answer =
        Run::new().env("PORT", "x").call(&["--fetch-pool-sise", "3", "check-config", "--nonsense=x", "--port", "0"]);
    answer.refused(&[
        &["--fetch-pool-sise", "did you mean --fetch-pool-size?", "--help"],
        &["--nonsense", "no such flag"],
        &["port", "environment PORT"],
    ]);
}

#[test]
fn bad_values_are_all_named_with_source_and_bounds_even_if_overridden() {
    let run = Run::new()
        .default_file("port = 70000\nbind = \"here\"\n[fetch]\npool_size = 0\nattempts = \"4\"\n[redis]\ntls = 1\n")
        .file(".env", "FETCH_POOL_SIZE=65\nLOG_LEVEL=loud\n")
        .env("FETCH_POOL_SIZE", "many")
        .env("EVENT_ALLOW_MATCH_ALL", "yes");
    let answer = run.check(&["--fetch-pool-size", "4", "--http-max-body-bytes", "16 MB", "--http-workers", "-1"]);
    answer.refused(&[
        &["port = 70000 (config/default.toml): too large", "from 0 to 65535"],
        &["bind = \"here\" (config/default.toml)", "IPv4 or IPv6"],
        &["fetch.pool_size = 0 (config/default.toml): too small", "from 1 to 64"],
        &["fetch.attempts = \"4\" (config/default.toml)", "a text where an integer belongs"],
        &["redis.tls = 1 (config/default.toml)", "true or false"],
        &["fetch.pool_size = \"65\" (.env FETCH_POOL_SIZE): too large"],
        &["log_level = \"loud\" (.env LOG_LEVEL)", "debug, info, warn or error"],
        &["fetch.pool_size = \"many\" (environment FETCH_POOL_SIZE): not an integer"],
        &["event.allow_match_all = \"yes\" (environment EVENT_ALLOW_MATCH_ALL)"],
        &["http.max_body_bytes = \"16 MB\" (flag --http-max-body-bytes): an unknown unit"],
        &["http.workers = \"-1\" (flag --http-workers): a negative number"],
    ]);
    assert_eq!(answer.err.lines().count(), 12, "{}", answer.err);
}

#[test]
fn a_group_is_no_setting_and_a_setting_no_group() {
    let run = Run::new().default_file("fetch = 3\n[port]\nx = 1\n[redis.host]\nx = 1\n[[http]]\nworkers = 1\n");
    run.check(&[]).refused(&[
        &["fetch = 3 (config/default.toml): a group of settings", "pool_size"],
        &["port = {…} (config/default.toml): a table where an integer belongs"],
        &["redis.host = {…} (config/default.toml)"],
        &["http = ", "a group of settings", "workers"],
    ]);
}

#[test]
fn a_file_that_is_not_toml_is_named_with_its_line_but_not_its_text() {
    let run = Run::new().default_file(&format!("port = 1\n[redis]\npassword = \"{SECRET}\n"));
    run.check(&[]).hides_the_secret().refused(&[&["config/default.toml", "line 3"]]);
}

#[test]
fn a_dotenv_line_that_is_no_assignment_is_named_by_number_but_not_its_text() {
    let text = format!("# comment\nPORT=1\nREDIS_PASSWORD {SECRET}\nCLUSTER='a\nb'\nwhat is this\nLOG_LEVEL=loud\n");
    let answer = Run::new().file(".env", text).check(&[]);
    answer.hides_the_secret().refused(&[
        &[".env", "line 3"],
        &[".env", "line 6"],
        &["log_level = \"loud\" (.env LOG_LEVEL)"],
    ]);
}

#[test]
fn files_of_settings_that_cannot_be_read_are_named() {
    let run = Run::new().file("binary.toml", b"port = \xff\n").file("large.toml", vec![b'\n'; (1 << 20) + 1]);
    for (file, reason) in
        [("missing.toml", "no such file"), (".", "a directory"), ("binary.toml", "UTF-8"), ("large.toml", "1 MiB")]
    {
        run.check(&["--config", file]).refused(&[&[file, reason]]);
    }
    assert_eq!(Run::new().file("config", "").check(&[]).setting("port"), ("8080", "default"), "no such folder");
    Run::new().file("config/default.toml/x", "").check(&[]).refused(&[&["config/default.toml", "a directory"]]);
}

#[test]
fn settings_that_do_not_go_together_are_named_in_pairs() {
    let run = Run::new().env("INTAKE_MAX_IN_FLIGHT", "10").default_file("[event]\nmax_events = 11\n");
    run.check(&["--intake-max-in-flight-bytes", "255", "--http-max-body-bytes=256", "--fetch-max-blob-bytes=257", "--event-max-keys=1"])
        .refused(&[
            &["event.max_events = 11 (config/default.toml) and intake.max_in_flight = 10 (environment INTAKE_MAX_IN_FLIGHT)"],
            &["http.max_body_bytes = 256 (flag --http-max-body-bytes) and intake.max_in_flight_bytes = 255"],
            &["fetch.max_blob_bytes = 257", "intake.max_in_flight_bytes = 255 (flag --intake-max-in-flight-bytes)"],
            &["event.max_keys = 1 (flag --event-max-keys)", "intake.max_in_flight_bytes = 255", "256 times"],
        ]);
    let fits = [
        "--intake-max-in-flight-bytes=256",
        "--http-max-body-bytes=256",
        "--fetch-max-blob-bytes=256",
        "--event-max-keys=1",
    ];
    let run = Run::new().env("EVENT_MAX_EVENTS", "10").env("INTAKE_MAX_IN_FLIGHT", "10");
    assert_eq!(run.check(&fits).code, Some(0), "{}", run.check(&fits).err);

    Run::new()
        .check(&["--port=7", "--admin-port=7"])
        .refused(&[&["port = 7 (flag --port) and admin_port = 7 (flag --admin-port)", "must differ"]]);
    assert_eq!(Run::new().check(&["--port=0", "--admin-port=0"]).code, Some(0), "two free ones differ");

    Run::new()
        .check(&["--event-default-ttl-seconds=2", "--event-max-ttl-seconds=1"])
        .refused(&[&["event.default_ttl_seconds = 2", "event.max_ttl_seconds = 1"]]);
}

#[test]
fn a_bad_value_makes_no_second_fault_of_a_pair() {
    let answer = Run::new().env("EVENT_MAX_EVENTS", "x").env("INTAKE_MAX_IN_FLIGHT", "1").check(&[]);
    answer.refused(&[&["event.max_events = \"x\""]]);
    assert!(!answer.err.contains("must not exceed"), "{}", answer.err);
}

#[test]
fn a_password_is_given_once_and_a_certificate_with_its_key() {
    let run = Run::new()
        .file("password", SECRET)
        .file("cert.pem", pem("CERTIFICATE", CERTIFICATE))
        .file("key.pem", pem("PRIVATE KEY", OTHER_KEY))
        .env("REDIS_PASSWORD", SECRET)
        .env("REDIS_PASSWORD_FILE", "password")
        .env("REDIS_TLS_CERT", "cert.pem");
    run.check(&[]).hides_the_secret().refused(&[
        &["redis.password (environment REDIS_PASSWORD)", "redis.password_file", "only one"],
        &["redis.tls_cert = \"cert.pem\" (environment REDIS_TLS_CERT)", "redis.tls_key"],
    ]);
    run.check(&["--redis-tls-key", "key.pem"])
        .refused(&[&["redis.tls_key (flag --redis-tls-key): key.pem", "not the key"]]);
    let run = Run::new()
        .file("cert.pem", pem("CERTIFICATE", CERTIFICATE))
        .file("key.pem", pem("PRIVATE KEY", OTHER_KEY))
        .env("HTTP_TLS_CLIENT_CA", "cert.pem");
    run.check(&[]).refused(&[&["http.tls_client_ca", "http.tls_cert (unset)", "the first needs the second"]]);
    run.check(&["--http-tls-cert=cert.pem"]).refused(&[&["http.tls_cert", "http.tls_key (unset)"]]);
    run.check(&["--http-tls-cert=cert.pem", "--http-tls-key=key.pem"]).refused(&[&[
        "http.tls_key (flag --http-tls-key): key.pem",
        "not the key to the certificate of http.tls_cert",
    ]]);
}

#[test]
fn named_files_that_are_of_no_use_are_faults_without_their_contents() {
    let run = Run::new().file("empty", "\n").file("junk", format!("{SECRET} and\nmore"));
    for name in [
        "AUTH_TOKENS_FILE",
        "AUTH_WEBHOOK_SECRETS_FILE",
        "REDIS_PASSWORD_FILE",
        "REDIS_TLS_CA",
        "HTTP_TLS_CERT",
        "HTTP_TLS_CLIENT_CA",
        "FETCH_CA_FILE",
    ] {
        let setting = SETTINGS.iter().find(|setting| setting.variable() == name).expect("a setting").path;
        for path in ["missing", "empty", "junk", "."] {
            let flag = format!("--{}", setting.replace(['.', '_'], "-"));
            run.check(&[&flag, path]).hides_the_secret().refused(&[&[setting, &flag, &format!(": {path}: ")]]);
        }
    }
    let broken = Run::new().file("x.pem", pem("CERTIFICATE", "AAAA"));
    broken.check(&["--fetch-ca-file", "x.pem"]).refused(&[&["fetch.ca_file", "x.pem", "cannot be read"]]);
}

#[test]
fn rights_of_tokens_are_checked_where_they_stand() {
    let good = format!("page:{SECRET} read,shop:{SECRET}2 prefix=shop: prefix=ä,{SECRET}3");
    let answer =
        Run::new().file("tokens", "a:b write\nc").check(&["--auth-tokens", &good, "--auth-tokens-file", "tokens"]);
    assert_eq!(answer.hides_the_secret().setting("auth.tokens"), ("***", "flag --auth-tokens"));
    let told: Vec<&str> = answer.out.lines().filter(|line| line.starts_with("token ")).collect();
    let shop = r#"token shop: may read and write keys that begin with "shop:" or "ä""#;
    assert_eq!(told, ["token page: may read all keys", shop, "token a: may write all keys"]);
    let allowed = "allowed: [NAME:]TOKEN";
    for (item, why) in [
        (format!("n:{SECRET} reed"), "item 2: a right other than read, write and prefix=TEXT"),
        (format!("{SECRET} read"), "item 2: a blank inside of a token, or rights of a token without a name"),
        (format!("n:{SECRET} prefix="), "item 2: prefix= without a text behind it"),
        (format!("n:{SECRET} prefix={}", "x".repeat(257)), "item 2: a prefix of more than 256 bytes"),
    ] {
        let run = Run::new().file("tokens", format!("good\n{item}\n"));
        let both = format!("good,{item}");
        let faults: [&[&str]; 2] =
            [&["auth.tokens (flag --auth-tokens)", why, allowed], &["auth.tokens_file", ": tokens: ", why]];
        run.check(&["--auth-tokens", &both, "--auth-tokens-file", "tokens"]).hides_the_secret().refused(&faults);
    }
}

#[test]
fn secrets_are_never_printed() {
    let run = Run::new()
        .file("tokens", format!("{SECRET}-1,{SECRET}-2"))
        .default_file(&format!("[auth]\ntokens = [\"{SECRET}\"]\n[redis]\npassword = \"{SECRET}\"\n"))
        .file(".env", format!("REDIS_PASSWORD={SECRET}\n"))
        .env("REDIS_URL", &format!("redis://me:{SECRET}@h:1/2"));
    let answer = run.check(&["--auth-tokens-file", "tokens", "--auth-tokens", SECRET]);
    answer.hides_the_secret();
    assert_eq!(answer.setting("auth.tokens"), ("***", "flag --auth-tokens"));
    assert_eq!(answer.setting("redis.password"), ("***", "redis.url, environment REDIS_URL"));
    assert_eq!(answer.setting("redis.url"), ("\"redis://me:***@h:1/2\"", "environment REDIS_URL"));

    let answer = Run::new().env("REDIS_URL", &format!("redis://{SECRET}@h")).check(&[]);
    answer.hides_the_secret();
    assert_eq!(answer.setting("redis.username"), ("***", "redis.url, environment REDIS_URL"));

    let run = Run::new()
        .default_file(&format!("[auth]\ntokens = [\"{SECRET}\", 3]\n[redis]\npassword = [\"{SECRET}\"]\n"))
        .env("AUTH_TOKENS", &format!("good,{SECRET} ä"))
        .env("REDIS_URL", &format!("redis://:{SECRET}@h:x"));
    run.check(&["--redis-url", &format!("http://:{SECRET}@h")]).hides_the_secret().refused(&[
        &["auth.tokens (config/default.toml)"],
        &["redis.password (config/default.toml)"],
        &["auth.tokens (environment AUTH_TOKENS): item 2"],
        &["redis.url (environment REDIS_URL): not a URL", "redis://"],
        &["redis.url (flag --redis-url)", "redis://"],
    ]);
    let run = Run::new()
        .env("AUTH_WEBHOOK_SECRETS", "whsec_hunter2A")
        .default_file("[auth]\nwebhook_secrets = \"hunter2\"\n");
    run.check(&[&format!("--auth-webhook-secrets={WEBHOOK},whsec_hunter2!")]).hides_the_secret().refused(&[
        &[
            "auth.webhook_secrets (environment AUTH_WEBHOOK_SECRETS): item 1",
            "fewer than 24",
            "allowed: whsec_ and the base64 of 24 to 64 bytes",
        ],
        &["auth.webhook_secrets (config/default.toml): item 1", "does not begin with whsec_"],
        &["auth.webhook_secrets (flag --auth-webhook-secrets): item 2", "not base64"],
    ]);
    let answer = Run::new().check(&["--auth-webhook-secrets", WEBHOOK]);
    assert_eq!(answer.hides_the_secret().setting("auth.webhook_secrets"), ("***", "flag --auth-webhook-secrets"));
    Run::new().check(&[&format!("--redis-pasword={SECRET}")]).hides_the_secret().refused(&[&["--redis-pasword"]]);
    Run::new().check(&["--redis-pasword", SECRET]).hides_the_secret().refused(&[&["--redis-pasword"]]);
}

#[test]
fn a_secret_in_the_wrong_place_is_not_printed_with_the_fault() {
    let urls = "[\"http://h:8080\", \"http://user:hunter2@h:8080\"]";
    let run = Run::new()
        .default_file(&format!(
            "auth = \"hunter2\"\nredis = \"redis://:hunter2@h\"\nevent = [\"hunter2\"]\nlive = 3\n\
             [http]\npeers = {urls}\n[traces]\nendpoint = \"http://user:hunter2@collector:4318\"\n\
             [fetch]\nallowed_hosts = [\"user:hunter2@h\"]\nca_file = \"https://user:hunter2@h/ca.pem\"\n\
             [stores.main]\nkind = \"azure\"\nendpoint = \"https://a.blob.core.windows.net/?sv=1&sig=hunter2\"\n\
             account = \"AccountName=a;AccountKey=hunter2\"\n\
             [sources.minio]\nformat = \"s4\"\nstore = \"https://user:hunter2@h\"\noidc_issuer = \"https://user:hunter2@h\"\n"
        ))
        .env("REDIS_HOST", "redis://:hunter2@cache:6379")
        .env("PORT", "80 80");
    run.check(&["--redis-nodes", "a:1,user:hunter2@b:2"]).hides_the_secret().refused(&[
        &["auth (config/default.toml): a group of settings"],
        &["redis (config/default.toml): a group of settings"],
        &["event (config/default.toml): a group of settings"],
        &["live = 3 (config/default.toml): a group of settings"],
        &["http.peers (config/default.toml): item 2: not such a URL"],
        &["traces.endpoint (config/default.toml): not such a URL"],
        &["fetch.allowed_hosts (config/default.toml): item 1: not a host"],
        &["fetch.ca_file (config/default.toml): ***: there is no such file"],
        &["stores.main.endpoint (config/default.toml): not such a URL"],
        &["stores.main.account (config/default.toml): not a storage account"],
        &["sources.minio.format = \"s4\" (config/default.toml): not one of the choices"],
        &["sources.minio.store (config/default.toml): there is no store of this name"],
        &["sources.minio.oidc_issuer (config/default.toml): not such a URL"],
        &["redis.host (environment REDIS_HOST): not a host"],
        &["redis.nodes (flag --redis-nodes): item 2: not a host"],
        &["port = \"80 80\" (environment PORT): not an integer"],
    ]);
}

#[test]
fn what_the_redis_url_says_is_what_is_in_effect() {
    let run = Run::new()
        .env("REDIS_URL", &format!("rediss://me:{SECRET}@h/2"))
        .env("REDIS_HOST", "other")
        .env("REDIS_PORT", "7");
    let answer = run.check(&[]);
    answer.hides_the_secret();
    let source = "redis.url, environment REDIS_URL";
    assert_eq!(answer.setting("redis.host"), ("\"h\"", source));
    assert_eq!(answer.setting("redis.port"), ("7", "environment REDIS_PORT"));
    assert_eq!(answer.setting("redis.username"), ("\"me\"", source));
    assert_eq!(answer.setting("redis.password"), ("***", source));
    assert_eq!(answer.setting("redis.db"), ("2", source));
    assert_eq!(answer.setting("redis.tls"), ("true", source));
}

#[test]
fn a_kind_of_redis_gets_what_it_needs_and_nothing_that_it_has_not() {
    let mode = |mode: &str| Run::new().env("REDIS_MODE", mode);
    mode("ring").check(&[]).refused(&[&["redis.mode", "allowed: standalone, cluster or sentinel"]]);
    assert_eq!(mode("cluster").check(&[]).err, "");
    assert_eq!(
        mode("cluster").check(&["--redis-nodes=a:1,[::1]:2"]).setting("redis.nodes").0,
        "[\"a:1\", \"[::1]:2\"]"
    );
    let why = "a cluster has only database 0";
    let db = "redis.db = 3 (flag --redis-db)";
    mode("cluster").check(&["--redis-db=3"]).refused(&[&["redis.mode = \"cluster\"", db, why]]);
    let answer = mode("cluster").check(&["--redis-url=redis://:hunter2@h/3"]);
    answer.refused(&[&["redis.mode = \"cluster\"", "redis.db = 3 (redis.url, flag --redis-url)", why]]);
    assert!(!answer.err.contains("hunter2"), "{}", answer.err);
    assert_eq!(mode("cluster").check(&["--redis-db=3", "--redis-url=redis://h/0"]).err, "");
    let (first, needs) = ("redis.mode = \"sentinel\"", "the first needs the second");
    mode("sentinel")
        .check(&[])
        .refused(&[&[first, "redis.nodes (unset)", needs], &[first, "redis.sentinel_master (unset)", needs]]);
    mode("sentinel").check(&["--redis-nodes=a:1"]).refused(&[&[first, "redis.sentinel_master (unset)", needs]]);
    assert_eq!(mode("sentinel").check(&["--redis-nodes=a:1", "--redis-sentinel-master=m", "--redis-db=3"]).err, "");
    let answer = mode("cluster").check(&["--redis-sentinel-master=m"]);
    assert!(
        answer.err.contains("redis.sentinel_master (flag --redis-sentinel-master) has no effect"),
        "{}",
        answer.err
    );
    let answer = Run::new().env("REDIS_NODES", "a:1").check(&[]);
    assert_eq!(answer.setting("redis.nodes"), ("[\"a:1\"]", "environment REDIS_NODES"));
    assert!(answer.err.contains("redis.nodes (environment REDIS_NODES) has no effect"), "{}", answer.err);
}

#[test]
fn tls_settings_without_tls_are_warned_of() {
    let run = Run::new().file("cert.pem", pem("CERTIFICATE", CERTIFICATE)).env("REDIS_TLS_CA", "cert.pem");
    assert!(run.check(&[]).err.contains("redis.tls_ca (environment REDIS_TLS_CA) has no effect"));
    assert_eq!(run.check(&["--redis-tls"]).err, "");
    assert_eq!(run.check(&["--redis-url=rediss://h"]).err, "");
    assert!(
        run.check(&["--redis-tls", "--redis-url=redis://h"]).err.contains("redis.tls (flag --redis-tls) has no effect")
    );
}

#[test]
fn embedded_is_short_for_the_embedded_backend() {
    let run = Run::new().env("CACHE_BACKEND", "redis");
    assert_eq!(run.check(&["--embedded"]).setting("cache.backend"), ("\"embedded\"", "flag --embedded"));
    assert_eq!(run.call(&["--embedded", "check-config"]).setting("cache.backend").0, "\"embedded\"");
    assert_eq!(run.check(&["--embedded", "--cache-backend=embedded"]).code, Some(0));
    for args in [
        ["--embedded", "check-config", "--cache-backend=redis"],
        ["--cache-backend=redis", "check-config", "--embedded"],
    ] {
        run.call(&args).refused(&[&["--embedded", "--cache-backend redis", "contradict"]]);
    }
}

#[test]
fn serve_is_refused_for_the_same_faults_with_or_without_its_name() {
    let run = Run::new().env("PORT", "x");
    let want = run.check(&[]).err;
    assert!(want.contains("environment PORT"), "{want}");
    for args in [&[][..], &["serve"], &["serve", "--embedded"]] {
        let answer = run.call(args);
        answer.refused(&[]);
        assert_eq!(answer.err, want);
    }
}

#[test]
fn help_and_version_end_well_and_a_senseless_command_line_does_not() {
    let run = Run::new().env("PORT", "x");
    for args in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["demo", "--help"],
        &["check-config", "--help"],
        &["help"],
    ] {
        let answer = run.call(args);
        assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{args:?}");
        assert!(!answer.out.is_empty());
    }
    assert_eq!(run.call(&["--version"]).out, format!("redis-cache-sync {}\n", env!("CARGO_PKG_VERSION")));
    for args in [
        &["nonsense"][..],
        &["serve", "extra"],
        &["--config"],
        &["--port"],
        &["--port", "1", "--port", "2"],
        &["-x"],
        &["--keep"],
        &["demo", "--port", "1"],
        &["--port", "1", "demo"],
        &["--config", "x", "demo"],
        &["demo", "--nonsense"],
    ] {
        let answer = run.call(args);
        answer.refused(&[]);
        assert!(!answer.err.is_empty(), "{args:?}");
    }
}

#[test]
fn help_lists_the_flag_of_every_setting() {
    let help = Run::new().call(&["serve", "--help"]).out;
    for setting in SETTINGS {
        assert!(help.contains(&format!("--{} ", setting.flag())), "{}", setting.flag());
    }
}

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Made for these tests alone and trusted by nobody.
const CERTIFICATE: &str = "\
    MIIBlzCCAT2gAwIBAgIUZHntI0P+Nji8rsASrCFpx/qKJWcwCgYIKoZIzj0EAwIwIDEeMBwGA1UEAwwVcmVkaXMtY2FjaGUtc3lu\
    YyB0ZXN0MCAXDTI2MTEyMzA0MDkyN1oYDzIxMjYxMDMwMDQwOTI3WjAgMR4wHAYDVQQDDBVyZWRpcy1jYWNoZS1zeW5jIHRlc3Qw\
    WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASqUCSdlcMRWE4I9SYVyPYEVmkak6bUBg/eyGpdezsvAK3QUAmmu6e+sA5UZW0TFDKl\
    NyABJd+WZ9k4L1ubIptSo1MwUTAdBgNVHQ4EFgQU4pqG0GH3IWK/PsAcgDMZ459lJkwwHwYDVR0jBBgwFoAU4pqG0GH3IWK/PsAc\
    gDMZ459lJkwwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAhRu+dLKKu9kJzSdXrpuh9/Bj3RSLQ7ps5leeseqW\
    /3oCICP1+I6MK1DUPSODvmFzL7a3S60vkDpZTKOCzIqBQCne";
const KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUM+7JaD+AXkqRi2GBHWNd0hHhxj9KXBT49pgBaVX+hyhRANCAASq\
    UCSdlcMRWE4I9SYVyPYEVmkak6bUBg/eyGpdezsvAK3QUAmmu6e+sA5UZW0TFDKlNyABJd+WZ9k4L1ubIptS";
const OTHER_KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFbY4xx09sFOEiQwme6axiY/yZLzdEAGC8YoMoQ83FB+hRANCAAQP\
    TGsnLw6DnkCVsZQpAAT/k2S/K+j6kEztw3llQJpR/BAarwzlPGM0D9TRbjE0LcGfxLTikqe3k7RjU77trjIg";

#[test]
fn limits_that_contradict_each_other_are_warned_of_with_both() {
    let warned = |flags: &[&str], lines: &[&[&str]]| {
        let answer = Run::new().check(flags);
        assert_eq!(answer.code, Some(0), "{}", answer.err);
        for texts in lines {
            assert!(answer.err.lines().any(|line| texts.iter().all(|text| line.contains(text))), "{}", answer.err);
        }
    };
    assert_eq!(Run::new().check(&[]).err, "");
    warned(
        &["--redis-retry-ms=500"],
        &[
            &["redis.connect_timeout_ms = 1000 (default) exceeds redis.retry_ms = 500 (flag --redis-retry-ms)"],
            &["redis.response_timeout_ms = 2000 (default) exceeds redis.retry_ms = 500", "cut to what is left"],
        ],
    );
    warned(
        &["--journal-max-events=50"],
        &[&["event.max_events = 10000 (default) exceeds journal.max_events = 50 (flag --journal-max-events)", "413"]],
    );
    warned(
        &["--event-deadline-ms=4000", "--fetch-timeout-ms=30000", "--fetch-connect-timeout-ms=31000"],
        &[
            &["redis.retry_ms = 5000 (default) exceeds event.deadline_ms = 4000"],
            &["fetch.connect_timeout_ms = 31000", "exceeds fetch.timeout_ms = 30000"],
            &["fetch.timeout_ms = 30000", "exceeds fetch.deadline_ms = 25000 (default)"],
            &["fetch.deadline_ms = 25000 (default) exceeds event.deadline_ms = 4000"],
        ],
    );
}

#[test]
fn a_source_is_set_in_every_layer_and_check_config_shows_its_url_and_a_key() {
    let run = Run::new()
        .default_file(
            "bind = \"127.0.0.1\"\n[sources.minio]\nformat = \"s3\"\nkey = \"{source}:{dir}|{stem}|{ext}\"\nttl = 60\n",
        )
        .file(".env", "SOURCES_MINIO_TTL=70\nSOURCES_MINIO_VALUE=facts\n")
        .env("SOURCES_MINIO_TTL", "80")
        .env("SOURCES_WEED_FORMAT", "seaweedfs")
        .env("SOURCES_MINIO_TOKENS", SECRET);
    let answer = run.check(&["--sources-minio-include", "a/*,b/*", "--sources-third-value=none"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    let settings = answer.settings();
    for (name, value, source) in [
        ("sources.minio.format", "\"s3\"", "config/default.toml"),
        ("sources.minio.ttl", "80", "environment SOURCES_MINIO_TTL"),
        ("sources.minio.value", "\"facts\"", ".env SOURCES_MINIO_VALUE"),
        ("sources.minio.include", "[\"a/*\", \"b/*\"]", "flag --sources-minio-include"),
        ("sources.minio.exclude", "none", "default"),
        ("sources.minio.tokens", "***", "environment SOURCES_MINIO_TOKENS"),
        ("sources.weed.key", "\"{object}\"", "default"),
        ("sources.third.value", "\"none\"", "flag --sources-third-value"),
    ] {
        assert_eq!(settings.get(name), Some(&(value, source)), "{name}");
    }
    let shown = "source minio: POST http://127.0.0.1:8080/sources/minio; the object bucket/dir/name.ext has the key minio:dir|name|ext";
    assert!(answer.out.lines().any(|line| line == shown), "{}", answer.out);
    assert!(
        answer.err.contains("sends a notification once") && answer.err.contains("reconcile weed"),
        "{}",
        answer.err
    );
    assert!(!answer.out.contains(SECRET) && !answer.err.contains(SECRET));
}

#[test]
fn faults_of_a_source_are_named_with_the_nearest_name() {
    let file = "[sources.minio]\nfromat = \"s3\"\nkey = \"{name}\"\nttl = \"60\"\nformat = \"s4\"\n[sources.Big]\n[sources]\nx = 1\n";
    let file = file.replace("[sources]\nx = 1\n", "");
    let run = Run::new().default_file(&file).env("SOURCES_MINIO_STORE", "main").env("SOURCES_MINIO_ACCEPT", "journal");
    let run = run.env("CACHE_BACKEND", "embedded");
    let answer = run.check(&["--sources-minio-vallue", "facts", "--sources-NAME-format", "s3"]);
    assert_eq!(answer.code, Some(64));
    for expected in [
        "sources.minio.fromat (config/default.toml): no such setting, did you mean sources.minio.format?",
        "sources.minio.key = \"{name}\" (config/default.toml): something in braces that is not a part of a key",
        "sources.minio.ttl = \"60\" (config/default.toml): a text where an integer belongs",
        "sources.minio.format = \"s4\" (config/default.toml): not one of the choices; allowed: auto, s3",
        "sources.Big (config/default.toml): not the name of a source",
        "sources.minio.store = \"main\" (environment SOURCES_MINIO_STORE): there is no store of this name",
        "sources.minio.accept = \"journal\" (environment SOURCES_MINIO_ACCEPT)",
        "the embedded cache has no journal; set journal.url, or accept = done",
        "--sources-minio-vallue (command line): there is no such flag, did you mean --sources-minio-value?",
        "--sources-NAME-format (command line): write a name in place of NAME",
    ] {
        assert!(answer.err.contains(expected), "{expected}\n{}", answer.err);
    }
    let answer = Run::new().env("SOURCES_MINIO_FROMAT", "s3").check(&[]);
    assert!(answer.err.contains("did you mean SOURCES_MINIO_FORMAT?"), "{}", answer.err);
    let long = Run::new().env("SOURCES_MINIO_TTL", "4000").env("EVENT_MAX_TTL_SECONDS", "3000").check(&[]);
    assert!(long.err.contains("sources.minio.ttl must not exceed event.max_ttl_seconds"), "{}", long.err);
    let empty = Run::new().env("SOURCES_MINIO_TOKENS", "").check(&[]);
    assert!(empty.code == Some(64) && empty.err.contains("empty; leave it out"), "{}", empty.err);
}

/// What is said of these settings of a store named `main`.
fn check_store(settings: &[(&str, &str)]) -> Answer {
    let run = settings.iter().fold(Run::new(), |run, (leaf, value)| run.env(&format!("STORES_MAIN_{leaf}"), value));
    run.file("key", SECRET).check(&[])
}

#[test]
fn a_store_has_the_settings_of_its_kind_and_its_secrets_are_never_printed() {
    for settings in [
        &[("KIND", "s3"), ("REGION", "eu-central-1"), ("ACCESS_KEY_ID", SECRET), ("SECRET_ACCESS_KEY", SECRET)][..],
        &[
            ("KIND", "s3"),
            ("ENDPOINT", "http://h:9000"),
            ("ACCESS_KEY_ID_FILE", "key"),
            ("SECRET_ACCESS_KEY_FILE", "key"),
        ],
        &[("KIND", "azure"), ("ACCOUNT", "acct"), ("ACCOUNT_KEY", "aHVudGVyMg==")],
        &[("KIND", "azure"), ("ENDPOINT", "http://h:1/acct"), ("SAS_TOKEN", "?sv=1&sig=hunter2")],
        &[("KIND", "gcs"), ("ANONYMOUS", "true")],
        &[("KIND", "gcs")],
        &[("KIND", "http"), ("ENDPOINT", "https://h/files"), ("HEADER", "Authorization: Bearer hunter2")],
    ] {
        let answer = check_store(settings);
        assert_eq!(answer.code, Some(0), "{settings:?}: {}", answer.err);
        let shown: Vec<&str> = answer.out.lines().filter(|line| line.contains("***")).collect();
        let secrets = ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ACCOUNT_KEY", "SAS_TOKEN", "HEADER"];
        assert_eq!(shown.len(), settings.iter().filter(|(leaf, _)| secrets.contains(leaf)).count(), "{}", answer.out);
        answer.hides_the_secret();
        assert!(!answer.out.contains("aHVudGVyMg"), "{}", answer.out);
    }
}

#[test]
fn settings_of_a_store_that_do_not_go_together_are_named_as_a_pair() {
    for (settings, pair) in [
        (&[("ENDPOINT", "http://h")][..], ["stores.main.kind is unset", "s3, azure, gcs or http"]),
        (&[("KIND", "s3")], ["stores.main.kind", "stores.main.region (unset)"]),
        (&[("KIND", "azure")], ["stores.main.kind", "stores.main.account (unset)"]),
        (&[("KIND", "http")], ["stores.main.kind", "stores.main.endpoint (unset)"]),
        (
            &[("KIND", "gcs"), ("ACCOUNT_KEY", "aHVudGVyMg==")],
            ["stores.main.kind = \"gcs\"", "stores.main.account_key"],
        ),
        (&[("KIND", "s3"), ("REGION", "r"), ("ACCESS_KEY_ID", SECRET)], ["access_key_id", "secret_access_key (unset)"]),
        (
            &[("KIND", "s3"), ("REGION", "r"), ("SECRET_ACCESS_KEY", SECRET), ("SECRET_ACCESS_KEY_FILE", "key")],
            ["stores.main.secret_access_key", "stores.main.secret_access_key_file"],
        ),
        (
            &[("KIND", "azure"), ("ENDPOINT", "http://h"), ("ACCOUNT_KEY", "aHVudGVyMg==")],
            ["stores.main.account_key", "stores.main.account (unset)"],
        ),
        (
            &[("KIND", "azure"), ("ACCOUNT", "acct"), ("ACCOUNT_KEY", "aHVudGVyMg=="), ("SAS_TOKEN", "sig=hunter2")],
            ["stores.main.account_key", "stores.main.sas_token"],
        ),
        (
            &[("KIND", "http"), ("ENDPOINT", "http://h"), ("HEADER", "X-Key: hunter2"), ("ANONYMOUS", "true")],
            ["stores.main.anonymous", "stores.main.header"],
        ),
    ] {
        let answer = check_store(settings);
        assert_eq!(answer.code, Some(64), "{settings:?}: {}", answer.out);
        assert!(pair.iter().all(|part| answer.err.contains(part)), "{settings:?}: {}", answer.err);
        answer.hides_the_secret();
        assert!(!answer.err.contains("aHVudGVyMg"), "{}", answer.err);
    }
}
