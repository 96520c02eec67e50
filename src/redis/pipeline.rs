//! Commands that are sent together.

use std::time::Duration;

use bytes::Bytes;

use super::encode::Encoder;
use super::error_code::Code;
use super::value::Value;

/// Commands that name no key and change none: they had no effect, whatever was answered.
const WITHOUT_EFFECT: [&[u8]; 6] = [b"WAIT", b"WAITAOF", b"MULTI", b"PING", b"TIME", b"ECHO"];

/// Commands, in order. Those that name keys name keys of one slot.
#[derive(Debug, Clone, Default)]
pub struct CommandPipeline {
    /// The arguments of each, its name first.
    commands: Vec<Vec<Bytes>>,
    /// Of all arguments together.
    bytes: usize,
}

impl CommandPipeline {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command, its name first and in capital letters. An argument is any bytes.
    pub fn command(&mut self, arguments: &[&[u8]]) -> &mut Self {
        self.push(arguments.iter().map(|argument| Bytes::copy_from_slice(argument)).collect())
    }

    /// The same without a copy: a large argument goes on the wire from where it lies.
    pub fn push(&mut self, arguments: Vec<Bytes>) -> &mut Self {
        self.bytes += arguments.iter().map(Bytes::len).sum::<usize>();
        self.commands.push(arguments);
        self
    }

    /// How many commands there are, and so how many replies come.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Bytes of all arguments together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For the wire. `is_asking`: with an `ASKING` where one is needed.
    pub(super) fn pack(&self, is_asking: bool, block: Duration) -> Encoder {
        let arguments: usize = self.commands.iter().map(Vec::len).sum();
        let mut encoder = Encoder::within(Vec::new(), self.copied_bytes() + 16 * (arguments + self.commands.len()));
        encoder.block(block);
        for (arguments, needs_asking) in self.commands.iter().zip(self.needs_asking()) {
            encoder.ask(is_asking && needs_asking);
            encoder.begin(arguments.len());
            arguments.iter().for_each(|argument| encoder.value(argument));
        }
        encoder
    }

    /// Of the arguments that are not shared.
    fn copied_bytes(&self) -> usize {
        self.commands.iter().flatten().map(Bytes::len).filter(|bytes| !Encoder::shares(*bytes)).sum()
    }

    /// For each command, whether it needs an `ASKING` before it. Behind `MULTI` one counts until `EXEC`, and another would be
    /// queued as a part of the transaction.
    fn needs_asking(&self) -> impl Iterator<Item = bool> {
        self.names_in_transactions().map(|(_, is_inside)| !is_inside)
    }

    /// Whether these replies show that no command had an effect, and at least one belongs to another node.
    pub(super) fn is_redirected(&self, values: &[Value]) -> bool {
        let redirect = |value: &Value| value.as_error().is_some_and(|code| code.redirect().is_some());
        let is_aborted = |value: &Value| value.as_error().map(Code::as_str) == Some("EXECABORT");
        let mut names = self.names_in_transactions();
        values.iter().any(redirect)
            && values.iter().all(|value| {
                let (name, is_inside) = names.next().unwrap_or_default();
                // Valkey 9.1 queues what belongs elsewhere, and says so of `EXEC`.
                let is_queued = is_inside && *value == Value::Status;
                WITHOUT_EFFECT.contains(&name) || is_queued || redirect(value) || is_aborted(value)
            })
    }

    /// The name of each command, and whether it stands behind a `MULTI`, up to its `EXEC`.
    fn names_in_transactions(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut is_in_transaction = false;
        self.commands.iter().map(move |arguments| {
            let name = arguments.first().map(|name| &name[..]).unwrap_or_default();
            let is_inside = is_in_transaction;
            match name {
                b"MULTI" => is_in_transaction = true,
                b"EXEC" | b"DISCARD" => is_in_transaction = false,
                _ => {}
            }
            (name, is_inside)
        })
    }
}

/// How long a call may take, and how much it may bring.
#[derive(Debug, Clone, Copy)]
pub struct PipelineLimits {
    /// For connecting, sending and answering together. Besides, an answer has no longer than
    /// [`Settings::response_timeout`](super::Settings::response_timeout), with what large pipelines and `block` add.
    pub within: Duration,
    /// How long the server itself may wait before it answers: the `BLOCK` of an `XREAD`, the timeout of a `WAIT`. A part of
    /// `within`.
    pub block: Duration,
    /// The longest string in a reply, in bytes; an answer with a longer one ends the connection. All strings of one call are
    /// 128 MiB together at most, all replies and elements 1,048,576.
    pub max_bulk_bytes: usize,
}

impl PipelineLimits {
    /// For commands that do not block: strings of up to 1 MiB.
    pub fn within(within: Duration) -> Self {
        PipelineLimits { within, block: Duration::ZERO, max_bulk_bytes: 1024 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_packed_as_they_were_given() {
        let mut pipeline = CommandPipeline::new();
        pipeline.command(&[b"XADD", b"k", b"*", b"", b"\r\n"]).command(&[b"PING"]);
        let wire: Vec<u8> = pipeline.pack(true, Duration::ZERO).into_pieces().into_iter().flatten().collect();
        let asking = "*1\r\n$6\r\nASKING\r\n";
        let expected = format!(
            "{asking}*5\r\n$4\r\nXADD\r\n$1\r\nk\r\n$1\r\n*\r\n$0\r\n\r\n$2\r\n\r\n\r\n{asking}*1\r\n$4\r\nPING\r\n"
        );
        assert_eq!(String::from_utf8_lossy(&wire), expected);
        assert_eq!((pipeline.len(), pipeline.bytes()), (2, 12));
        let mut pipeline = CommandPipeline::new();
        for name in ["MULTI", "A", "EXEC", "B"] {
            pipeline.command(&[name.as_bytes()]);
        }
        assert_eq!(pipeline.pack(true, Duration::ZERO).take_asked(), [0, 4]);
        assert!(pipeline.pack(false, Duration::ZERO).take_asked().is_empty());
    }

    #[test]
    fn a_pipeline_belongs_elsewhere_only_if_none_of_it_had_an_effect() {
        let error = |line: &str| Value::Error(Code::from_line(line.as_bytes()));
        let moved = || error("MOVED 1 a:1");
        let mut adds = CommandPipeline::new();
        adds.command(&[b"XADD", b"k", b"*", b"a", b"b"]).command(&[b"XADD", b"k", b"*", b"a", b"b"]);
        assert!(adds.is_redirected(&[moved(), error("ASK 1 a:1")]));
        assert!(!adds.is_redirected(&[Value::Bulk("1-1".into()), moved()]));
        assert!(!adds.is_redirected(&[error("OOM"), error("OOM")]));
        let mut whole = CommandPipeline::new();
        whole.command(&[b"MULTI"]).command(&[b"XADD", b"k", b"*", b"a", b"b"]).command(&[b"EXEC"]);
        whole.command(&[b"WAIT", b"1", b"100"]);
        assert!(whole.is_redirected(&[Value::Status, moved(), error("EXECABORT"), Value::Integer(0)]));
        assert!(whole.is_redirected(&[Value::Status, Value::Status, error("ASK 1 a:1"), Value::Integer(0)]));
        assert!(!whole.is_redirected(&[Value::Status, Value::Status, Value::Array(vec![]), Value::Integer(0)]));
    }
}
