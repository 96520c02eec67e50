//! Whether a server calls itself a master (`ROLE`).

use std::time::Duration;

use super::MAX_OWN_BYTES;
use super::connection::Connection;
use super::encode::Encoder;
use super::error::{Error, unavailable, unexpected};
use super::reply::Frame;

/// The question.
pub(super) fn ask() -> Encoder {
    let mut encoder = Encoder::new();
    encoder.pack(&[b"ROLE"]);
    encoder
}

/// Fails unless the server calls itself a master.
pub(super) async fn check(connection: &mut Connection, within: Duration) -> Result<(), Error> {
    let mut frames = Vec::new();
    connection.exchange(ask(), MAX_OWN_BYTES, within, &mut frames).await?;
    is_master(frames)
}

/// What the answer says.
pub(super) fn is_master(frames: Vec<Frame>) -> Result<(), Error> {
    let mut frames = frames.into_iter();
    match (frames.next(), frames.next()) {
        (Some(Frame::Array(_)), Some(Frame::Text(role))) if &role[..] == b"master" => Ok(()),
        (Some(Frame::Array(_)), Some(Frame::Text(_))) => {
            Err(unavailable("the server that the sentinels name is not a master"))
        }
        (Some(Frame::Error(code)), _) => Err(unavailable(format!("redis answered {} to ROLE", code.as_str()))),
        _ => Err(unexpected()),
    }
}
