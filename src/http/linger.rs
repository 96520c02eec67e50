//! The end of a connection over what its sender still sends: a socket closed over unread bytes is reset, and a reset can
//! overtake the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::tls::Io;

/// How long a connection that we end is read on, at most.
const LINGER: Duration = Duration::from_secs(5);
/// How long a sender is silent when it has nothing more on its way.
const SILENCE: Duration = Duration::from_millis(500);
/// Such connections of a listener at once, at least; where more are open, an eighth of those. Beyond that they are closed at once.
const LEAST_PLACES: usize = 16;

/// The places of a listener of so many connections.
pub fn places(max_connections: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((max_connections / 8).clamp(LEAST_PLACES, Semaphore::MAX_PERMITS)))
}

/// Closes a connection for writing, and reads on for a while; it holds a place meanwhile.
pub async fn linger(mut io: Io, _place: OwnedSemaphorePermit) {
    let reading = async {
        io.shutdown().await?;
        let mut space = [0; 8 * 1024];
        while let Ok(read) = timeout(SILENCE, io.read(&mut space)).await {
            if read? == 0 {
                break;
            }
        }
        Ok::<(), io::Error>(())
    };
    // Whoever has hung up has nothing more on its way.
    let _ = timeout(LINGER, reading).await;
}
