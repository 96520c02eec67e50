//! A master that sentinels watch.

use std::fs;
use std::path::Path;

use super::{PLAIN, Server, TlsFiles, tls_words, wait_for, words};

pub const MASTER: &str = "mymaster";

/// A master with two replicas, and three sentinels that watch them.
pub struct Watched {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
}

impl Watched {
    /// `asks`: the password that sentinels ask for.
    pub fn start(tls: Option<&TlsFiles>, asks: Option<&str>) -> Self {
        let plain = |port: u16, tls_port: Option<u16>, _: &Path| {
            let mut all: Vec<String> = words(PLAIN).collect();
            all.extend(["--save".into(), String::new(), "--port".into(), port.to_string()]);
            all.extend(tls_words(tls, tls_port));
            all
        };
        let servers: Vec<Server> = (0..3).map(|_| Server::launch(plain, tls.is_some())).collect();
        let port = |server: &Server| server.tls_port.unwrap_or(server.port);
        let master = port(&servers[0]).to_string();
        for replica in &servers[1..] {
            let _: () = replica.ask(&["REPLICAOF", "127.0.0.1", &master]);
        }
        wait_for("the replicas to follow", || servers[1..].iter().all(Server::follows));
        let watching = |port: u16, tls_port: Option<u16>, dir: &Path| {
            let mut lines = vec![format!("port {port}"), "bind 127.0.0.1".into(), format!("dir {}", dir.display())];
            lines.extend(tls_words(tls, tls_port).chunks(2).map(|pair| format!("{} {}", &pair[0][2..], pair[1])));
            lines.push(format!("sentinel monitor {MASTER} 127.0.0.1 {master} 2"));
            lines.push(format!("sentinel down-after-milliseconds {MASTER} 1000"));
            lines.push(format!("sentinel failover-timeout {MASTER} 2000"));
            let path = dir.join("sentinel.conf");
            fs::write(&path, lines.join("\n")).expect("a file");
            vec![path.display().to_string(), "--sentinel".into()]
        };
        let sentinels: Vec<Server> = (0..3).map(|_| Server::launch(watching, tls.is_some())).collect();
        let watched = Watched { servers, sentinels };
        watched.settle();
        for (sentinel, password) in watched.sentinels.iter().zip(asks.into_iter().cycle()) {
            let password = format!(">{password}");
            let _: () = sentinel.ask(&["ACL", "SETUSER", "sync", "on", &password, "~*", "&*", "+@all"]);
            let _: () = sentinel.ask(&["ACL", "SETUSER", "default", "resetpass", "-@all", "+auth"]);
        }
        watched
    }

    /// Waits until the sentinels know each other and all replicas, which follow.
    pub fn settle(&self) {
        let field = |sentinel: &Server, name: &str| {
            let fields: Vec<String> = sentinel.try_ask(&["SENTINEL", "MASTER", MASTER])?;
            fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone())
        };
        let port = |server: &Server| server.tls_port.unwrap_or(server.port).to_string();
        wait_for("the sentinels to agree", || {
            let Some(master) = self.master() else { return false };
            let agrees = |sentinel: &Server| {
                field(sentinel, "num-slaves").as_deref() == Some("2")
                    && field(sentinel, "num-other-sentinels").as_deref() == Some("2")
                    && field(sentinel, "flags").as_deref() == Some("master")
                    && field(sentinel, "port") == Some(port(master))
            };
            // A master may count a replica as online while that still loads: Valkey 9 does.
            let mut replicas = self.servers.iter().filter(|server| server.is_up() && server.port != master.port);
            master.followers() == 2 && replicas.all(Server::follows) && self.sentinels.iter().all(agrees)
        });
    }

    pub fn master(&self) -> Option<&Server> {
        self.servers.iter().find(|server| server.is_up() && server.is_master())
    }

    /// The sentinels, as `redis.nodes` wants them.
    pub fn nodes(&self) -> String {
        let port = |server: &Server| server.tls_port.unwrap_or(server.port);
        let nodes: Vec<String> = self.sentinels.iter().map(|server| format!("127.0.0.1:{}", port(server))).collect();
        nodes.join(",")
    }
}
