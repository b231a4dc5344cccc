//! Accepting: one loop for each socket. It ends when the process drains, after it has taken what the
//! kernel had accepted already.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::caps::Caps;
use super::worker::Dealt;
use super::{Phase, UnixSocket};
use crate::fault::{self, Point};
use crate::http::Peer;
use crate::metrics::{Counter, Sink};
use crate::outcome::CloseReason;

/// Accepts TCP connections and hands each to `take`, until the process drains.
pub(super) async fn tcp(
    listener: std::net::TcpListener,
    mut phase: watch::Receiver<Phase>,
    sink: Sink,
    take: impl Fn(tokio::net::TcpStream, SocketAddr),
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut trouble = Trouble::new(sink);
    while let Some(accepted) = until_drain(&mut phase, listener.accept()).await {
        match accepted {
            Ok((stream, from)) => {
                fault::pass(Point::Accepted);
                trouble.is_over();
                take(stream, from);
            }
            Err(cause) => trouble.with(&cause).await,
        }
    }
    let listener = listener.into_std()?;
    while let Ok((stream, from)) = listener.accept() {
        stream.set_nonblocking(true)?;
        take(tokio::net::TcpStream::from_std(stream)?, from);
    }
    Ok(())
}

/// Accepts connections of a Unix socket and deals each to the worker with the fewest, until the
/// process drains. `listener` is the place among the listeners, by which the worker finds the
/// service.
pub async fn deal(
    socket: UnixSocket,
    listener: usize,
    caps: Arc<Caps>,
    workers: Vec<mpsc::Sender<Dealt>>,
    mut phase: watch::Receiver<Phase>,
    sink: Sink,
) -> io::Result<()> {
    let accepting = UnixListener::from_std(socket.listener()?)?;
    let mut trouble = Trouble::new(sink.clone());
    while let Some(accepted) = until_drain(&mut phase, accepting.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                trouble.is_over();
                deal_one(stream.into_std()?, listener, &caps, &workers, &sink).await;
            }
            Err(cause) => trouble.with(&cause).await,
        }
    }
    let accepting = accepting.into_std()?;
    while let Ok((stream, _)) = accepting.accept() {
        stream.set_nonblocking(true)?;
        deal_one(stream, listener, &caps, &workers, &sink).await;
    }
    Ok(())
}

async fn deal_one(
    stream: std::os::unix::net::UnixStream,
    listener: usize,
    caps: &Arc<Caps>,
    workers: &[mpsc::Sender<Dealt>],
    sink: &Sink,
) {
    let worker = caps.idlest();
    match (caps.admit(&stream, &Peer::Unix, worker), workers.get(worker)) {
        (Ok(ticket), Some(queue)) => {
            // A worker that has ended takes nobody: the process is ending with it.
            let _ = queue.send(Dealt { stream, listener, ticket }).await;
        }
        (Err(why), _) => sink.close(why),
        (Ok(_), None) => sink.close(CloseReason::Refused),
    }
}

/// What `accept` says, `None` once the process drains.
async fn until_drain<T>(
    phase: &mut watch::Receiver<Phase>,
    accept: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => None,
        accepted = accept => Some(accepted),
    }
}

/// Errors of accept: counted, and waited out where trying at once would only spin.
struct Trouble {
    sink: Sink,
    pause: Duration,
    /// When it was told last.
    told: Option<Instant>,
}

impl Trouble {
    fn new(sink: Sink) -> Trouble {
        Trouble { sink, pause: PAUSE_MIN, told: None }
    }

    fn is_over(&mut self) {
        self.pause = PAUSE_MIN;
    }

    async fn with(&mut self, cause: &io::Error) {
        self.sink.inc(Counter::AcceptErrors);
        if is_of_one_connection(cause) {
            return;
        }
        // It may work now and then, each time for one connection.
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(%cause, "cannot accept connections; trying again until it works");
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// Whether only the connection that was to be accepted is gone (`man 2 accept`).
fn is_of_one_connection(cause: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        cause.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::Interrupted
            | K::TimedOut
            | K::NetworkDown
            | K::HostUnreachable
            | K::NetworkUnreachable
    )
}

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(1);
