//! `manifests/monitoring` hangs together: rules, runbook, the tests of the rules, what is scraped, and the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::{at, deployed, manifest, read, root};

const OPERATORS_HEAD: &str = "\
# The groups of rules.yaml as they stand there, for the Prometheus operator: RENEW_RULES=1 cargo test --test architecture.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: redis-cache-sync
spec:
";

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().unwrap_or_else(|| panic!("{pointer} is no list"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text"))
}

/// Fails if an object has members that its kind does not know.
fn only(value: &Value, known: &[&str]) {
    let members = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for name in members.keys() {
        assert!(known.contains(&name.as_str()), "{name} is none of {known:?}: {value:#}");
    }
}

/// All alerts, by name.
fn alerts() -> BTreeMap<String, Value> {
    let rules = manifest("monitoring/rules.yaml");
    let mut alerts = BTreeMap::new();
    for group in list(&rules, "/groups") {
        only(group, &["name", "rules"]);
        for rule in list(group, "/rules") {
            let name = text(rule, "/alert").to_owned();
            assert!(alerts.insert(name.clone(), rule.clone()).is_none(), "{name} is there twice");
        }
    }
    alerts
}

#[test]
fn the_rules_for_the_operator_are_those_of_the_rules_file() {
    let rules = read("manifests/monitoring/rules.yaml");
    let groups = &rules[rules.find("groups:\n").expect("groups")..];
    let indented = groups.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") });
    let expected = OPERATORS_HEAD.to_owned() + &indented.collect::<String>();
    let path = root().join("manifests/monitoring/prometheusrule.yaml");
    if std::env::var_os("RENEW_RULES").is_some() {
        fs::write(&path, &expected).expect("the file can be written");
    }
    assert_eq!(read(&path), expected, "RENEW_RULES=1 cargo test --test architecture");
    let rule = manifest("monitoring/prometheusrule.yaml");
    assert_eq!(at(&rule, "/spec/groups"), at(&manifest("monitoring/rules.yaml"), "/groups"));
}

#[test]
fn every_alert_says_what_is_wrong_and_where_it_is_told_what_to_do() {
    for (name, rule) in alerts() {
        only(&rule, &["alert", "expr", "for", "labels", "annotations"]);
        assert!(name.starts_with("CacheSync") && !text(&rule, "/expr").is_empty(), "{name}");
        only(at(&rule, "/labels"), &["severity"]);
        assert!(["critical", "warning"].contains(&text(&rule, "/labels/severity")), "{name}");
        only(at(&rule, "/annotations"), &["summary", "description", "runbook_url"]);
        for part in ["summary", "description"] {
            assert!(text(&rule, &format!("/annotations/{part}")).len() > 20, "{name}: {part}");
        }
        let expected = format!("docs/alerts.md#{}", name.to_lowercase());
        assert_eq!(text(&rule, "/annotations/runbook_url"), expected, "{name}");
    }
}

#[test]
fn every_alert_has_its_heading_in_the_runbook_and_every_heading_its_alert() {
    let page = read("docs/alerts.md");
    let told: BTreeSet<String> = page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(told, alerts().into_keys().collect());
}

#[test]
fn every_alert_is_tried_and_all_of_them_on_a_service_that_is_well() {
    let tests: Value = serde_norway::from_str(&read("tests/check/alerts.yaml")).expect("YAML");
    let tests = list(&tests, "/tests");
    let samples = |test: &Value| -> Vec<Value> {
        list(test, "/promql_expr_test").iter().flat_map(|one| list(one, "/exp_samples").to_vec()).collect()
    };
    let (well, rest) = tests.split_first().expect("tests");
    assert!(samples(well).is_empty(), "{well:#}");
    let fired: BTreeSet<String> = rest
        .iter()
        .flat_map(samples)
        .filter_map(|sample| Some(text(&sample, "/labels").split_once("alertname=\"")?.1.split('"').next()?.to_owned()))
        .collect();
    assert_eq!(fired, alerts().into_keys().collect());
    let series: String = list(well, "/input_series").iter().map(|one| text(one, "/series")).collect();
    for (name, rule) in alerts() {
        for metric in text(&rule, "/expr").split(|c: char| !c.is_alphanumeric() && c != '_') {
            assert!(!metric.starts_with("cache_sync_") || series.contains(metric), "{name}: {metric} is not there");
        }
    }
}

#[test]
fn the_figures_of_alerts_are_those_of_the_deployment_and_the_settings() {
    let alerts = alerts();
    let deployment = manifest("base/deployment.yaml");
    let limit = text(&deployment, "/spec/template/spec/containers/0/resources/limits/memory");
    let limit: u64 = limit.strip_suffix("Gi").expect("GiB").parse::<u64>().expect("a number") << 30;
    let memory = text(&alerts["CacheSyncMemoryGrowing"], "/expr");
    assert_eq!(memory.matches(&limit.to_string()).count(), 2, "the limit is {limit}: {memory}");
    let queue = text(&alerts["CacheSyncQueueOld"], "/expr").rsplit(' ').next().expect("a number").parse::<u64>();
    let deadline = deployed().event.deadline.as_secs();
    assert!(queue.as_ref().is_ok_and(|seconds| (deadline / 2..deadline).contains(seconds)), "{queue:?} of {deadline}");
}

#[test]
fn what_is_scraped_is_where_the_metrics_are_in_each_overlay() {
    let monitor = manifest("monitoring/servicemonitor.yaml");
    only(at(&monitor, "/spec"), &["jobLabel", "selector", "endpoints"]);
    let [endpoint] = list(&monitor, "/spec/endpoints") else { panic!("one endpoint: {monitor:#}") };
    only(endpoint, &["port", "path", "interval"]);
    assert_eq!(endpoint["path"], "/metrics");
    let labels = manifest("base/kustomization.yaml");
    let labels = at(&labels, "/labels/0/pairs");
    assert!(labels.get(text(&monitor, "/spec/jobLabel")).is_some(), "{labels}");
    for (label, value) in at(&monitor, "/spec/selector/matchLabels").as_object().expect("an object") {
        assert_eq!(labels.get(label), Some(value));
    }

    let service = manifest("base/service.yaml");
    let port = list(&service, "/spec/ports").iter().find(|port| port["name"] == endpoint["port"]).expect("the port");
    assert_eq!(port["targetPort"], "http", "in the base metrics are on the main port");
    let patch = manifest("production/service.yaml");
    let patched =
        list(&patch, "/spec/ports").iter().find(|patched| patched["port"] == port["port"]).expect("its patch");
    let deployment = manifest("production/deployment.yaml");
    let container = at(&deployment, "/spec/template/spec/containers/0");
    assert_eq!(patched["targetPort"], container["ports"][0]["name"]);
    let admin = list(container, "/env").iter().find(|one| one["name"] == "ADMIN_PORT").expect("a port for metrics");
    assert_eq!(text(admin, "/value"), at(container, "/ports/0/containerPort").to_string());
    let policy = manifest("production/networkpolicy.yaml");
    let opened = list(&policy, "/spec/ingress").iter().flat_map(|rule| list(rule, "/ports"));
    assert!(opened.into_iter().any(|port| port["port"] == container["ports"][0]["containerPort"]), "{policy:#}");
}

#[test]
fn the_dashboard_is_whole_and_found_by_grafana() {
    let kustomization = manifest("monitoring/kustomization.yaml");
    let [generated] = list(&kustomization, "/configMapGenerator") else { panic!("{kustomization:#}") };
    assert_eq!(generated["options"]["labels"]["grafana_dashboard"], "1");

    let dashboard = read("manifests/monitoring/dashboard.json");
    let sources = dashboard.matches("\"datasource\": {").count();
    let chosen = r#""datasource": {"type": "prometheus", "uid": "${datasource}"}"#;
    assert_eq!(dashboard.matches(chosen).count(), sources, "a data source that nobody has chosen");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let variables: Vec<_> = list(&dashboard, "/templating/list").iter().map(|one| text(one, "/name")).collect();
    assert_eq!(variables, ["datasource", "cluster", "instance"]);
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut row = None;
    for panel in list(&dashboard, "/panels") {
        let title = text(panel, "/title");
        assert!(ids.insert(at(panel, "/id").as_u64()), "{title} has the id of another");
        let place = |name: &str| at(panel, &format!("/gridPos/{name}")).as_u64().expect("a number");
        for cell in (place("x")..place("x") + place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(cell.0 < 24 && taken.insert((cell.0, cell.1 + place("y"))), "{title} lies over another");
        }
        if panel["type"] == "row" {
            row = Some(title);
            continue;
        }
        assert!(row.is_some() && !list(panel, "/targets").is_empty(), "{title}");
        for target in list(panel, "/targets").iter().chain([panel]) {
            assert!(target["datasource"].is_object(), "{title}");
        }
    }
}
