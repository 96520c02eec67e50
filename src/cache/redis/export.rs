//! Reads the strings of another Redis with their expiries, for whoever copies them. Blocking, on a connection of its own:
//! for commands, not for the daemon.

use std::time::Duration;

use redis::{Client, Cmd, Connection, ConnectionLike, ErrorKind, Pipeline, RedisError, Value};

/// For a connection, and for each answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Of one step of the scan.
const COUNT: u32 = 500;
/// Values that are read together, at most, or a single larger one.
const MAX_VALUES_BYTES: u64 = 4 << 20;

const IN_CLUSTER: &str = "it is a node of a Redis Cluster and has only a part of the keys: load each primary's dump (redis-cli --rdb) \
     into a Redis without cluster mode, and name that one";

/// A key that was found. It may have gone since.
#[derive(Debug, PartialEq, Eq)]
pub struct Exported {
    /// The name of the key, which need not be UTF-8.
    pub key: Vec<u8>,
    /// None: it holds no string, or one of more bytes than are wanted.
    pub value: Option<Vec<u8>>,
    /// Seconds it has left to live, rounded up. None: it does not expire.
    pub ttl_seconds: Option<u64>,
}

/// A scan in progress: an iterator over [`Exported`] keys, perhaps some of them twice. It holds the values of one step
/// at a time.
pub struct Export {
    connection: Connection,
    pattern: Vec<u8>,
    /// None: the scan is over.
    cursor: Option<u64>,
    max_value_bytes: u64,
}

impl Export {
    /// Keys that match `pattern`, from the Redis at a `redis://` or `rediss://` URL. Values of more than `max_value_bytes`
    /// are not read.
    ///
    /// # Errors
    /// Why it cannot be reached, without the URL's password; or that it is a node of a Redis Cluster, whose other nodes have the
    /// other keys.
    pub fn open(url: &str, pattern: &[u8], max_value_bytes: u64) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| told(&error))?;
        let mut connection = client.get_connection_with_timeout(WITHIN).map_err(|error| told(&error))?;
        let timeouts =
            connection.set_read_timeout(Some(WITHIN)).and_then(|()| connection.set_write_timeout(Some(WITHIN)));
        timeouts.map_err(|error| told(&error))?;
        if is_in_cluster(&mut connection) {
            return Err(IN_CLUSTER.to_owned());
        }
        Ok(Export { connection, pattern: pattern.to_vec(), cursor: Some(0), max_value_bytes })
    }

    /// The keys that the next step finds, perhaps none; None at the end. A key may be found twice.
    ///
    /// # Errors
    /// Why the scan does not go on.
    pub fn keys(&mut self) -> Result<Option<Vec<Vec<u8>>>, String> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(cursor).arg("MATCH").arg(&self.pattern[..]).arg("COUNT").arg(COUNT);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query(&mut self.connection).map_err(|error| told(&error))?;
        self.cursor = Some(next).filter(|next| *next != 0);
        Ok(Some(keys))
    }

    /// What these keys hold, those that are gone left out.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn read(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Exported>, String> {
        let mut sizes = Pipeline::new();
        for key in &keys {
            sizes.cmd("STRLEN").arg(&key[..]).cmd("PTTL").arg(&key[..]);
        }
        let mut found = Vec::with_capacity(keys.len());
        let mut together: (Vec<usize>, u64) = (Vec::new(), 0);
        for (key, size) in keys.into_iter().zip(self.query(&sizes)?.chunks(2)) {
            let Some((bytes, ttl_seconds)) = self.size_and_ttl(size) else { continue };
            found.push(Exported { key, value: None, ttl_seconds });
            let Some(bytes) = bytes else { continue };
            if together.1 + bytes > MAX_VALUES_BYTES {
                self.fill(&mut found, std::mem::take(&mut together).0)?;
            }
            together.0.push(found.len() - 1);
            together.1 += bytes;
        }
        self.fill(&mut found, together.0)?;
        Ok(found)
    }

    /// What `STRLEN` and `PTTL` say of a key: its bytes, None for a value that is not read; and its seconds to live, None for
    /// ever. None: it is gone.
    fn size_and_ttl(&self, answers: &[Value]) -> Option<(Option<u64>, Option<u64>)> {
        let [length, ttl] = answers else { return None };
        let ttl_seconds = match ttl {
            Value::Int(-2) => return None,
            Value::Int(left) => u64::try_from(*left).ok().map(|left| left.div_ceil(1000).max(1)),
            _ => None,
        };
        // For what is no string it is an error.
        let bytes = match length {
            Value::Int(bytes) => u64::try_from(*bytes).ok().filter(|bytes| *bytes <= self.max_value_bytes),
            _ => None,
        };
        Some((bytes, ttl_seconds))
    }

    fn fill(&mut self, found: &mut [Exported], places: Vec<usize>) -> Result<(), String> {
        let mut gets = Pipeline::new();
        for exported in places.iter().filter_map(|place| found.get(*place)) {
            gets.cmd("GET").arg(&exported.key[..]);
        }
        for (place, value) in places.into_iter().zip(self.query(&gets)?) {
            if let (Some(exported), Value::BulkString(value)) = (found.get_mut(place), value) {
                exported.value = Some(value);
            }
        }
        Ok(())
    }

    /// The answers one by one, errors of single commands among them.
    fn query(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>, String> {
        let count = pipeline.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let packed = pipeline.get_packed_pipeline();
        self.connection.req_packed_commands(&packed, 0, count).map_err(|error| told(&error))
    }
}

/// What may not be asked, or has no answer, is taken for no Cluster.
fn is_in_cluster(connection: &mut Connection) -> bool {
    let told: Result<String, RedisError> = Cmd::new().arg("INFO").arg("cluster").query(connection);
    told.is_ok_and(|told| told.lines().any(|line| line.trim() == "cluster_enabled:1"))
}

/// Without what a server may say of keys, and without the URL.
fn told(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::InvalidClientConfig => "it is not the URL of a Redis, such as redis://localhost:6379/0".to_owned(),
        ErrorKind::AuthenticationFailed => "it rejected the user name or the password".to_owned(),
        _ => match error.code() {
            Some(code) => format!("redis answered {code}"),
            None => {
                error.category().to_owned() + &error.detail().map(|detail| format!(": {detail}")).unwrap_or_default()
            }
        },
    }
}
