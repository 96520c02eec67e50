//! Requests of one pipeline, packed for the wire.
//!
//! The `redis` crate packs the commands. It copies every argument twice on the way, which is cheap for keys and small
//! values; a larger value is copied once, and a large one is put on the wire from where it lies, without any copy.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use redis::Cmd;

/// From this size on a value is copied once rather than twice.
const COPIED_ONCE_FROM_BYTES: usize = 1024;
/// From this size on a value is shared rather than copied: below, a copy costs less than another piece to write.
const SHARED_FROM_BYTES: usize = 16 * 1024;

/// A pipeline being packed.
pub(super) struct Outbox {
    scratch: Cmd,
    pieces: VecDeque<Bytes>,
    tail: Vec<u8>,
    commands: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox { scratch: Cmd::new(), pieces: VecDeque::new(), tail: Vec::new(), commands: 0 }
    }

    /// Adds one command, filled in by `fill`.
    pub(super) fn command(&mut self, fill: impl FnOnce(&mut Cmd) -> &mut Cmd) {
        self.scratch.clear();
        fill(&mut self.scratch);
        self.scratch.write_packed_command(&mut self.tail);
        self.commands += 1;
    }

    /// Adds `SET key value [EX ttl]`.
    pub(super) fn set(&mut self, key: &[u8], value: &Bytes, ttl_seconds: Option<u32>) {
        if value.len() >= COPIED_ONCE_FROM_BYTES {
            return self.set_large(key, value, ttl_seconds);
        }
        self.command(|cmd| {
            cmd.arg("SET").arg(key).arg(&value[..]);
            if let Some(seconds) = ttl_seconds {
                cmd.arg("EX").arg(seconds);
            }
            cmd
        });
    }

    fn set_large(&mut self, key: &[u8], value: &Bytes, ttl_seconds: Option<u32>) {
        let arguments = if ttl_seconds.is_some() { 5 } else { 3 };
        self.tail.extend_from_slice(format!("*{arguments}\r\n$3\r\nSET\r\n${}\r\n", key.len()).as_bytes());
        self.tail.extend_from_slice(key);
        self.tail.extend_from_slice(format!("\r\n${}\r\n", value.len()).as_bytes());
        if value.len() < SHARED_FROM_BYTES {
            self.tail.extend_from_slice(value);
        } else {
            self.pieces.push_back(mem::take(&mut self.tail).into());
            self.pieces.push_back(value.clone());
        }
        self.tail.extend_from_slice(b"\r\n");
        if let Some(seconds) = ttl_seconds {
            let seconds = seconds.to_string();
            self.tail.extend_from_slice(format!("$2\r\nEX\r\n${}\r\n{seconds}\r\n", seconds.len()).as_bytes());
        }
        self.commands += 1;
    }

    /// How many replies are due.
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    /// The pieces to be written, in order.
    pub(super) fn into_pieces(mut self) -> VecDeque<Bytes> {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.into());
        }
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(outbox: Outbox) -> Vec<u8> {
        outbox.into_pieces().into_iter().flatten().collect()
    }

    #[test]
    fn a_larger_value_is_packed_as_the_redis_crate_would() {
        for ttl in [None, Some(7)] {
            for size in [COPIED_ONCE_FROM_BYTES, SHARED_FROM_BYTES].into_iter().flat_map(|size| size - 1..=size + 1) {
                let value = Bytes::from(vec![0xff; size]);
                let mut outbox = Outbox::new();
                outbox.set(b"key", &value, ttl);
                outbox.command(|cmd| cmd.arg("PING"));
                assert_eq!(outbox.commands(), 2);

                let mut expected = redis::cmd("SET");
                expected.arg("key").arg(&value[..]);
                if let Some(seconds) = ttl {
                    expected.arg("EX").arg(seconds);
                }
                let mut packed = expected.get_packed_command();
                redis::cmd("PING").write_packed_command(&mut packed);
                assert!(wire(outbox) == packed, "ttl {ttl:?}, {size} bytes");
            }
        }
    }

    #[test]
    fn a_large_value_is_not_copied() {
        let value = Bytes::from(vec![1; SHARED_FROM_BYTES]);
        let mut outbox = Outbox::new();
        outbox.set(b"key", &value, None);
        assert!(outbox.into_pieces().iter().any(|piece| piece.as_ptr() == value.as_ptr()));
    }
}
