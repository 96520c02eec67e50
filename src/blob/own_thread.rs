//! A thread for what asks other services beside the pipeline: HTTP clients belong to the thread that made them.

use std::{io, thread};

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Starts a thread with this name that carries out orders, for as long as somebody may give some. `most` of them wait at once.
///
/// # Errors
/// The thread cannot be started.
pub fn start<T: Send + 'static, F: Future<Output = ()>>(
    name: &str,
    most: usize,
    carry_out: impl FnOnce(Receiver<T>) -> F + Send + 'static,
) -> io::Result<Sender<T>> {
    let (orders, received) = channel(most);
    let run = move || actix_rt::System::new().block_on(carry_out(received));
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(orders)
}
