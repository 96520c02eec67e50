//! The alerts and the dashboard ask for what a daemon exports: each metric, label and label's value of each query is in
//! `/metrics` of one that has seen a bit of everything.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, Expr, LabelModifier, VectorMatchCardinality};
use serde_json::{Value, json};

use crate::support::{Blob, PATIENCE, Stage, delete, delete_pattern, eventually, get, set_blob, set_inline};
use crate::tls::{Authority, Files};

/// Labels that come from Prometheus: of the target, in Kubernetes and elsewhere.
const OF_TARGETS: [&str; 3] = ["job", "instance", "namespace"];
/// What Prometheus makes itself.
const OF_PROMETHEUS: &str = "ALERTS";

/// Metrics by name; of each the labels of its samples.
struct Exported(BTreeMap<String, Vec<BTreeMap<String, String>>>);

impl Exported {
    fn parse(text: &str) -> Self {
        let mut exported = BTreeMap::<_, Vec<_>>::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (sample, _) = line.rsplit_once(' ').expect("a value");
            let Ok(Expr::VectorSelector(selector)) = parser::parse(sample) else { panic!("no sample: {line}") };
            let labels = selector.matchers.matchers.into_iter().map(|matcher| (matcher.name, matcher.value));
            exported.entry(selector.name.expect("a name")).or_default().push(labels.collect());
        }
        Exported(exported)
    }

    /// The labels that the query's result has; None of a number. Fails on what is not exported.
    fn check(&self, query: &Expr) -> Result<Option<BTreeSet<String>>, String> {
        Ok(match query {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => None,
            Expr::VectorSelector(selector) => Some(self.select(selector.name.as_deref(), &selector.matchers)?),
            Expr::MatrixSelector(matrix) => Some(self.select(matrix.vs.name.as_deref(), &matrix.vs.matchers)?),
            Expr::Paren(inner) => self.check(&inner.expr)?,
            Expr::Unary(inner) => self.check(&inner.expr)?,
            Expr::Subquery(inner) => self.check(&inner.expr)?,
            Expr::Aggregate(aggregate) => {
                let inner = self.check(&aggregate.expr)?.unwrap_or_default();
                Some(match &aggregate.modifier {
                    None => BTreeSet::new(),
                    Some(LabelModifier::Include(by)) => having(&by.labels, &inner)?,
                    Some(LabelModifier::Exclude(without)) => &inner - &having(&without.labels, &inner)?,
                })
            }
            Expr::Call(call) => {
                let mut labels = BTreeSet::new();
                for argument in &call.args.args {
                    labels.extend(self.check(argument)?.unwrap_or_default());
                }
                if call.func.name == "histogram_quantile" && !labels.remove("le") {
                    return Err("a quantile of what has no `le`".into());
                }
                (call.func.return_type != ValueType::Scalar).then_some(labels)
            }
            Expr::Binary(binary) => {
                let (Some(left), Some(right)) = (self.check(&binary.lhs)?, self.check(&binary.rhs)?) else {
                    return Ok(self.check(&binary.lhs)?.or(self.check(&binary.rhs)?));
                };
                let modifier = binary.modifier.as_ref();
                match modifier.and_then(|modifier| modifier.matching.as_ref()) {
                    Some(matching) => {
                        having(&matching.labels().labels, &left)?;
                        having(&matching.labels().labels, &right)?;
                    }
                    None if left != right && !is_union(query) => {
                        return Err(format!("nothing of {left:?} is matched by {right:?}"));
                    }
                    None => {}
                }
                let keeps_left = modifier.is_some_and(|modifier| modifier.card == VectorMatchCardinality::ManyToMany);
                Some(if keeps_left { left } else { &left | &right })
            }
            Expr::Extension(_) => return Err("no extension is known here".into()),
        })
    }

    fn select(&self, name: Option<&str>, matchers: &Matchers) -> Result<BTreeSet<String>, String> {
        let name = name.ok_or("a selector without a metric's name")?;
        let samples = self.0.get(name).ok_or_else(|| format!("{name} is not exported"))?;
        let mut labels: BTreeSet<String> = samples.iter().flat_map(|labels| labels.keys().cloned()).collect();
        labels.extend(OF_TARGETS.map(str::to_owned));
        for matcher in &matchers.matchers {
            having(std::slice::from_ref(&matcher.name), &labels).map_err(|fault| format!("{name}: {fault}"))?;
            let is_there = |labels: &BTreeMap<String, String>| labels.get(&matcher.name) == Some(&matcher.value);
            if matcher.op == MatchOp::Equal && !samples.iter().any(is_there) {
                return Err(format!("{name} has never {}=\"{}\"", matcher.name, matcher.value));
            }
        }
        Ok(labels)
    }
}

fn having(wanted: &[String], there: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    match wanted.iter().find(|label| !there.contains(*label)) {
        Some(missing) => Err(format!("no label {missing} among {there:?}")),
        None => Ok(wanted.iter().cloned().collect()),
    }
}

fn is_union(query: &Expr) -> bool {
    matches!(query, Expr::Binary(binary) if binary.op.to_string() == "or")
}

fn dashboard() -> Value {
    serde_json::from_str(include_str!("../../manifests/monitoring/dashboard.json")).expect("JSON")
}

/// Every query of the dashboard and the alerts, with where it stands.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let rules: Value = serde_norway::from_str(include_str!("../../manifests/monitoring/rules.yaml")).expect("YAML");
    let mut found = Vec::new();
    let mut add = |place: &Value, query: &Value| {
        let query = query.as_str().unwrap_or_else(|| panic!("no query: {place}"));
        found.push((place.to_string(), query.to_owned()));
    };
    for panel in members(&dashboard["panels"]).filter(|panel| panel["type"] != "row") {
        members(&panel["targets"]).for_each(|target| add(&panel["title"], &target["expr"]));
    }
    members(&dashboard["annotations"]["list"]).for_each(|annotation| add(&annotation["name"], &annotation["expr"]));
    for variable in members(&dashboard["templating"]["list"]).filter(|variable| variable["type"] == "query") {
        // label_values(SELECTOR, LABEL): the label has to be one of what is selected.
        let query = variable["definition"].as_str().expect("a text");
        assert_eq!(variable["query"]["query"], query);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect("a selector and a label");
        add(&variable["name"], &json!(format!("sum by ({label}) ({selector})")));
    }
    for rule in members(&rules["groups"]).flat_map(|group| members(&group["rules"])) {
        add(&rule["alert"], &rule["expr"]);
    }
    let insert = |(place, query): (String, String)| {
        let query = query.replace("$__rate_interval", "5m").replace("$cluster", ".*").replace("$instance", ".*");
        assert!(!query.contains('$'), "{place}: a variable that is not known: {query}");
        (place, query)
    };
    found.into_iter().map(insert).collect()
}

fn members(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().unwrap_or_else(|| panic!("no list: {list}")).iter()
}

/// What a daemon exports that has seen every type of event, blobs, refusals and a Redis that goes away.
fn after_a_bit_of_everything() -> (Exported, String) {
    let own = Files::of(&Authority::new().vouch_for("a-client"));
    let mut stage = Stage::with(|daemon| {
        let daemon = daemon.set("cluster", "blue-17").set("fetch.attempts", 1).set("redis.retry_ms", 200);
        let (cert, key) = (own.path("tls.crt"), own.path("tls.key"));
        let daemon = daemon.set("redis.tls_cert", cert.display()).set("redis.tls_key", key.display());
        daemon.set("auth.tokens", "t").set("sources.s.value", "facts")
    });
    stage.blobs.put("/blob", Blob::bytes("value"));
    let post = |body: Value| {
        let headers = [("content-type", "application/json"), ("authorization", "Bearer t")];
        stage.daemon.post_with(&headers, body.to_string().as_bytes()).status
    };
    let mut timed = set_inline("a", "1");
    timed["time"] = json!("2026-11-23T00:00:00Z");
    assert_eq!(post(timed), 200);
    assert_eq!(post(set_blob("b", &stage.blobs.url("/blob"))), 200);
    assert_eq!(post(json!([get(json!("a")), delete(json!("a")), delete_pattern(json!("b*"))])), 200);
    assert_eq!(post(json!([set_blob("c", &stage.blobs.url("/gone")), get(json!(""))])), 207);
    assert_eq!(post(json!({"key": "nothing"})), 422);
    assert_eq!(stage.daemon.post(&json!([])).status, 401);
    assert_eq!(stage.daemon.get("/ready").status, 200);
    stage.redis.kill();
    assert_eq!(post(set_inline("d", "1")), 503);
    assert!(eventually(PATIENCE, || stage.daemon.get("/ready").status == 503));
    let text = stage.daemon.get("/metrics").text();
    (Exported::parse(&text), text)
}

#[test]
fn every_query_of_the_dashboard_and_the_alerts_asks_for_what_is_exported() {
    let (exported, text) = after_a_bit_of_everything();
    let mut wrong = Vec::new();
    for (place, query) in queries() {
        let fault = match parser::parse(&query) {
            Ok(_) if query.starts_with(OF_PROMETHEUS) => None,
            Ok(parsed) => exported.check(&parsed).err(),
            Err(fault) => Some(fault),
        };
        wrong.extend(fault.map(|fault| format!("{place}: {fault}\n  {query}")));
    }
    assert!(wrong.is_empty(), "{}\n{text}", wrong.join("\n"));
}

/// The metrics that a panel shows: the selectors of its queries, without what a histogram adds to its name.
fn shown() -> BTreeSet<String> {
    let dashboard = dashboard();
    let targets = members(&dashboard["panels"]).filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = queries.flat_map(|query| query.split(|c| !is_name(c)).map(str::to_owned).collect::<Vec<_>>());
    let without = |word: String| {
        let end = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| word.strip_suffix(end));
        end.unwrap_or(&word).to_owned()
    };
    words.map(without).collect()
}

/// Nothing that is worth exporting goes unseen.
#[test]
fn every_metric_is_on_the_dashboard() {
    let (_, metrics) = after_a_bit_of_everything();
    let shown = shown();
    // The same as `cache_sync_start_time_seconds`, under the name that tools look for.
    let twice = "process_start_time_seconds";
    let names = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unseen: Vec<&str> = names.filter(|name| !shown.contains(*name) && *name != twice).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn what_is_not_exported_is_found_in_a_query() {
    let text = "a_total{type=\"SET\",cluster=\"c\"} 1\nb{cluster=\"c\"} 1\nh_bucket{le=\"+Inf\",cluster=\"c\"} 1\n";
    let exported = Exported::parse(text);
    let check = |query: &str| exported.check(&parser::parse(query).expect("a query")).err();
    for right in [
        "sum by (type, job) (rate(a_total{type=\"SET\",cluster=~\".*\"}[5m])) > 0",
        "sum(rate(a_total[5m])) / sum(b)",
        "b / b > 0.8 or a_total",
        "b unless on (job, instance) a_total",
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
        "time() - b",
    ] {
        assert_eq!(check(right), None, "{right}");
    }
    for wrong in [
        "c",
        "sum by (nobody) (a_total)",
        "a_total{nobody=\"x\"}",
        "a_total{type=\"GET\"}",
        "rate(a_total{type=\"GET\"}[5m]) > 0",
        "a_total / b",
        "b unless on (type) a_total",
        "histogram_quantile(0.9, sum(rate(h_bucket[5m])))",
        "b or max_over_time(nothing[1h:1m])",
    ] {
        assert!(check(wrong).is_some(), "{wrong}");
    }
}
