//! One ordered line to the journal's Redis: pipelines of a few commands and their replies.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout_at};

pub use crate::redis::Value;
use crate::redis::{Client, CommandPipeline, Error, PipelineLimits, Redis};

/// A string of a reply, at most: an entry of the stream holds the events of one request.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// Between attempts to kill a connection that was lost.
const TAKE_BACK_EVERY: Duration = Duration::from_millis(100);

/// A command as its arguments.
pub type Args = Vec<Bytes>;

/// Packs what a command is made of.
pub trait IntoArg {
    /// As an argument.
    fn into_arg(self) -> Bytes;
}

impl IntoArg for &'static str {
    fn into_arg(self) -> Bytes {
        Bytes::from_static(self.as_bytes())
    }
}

impl IntoArg for &String {
    fn into_arg(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoArg for String {
    fn into_arg(self) -> Bytes {
        self.into()
    }
}

impl IntoArg for u64 {
    fn into_arg(self) -> Bytes {
        Bytes::copy_from_slice(itoa::Buffer::new().format(self).as_bytes())
    }
}

impl IntoArg for Bytes {
    fn into_arg(self) -> Bytes {
        self
    }
}

impl IntoArg for &Bytes {
    fn into_arg(self) -> Bytes {
        self.clone()
    }
}

/// A command: `args!["XLEN", &key]`.
macro_rules! args {
    ($($argument:expr),* $(,)?) => {
        vec![$($crate::journal::link::IntoArg::into_arg($argument)),*]
    };
}
pub(super) use args;

/// The field of this name of an entry: names and values by turns.
pub fn field<'a>(fields: &'a [Value], name: &str) -> Option<&'a Bytes> {
    let is_it = |pair: &&[Value]| pair.first().and_then(Value::text).is_some_and(|is| is == name.as_bytes());
    fields.chunks(2).find(is_it).and_then(|pair| pair.get(1)?.text())
}

/// Why a pipeline has no replies, for a person. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Redis answered with this error code.
    #[error("redis answered {0}")]
    Refused(String),
    /// The journal has no room.
    #[error("the journal holds as many events as journal.max_events allows: try again later")]
    Full,
    /// The connection is lost, or what came over it is no reply to the command.
    #[error("{0}")]
    Lost(Cow<'static, str>),
}

impl From<Error> for LinkError {
    fn from(error: Error) -> Self {
        LinkError::Lost(error.to_string().into())
    }
}

/// Makes links. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    redis: Redis,
    /// The stream: all keys of the journal are in its slot.
    key: Arc<str>,
    /// How long a reply may take, beside what the server is asked to wait.
    response_timeout: Duration,
}

impl Connector {
    /// Links to the Redis that has the journal of this name. Connects to nothing yet.
    pub fn new(redis: Redis, name: &str, response_timeout: Duration) -> Self {
        Connector { redis, key: name.into(), response_timeout }
    }

    /// A line of its own.
    pub fn link(&self) -> Link {
        Link { client: self.redis.client(self.key.as_bytes()), response_timeout: self.response_timeout }
    }

    /// Where it leads, without credentials.
    pub fn describe(&self) -> String {
        self.redis.describe()
    }
}

/// One line, connected when needed and anew when lost. What a lost connection left behind is taken back before anything more
/// is sent over any line of the connector.
pub struct Link {
    client: Client,
    response_timeout: Duration,
}

impl Link {
    /// Sends these as one pipeline; a reply for each. `block`: how long the server is asked to wait, at most.
    ///
    /// # Errors
    /// The line is no good: what was sent may have been carried out or not.
    pub async fn call(&mut self, commands: Vec<Args>, block: Duration) -> Result<Vec<Value>, LinkError> {
        let (pipeline, limits) = (pipeline(commands), self.limits(block));
        Ok(self.client.call(&pipeline, limits).await?)
    }

    /// As [`call`](Link::call), for commands that have no effect once `ends` is over. After a failure it returns when nothing of
    /// them can have an effect any more: when the lost connection has been killed, or at that time.
    ///
    /// # Errors
    /// As [`call`](Link::call).
    pub async fn call_before(
        &mut self,
        commands: Vec<Args>,
        block: Duration,
        ends: Instant,
    ) -> Result<Vec<Value>, LinkError> {
        let (pipeline, limits) = (pipeline(commands), self.limits(block));
        let ended = self.client.call(&pipeline, limits).await;
        if ended.is_err() && self.client.was_sent() {
            let _ = timeout_at(ends.into(), self.take_back()).await;
        }
        Ok(ended?)
    }

    /// Returns once the lost connection has been killed: by whatever is sent next.
    async fn take_back(&mut self) {
        while self.one(args!["PING"]).await.is_err() {
            sleep(TAKE_BACK_EVERY).await;
        }
    }

    /// How long a call takes that is not to wait, at most.
    pub fn patience(&self) -> Duration {
        self.response_timeout * 2
    }

    fn limits(&self, block: Duration) -> PipelineLimits {
        PipelineLimits { within: self.patience() + block, block, max_bulk_bytes: MAX_TEXT_BYTES }
    }

    /// The reply to a single command that does not wait.
    ///
    /// # Errors
    /// The line is no good, or Redis refused the command.
    pub async fn one(&mut self, command: Args) -> Result<Value, LinkError> {
        self.wait_for(command, Duration::ZERO).await
    }

    /// The same for one that waits so long at most.
    ///
    /// # Errors
    /// As [`Link::one`].
    pub async fn wait_for(&mut self, command: Args, block: Duration) -> Result<Value, LinkError> {
        match self.call(vec![command], block).await?.pop() {
            Some(Value::Error(code)) => Err(LinkError::Refused(code.as_str().to_owned())),
            Some(value) => Ok(value),
            None => Err(LinkError::Lost("redis did not answer".into())),
        }
    }
}

fn pipeline(commands: Vec<Args>) -> CommandPipeline {
    let mut pipeline = CommandPipeline::new();
    for command in commands {
        pipeline.push(command);
    }
    pipeline
}
