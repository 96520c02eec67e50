//! The references that are servers of our own: the fastest simple way to write each with actix-web. The bench starts
//! them as processes, by running itself as `bench reference NAME PORT REDIS_PORT`.
//!
//! They promise less than the service: no order, no retries, no limits, no log, no second form of an event.

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer, error};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use serde::{Deserialize, Serialize};

/// As many as the service has by default.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get())
}

pub fn serve(args: &[String]) -> ExitCode {
    let [name, port, redis] = args else {
        eprintln!("usage: bench reference NAME PORT REDIS_PORT");
        return ExitCode::FAILURE;
    };
    let (port, redis) = (port.parse().expect("a port"), redis.parse().expect("a port"));
    let served = actix_web::rt::System::new().block_on(async {
        match name.as_str() {
            "floor" => {
                let server = HttpServer::new(|| App::new().route("/events", web::post().to(floor)));
                server.workers(workers()).bind(("127.0.0.1", port))?.run().await
            }
            "bare" => {
                let shared = Data::new(connect(redis).await.expect("a connection"));
                let app = move || App::new().app_data(shared.clone());
                let server = HttpServer::new(move || app().route("/events", web::post().to(bare)));
                server.workers(workers()).bind(("127.0.0.1", port))?.run().await
            }
            // A connection for each worker: no hop to another thread.
            "bare-each" => {
                let app = move || App::new().data_factory(move || connect(redis));
                let server = HttpServer::new(move || app().route("/events", web::post().to(bare)));
                server.workers(workers()).bind(("127.0.0.1", port))?.run().await
            }
            "batch" => {
                let app = move || App::new().data_factory(move || connect(redis));
                let limit = web::PayloadConfig::new(1 << 20);
                let server =
                    HttpServer::new(move || app().app_data(limit.clone()).route("/events", web::post().to(batch)));
                server.workers(workers()).bind(("127.0.0.1", port))?.run().await
            }
            "blob" => {
                let shared = Data::new(connect(redis).await.expect("a connection"));
                let app = move || App::new().app_data(shared.clone()).app_data(Data::new(client()));
                let limit = web::PayloadConfig::new(1 << 20);
                let server =
                    HttpServer::new(move || app().app_data(limit.clone()).route("/events", web::post().to(blob)));
                server.workers(workers()).bind(("127.0.0.1", port))?.run().await
            }
            other => panic!("no reference {other}"),
        }
    });
    served.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Envelope<'a>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Entry<'a>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
    ttl: Option<u64>,
}

#[derive(Serialize)]
struct Answer<'a, R> {
    status: &'static str,
    event: &'a str,
    results: [R; 1],
}

#[derive(Serialize)]
struct Stored<'a> {
    key: &'a str,
    status: &'static str,
    bytes: usize,
    ttl: Option<u64>,
    source: &'static str,
}

#[derive(Serialize)]
struct Read<'a> {
    key: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
}

async fn floor(body: Bytes) -> actix_web::Result<HttpResponse> {
    let event: Event<'_> = serde_json::from_slice(&body)?;
    let value = event.value.data.value.as_deref().ok_or_else(|| error::ErrorBadRequest("no value"))?;
    Ok(stored(&event, value.len(), "inline"))
}

async fn bare(body: Bytes, redis: Data<MultiplexedConnection>) -> actix_web::Result<HttpResponse> {
    let event: Event<'_> = serde_json::from_slice(&body)?;
    let data = &event.value.data;
    let mut redis = redis.get_ref().clone();
    if event.key == "GET" {
        let found: Option<String> =
            redis::cmd("GET").arg(&*data.key).query_async(&mut redis).await.map_err(error::ErrorServiceUnavailable)?;
        let status = if found.is_some() { "hit" } else { "miss" };
        let results = [Read { key: &data.key, status, value: found.as_deref() }];
        return Ok(HttpResponse::Ok().json(Answer { status: "ok", event: &event.key, results }));
    }
    let value = data.value.as_deref().ok_or_else(|| error::ErrorBadRequest("no value"))?;
    let set = redis::cmd("SET").arg(&*data.key).arg(value).exec_async(&mut redis).await;
    set.map_err(error::ErrorServiceUnavailable)?;
    Ok(stored(&event, value.len(), "inline"))
}

#[derive(Serialize)]
struct Answers<'a> {
    status: &'static str,
    counts: Counts,
    events: Vec<Element<'a>>,
}

#[derive(Serialize)]
struct Counts {
    ok: usize,
    rejected: usize,
    unavailable: usize,
}

#[derive(Serialize)]
struct Element<'a> {
    index: usize,
    status: &'static str,
    event: &'a str,
    results: [Ended<'a>; 1],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Ended<'a> {
    Stored(Stored<'a>),
    Read(Read<'a>),
}

/// All events of a request as one pipeline.
async fn batch(body: Bytes, redis: Data<MultiplexedConnection>) -> actix_web::Result<HttpResponse> {
    let events: Vec<Event<'_>> = serde_json::from_slice(&body)?;
    let mut pipe = redis::pipe();
    for event in &events {
        let data = &event.value.data;
        match &*event.key {
            "SET" => {
                pipe.cmd("SET").arg(&*data.key).arg(data.value.as_deref().unwrap_or_default());
                match data.ttl {
                    Some(ttl) => pipe.arg("EX").arg(ttl),
                    None => &mut pipe,
                }
            }
            "GET" => pipe.cmd("GET").arg(&*data.key),
            _ => pipe.cmd("UNLINK").arg(&*data.key),
        };
    }
    let mut redis = redis.get_ref().clone();
    let replies: Vec<redis::Value> = pipe.query_async(&mut redis).await.map_err(error::ErrorServiceUnavailable)?;
    let elements = events.iter().zip(&replies).enumerate().map(|(index, (event, reply))| {
        let Entry { key, ttl, .. } = &event.value.data;
        let read = |status, value| Ended::Read(Read { key, status, value });
        let ended = match reply {
            redis::Value::Okay => {
                let bytes = event.value.data.value.as_deref().unwrap_or_default().len();
                Ended::Stored(Stored { key, status: "stored", bytes, ttl: *ttl, source: "inline" })
            }
            redis::Value::BulkString(value) => read("hit", std::str::from_utf8(value).ok()),
            redis::Value::Int(count) => read(if *count > 0 { "deleted" } else { "absent" }, None),
            _ => read("miss", None),
        };
        Element { index, status: "ok", event: &event.key, results: [ended] }
    });
    let events: Vec<Element<'_>> = elements.collect();
    let counts = Counts { ok: events.len(), rejected: 0, unavailable: 0 };
    Ok(HttpResponse::Ok().json(Answers { status: "ok", counts, events }))
}

async fn blob(
    body: Bytes,
    redis: Data<MultiplexedConnection>,
    client: Data<awc::Client>,
) -> actix_web::Result<HttpResponse> {
    let event: Event<'_> = serde_json::from_slice(&body)?;
    let data = &event.value.data;
    let url = data.url.as_deref().ok_or_else(|| error::ErrorBadRequest("no url"))?;
    let mut response = client.get(url).send().await.map_err(error::ErrorBadGateway)?;
    if response.status() != 200 {
        return Err(error::ErrorBadGateway(response.status()));
    }
    let blob = response.body().limit(64 << 20).await.map_err(error::ErrorBadGateway)?;
    let mut redis = redis.get_ref().clone();
    let set = redis::cmd("SET").arg(&*data.key).arg(&blob[..]).exec_async(&mut redis).await;
    set.map_err(error::ErrorServiceUnavailable)?;
    Ok(stored(&event, blob.len(), "blob"))
}

fn stored(event: &Event<'_>, bytes: usize, source: &'static str) -> HttpResponse {
    let results = [Stored { key: &event.value.data.key, status: "stored", bytes, ttl: None, source }];
    HttpResponse::Ok().json(Answer { status: "ok", event: &event.key, results })
}

fn client() -> awc::Client {
    awc::Client::builder().timeout(Duration::from_secs(10)).finish()
}

async fn connect(port: u16) -> redis::RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let info = client.get_connection_info().clone().set_tcp_settings(TcpSettings::default().set_nodelay(true));
    // A timer for every command is not for free, and nothing hangs here.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
}
