//! The client by itself, towards one slot of a cluster and towards a master by Sentinel: it finds who has the stream.

use std::time::Duration;

use redis_cache_sync::redis::{Address, Client, CommandPipeline, Error, PipelineLimits, Redis, Settings, Value};

use crate::harness::signal;
use crate::routing::WITHIN;
use crate::servers::*;

const ADD: [&str; 5] = ["XADD", "{stream}", "*", "event", "a"];

fn pipeline(commands: &[&[&str]]) -> CommandPipeline {
    let mut pipeline = CommandPipeline::new();
    for command in commands {
        pipeline.command(&command.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    }
    pipeline
}

async fn call(client: &mut Client, commands: &[&[&str]]) -> Result<Vec<Value>, Error> {
    client.call(&pipeline(commands), PipelineLimits::within(WITHIN)).await
}

/// Adds until that is done; how many may have been added besides.
async fn add(client: &mut Client) -> usize {
    let begun = std::time::Instant::now();
    let mut perhaps = 0;
    loop {
        match call(client, &[&ADD]).await {
            Ok(replies) if matches!(replies[..], [Value::Bulk(_)]) => return perhaps,
            Ok(_) => {}
            Err(_) => perhaps += 1,
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn of_cluster(cluster: &Cluster, port: u16) -> Client {
    let seeds = cluster.servers.iter().map(|server| Address::new("127.0.0.1", server.port)).collect();
    Redis::cluster(Settings::new("127.0.0.1", port), seeds).unwrap().client(b"{stream}")
}

#[tokio::test]
async fn a_stream_is_followed_to_the_node_that_has_its_slot() {
    let cluster = Cluster::start(3, 0);
    let slot: u16 = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", "{stream}"]);
    let has = |server: &&Server| server.owns(slot);
    let (from, to) = (cluster.servers.iter().find(has).unwrap(), cluster.servers.iter().find(|one| !has(one)).unwrap());
    let mut client = of_cluster(&cluster, from.port);
    let length: &[&str] = &["XLEN", "{stream}"];
    assert!(matches!(call(&mut client, &[&ADD, length]).await.unwrap()[..], [Value::Bulk(_), Value::Integer(1)]));

    // On its way, and the stream has gone already: ASK.
    let (from_id, to_id): (String, String) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
    let number = slot.to_string();
    let _: () = to.ask(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &from_id]);
    let _: () = from.ask(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &to_id]);
    let _: String = from.ask(&["MIGRATE", "127.0.0.1", &to.port.to_string(), "{stream}", "0", "5000"]);
    let replies = call(&mut client, &[&["MULTI"], &ADD, length, &["EXEC"]]).await;
    let Value::Array(whole) = &replies.as_ref().unwrap()[3] else { panic!("{replies:?}") };
    assert!(matches!(whole[..], [Value::Bulk(_), Value::Integer(2)]), "{whole:?}");
    assert!(matches!(call(&mut client, &[&ADD, length]).await.unwrap()[..], [Value::Bulk(_), Value::Integer(3)]));

    // Arrived: MOVED, once.
    let _: () = to.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &to_id]);
    let _: () = from.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &to_id]);
    let replies = call(&mut client, &[&ADD, &["WAIT", "0", "10"], length]).await.unwrap();
    assert_eq!(replies[1..], [Value::Integer(0), Value::Integer(4)]);
    assert_eq!(to.ask::<i64>(&["XLEN", "{stream}"]), 4);
}

#[tokio::test]
async fn connections_are_killed_by_their_name_on_every_node() {
    let cluster = Cluster::start(3, 0);
    let named = |name: &str| {
        let client_name = name.to_owned();
        let settings = Settings { client_name, ..Settings::new("127.0.0.1", cluster.servers[0].port) };
        Redis::cluster(settings, Vec::new()).unwrap()
    };
    let former = named("former");
    let keys = cluster.servers.iter().map(|server| {
        let mut keys = (0..).map(|n| format!("k:{n}"));
        keys.find(|key| server.try_ask::<Option<String>>(&["GET", key]).is_some()).expect("a key")
    });
    let mut clients: Vec<Client> = keys.map(|key| former.client(key.as_bytes())).collect();
    for client in &mut clients {
        assert!(call(client, &[&["PING"]]).await.is_ok());
    }
    let held = || {
        let lists = cluster.servers.iter().map(|server| server.ask::<String>(&["CLIENT", "LIST"]));
        lists.map(|list| list.matches("name=former ").count()).collect::<Vec<_>>()
    };
    let before: usize = held().iter().sum();
    assert!(held().iter().all(|count| *count > 0), "{:?}", held());
    assert_eq!(named("next").kill_clients("former", WITHIN).await, Ok(before));
    assert_eq!(held(), [0, 0, 0]);
}

#[tokio::test]
async fn a_stream_goes_on_at_the_replica_that_takes_over() {
    let mut cluster = Cluster::start(3, 1);
    let slot: u16 = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", "{stream}"]);
    let owner = cluster.servers.iter().position(|server| server.is_master() && server.owns(slot)).unwrap();
    let mut client = of_cluster(&cluster, cluster.servers[owner].port);
    assert_eq!(add(&mut client).await, 0);
    let waited = call(&mut client, &[&ADD, &["WAIT", "1", "2000"]]).await.unwrap();
    assert_eq!(waited[1], Value::Integer(1));
    cluster.servers[owner].kill();
    let perhaps = add(&mut client).await;
    let next = cluster.servers.iter().find(|server| server.is_up() && server.is_master() && server.owns(slot)).unwrap();
    let length: usize = next.ask(&["XLEN", "{stream}"]);
    assert!((3..=3 + perhaps).contains(&length), "{length}, {perhaps} not known");
}

#[tokio::test]
async fn a_stream_goes_on_at_the_master_that_sentinels_name() {
    let watched = Watched::start(None, None);
    let sentinels = watched.sentinels.iter().map(|sentinel| Address::new("127.0.0.1", sentinel.port)).collect();
    let settings = Settings { response_timeout: Duration::from_millis(500), ..Settings::new("", 0) };
    let mut client = Redis::sentinel(settings, sentinels, MASTER.to_owned()).unwrap().client(b"{stream}");
    assert_eq!(add(&mut client).await, 0);
    let waited = call(&mut client, &[&ADD, &["WAIT", "2", "2000"]]).await.unwrap();
    assert_eq!(waited[1], Value::Integer(2));
    // It hangs with its sockets open, and comes to when another is the master.
    let old = watched.master().expect("a master");
    signal(old.pid(), "STOP");
    assert!(call(&mut client, &[&ADD]).await.is_err());
    let perhaps = 1 + add(&mut client).await;
    signal(old.pid(), "CONT");
    watched.settle();
    let master = watched.master().expect("a master");
    let length: usize = master.ask(&["XLEN", "{stream}"]);
    assert!(master.port != old.port && (3..=3 + perhaps).contains(&length), "{length}, {perhaps} not known");
}
