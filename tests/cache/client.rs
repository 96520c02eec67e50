//! The client by itself, on one server: pipelines, blocking reads, limits, and what is still to come of a call that failed.

use std::time::{Duration, Instant};

use redis_cache_sync::redis::{Client, CommandPipeline, Error, PipelineLimits, Redis, Settings, Value};

use crate::support::*;

const LIMITS: PipelineLimits = PipelineLimits { within: WITHIN, block: Duration::ZERO, max_bulk_bytes: 1 << 20 };

fn client(settings: Settings) -> Client {
    Redis::standalone(settings).unwrap().client(b"stream")
}

fn pipeline(commands: &[&[&str]]) -> CommandPipeline {
    let mut pipeline = CommandPipeline::new();
    for command in commands {
        pipeline.command(&command.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    }
    pipeline
}

async fn call(client: &mut Client, commands: &[&[&str]]) -> Result<Vec<Value>, Error> {
    client.call(&pipeline(commands), LIMITS).await
}

fn bulk(text: &'static str) -> Value {
    Value::Bulk(text.into())
}

fn length(server: &RedisServer) -> usize {
    redis::cmd("XLEN").arg("stream").query(&mut server.client()).unwrap()
}

#[tokio::test]
async fn a_pipeline_is_answered_command_by_command_whatever_the_replies_are() {
    let server = RedisServer::start(&[]);
    let mut client = client(server.settings());
    let add = ["XADD", "stream", "1-1", "event", "a"];
    let range = ["XRANGE", "stream", "-", "+"];
    let words: [&[&str]; 6] =
        [&add, &add, &range, &["XLEN", "stream"], &["GET", "none"], &["XGROUP", "CREATE", "none", "g", "0"]];
    let replies = call(&mut client, &words).await.unwrap();
    let entry = Value::Array(vec![bulk("1-1"), Value::Array(vec![bulk("event"), bulk("a")])]);
    assert_eq!(replies[0], bulk("1-1"));
    assert_eq!(replies[1].as_error().map(|code| code.as_str()), Some("ERR"), "{:?}", replies[1]);
    assert_eq!(replies[2..5], [Value::Array(vec![entry]), Value::Integer(1), Value::Nil]);
    assert!(matches!(replies[5].as_error().map(|code| code.to_error("XGROUP")), Some(Error::Refused(_))));
    let whole = call(&mut client, &[&["MULTI"], &["DEL", "stream"], &["EXEC"]]).await.unwrap();
    assert_eq!(whole, [Value::Status, Value::Status, Value::Array(vec![Value::Integer(1)])]);
    assert_eq!(call(&mut client, &[]).await, Ok(vec![]));
}

#[tokio::test]
async fn a_blocking_read_waits_as_long_as_it_may_and_no_longer() {
    let server = RedisServer::start(&[]);
    let settings = Settings { response_timeout: Duration::from_millis(200), ..server.settings() };
    let mut client = client(settings);
    let read = pipeline(&[&["XREAD", "BLOCK", "1000", "STREAMS", "stream", "$"]]);
    let limits = PipelineLimits { block: Duration::from_secs(1), ..LIMITS };
    let begun = Instant::now();
    assert_eq!(client.call(&read, limits).await, Ok(vec![Value::Nil]));
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let port = server.port;
    let feeder = std::thread::spawn(move || {
        let mut side = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap().get_connection().unwrap();
        wait_until("the read", || {
            redis::cmd("INFO").arg("clients").query::<String>(&mut side).unwrap().contains("blocked_clients:1")
        });
        let _: String = redis::cmd("XADD").arg(&["stream", "7-1", "event", "a"]).query(&mut side).unwrap();
    });
    let entry = Value::Array(vec![bulk("7-1"), Value::Array(vec![bulk("event"), bulk("a")])]);
    let of_stream = Value::Array(vec![bulk("stream"), Value::Array(vec![entry])]);
    let long = pipeline(&[&["XREAD", "BLOCK", "60000", "STREAMS", "stream", "$"]]);
    let limits = PipelineLimits { block: Duration::from_secs(60), within: Duration::from_secs(61), ..LIMITS };
    assert_eq!(client.call(&long, limits).await, Ok(vec![Value::Array(vec![of_stream])]));
    feeder.join().unwrap();

    // Without leave to block, an answer that is late ends the connection.
    let failure = client.call(&long, LIMITS).await.unwrap_err();
    assert!(matches!(failure, Error::Unavailable(_)), "{failure:?}");
    assert_eq!(call(&mut client, &[&["PING"]]).await, Ok(vec![Value::Status]));
}

#[tokio::test]
async fn a_longer_string_than_is_allowed_ends_the_call() {
    let server = RedisServer::start(&[]);
    let mut client = client(server.settings());
    let large = "v".repeat(2000);
    let words: [&[&str]; 3] = [&["SET", "stream", &large], &["GET", "stream"], &["PING"]];
    let limits = PipelineLimits { max_bulk_bytes: 1999, ..LIMITS };
    assert!(client.call(&pipeline(&words), limits).await.is_err());
    let limits = PipelineLimits { max_bulk_bytes: 2000, ..LIMITS };
    let replies = client.call(&pipeline(&words), limits).await.unwrap();
    assert_eq!(replies[1], Value::Bulk(large.into()));
}

#[tokio::test]
async fn what_was_sent_and_not_answered_has_no_effect_behind_the_next_call() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port);
    let settings = Settings { response_timeout: Duration::from_millis(300), ..Settings::new("127.0.0.1", proxy.port) };
    let mut client = client(settings);
    let add: [&[&str]; 1] = [&["XADD", "stream", "*", "event", "a"]];
    assert!(call(&mut client, &add).await.is_ok());
    proxy.hold(0);
    assert!(call(&mut client, &add).await.is_err());
    assert_eq!(call(&mut client, &[&["PING"]]).await, Ok(vec![Value::Status]));
    proxy.release(0);
    assert_eq!(length(&server), 1);
}

/// A call that nobody waits for any more has been sent all the same.
#[tokio::test]
async fn a_dropped_call_is_taken_back_before_the_next_of_any_client() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port);
    let redis = Redis::standalone(Settings::new("127.0.0.1", proxy.port)).unwrap();
    let (mut first, mut second) = (redis.client(b"stream"), redis.client(b"stream"));
    for client in [&mut first, &mut second] {
        assert!(call(client, &[&["PING"]]).await.is_ok());
    }
    let add: [&[&str]; 1] = [&["XADD", "stream", "*", "event", "a"]];
    proxy.hold(0);
    let dropped = tokio::time::timeout(Duration::from_millis(100), call(&mut first, &add)).await;
    assert!(dropped.is_err());
    assert!(call(&mut second, &[&["PING"]]).await.is_ok());
    proxy.release(0);
    assert_eq!(length(&server), 0);
}

#[tokio::test]
async fn what_another_process_has_under_way_is_taken_back_by_the_name_of_its_connections() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port);
    let named = |name: &str, port: u16| {
        let client_name = name.to_owned();
        Redis::standalone(Settings { client_name, ..Settings::new("127.0.0.1", port) }).unwrap()
    };
    let (mut of_former, mut of_other) =
        (named("former", proxy.port).client(b"stream"), named("other", server.port).client(b"stream"));
    for client in [&mut of_former, &mut of_other] {
        assert!(call(client, &[&["PING"]]).await.is_ok());
    }
    proxy.hold(0);
    let add: [&[&str]; 1] = [&["XADD", "stream", "*", "event", "a"]];
    let dropped = tokio::time::timeout(Duration::from_millis(100), call(&mut of_former, &add)).await;
    assert!(dropped.is_err());
    let next = named("next", server.port);
    assert_eq!(next.kill_clients("former", WITHIN).await, Ok(1));
    proxy.release(0);
    assert_eq!(length(&server), 0);
    assert_eq!(next.kill_clients("former", WITHIN).await, Ok(0));
    assert!(call(&mut of_other, &[&["PING"]]).await.is_ok());
}
