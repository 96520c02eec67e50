//! How fast a socket sends a long value.
//!
//! Redis reads all that a socket holds before it turns to others, so what comes at once holds them up. The kernel spreads what
//! we write (since Linux 4.13 without a queueing discipline of its own), finer than timers of ours could and at no cost of
//! waking us.

use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use redis::io::tcp::socket2::SockRef;
use tokio::net::TcpStream;

/// 201 MB/s, for one value.
const BYTES_PER_SECOND: u32 = 192 << 20;
/// What the kernel holds of what we wrote, so that no more of a value comes from its host at once; it takes twice this for its
/// own needs. More than the way to a server takes in for a millisecond and a half at that rate.
const HELD_BYTES: usize = 256 * 1024;

sockopt_impl!(
    /// Bytes a second at most: `SO_MAX_PACING_RATE`, see tc-fq(8).
    MaxPacingRate,
    Both,
    libc::SOL_SOCKET,
    libc::SO_MAX_PACING_RATE,
    u32
);

/// From now on it sends no faster than others bear. Where the system has no such thing, a value goes as fast as it comes.
pub(super) fn pace(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_send_buffer_size(HELD_BYTES);
    let _ = setsockopt(socket, MaxPacingRate, &BYTES_PER_SECOND);
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::net::TcpListener;

    use super::*;

    #[actix_web::test]
    async fn the_kernel_is_told_how_fast_and_how_much() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it listens");
        pace(&socket);
        assert_eq!(getsockopt(&socket, MaxPacingRate), Ok(BYTES_PER_SECOND));
        assert!(SockRef::from(&socket).send_buffer_size().expect("a size") >= HELD_BYTES);
    }
}
