//! Accepting: one loop for each socket. It ends when its listener closes, after it has taken what the
//! kernel had accepted already.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::caps::Caps;
use super::worker::{Dealt, DealtStream, Order};
use crate::fault::{self, Point};
use crate::http::Peer;
use crate::metrics::{Counter, Sink};
use crate::outcome::CloseReason;

/// Accepts TCP connections and hands each to `take`, until `closed`.
pub(super) async fn tcp(
    listener: std::net::TcpListener,
    closed: CancellationToken,
    sink: Sink,
    take: impl Fn(tokio::net::TcpStream, SocketAddr),
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut trouble = Trouble::new(sink);
    while let Some(accepted) = closed.run_until_cancelled(listener.accept()).await {
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
    // No more than the queue holds: another process may have the socket, too.
    for _ in 0..QUEUE_MAX {
        let Ok((stream, from)) = listener.accept() else { break };
        stream.set_nonblocking(true)?;
        take(tokio::net::TcpStream::from_std(stream)?, from);
    }
    Ok(())
}

/// A socket that all workers share.
#[derive(Debug)]
pub enum Shared {
    /// TCP, bound by somebody else in a way that allows no socket for each worker.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
}

/// Accepts connections of a socket that all workers share and deals each to the worker with the
/// fewest, until `closed`. `listener` is the number of the listener, by which the worker finds the
/// service.
pub async fn deal<S: 'static>(
    socket: Shared,
    listener: usize,
    caps: Arc<Caps>,
    workers: Vec<mpsc::Sender<Order<S>>>,
    closed: CancellationToken,
    sink: Sink,
) -> io::Result<()> {
    let dealer = Dealer { listener, caps, workers, sink: sink.clone() };
    match socket {
        Shared::Tcp(socket) => {
            let accepting = tokio::net::TcpListener::from_std(socket)?;
            let accept = async || {
                let (stream, from) = accepting.accept().await?;
                Ok((DealtStream::Tcp(stream.into_std()?), tcp_peer(from)))
            };
            dealer.until_closed(closed, accept).await;
            let rest = accepting.into_std()?;
            for _ in 0..QUEUE_MAX {
                let Ok((stream, from)) = rest.accept() else { break };
                stream.set_nonblocking(true)?;
                dealer.deal(DealtStream::Tcp(stream), tcp_peer(from)).await;
            }
        }
        Shared::Unix(socket) => {
            let accepting = tokio::net::UnixListener::from_std(socket)?;
            let accept = async || {
                let (stream, _) = accepting.accept().await?;
                Ok((DealtStream::Unix(stream.into_std()?), Peer::Unix))
            };
            dealer.until_closed(closed, accept).await;
            let rest = accepting.into_std()?;
            for _ in 0..QUEUE_MAX {
                let Ok((stream, _)) = rest.accept() else { break };
                stream.set_nonblocking(true)?;
                dealer.deal(DealtStream::Unix(stream), Peer::Unix).await;
            }
        }
    }
    Ok(())
}

/// A TCP peer; an IPv4 one on a socket of IPv6 is itself.
pub(super) fn tcp_peer(from: SocketAddr) -> Peer {
    Peer::Tcp(SocketAddr::new(from.ip().to_canonical(), from.port()))
}

struct Dealer<S> {
    listener: usize,
    caps: Arc<Caps>,
    workers: Vec<mpsc::Sender<Order<S>>>,
    sink: Sink,
}

impl<S> Dealer<S> {
    async fn until_closed<F>(&self, closed: CancellationToken, accept: impl Fn() -> F)
    where
        F: Future<Output = io::Result<(DealtStream, Peer)>>,
    {
        let mut trouble = Trouble::new(self.sink.clone());
        while let Some(accepted) = closed.run_until_cancelled(accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    trouble.is_over();
                    self.deal(stream, peer).await;
                }
                Err(cause) => trouble.with(&cause).await,
            }
        }
    }

    async fn deal(&self, stream: DealtStream, peer: Peer) {
        let worker = self.caps.idlest();
        let ticket = self.caps.admit(&stream, worker);
        let (ticket, queue) = match (ticket, self.workers.get(worker)) {
            (Ok(ticket), Some(queue)) => (ticket, queue),
            (Err(why), _) => return self.sink.close(why),
            (Ok(_), None) => return self.sink.close(CloseReason::Refused),
        };
        let dealt = Dealt { stream, peer, listener: self.listener, ticket };
        // A worker that has ended takes nobody: the process is ending with it.
        let _ = queue.send(Order::Serve(dealt)).await;
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

/// More than the kernel keeps for one socket.
const QUEUE_MAX: usize = 65_536;
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(1);
