//! Requests of one pipeline, packed for the wire.
//!
//! What is sent often is packed here, each argument copied once; a large value is put on the wire from where it
//! lies, without any copy. What is sent once in a while the `redis` crate packs.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;

/// From this size on a value is shared rather than copied: below, a copy costs less than another piece to write.
const SHARED_FROM_BYTES: usize = 16 * 1024;

/// A pipeline being packed.
#[derive(Default)]
pub(crate) struct Encoder {
    pieces: VecDeque<Bytes>,
    tail: Vec<u8>,
    commands: usize,
    /// Whether the next command has an `ASKING` before it.
    is_asking: bool,
    /// Which replies are those to an `ASKING`, in order, counted from 0.
    asked: VecDeque<usize>,
    /// How many replies are due before that to the first command with a value in a piece of its own.
    before_value: Option<usize>,
    /// The server is to have a chance to speak against the length of that value.
    probes_length: bool,
    /// How long the server may wait before it answers.
    block: Duration,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An encoder with room for `bytes`, in memory that was used before.
    pub(crate) fn within(mut room: Vec<u8>, bytes: usize) -> Self {
        room.clear();
        room.reserve(bytes);
        Encoder { tail: room, ..Self::default() }
    }

    /// Puts an `ASKING` before each command from here on. Their replies are not handed out.
    pub(crate) fn ask(&mut self, is_asking: bool) {
        self.is_asking = is_asking;
    }

    /// Which replies are not to be handed out, in order, counted from 0.
    pub(crate) fn take_asked(&mut self) -> VecDeque<usize> {
        mem::take(&mut self.asked)
    }

    /// Gives the server more time to answer, because a command waits for something.
    pub(crate) fn block(&mut self, block: Duration) {
        self.block = block;
    }

    /// How much longer the server has to answer.
    pub(crate) fn blocks(&self) -> Duration {
        self.block
    }

    /// Has the first value that is sent from where it lies wait until the server has read its length and said nothing against
    /// it. Begins with a `PING` whose reply shows that; it is not handed out. Nothing was added before.
    pub(crate) fn probe_length(&mut self) {
        self.probes_length = true;
        self.pack(&[b"PING"]);
    }

    /// How many replies come before the value that is to wait; None: none is.
    pub(crate) fn replies_before_value(&self) -> Option<usize> {
        self.before_value.filter(|_| self.probes_length)
    }

    fn count(&mut self) {
        if self.is_asking {
            self.tail.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
            self.asked.push_back(self.commands);
            self.commands += 1;
        }
        self.commands += 1;
    }

    /// Adds one command, filled in by `fill`.
    pub(crate) fn command(&mut self, fill: impl FnOnce(&mut Cmd) -> &mut Cmd) {
        self.count();
        fill(&mut Cmd::new()).write_packed_command(&mut self.tail);
    }

    /// Adds one command, given by its arguments.
    pub(crate) fn pack(&mut self, arguments: &[&[u8]]) {
        self.begin(arguments.len());
        for argument in arguments {
            self.argument(argument);
        }
    }

    /// Begins a command. `arguments` is the number of its arguments, its name among them; they must be added next.
    pub(crate) fn begin(&mut self, arguments: usize) {
        self.count();
        self.line(b'*', arguments);
    }

    pub(crate) fn number(&mut self, number: impl itoa::Integer) {
        self.argument(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Whether an argument of so many bytes is shared rather than copied.
    pub(crate) fn shares(bytes: usize) -> bool {
        bytes >= SHARED_FROM_BYTES
    }

    /// Adds an argument that is shared if it is large.
    pub(crate) fn value(&mut self, value: &Bytes) {
        if !Self::shares(value.len()) {
            return self.argument(value);
        }
        self.line(b'$', value.len());
        self.before_value.get_or_insert(self.commands.saturating_sub(1));
        self.pieces.push_back(mem::take(&mut self.tail).into());
        self.pieces.push_back(value.clone());
        self.tail.extend_from_slice(b"\r\n");
    }

    /// Adds an argument that is in pieces.
    pub(crate) fn joined(&mut self, pieces: &[&[u8]]) {
        self.line(b'$', pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| self.tail.extend_from_slice(piece));
        self.tail.extend_from_slice(b"\r\n");
    }

    /// Announces an argument of this length in bytes, which is sent from elsewhere.
    pub(crate) fn open_value(&mut self, bytes: usize) {
        self.line(b'$', bytes);
    }

    /// What follows an argument that was sent from elsewhere. The command that has it is none of its own.
    pub(crate) fn after_value() -> Self {
        Encoder { tail: b"\r\n".to_vec(), ..Self::default() }
    }

    pub(crate) fn argument(&mut self, bytes: &[u8]) {
        self.line(b'$', bytes.len());
        self.tail.extend_from_slice(bytes);
        self.tail.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, number: usize) {
        // Nearly all numbers are lengths of keys and small values. Written at once: each piece costs a look at the room there is.
        let digit = |number: usize| b'0' + (number % 10) as u8;
        match number {
            0..10 => self.tail.extend_from_slice(&[kind, digit(number), b'\r', b'\n']),
            10..100 => self.tail.extend_from_slice(&[kind, digit(number / 10), digit(number), b'\r', b'\n']),
            100..1000 => {
                let [first, second, third] = [number / 100, number / 10, number].map(digit);
                self.tail.extend_from_slice(&[kind, first, second, third, b'\r', b'\n']);
            }
            _ => {
                self.tail.push(kind);
                self.tail.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                self.tail.extend_from_slice(b"\r\n");
            }
        }
    }

    /// How many replies are due, those to `ASKING` among them.
    pub(crate) fn commands(&self) -> usize {
        self.commands
    }

    /// The pieces to be written, in order.
    pub(crate) fn into_pieces(mut self) -> VecDeque<Bytes> {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.into());
        }
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(encoder: Encoder) -> Vec<u8> {
        encoder.into_pieces().into_iter().flatten().collect()
    }

    #[test]
    fn what_is_packed_here_is_packed_as_the_redis_crate_would() {
        for size in [0, 9, 10, 99, 100, 999, 1000, SHARED_FROM_BYTES - 1, SHARED_FROM_BYTES, SHARED_FROM_BYTES + 1] {
            let value = Bytes::from(vec![0xff; size]);
            let mut encoder = Encoder::new();
            encoder.begin(4);
            encoder.argument(b"APPEND");
            encoder.joined(&[b"k", b"", b"ey"]);
            encoder.value(&value);
            encoder.number(7);
            encoder.pack(&[b"UNLINK", b"", b"key"]);
            assert_eq!(encoder.commands(), 2);

            let mut packed = redis::cmd("APPEND").arg("key").arg(&value[..]).arg(7).get_packed_command();
            redis::cmd("UNLINK").arg("").arg("key").write_packed_command(&mut packed);
            assert!(wire(encoder) == packed, "{size} bytes");
        }
    }

    #[test]
    fn a_large_value_is_not_copied() {
        let value = Bytes::from(vec![1; SHARED_FROM_BYTES]);
        let mut encoder = Encoder::new();
        encoder.begin(1);
        encoder.value(&value);
        assert!(encoder.into_pieces().iter().any(|piece| piece.as_ptr() == value.as_ptr()));
    }
}
