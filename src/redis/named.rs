//! Ends the connections of a client by the name that it gave them (`CLIENT SETNAME`).

use bytes::Bytes;

use super::MAX_OWN_BYTES;
use super::deadline::Deadline;
use super::encode::Encoder;
use super::error::{Error, unexpected};
use super::reply::Frame;
use super::server_info::ConnectionId;
use super::session::ServerSession;

/// The answer to `CLIENT LIST`, at most: some 300 bytes a client.
const MAX_LIST_BYTES: usize = 32 * 1024 * 1024;

/// Kills all connections with this name at the session's server, its own left out. How many there were.
pub(super) async fn kill(session: &mut ServerSession, name: &str, deadline: &Deadline) -> Result<usize, Error> {
    let mut encoder = Encoder::new();
    encoder.pack(&[b"CLIENT", b"LIST"]);
    let listed = session.call(encoder, MAX_LIST_BYTES, Deadline::new(deadline.left())).await?.pop();
    let found = match listed {
        Some(Frame::Text(list)) => named(&list, name),
        Some(Frame::Error(code)) => return Err(code.to_error("CLIENT LIST")),
        _ => return Err(unexpected()),
    };
    if found.is_empty() {
        return Ok(0);
    }
    let mut encoder = Encoder::new();
    for identity in &found {
        identity.kill(&mut encoder);
    }
    for frame in session.call(encoder, MAX_OWN_BYTES, Deadline::new(deadline.left())).await? {
        if let Frame::Error(code) = frame {
            return Err(code.to_error("CLIENT KILL"));
        }
    }
    Ok(found.len())
}

/// The connections of that name in an answer to `CLIENT LIST`.
fn named(list: &[u8], name: &str) -> Vec<ConnectionId> {
    let identity = |line: &[u8]| {
        let field = |key: &[u8]| line.split(|&byte| byte == b' ').find_map(|field| field.strip_prefix(key));
        if field(b"name=") != Some(name.as_bytes()) {
            return None;
        }
        let id = std::str::from_utf8(field(b"id=")?).ok()?.parse().ok().filter(|id| *id > 0)?;
        Some(ConnectionId { id, address: Bytes::copy_from_slice(field(b"addr=")?) })
    };
    list.split(|&byte| byte == b'\n').filter_map(identity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_found_by_their_whole_name() {
        let list = b"id=3 addr=127.0.0.1:5 laddr=127.0.0.1:6 fd=8 name=us age=1 cmd=get\n\
            id=4 addr=127.0.0.1:7 fd=9 name=us-too age=1\nid=5 addr=[::1]:8 fd=10 name= age=1\nid=0 addr=x:1 name=us\n";
        assert_eq!(named(list, "us"), [ConnectionId { id: 3, address: "127.0.0.1:5".into() }]);
    }
}
