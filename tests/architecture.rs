//! The code is built as docs/architecture.md says: which module imports which, where a kind of line belongs, how long files
//! and functions are, and that the manifests and the image agree with the code.

#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/monitoring.rs"]
mod monitoring;
#[path = "architecture/names.rs"]
mod names;
#[path = "architecture/sizes.rs"]
mod sizes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis_cache_sync::config::{Config, SETTINGS};
use serde_json::Value;

use imports::Graph;

/// The modules that a module may import. Those that are not listed must not exist.
const MODULES: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("secret", &[]),
    ("redis", &["secret"]),
    ("blob", &["event", "secret"]),
    ("cache", &["event", "redis"]),
    ("telemetry", &["event"]),
    ("pipeline", &["event", "blob", "cache", "telemetry"]),
    ("journal", &["event", "redis", "telemetry", "pipeline"]),
    ("http", &["event", "pipeline", "telemetry", "journal"]),
    ("config", &["event", "blob", "cache", "secret"]),
    ("cli", &["event", "blob", "cache", "redis", "telemetry", "pipeline", "journal", "http", "config"]),
    ("main", &["cli", "config"]),
    ("lib", &[]),
];

/// The actors, and those an actor posts to: the next stage, or the router that waits for its end.
const STAGES: &[(&str, &[&str])] = &[
    ("intake", &["validation"]),
    ("validation", &["router::local"]),
    ("router::local", &["router::central", "write::writer"]),
    ("router::central", &["fetch::fetcher", "write::scanner", "write::writer"]),
    ("fetch::fetcher", &[]),
    ("write::scanner", &[]),
    ("write::writer", &[]),
];

/// Where a kind of line belongs. Tests inside the modules are not held to it.
const HOMES: &[(&str, &[&str])] = &[
    ("actix::", &["pipeline/runtime/"]),
    ("Addr<", &["pipeline/runtime/"]),
    ("do_send", &["pipeline/runtime/"]),
    ("catch_unwind", &["pipeline/runtime/"]),
    (
        "awc::",
        &[
            "blob/",
            "cli/client.rs",
            "cli/demo.rs",
            "cli/demo/",
            "cli/healthcheck.rs",
            "cli/send/post.rs",
            "cli/traces.rs",
        ],
    ),
    ("opentelemetry", &["cli/traces.rs", "http/traced.rs", "telemetry/spans.rs"]),
    (
        "redis::",
        &["redis/", "cache/", "cli/check_config.rs", "cli/send/copy.rs", "cli/serve.rs", "cli/serve/", "journal/"],
    ),
    ("use redis::", &["redis/", "cache/redis/"]),
    ("actix_web::", &["http/", "cli/demo/blobs.rs", "cli/demo/own_store.rs"]),
    ("StatusCode", &["http/"]),
    ("prometheus::", &["telemetry/", "cli/serve.rs"]),
    ("env::var", &["config.rs"]),
    (
        "fastrand::",
        &[
            "cli/send/post.rs",
            "cli/send/run.rs",
            "http/request_ids.rs",
            "http/state.rs",
            "pipeline/router/central/fetching.rs",
        ],
    ),
    ("process::exit", &["cli/serve/daemon.rs"]),
    ("stdout", &["cli/"]),
    // They panic where the pipe is closed.
    ("println!", &[]),
    ("eprintln!", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A file of `src/`.
struct Source {
    /// From `src/` on.
    path: String,
    /// Without comments.
    code: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests")
    }

    /// Whether it is this file, or in this folder, whose own file stands beside it.
    fn is_in(&self, home: &str) -> bool {
        self.path.starts_with(home) || home.strip_suffix('/') == self.path.strip_suffix(".rs")
    }

    /// Without the tests in it.
    fn production(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let rust = files(&src).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.map(|path| {
        let text = fs::read_to_string(&path).expect("a source");
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        Source { path: path.strip_prefix(&src).expect("below src").display().to_string(), code }
    })
    .collect()
}

/// Places of `what` where it is not the end of a longer name.
fn places<'a>(code: &'a str, what: &'a str) -> impl Iterator<Item = usize> {
    let begins = |at: usize| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    };
    code.match_indices(what).map(|(at, _)| at).filter(move |at| begins(*at))
}

/// The first names of all paths that begin with `prefix` (`crate::`), groups in braces included.
fn heads<'a>(code: &'a str, prefix: &'a str) -> BTreeSet<&'a str> {
    let mut heads = BTreeSet::new();
    for at in places(code, prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => heads.extend(members(group).into_iter().map(name)),
            None => heads.extend([name(rest)]),
        }
    }
    heads
}

/// The members of a group, from behind its opening brace on.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut members) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                members.push(group[begin..at].trim());
                begin = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

/// All paths that a path with groups in braces stands for.
fn heads_of_groups(path: &str) -> Vec<String> {
    let end = path.find(|character: char| !character.is_alphanumeric() && !"_:".contains(character));
    let (head, rest) = path.split_at(end.unwrap_or(path.len()));
    match rest.strip_prefix('{').filter(|_| head.ends_with("::") || head.is_empty()) {
        Some(group) => {
            let paths = members(group).into_iter().flat_map(heads_of_groups);
            paths.map(|path| format!("{head}{path}")).collect()
        }
        None => vec![head.to_owned()],
    }
}

fn name(path: &str) -> &str {
    let end = path.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(path.len());
    &path[..end]
}

fn allowed<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed)
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some(may_import) = allowed(MODULES, module) else {
            wrong.push(format!("{}: docs/architecture.md knows no such module", source.path));
            continue;
        };
        let mut imported = heads(&source.code, "crate::");
        if module == "main" {
            imported.extend(heads(&source.code, "redis_cache_sync::"));
        }
        imported.retain(|other| *other != module && !may_import.contains(other));
        wrong.extend(imported.iter().map(|other| format!("{}: {module} must not know {other}", source.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_stage_knows_only_those_it_posts_to() {
    let graph = Graph::of_src();
    for (stage, next) in STAGES {
        let known = graph.imports(&format!("pipeline::{stage}"));
        let known = known.iter().filter_map(|other| other.strip_prefix("pipeline::"));
        let stages: BTreeSet<&str> = known.filter(|other| allowed(STAGES, other).is_some()).collect();
        assert_eq!(stages, next.iter().copied().collect(), "{stage}");
    }
}

#[test]
fn a_line_stands_where_it_belongs() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (line, homes) in HOMES {
            let is_home = homes.iter().any(|home| source.is_in(home));
            if !is_home && places(source.production(), line).next().is_some() {
                wrong.push(format!("{}: `{line}` belongs in {homes:?}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The client stands beneath the cache: what comes next can stand on it too.
#[test]
fn the_client_for_redis_knows_no_word_of_caching() {
    let words = ["cache", "blob", "outcome", "versioned", "version_key", "version key", "ttl"];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "redis") {
        let text = read(format!("src/{}", source.path)).to_lowercase().replace("redis_cache_sync", "");
        let found = words.iter().filter(|word| places(&text, word).next().is_some());
        wrong.extend(found.map(|word| format!("{}: `{word}`", source.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_in_groups_too() {
    let code = "use crate::{blob::{self, X}, event};\nlet x = crate::cache::Y; pub(in crate::http) fn my_crate::z()";
    assert_eq!(heads(code, "crate::"), ["blob", "cache", "event", "http"].into());
}

fn manifest(name: &str) -> Value {
    serde_norway::from_str(&read(format!("manifests/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing in {value:#}"))
}

/// What kustomize is asked to build.
const KUSTOMIZATIONS: [&str; 5] = ["", "base/", "production/", "development/", "monitoring/"];

/// What is no object of Kubernetes, and whole in one that is: `monitoring` holds it to that.
const PLAIN_RULES: &str = "monitoring/rules.yaml";

#[test]
fn every_manifest_parses_and_the_kustomization_beside_it_lists_it() {
    let (mut listed, mut there) = (BTreeSet::new(), BTreeSet::new());
    for folder in KUSTOMIZATIONS {
        let kustomization = manifest(&format!("{folder}kustomization.yaml"));
        let list = |name: &str| kustomization.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let patches = list("patches").into_iter().map(|patch| at(&patch, "/path").clone());
        let generated = list("configMapGenerator").into_iter().flat_map(|map| at(&map, "/files").as_array().cloned());
        let names: Vec<String> = list("resources")
            .into_iter()
            .chain(patches)
            .chain(generated.flatten())
            .map(|name| name.as_str().expect("a name").rsplit('=').next().unwrap_or_default().to_owned())
            .collect();
        let is_file = |name: &&String| name.ends_with(".yaml") || name.ends_with(".json");
        listed.extend(names.iter().filter(is_file).map(|name| format!("{folder}{name}")));
        listed.insert(format!("{folder}kustomization.yaml"));
    }
    listed.insert(PLAIN_RULES.to_owned());
    let manifests = root().join("manifests");
    for path in files(&manifests) {
        let name = path.strip_prefix(&manifests).expect("below manifests").display().to_string();
        // Templates, and what is no part of a kustomization.
        if ["chart/", "compose/", "examples/"].iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let value = manifest(&name);
        if name == PLAIN_RULES || name.ends_with(".json") {
            there.insert(name);
            continue;
        }
        assert!(at(&value, "/kind").is_string() && at(&value, "/apiVersion").is_string(), "{name}");
        there.insert(name);
    }
    assert_eq!(there, listed);
}

/// What `kubectl` makes of a folder of `manifests`, as one list of objects; None where it is not installed.
fn built(folder: &str) -> Option<String> {
    let path = format!("manifests/{folder}");
    let output = Command::new("kubectl").args(["kustomize", &path]).current_dir(root()).output().ok()?;
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn kubectl_builds_the_manifests_where_it_is_installed() {
    for folder in KUSTOMIZATIONS {
        let Some(objects) = built(folder) else { return eprintln!("kubectl is not installed: nothing was built") };
        assert_eq!(objects.contains("image: redis-cache-sync:"), folder != "monitoring/", "{folder}");
        let has = |kind: &str| objects.contains(&format!("kind: {kind}\n"));
        assert_eq!(has("HorizontalPodAutoscaler"), !["development/", "monitoring/"].contains(&folder), "{folder}");
        assert_eq!(has("PrometheusRule"), ["production/", "monitoring/"].contains(&folder), "{folder}");
        assert_eq!(has("NetworkPolicy"), folder == "production/", "{folder}");
    }
}

#[test]
fn the_overlays_set_what_are_settings() {
    let data = manifest("development/configmap.yaml");
    let data = at(&data, "/data").as_object().expect("an object").clone();
    let deployment = manifest("production/deployment.yaml");
    let env = at(&deployment, "/spec/template/spec/containers/0/env").as_array().expect("a list").clone();
    let env = env.iter().map(|one| (at(one, "/name").as_str().expect("a name").to_owned(), at(one, "/value").clone()));
    for (variable, value) in data.into_iter().chain(env) {
        let setting = SETTINGS.iter().find(|setting| setting.variable() == variable);
        let path = setting.unwrap_or_else(|| panic!("{variable} is no setting's variable")).path;
        let value = value.as_str().expect("a text");
        // What an overlay requires comes from the Secret.
        let pairs = [(path, value), ("auth.tokens", "a-token-of-the-secret")];
        Config::from_pairs(&pairs).unwrap_or_else(|faults| panic!("{variable}: {faults}"));
    }
    assert!(SETTINGS.iter().any(|setting| setting.variable() == "AUTH_REQUIRED"));
}

/// What the service refuses by itself is refused by the network too.
#[test]
fn the_network_policy_leaves_out_the_metadata_addresses() {
    let policy = manifest("production/networkpolicy.yaml");
    let egress = at(&policy, "/spec/egress").as_array().expect("a list");
    let blocks = egress.iter().flat_map(|rule| rule["to"].as_array().cloned().unwrap_or_default());
    let except: Vec<ipnet::IpNet> = blocks
        .flat_map(|to| to.pointer("/ipBlock/except").and_then(Value::as_array).cloned().unwrap_or_default())
        .map(|net| net.as_str().expect("a text").parse().expect("a network"))
        .collect();
    assert!(except.len() >= 10, "{except:?}");
    for net in except {
        let first = net.network();
        assert!(redis_cache_sync::blob::address::is_link_local_or_metadata(first), "{net} is no metadata address");
    }
}

/// The settings of the config map, by path; empty ones are unset.
fn config_map() -> Vec<(&'static str, String)> {
    let map = manifest("base/configmap.yaml");
    let data = at(&map, "/data").as_object().expect("an object");
    let known = data.iter().map(|(variable, value)| {
        let setting = SETTINGS.iter().find(|setting| setting.variable() == *variable);
        let setting = setting.unwrap_or_else(|| panic!("{variable} is no setting's variable"));
        (setting.path, value.as_str().unwrap_or_else(|| panic!("{variable} is no text")).to_owned())
    });
    known.filter(|(_, value)| !value.is_empty()).collect()
}

fn deployed() -> Config {
    let settings = config_map();
    let pairs: Vec<(&str, &str)> = settings.iter().map(|(path, value)| (*path, value.as_str())).collect();
    Config::from_pairs(&pairs).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn every_key_of_the_config_map_is_a_setting_and_its_value_allowed() {
    assert!(!config_map().is_empty());
    deployed();
    let comments = read("manifests/base/deployment.yaml");
    for variable in ["AUTH_TOKENS", "REDIS_USERNAME", "REDIS_PASSWORD"] {
        assert!(comments.contains(variable), "{variable} is not named as a secret");
        assert!(SETTINGS.iter().any(|setting| setting.variable() == variable), "{variable}");
    }
}

#[test]
fn a_pod_has_time_to_drain_memory_for_what_it_lets_in_and_probes_that_exist() {
    let deployment = manifest("base/deployment.yaml");
    let config = deployed();
    let pod = at(&deployment, "/spec/template/spec");
    let grace = at(pod, "/terminationGracePeriodSeconds").as_u64().expect("a number");
    let container = at(pod, "/containers/0");
    let pause = at(container, "/lifecycle/preStop/sleep/seconds").as_u64().expect("a number");
    let needed = pause + config.http.shutdown.as_secs();
    assert!(grace > needed, "{grace} s for a pause of {pause} s and a drain of {:?}", config.http.shutdown);

    let limit = at(container, "/resources/limits/memory").as_str().expect("a text");
    let limit: usize = limit.strip_suffix("Gi").expect("GiB").parse::<usize>().expect("a number") << 30;
    let let_in = config.intake.max_in_flight_bytes + config.fetch.max_blob_bytes;
    let needed = 2 * let_in + 3 * config.http.max_answer_bytes;
    assert!(limit > needed, "{limit} bytes, needed may be {needed}");

    assert_eq!(at(container, "/ports/0/containerPort"), config.port);
    let scraped = at(&deployment, "/spec/template/metadata/annotations/prometheus.io~1port");
    assert_eq!(scraped, &config.port.to_string());
    for (probe, path) in [("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")] {
        assert_eq!(at(container, &format!("/{probe}/httpGet/path")), path);
        assert_eq!(at(container, &format!("/{probe}/httpGet/port")), at(container, "/ports/0/name"));
    }
    let service = manifest("base/service.yaml");
    assert_eq!(at(&service, "/spec/ports/0/targetPort"), at(container, "/ports/0/name"));
    assert_eq!(at(&service, "/spec/selector"), at(&deployment, "/spec/selector/matchLabels"));
}

#[test]
fn the_autoscaler_alone_decides_how_many_pods_there_are() {
    let (deployment, autoscaler) = (manifest("base/deployment.yaml"), manifest("base/horizontalpodautoscaler.yaml"));
    assert_eq!(deployment.pointer("/spec/replicas"), None);
    let target = at(&autoscaler, "/spec/scaleTargetRef");
    assert_eq!(at(target, "/kind"), at(&deployment, "/kind"));
    assert_eq!(at(target, "/name"), at(&deployment, "/metadata/name"));
    assert!(at(&autoscaler, "/spec/minReplicas").as_u64() >= Some(2), "one pod is none while it is moved");
}

#[test]
fn the_image_gets_all_that_the_build_reads_and_has_the_same_version() {
    let dockerfile = read("Dockerfile");
    let copied: BTreeSet<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split_whitespace().rev().skip(1))
        .collect();
    let ignore = read(".dockerignore");
    let let_through: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(copied, let_through);
    assert!(copied.iter().all(|path| root().join(path).exists()), "{copied:?}");
    assert!(copied.is_superset(&["Cargo.toml", "Cargo.lock", "src"].into()), "{copied:?}");

    for source in sources() {
        let dir = root().join("src").join(&source.path).parent().expect("a directory").to_owned();
        for include in source.production().split("include_").skip(1) {
            let path = include.split('"').nth(1).expect("a literal path");
            let file = dir.join(path).canonicalize().unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(file.starts_with(root().join("src")), "{path} in {} does not come into the image", source.path);
        }
    }

    let tag = manifest("base/kustomization.yaml");
    assert_eq!(at(&tag, "/images/0/newTag"), env!("CARGO_PKG_VERSION"));
}
