//! What an answer holds is counted until it is read, and holds up nobody who does not need the same room.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::http::request;
use crate::support::{Builder, Daemon, Redis, eventually, get, set, set_inline};

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(5);

fn bounded(daemon: Builder) -> Daemon {
    let daemon = daemon.set("intake.max_in_flight_bytes", 24 * MIB).set("http.max_body_bytes", 8 * MIB);
    daemon.set("fetch.max_blob_bytes", 8 * MIB).set("event.max_keys", 1000).start()
}

/// Asks on a connection of which the kernel keeps little that was not read.
fn ask(daemon: &Daemon, keys: &[&str]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
    socket.connect(&daemon.address().into()).expect("the daemon accepts connections");
    let mut stream = TcpStream::from(socket);
    let headers = [("connection", "close")];
    stream
        .write_all(&request("POST", "/events", &headers, get(json!(keys)).to_string().as_bytes()))
        .expect("a request");
    stream
}

fn read(mut stream: TcpStream) -> Vec<Value> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let answer: Value = serde_json::from_slice(&answer[body..]).expect("JSON");
    answer["results"].as_array().expect("results").clone()
}

fn counted(daemon: &Daemon) -> usize {
    daemon.metric("cache_sync_admission_bytes", &[]) as usize
}

fn unread_answers_are_counted(daemon: &Daemon) {
    let text = "plain \"quoted\" \u{1} ä𝄞\n".repeat(150_000);
    let base64 = "//79".repeat(MIB);
    let bytes = json!({"key": "bytes", "value": base64, "encoding": "base64"});
    assert_eq!(daemon.post(&set_inline("text", &text)).status, 200);
    assert_eq!(daemon.post(&set(bytes)).status, 200);
    let held = text.len() + 3 * MIB;

    let unread = [ask(daemon, &["text", "bytes"]), ask(daemon, &["text", "bytes"])];
    assert!(eventually(SOON, || counted(daemon) >= 2 * held), "{} bytes are counted of {}", counted(daemon), 2 * held);
    assert_eq!(daemon.post(&set_inline("small", "v")).status, 200, "others go on");
    assert_eq!(daemon.post(&get("small".into())).json()["results"][0]["value"], "v");

    thread::scope(|scope| {
        let third = scope.spawn(|| daemon.post(&get(json!(["text", "bytes"]))).json());
        for stream in unread {
            let results = read(stream);
            assert_eq!(results[0]["value"], text.as_str());
            assert_eq!((&results[1]["value"], &results[1]["encoding"]), (&json!(base64), &json!("base64")));
        }
        assert_eq!(third.join().expect("an answer")["status"], "ok", "it has waited for room");
    });
    assert!(eventually(SOON, || counted(daemon) == 0), "{} bytes are still counted", counted(daemon));
}

/// So many that the answer is sent in pieces, and each so small that it has no room of its own.
#[test]
fn an_unread_answer_of_many_small_values_is_counted() {
    const VALUE: usize = 4_000;
    let daemon = bounded(Daemon::builder().embedded());
    let value = "v".repeat(VALUE);
    let keys: Vec<String> = (0..1000).map(|number| format!("k{number}")).collect();
    let entries: Vec<Value> = keys.iter().map(|key| json!({"key": key, "value": value})).collect();
    assert_eq!(daemon.post(&set(json!(entries))).status, 200);

    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let unread = [ask(&daemon, &keys), ask(&daemon, &keys), ask(&daemon, &keys)];
    for stream in &unread {
        // Its head: the answer is on its way.
        stream.peek(&mut [0]).expect("an answer");
    }
    let held = unread.len() * keys.len() * VALUE;
    assert!(counted(&daemon) >= held, "{} bytes are counted of {held}", counted(&daemon));
    for stream in unread {
        assert!(read(stream).iter().all(|result| result["value"] == value.as_str()));
    }
    assert!(eventually(SOON, || counted(&daemon) == 0), "{} bytes are still counted", counted(&daemon));
}

#[test]
fn answers_that_are_not_read_are_counted_and_values_wait_for_room() {
    let redis = Redis::start();
    unread_answers_are_counted(&bounded(Daemon::builder().redis(&redis)));
}

#[test]
fn so_are_those_of_the_embedded_cache() {
    unread_answers_are_counted(&bounded(Daemon::builder().embedded()));
}
