//! A cluster of primaries with replicas.

use std::path::Path;

use super::{PLAIN, Server, TlsFiles, tls_words, wait_for, words};

/// Primaries first, then the replicas of each.
pub struct Cluster {
    pub servers: Vec<Server>,
    pub primaries: usize,
}

impl Cluster {
    pub fn start(primaries: usize, replicas: usize) -> Self {
        Self::start_with(primaries, replicas, None)
    }

    pub fn start_with(primaries: usize, replicas: usize, tls: Option<&TlsFiles>) -> Self {
        let arguments = |port: u16, tls_port: Option<u16>, _: &Path| {
            let mut all: Vec<String> = words(PLAIN).collect();
            all.extend(["--save".into(), String::new(), "--port".into(), port.to_string()]);
            all.extend(words("--cluster-enabled yes --cluster-node-timeout 1000 --cluster-replica-validity-factor 0"));
            all.extend(tls_words(tls, tls_port));
            if tls.is_some() {
                all.extend(words("--tls-cluster yes"));
            }
            all
        };
        let count = primaries * (1 + replicas);
        let servers = (0..count).map(|_| Server::launch(arguments, tls.is_some())).collect();
        let cluster = Cluster { servers, primaries };
        cluster.join(replicas);
        cluster
    }

    fn join(&self, replicas: usize) {
        let first = &self.servers[0];
        for (index, server) in self.servers.iter().enumerate() {
            let _: () = server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < self.primaries {
                let bound = |index: usize| index * 16384 / self.primaries;
                let mut add = redis::cmd("CLUSTER");
                add.arg("ADDSLOTS").arg((bound(index)..bound(index + 1)).collect::<Vec<_>>());
                add.exec(&mut server.conn()).expect("ADDSLOTS");
            }
            if index > 0 {
                let port = first.tls_port.unwrap_or(first.port).to_string();
                let _: () = server.ask(&["CLUSTER", "MEET", "127.0.0.1", &port]);
            }
        }
        let known = |server: &Server| server.info_of_cluster("cluster_known_nodes");
        let all = self.servers.len().to_string();
        wait_for("the nodes to know each other", || self.servers.iter().all(|s| known(s).as_deref() == Some(&all)));
        for (index, replica) in self.servers.iter().enumerate().skip(self.primaries) {
            let primary = &self.servers[(index - self.primaries) / replicas];
            let id: String = primary.ask(&["CLUSTER", "MYID"]);
            wait_for("a replica to take its primary", || {
                replica.try_ask::<()>(&["CLUSTER", "REPLICATE", &id]).is_some()
            });
        }
        self.settle();
    }

    /// One more primary, without slots, that tells clients to come to another port; 0: to its own.
    pub fn add_empty(&self, announced: u16) -> Server {
        let arguments = |port: u16, _: Option<u16>, _: &Path| {
            let mut all: Vec<String> = words(PLAIN).collect();
            all.extend(["--save".into(), String::new(), "--port".into(), port.to_string()]);
            all.extend(words("--cluster-enabled yes --cluster-node-timeout 1000 --cluster-announce-ip 127.0.0.1"));
            all.extend(["--cluster-announce-port".into(), announced.to_string()]);
            all.extend(["--cluster-announce-bus-port".into(), (port + 10_000).to_string()]);
            all
        };
        let server = Server::launch(arguments, false);
        let _: () = server.ask(&["CLUSTER", "MEET", "127.0.0.1", &self.servers[0].port.to_string()]);
        let mark = format!("127.0.0.1:{}@", if announced == 0 { server.port } else { announced });
        wait_for("the others to know it", || {
            self.servers.iter().all(|other| other.ask::<String>(&["CLUSTER", "NODES"]).contains(&mark))
        });
        server
    }

    /// Waits until every node serves, and every replica follows.
    pub fn settle(&self) {
        wait_for("the cluster to be whole", || {
            self.servers.iter().filter(|server| server.is_up()).all(|server| {
                let is_ok = server.info_of_cluster("cluster_state").as_deref() == Some("ok");
                is_ok && (server.is_master() || server.follows())
            })
        });
        let replicas = self.servers.len() - self.primaries;
        wait_for("all replicas", || {
            let are_all = self.masters().iter().map(|s| s.followers()).sum::<usize>() == replicas;
            if !are_all {
                self.unchain();
            }
            are_all
        });
    }

    /// Redis 8.10 may leave a replica for good with a primary that has become a replica itself. What an operator does then.
    fn unchain(&self) {
        let port = |server: &Server| server.tls_port.unwrap_or(server.port).to_string();
        let source = |replica: &Server| {
            let of = replica.info("replication", "master_port")?;
            self.servers.iter().find(|server| server.is_up() && port(server) == of)
        };
        for replica in self.servers.iter().filter(|server| server.is_up() && !server.is_master()) {
            if let Some(primary) = source(replica).and_then(source)
                && let Some(id) = primary.try_ask::<String>(&["CLUSTER", "MYID"])
            {
                let _: Option<()> = replica.try_ask(&["CLUSTER", "REPLICATE", &id]);
            }
        }
    }

    pub fn masters(&self) -> Vec<&Server> {
        self.servers.iter().filter(|server| server.is_up() && server.is_master()).collect()
    }

    /// Host and port of the first primaries, as `redis.nodes` wants them.
    pub fn nodes(&self) -> String {
        let port = |server: &Server| server.tls_port.unwrap_or(server.port);
        let nodes: Vec<String> = self.servers.iter().map(|server| format!("127.0.0.1:{}", port(server))).collect();
        nodes.join(",")
    }

    pub fn flush(&self) {
        for server in self.masters() {
            let _: () = server.ask(&["FLUSHALL"]);
        }
    }

    /// All keys on primaries, those of the service left out.
    pub fn keys(&self) -> Vec<String> {
        let keys = self.masters().into_iter().flat_map(|server| server.ask::<Vec<String>>(&["KEYS", "*"]));
        keys.filter(|key| !key.starts_with("rcs:v:")).collect()
    }

    /// Moves slots from one primary to another with all keys, one after the other.
    pub fn reshard(&self, from: &Server, to: &Server, slots: impl Iterator<Item = u16>) {
        let (from_id, to_id): (String, String) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
        let (mut source, mut target) = (from.conn(), to.conn());
        let port = to.port.to_string();
        for slot in slots {
            let slot = slot.to_string();
            let set = |conn: &mut redis::Connection, state: &str, id: &str| {
                redis::cmd("CLUSTER").arg(&["SETSLOT", &slot, state, id]).exec(conn).expect("SETSLOT");
            };
            set(&mut target, "IMPORTING", &from_id);
            set(&mut source, "MIGRATING", &to_id);
            loop {
                let get = redis::cmd("CLUSTER").arg(&["GETKEYSINSLOT", &slot, "10"]).query(&mut source);
                let keys: Vec<String> = get.expect("GETKEYSINSLOT");
                if keys.is_empty() {
                    break;
                }
                let mut migrate = redis::cmd("MIGRATE");
                migrate.arg(&["127.0.0.1", &port, "", "0", "5000", "KEYS"]).arg(keys);
                // A busy machine makes nodes miss each other for a moment.
                wait_for("MIGRATE", || match migrate.exec(&mut source) {
                    Err(error) if error.to_string().contains("CLUSTERDOWN") => false,
                    done => done.map(|()| true).expect("MIGRATE"),
                });
            }
            set(&mut target, "NODE", &to_id);
            set(&mut source, "NODE", &to_id);
        }
    }

    /// Moves slots with all keys as the servers do it by themselves: at once where they can, and that leaves no mark and
    /// answers no `ASK`; one after the other where they cannot.
    pub fn hand_over(&self, from: &Server, to: &Server, first: u16, last: u16) {
        let id: String = to.ask(&["CLUSTER", "MYID"]);
        let (low, high) = (first.to_string(), last.to_string());
        let has_it = || {
            let nodes: String = from.ask(&["CLUSTER", "NODES"]);
            owns(&nodes, &id, first) && owns(&nodes, &id, last) && to.owns(first) && to.owns(last)
        };
        let ask = |server: &Server, words: &[&str]| redis::cmd("CLUSTER").arg(words).exec(&mut server.conn());
        let is_unknown = |error: &redis::RedisError| error.to_string().to_lowercase().contains("unknown subcommand");
        // Valkey 9, then Redis 8.4. Either may have an older one to end first.
        for (server, words) in [
            (from, &["MIGRATESLOTS", "SLOTSRANGE", &low, &high, "NODE", &id][..]),
            (to, &["MIGRATION", "IMPORT", &low, &high][..]),
        ] {
            let mut said = Ok(());
            wait_for("the hand-over to begin", || {
                said = ask(server, words);
                said.as_ref().map_or_else(is_unknown, |()| true)
            });
            if said.is_ok() {
                return wait_for("the slots to be handed over", has_it);
            }
        }
        self.reshard(from, to, first..=last);
    }

    /// Whether every node says that the slot is of this one.
    pub fn agrees_on(&self, owner: &Server, slot: u16) -> bool {
        let id: String = owner.ask(&["CLUSTER", "MYID"]);
        self.servers.iter().all(|server| owns(&server.ask::<String>(&["CLUSTER", "NODES"]), &id, slot))
    }
}

/// Whether a node says that the slot is of the node with the id.
fn owns(nodes: &str, id: &str, slot: u16) -> bool {
    let own = nodes.lines().find(|line| line.starts_with(id)).unwrap_or_default();
    own.split(' ').skip(8).filter(|word| !word.starts_with('[')).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().expect("a slot")..=last.parse().expect("a slot")).contains(&slot)
    })
}

impl Server {
    pub fn owns(&self, slot: u16) -> bool {
        let id: String = self.ask(&["CLUSTER", "MYID"]);
        owns(&self.ask::<String>(&["CLUSTER", "NODES"]), &id, slot)
    }
}
