//! The pages of the docs, done as a reader would do them: every command as it is printed, in the order in which they
//! stand, and what comes back held against what is printed below.

mod help;
mod links;
mod log;
pub mod page;
mod start;
mod terminal;

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use self::page::{Answer, Kind, Step, steps};
use self::terminal::{Network, Said, Terminal, has_own_network};
use crate::support::{PATIENCE, eventually};

/// The text of a page, by its path in the repository.
pub fn read(name: &str) -> &'static str {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}")).leak()
}

/// All pages with commands: those at the top, every guide, and that of the tests.
fn pages() -> Vec<(String, &'static str)> {
    let guides = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("a folder").flatten();
    let names = guides.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    names.extend(["README.md", "SECURITY.md", "tests/README.md"].map(str::to_owned));
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// Where the blobs of the pages are.
pub const BLOBS: &str = "http://localhost:9000";

/// Does all steps of a page up to and with the first whose commands contain `last`.
fn read_to(page: &str, last: &str, network: Network) -> Result<Terminal, String> {
    let mut terminal = Terminal::open(network);
    for step in steps(page)? {
        take(&mut terminal, &step).map_err(|what| format!("line {}: {what}", step.line))?;
        let (Kind::Run { commands, .. } | Kind::Stay { commands, .. }) = &step.kind else { continue };
        if !last.is_empty() && commands.contains(last) {
            return Ok(terminal);
        }
    }
    match terminal.left_behind() {
        _ if !last.is_empty() => Err(format!("no commands contain {last}")),
        left if !left.is_empty() => Err(format!("left in the checkout: {left:?}")),
        _ => Ok(terminal),
    }
}

fn take(terminal: &mut Terminal, step: &Step) -> Result<(), String> {
    let (said, answer) = match &step.kind {
        Kind::NotRun { .. } => return Ok(()),
        Kind::Stay { commands, port } => return terminal.stay(commands, *port),
        Kind::Run { commands, answer: Some(answer), soon: true } => (soon(terminal, commands, answer)?, Some(answer)),
        Kind::Run { commands, answer, .. } => (terminal.run(commands)?, answer.as_ref()),
        Kind::Post { body, answer } => (terminal.post(body)?, Some(answer)),
    };
    match answer {
        None if said.code == 0 => Ok(()),
        None => Err(format!("it ends with {}:\n{}", said.code, said.printed)),
        Some(answer) if fits(answer, &said.printed) => Ok(()),
        Some(Answer::Json(want) | Answer::Text(want)) => {
            Err(format!("printed was\n{}\nand below it stands\n{want}", said.printed))
        }
    }
}

/// What it printed once that fits, or at last.
fn soon(terminal: &mut Terminal, commands: &str, answer: &Answer) -> Result<Said, String> {
    let mut said = terminal.run(commands)?;
    let end = Instant::now() + PATIENCE;
    while !fits(answer, &said.printed) && Instant::now() < end {
        said = terminal.run(commands)?;
    }
    Ok(said)
}

fn fits(answer: &Answer, printed: &str) -> bool {
    match answer {
        Answer::Json(want) => match (serde_json::from_str::<Value>(want), serde_json::from_str(printed)) {
            (Ok(want), Ok(got)) => sorted(want) == sorted(got),
            _ => false,
        },
        Answer::Text(want) => {
            let (mut want, mut got) = (want.lines().map(without_time), printed.lines().map(without_time));
            want.by_ref().all(|want| got.next().is_some_and(|got| is_like(want, got))) && got.next().is_none()
        }
    }
}

/// Keys that a scan found come in any order.
fn sorted(mut answer: Value) -> Value {
    if let Some(sample) = answer.pointer_mut("/results/0/sample").and_then(Value::as_array_mut) {
        sample.sort_by_key(Value::to_string);
    }
    answer
}

/// How long something took is another time another.
fn without_time(line: &str) -> &str {
    line.split_once(" in ").filter(|(_, rest)| rest.ends_with(" events/s")).map_or(line, |(before, _)| before)
}

/// `…` stands for anything.
fn is_like(want: &str, got: &str) -> bool {
    match want.split_once('…') {
        None => want == got,
        Some((head, tail)) => got.strip_prefix(head).is_some_and(|got| {
            got.char_indices().map(|(at, _)| at).chain([got.len()]).any(|at| is_like(tail, &got[at..]))
        }),
    }
}

#[test]
fn the_readme_works_as_it_is_printed() {
    read_to(read("README.md"), "", Network::Own).unwrap_or_else(|what| panic!("README.md, {what}"));
}

#[test]
fn the_examples_of_events_are_answered_as_it_is_printed() {
    let events = read("docs/events.md");
    assert!(page::posts(events).len() >= 10);
    read_to(events, "", Network::Own).unwrap_or_else(|what| panic!("docs/events.md, {what}"));
}

#[test]
fn the_other_guides_work_as_they_are_printed() {
    let others = ["README.md", "docs/events.md", start::PAGE];
    for (name, text) in pages().into_iter().filter(|(name, _)| !others.contains(&name.as_str())) {
        read_to(text, "", Network::Own).unwrap_or_else(|what| panic!("{name}, {what}"));
    }
}

/// Blocks that are not run here, by their first line.
const NOT_RUN: [(&str, &str); 24] = [
    ("README.md", "make test"),
    ("README.md", "cargo install --locked --path ."),
    ("README.md", "make release"),
    ("README.md", "make image"),
    ("README.md", "tar -xzf redis-cache-sync-0.1.0-x86_64-linux.tar.gz"),
    ("docs/deployment.md", "make image"),
    ("docs/deployment.md", "docker compose up --build --wait"),
    ("docs/deployment.md", "kubectl kustomize manifests/production"),
    ("docs/deployment.md", "kubectl create namespace sync"),
    ("docs/deployment.md", "helm install redis-cache-sync manifests/chart --namespace sync --create-namespace \\"),
    ("docs/deployment.md", "sha256sum --check --ignore-missing SHA256SUMS"),
    (
        "docs/journal.md",
        "curl -si http://localhost:8080/events -H 'Content-Type: application/json' -H 'Prefer: respond-async' -d '{\"key\":\"SET\",\"value\":{\"data\":{\"key\":\"a\",\"value\":\"1\"}}}'",
    ),
    (
        "docs/sources.md",
        "mc admin config set local notify_webhook:cache endpoint=\"http://HOST:8080/sources/photos\" \
         auth_token=\"Bearer a-long-random-text\" queue_dir=\"/var/lib/minio/events\"",
    ),
    ("docs/sources.md", "aws sns create-topic --name photos"),
    (
        "docs/sources.md",
        "aws s3api put-bucket-notification-configuration --bucket photos --notification-configuration \
         '{\"EventBridgeConfiguration\":{}}'",
    ),
    ("docs/sources.md", "az eventgrid event-subscription create --name cache --source-resource-id STORAGE_ACCOUNT \\"),
    (
        "docs/sources.md",
        "gcloud storage buckets notifications create gs://photos --topic=photos \
         --event-types=OBJECT_FINALIZE,OBJECT_DELETE,OBJECT_ARCHIVE",
    ),
    ("docs/start.md", "apt-get update"),
    ("docs/start.md", "python3 -m venv tools"),
    ("docs/start.md", "docker run --rm redis-cache-sync:0.1.0 demo"),
    ("docs/start.md", "cat > compose.yaml <<'END'"),
    ("docs/start.md", "docker compose run --rm -T aws s3 mb s3://photos"),
    ("docs/stores.md", "redis-cache-sync reconcile photos --bucket photos"),
    ("tests/README.md", "FAILPOINTS='fetch=1%panic' cargo run --features failpoints -- --embedded"),
];

#[test]
fn what_is_not_run_says_why_and_is_listed() {
    let mut left_out = Vec::new();
    for (name, text) in pages() {
        for step in steps(text).unwrap_or_else(|what| panic!("{name}, {what}")) {
            if let Kind::NotRun { reason, commands } = step.kind {
                let first = commands.lines().next().unwrap_or_default();
                eprintln!("{name}:{}: not run, {reason}: {first}", step.line);
                left_out.push((name.clone(), first.to_owned()));
            }
        }
    }
    assert_eq!(left_out, NOT_RUN.map(|(name, first)| (name.to_owned(), first.to_owned())));
}

#[test]
fn from_a_clone_to_a_page_with_live_numbers() {
    let mut terminal = read_to(read("README.md"), "while sleep", Network::Own).unwrap_or_else(|what| panic!("{what}"));
    let page = terminal.run("curl -sf http://localhost:8080/").expect("it ends");
    assert!(page.code == 0 && page.printed.contains("<html"), "{}", page.printed);
    let mut seen = Vec::new();
    let flows = eventually(PATIENCE, || {
        let status = terminal.run("curl -sf http://localhost:8080/status.json").expect("it ends");
        let status: Value = serde_json::from_str(&status.printed).expect("JSON");
        let count = total(&status);
        if seen.last() != Some(&count) {
            seen.push(count);
        }
        seen.len() >= 4
    });
    assert!(flows && seen.is_sorted(), "events settled, by /status.json: {seen:?}");
}

/// All events of the page's table.
fn total(status: &Value) -> u64 {
    let types = status["events"].as_object().unwrap_or_else(|| panic!("{status:#}"));
    types.values().filter_map(Value::as_object).flat_map(|outcomes| outcomes.values()).filter_map(Value::as_u64).sum()
}

#[test]
fn from_a_folder_of_files_to_keys_in_redis() {
    let mut terminal = read_to(read("README.md"), "--from-dir", Network::Own).unwrap_or_else(|what| panic!("{what}"));
    let desk = terminal.desk();
    for name in ["index.html", "img/dot.png"] {
        let file = fs::read(desk.join("target/site").join(name)).expect("the page made it");
        let said = terminal.run(&format!("redis-cli -p 6390 --raw get page:{name} > got")).expect("it ends");
        assert_eq!(said.code, 0, "{}", said.printed);
        let got = fs::read(desk.join("got")).expect("it was written");
        assert!(got.strip_suffix(b"\n") == Some(file.as_slice()), "{name}");
    }
    let keys = terminal.run("redis-cli -p 6390 --raw --scan --pattern 'page:*' | sort").expect("it ends");
    assert_eq!(keys.printed, "page:img/dot.png\npage:index.html\n");
}

/// A page of its own.
const SMALL: &str = "<!-- stays: 8080 -->\n```sh\ncargo run -- --embedded\n```\n\n\
    ```sh\ncurl -s http://localhost:8080/live\n```\n\n```json\n{\"status\":\"live\"}\n```\n";

#[test]
fn ports_that_are_not_ours_are_stood_in_for() {
    read_to(SMALL, "", Network::Shared).unwrap_or_else(|what| panic!("{what}"));
    if !has_own_network() {
        eprintln!("no network of one's own here: all pages were read with other ports");
    }
}

#[test]
fn what_is_wrong_on_a_page_is_noticed() {
    let wrong = |page: String| read_to(&page, "", Network::Own).err().unwrap_or_else(|| panic!("not noticed:\n{page}"));
    assert!(wrong(SMALL.replace("\"live\"", "\"dead\"")).contains("line 6: printed was"));
    assert!(wrong(SMALL.replace("/live", "/alive")).contains("line 6: printed was"));
    let twice = format!("{SMALL}\n{}", &SMALL[..SMALL.find("```sh\ncurl").expect("a command")]);
    assert!(wrong(twice).contains("port 8080 is taken already"));
    assert!(wrong("```sh\ntouch litter\n```\n".to_owned()).contains("left in the checkout: [\"litter\"]"));
    assert!(wrong("```sh\nredis-cache-sync sned\n```\n".to_owned()).contains("line 1: it ends with 64"));
    for (page, what) in [
        ("```\nls\n```", "neither run nor marked"),
        ("```bash\nls\n```", "neither run nor marked"),
        ("```json\n{\"a\":1}\n```", "answers nothing"),
        ("<!-- not run: -->\n```sh\nls\n```", "lacks its reason"),
        ("<!-- not run -->\n```sh\nls\n```", "lacks its reason"),
        ("```json\n{\"key\":\"GET\"}\n```\ntext", "no answer"),
        ("- x\n  ```sh\n  ls\n  ```", "passed over"),
        ("```sh\nls\n", "does not end"),
    ] {
        assert!(wrong(page.to_owned()).contains(what), "{page}");
    }
}
