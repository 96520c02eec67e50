//! All replicas on the page of each: who is found, who is well, who does not answer and why, and where tokens go.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Blob, BlobServer, Builder, Daemon, PATIENCE, Redis, eventually, free_port};
use crate::tls::{Authority, Files};

const PATH: &str = "/replicas.json";
const OWN: &str = "/replica.json";

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn peers(builder: Builder, urls: &[String]) -> Builder {
    builder.set("http.peers", urls.join(","))
}

fn read(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut wire = daemon.wire();
    wire.send_request("GET", path, headers, b"");
    wire.answer()
}

fn table(daemon: &Daemon) -> Value {
    let answer = daemon.get(PATH);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn rows(table: &Value) -> &Vec<Value> {
    table["replicas"].as_array().expect("a list")
}

#[track_caller]
fn row(table: &Value, port: u16) -> &Value {
    let address = format!("127.0.0.1:{port}");
    rows(table).iter().find(|row| row["address"] == address).unwrap_or_else(|| panic!("no {address}: {table:#}"))
}

#[track_caller]
fn assert_silent(table: &Value, port: u16, why: &str) {
    let row = row(table, port);
    assert!(row["replica"].is_null() && row["silent_since_ms"].as_u64() > Some(1_600_000_000_000), "{row}");
    assert!(row["silent_why"].as_str().is_some_and(|told| told.contains(why)), "{why}: {row}");
}

#[test]
fn all_replicas_are_told_this_one_counts_once_and_one_that_goes_is_told_since_when() {
    let redis = Redis::start();
    let [first, second, third] = [(); 3].map(|()| free_port());
    let urls = [url(first), url(second), url(third), format!("http://localhost:{second}")];
    let start = |port: u16| peers(Daemon::builder().redis(&redis).set("port", port), &urls).start();
    let (daemon, gone, _third) = (start(first), start(second), start(third));
    let all = table(&daemon);
    assert_eq!((rows(&all).len(), &all["well"], &all["left_out"]), (3, &json!(3), &json!(0)), "{all:#}");
    assert_eq!((&rows(&all)[0]["is_this"], &rows(&all)[1]["is_this"]), (&json!(true), &json!(false)));
    for port in [first, second, third] {
        let replica = &row(&all, port)["replica"];
        assert_eq!((&replica["state"], &replica["why"]), (&json!("ok"), &json!("")), "{replica}");
        assert_eq!((&replica["version"], &replica["redis_up"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(true)));
        assert_eq!((&replica["admission"], &replica["p99_ms"]), (&json!(0.0), &Value::Null));
        assert!(replica["redis"].as_str().is_some_and(|place| place.contains(&redis.port().to_string())), "{replica}");
        assert!(replica["name"].as_str().is_some_and(|name| !name.is_empty()), "{replica}");
    }
    assert_eq!(rows(&all)[0]["replica"]["instance"], daemon.get(OWN).json()["instance"]);

    drop(gone);
    assert!(eventually(PATIENCE, || table(&daemon)["well"] == 2));
    let (before, asked) = (table(&daemon), Instant::now());
    assert_silent(&before, second, "refused");
    let since = row(&before, second)["silent_since_ms"].clone();
    // A later round, which knows more than the first.
    assert!(eventually(PATIENCE, || asked.elapsed() > Duration::from_secs(2)));
    assert_eq!(row(&table(&daemon), second)["silent_since_ms"], since);
    let _again = start(second);
    assert!(eventually(PATIENCE, || table(&daemon)["well"] == 3));
    assert_eq!(row(&table(&daemon), second)["silent_since_ms"], Value::Null);
}

#[test]
fn a_replica_that_is_not_well_says_why_itself() {
    let redis = Redis::start();
    let (first, second) = (free_port(), free_port());
    let builder = Daemon::builder().redis(&redis).set("port", second);
    let _second = builder.start();
    let daemon = peers(Daemon::builder().embedded().set("port", first), &[url(second)]).start();
    assert_eq!(table(&daemon)["well"], 2);
    assert_eq!(rows(&table(&daemon))[0]["address"], Value::Null, "it is not among them");
    drop(redis);
    assert!(eventually(PATIENCE, || table(&daemon)["well"] == 1));
    let all = table(&daemon);
    let replica = &row(&all, second)["replica"];
    assert_eq!((&replica["state"], &replica["redis_up"]), (&json!("down"), &json!(false)), "{replica}");
    assert!(replica["since_ms"].is_u64(), "{replica}");
    assert!(replica["why"].as_str().is_some_and(|why| why.starts_with("Redis ")), "{replica}");
}

#[test]
fn whatever_answers_in_place_of_a_replica_is_a_row_with_the_reason_and_holds_nothing_up() {
    let elsewhere = BlobServer::start();
    elsewhere.put("/", Blob::bytes("taken"));
    let hosts: Vec<(Blob, &str)> = vec![
        (Blob::hang(), "no answer within"),
        (Blob::bytes("<html>hello</html>"), "no replica"),
        (Blob::bytes("{}"), "no replica"),
        (Blob::bytes(r#"{"instance":7}"#), "no replica"),
        (Blob::bytes(vec![b'['; 1 << 20]), "larger than 64 KiB"),
        (Blob::bytes(vec![b'['; 1 << 20]).chunked(), "larger than 64 KiB"),
        (Blob::bytes(vec![b' '; 60_000]).drip(10, Duration::from_millis(100)), "no answer within"),
        (Blob::bytes("{\"instance\":").cut_after(3), "no replica"),
        (Blob::redirect(&elsewhere.url("/")), "it answered 302"),
        (Blob::status(404), "version is older"),
        (Blob::status(503), "it answered 503"),
    ];
    let servers: Vec<(BlobServer, &str)> = hosts
        .into_iter()
        .map(|(blob, why)| {
            let server = BlobServer::start();
            server.put(OWN, blob);
            (server, why)
        })
        .collect();
    let urls: Vec<String> = servers.iter().map(|(server, _)| url(server.port())).collect();
    let unknown = "http://no-such-replica.invalid:8080".to_owned();
    let daemon = peers(Daemon::builder().embedded(), &[urls, vec![unknown]].concat()).start();
    // Of everything else the page asks for, nothing waits: once at least an answer overtakes this one.
    let is_overtaken = || {
        let mut waits = daemon.wire();
        waits.send_request("GET", PATH, &[], b"");
        let begun = Instant::now();
        assert_eq!(daemon.get("/status.json").status, 200);
        let status_took = begun.elapsed();
        assert_eq!(waits.answer().status, 200);
        begun.elapsed() > status_took + Duration::from_millis(500)
    };
    assert!((0..20).any(|_| is_overtaken()));
    let all = table(&daemon);
    assert_eq!((rows(&all).len(), &all["well"]), (servers.len() + 2, &json!(1)), "{all:#}");
    for (server, why) in &servers {
        assert_silent(&all, server.port(), why);
    }
    let unknown = rows(&all).iter().find(|row| row["address"] == "no-such-replica.invalid:8080").expect("its row");
    assert!(unknown["silent_why"].as_str().is_some_and(|why| why.contains("name")), "{unknown}");
    assert_eq!(elsewhere.targets(), Vec::<String>::new(), "a redirect was followed");
}

#[test]
fn long_texts_of_others_are_cut_and_too_many_addresses_are_told() {
    let server = BlobServer::start();
    let mut foreign = Daemon::embedded().get(OWN).json();
    foreign["instance"] = json!("another");
    foreign["why"] = json!("é".repeat(20_000));
    server.put(OWN, Blob::bytes(foreign.to_string()));
    let many = (1..40).map(|host| format!("http://127.0.7.{host}:{}", server.port()));
    let urls: Vec<String> = [url(server.port())].into_iter().chain(many).collect();
    let daemon = peers(Daemon::builder().embedded(), &urls).start();
    let all = table(&daemon);
    assert_eq!((rows(&all).len(), &all["left_out"]), (33, &json!(8)));
    let why = row(&all, server.port())["replica"]["why"].as_str().expect("a text").chars().count();
    assert_eq!(why, 501);
}

#[test]
fn the_token_goes_to_the_peers_alone_once_it_is_accepted_and_each_judges_it_by_itself() {
    let (redis, other) = (Redis::start(), BlobServer::start());
    other.put(OWN, Blob::status(500));
    let tokens = "good-0123456789abcdef,writer:writer-0123456789abcdef write,shop:shop-0123456789abcdef prefix=shop:";
    let builder = |tokens: &str| Daemon::builder().redis(&redis).set("auth.tokens", tokens).unready();
    let (same, strict) = (builder(tokens).start(), builder("another-0123456789abcdef").start());
    let urls = [url(same.address().port()), url(strict.address().port()), url(other.port())];
    let daemon = peers(builder(tokens), &urls).start();
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "Basic good-0123456789abcdef")]]
    {
        read(&daemon, PATH, headers).problem(401, "unauthorized");
        read(&daemon, OWN, headers).problem(401, "unauthorized");
    }
    read(&daemon, PATH, &[("authorization", "Bearer writer-0123456789abcdef")]).problem(403, "forbidden");
    assert_eq!(other.heads(), Vec::<String>::new(), "nobody was asked for somebody who was not let in");

    for token in ["good-0123456789abcdef", "shop-0123456789abcdef"] {
        let bearer = format!("Bearer {token}");
        let all = read(&daemon, PATH, &[("authorization", &bearer)]).json();
        assert_eq!(row(&all, same.address().port())["replica"]["redis_up"], true, "{all:#}");
        assert_silent(&all, strict.address().port(), "does not accept this token");
        assert_silent(&all, other.port(), "it answered 500");
        assert!(!all.to_string().contains(token));
        let head = other.heads().pop().expect("it was asked").to_lowercase();
        assert!(head.contains(&format!("authorization: {}", bearer.to_lowercase())), "{head}");
    }
    let logs = [&daemon, &same, &strict].map(|daemon| daemon.logs().join("\n")).concat();
    assert!(!logs.contains("0123456789abcdef"), "a token is in a log");
}

#[test]
fn a_replica_has_the_page_that_the_operator_named_and_none_of_its_own_choice() {
    let (plain, lying, silent) = (Daemon::embedded(), BlobServer::start(), BlobServer::start());
    let mut told: Value = read(&plain, OWN, &[]).json();
    for (member, text) in [("instance", "another"), ("page", "http://elsewhere.invalid/"), ("name", "javascript:1")] {
        told[member] = json!(text);
    }
    lying.put("/below/replica.json", Blob::bytes(told.to_string()));
    silent.put(OWN, Blob::status(500));
    let below = format!("{}/below/", url(lying.port()));
    let urls = [format!("http://localhost:{}", plain.address().port()), below.clone(), url(silent.port())];
    let all = table(&peers(Daemon::builder().embedded(), &urls).start());
    let pages: Vec<&Value> = rows(&all).iter().map(|row| &row["page"]).collect();
    let honest = format!("http://localhost:{}/", plain.address().port());
    assert_eq!(pages, [&Value::Null, &json!(honest), &json!(below), &Value::Null], "{all:#}");
}

#[test]
fn an_open_service_passes_no_token_on_and_may_be_called_by_the_names_of_its_peers() {
    let other = BlobServer::start();
    other.put(OWN, Blob::status(500));
    let urls = [url(other.port()), "https://replicas.invalid:1/below".to_owned()];
    let daemon = peers(Daemon::builder().embedded(), &urls).start();
    assert_eq!(read(&daemon, PATH, &[("authorization", "Bearer anything")]).status, 200);
    assert!(!other.heads().concat().to_lowercase().contains("authorization"), "{:?}", other.heads());
    let called = |name: &str| daemon.raw(format!("GET {OWN} HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes()).status;
    assert_eq!([called("replicas.invalid:8080"), called("others.invalid")], [200, 421]);
}

#[test]
fn nobody_is_asked_before_somebody_looks_and_then_once_a_second_at_most() {
    let other = BlobServer::start();
    other.put(OWN, Blob::bytes("{}"));
    let daemon = peers(Daemon::builder().embedded(), &[url(other.port())]).start();
    assert_eq!((daemon.get("/").status, daemon.get("/status.json").status, other.hits(OWN)), (200, 200, 0));
    let begun = Instant::now();
    (0..50).for_each(|_| drop(table(&daemon)));
    let most = begun.elapsed().as_secs() as usize + 1;
    assert!((1..=most).contains(&other.hits(OWN)), "{} questions, {most} at most", other.hits(OWN));
}

#[test]
fn without_the_setting_or_without_pages_there_are_no_other_replicas() {
    let daemon = Daemon::embedded();
    daemon.get(PATH).problem(404, "not-found");
    assert_eq!(daemon.get("/status.json").json()["service"]["has_peers"], false);
    assert_eq!(daemon.get(OWN).status, 200, "others may ask it all the same");
    let daemon = peers(Daemon::builder().embedded().set("http.page", false), &[url(1)]).start();
    for path in [PATH, OWN] {
        daemon.get(path).problem(404, "not-found");
    }
    let daemon = peers(Daemon::builder().embedded().unready().set("admin_port", 0), &[url(1)]).start();
    daemon.get(PATH).problem(404, "not-found");
}

#[test]
fn over_tls_a_peer_must_have_the_certificate_that_all_replicas_share() {
    let authority = Authority::new();
    let (shared, other) = (Files::of(&authority.vouch_for("replicas")), Files::of(&authority.vouch_for("replicas")));
    let clients = shared.authority(&authority);
    let (same, strange) = (shared.builder().set("http.tls_client_ca", &clients).start(), other.builder().start());
    let plain = Daemon::embedded();
    let ports = [&same, &strange, &plain].map(|daemon| daemon.address().port());
    let urls = ports.map(|port| format!("https://127.0.0.1:{port}"));
    // The page is on a port without TLS; the others are asked at theirs.
    let daemon = peers(shared.builder().set("admin_port", 0), &urls).start();
    let mut wire = crate::support::Wire::open(daemon.admin_address());
    wire.send_request("GET", PATH, &[], b"");
    let all = wire.answer().json();
    assert_eq!((rows(&all).len(), &all["well"]), (4, &json!(2)), "{all:#}");
    assert!(row(&all, ports[0])["replica"].is_object(), "{all:#}");
    for port in &ports[1..] {
        assert!(row(&all, *port)["silent_why"].as_str().is_some_and(|why| !why.is_empty()), "{all:#}");
    }
}
