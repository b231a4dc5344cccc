//! Kept-alive connections, each from the loopback address of whoever uses it, bounded in number.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::target::source_of;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection. It counts as open until it is dropped.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that were read and not used yet.
    pub buffer: BytesMut,
    _counted: Counted,
}

/// One of the open connections.
#[derive(Debug)]
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Counted {
        open.set(open.get() + 1);
        Counted(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection in use, and the place that it takes.
#[derive(Debug)]
pub struct Lease<'a> {
    /// The connection.
    pub connection: Connection,
    source: u32,
    _place: SemaphorePermit<'a>,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConnection {
    /// The target's host refuses.
    Refused,
    /// Anything else.
    Failed,
}

/// All connections to the target.
#[derive(Debug)]
pub struct Pool {
    target: SocketAddr,
    places: Semaphore,
    connections_max: usize,
    own_addresses: bool,
    /// The system does not let us choose an address: everyone comes from the same one.
    bind_refused: Cell<bool>,
    open: Rc<Cell<usize>>,
    opened: Cell<u64>,
    idle: RefCell<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    by_source: HashMap<u32, Vec<Connection>>,
    /// Sources in the order in which connections came back. It may name a source that has none left.
    order: VecDeque<u32>,
}

impl Pool {
    /// An empty pool.
    pub fn new(target: SocketAddr, connections_max: usize, own_addresses: bool) -> Pool {
        let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Pool {
            target,
            places: Semaphore::new(connections_max),
            connections_max,
            own_addresses: own_addresses && target.ip().is_loopback() && target.is_ipv4(),
            bind_refused: Cell::new(false),
            open: Rc::default(),
            opened: Cell::new(0),
            idle: RefCell::default(),
        }
    }

    /// A connection of `source`: a kept one, else a new one. Waits while all are in use.
    pub async fn lease(&self, source: u32) -> Result<Lease<'_>, NoConnection> {
        let source = if self.own_addresses { source } else { 0 };
        // The semaphore is never closed; if it were, nothing could be connected.
        let place = self.places.acquire().await.map_err(|_| NoConnection::Failed)?;
        while let Some(connection) = self.idle.borrow_mut().take(source) {
            if is_alive(&connection) {
                return Ok(Lease { connection, source, _place: place });
            }
        }
        if self.open.get() >= self.connections_max {
            self.idle.borrow_mut().evict();
        }
        let connection = self.connect(source).await?;
        self.opened.set(self.opened.get() + 1);
        Ok(Lease { connection, source, _place: place })
    }

    /// Takes a connection back that may carry another request.
    pub fn give_back(&self, lease: Lease<'_>) {
        let mut idle = self.idle.borrow_mut();
        idle.put(lease.source, lease.connection, self.connections_max);
    }

    /// Connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether everyone comes from an address of their own.
    pub fn has_own_addresses(&self) -> bool {
        self.own_addresses && !self.bind_refused.get()
    }

    async fn connect(&self, source: u32) -> Result<Connection, NoConnection> {
        let counted = Counted::new(&self.open);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.socket(source)).await;
        let stream =
            stream.map_err(|_| NoConnection::Failed)?.map_err(|cause| match cause.kind() {
                std::io::ErrorKind::ConnectionRefused => NoConnection::Refused,
                _ => NoConnection::Failed,
            })?;
        // A socket that refuses it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        Ok(Connection { stream, buffer: BytesMut::new(), _counted: counted })
    }

    async fn socket(&self, source: u32) -> std::io::Result<TcpStream> {
        let new = || if self.target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = new()?;
        if self.has_own_addresses() {
            let from: Ipv4Addr = source_of(source);
            if socket.bind(SocketAddr::from((from, 0))).is_err() {
                self.bind_refused.set(true);
                return new()?.connect(self.target).await;
            }
        }
        socket.connect(self.target).await
    }
}

impl Idle {
    fn take(&mut self, source: u32) -> Option<Connection> {
        let connections = self.by_source.get_mut(&source)?;
        let connection = connections.pop();
        if connections.is_empty() {
            self.by_source.remove(&source);
        }
        connection
    }

    fn put(&mut self, source: u32, connection: Connection, connections_max: usize) {
        self.by_source.entry(source).or_default().push(connection);
        self.order.push_back(source);
        if self.order.len() > 4 * connections_max + 64 {
            // Every idle connection keeps one mention; the others are stale.
            let mut left: HashMap<u32, usize> =
                self.by_source.iter().map(|(source, kept)| (*source, kept.len())).collect();
            self.order.retain(|source| match left.get_mut(source) {
                Some(n) if *n > 0 => {
                    *n -= 1;
                    true
                }
                _ => false,
            });
        }
    }

    /// Closes an idle connection, about the one that came back longest ago.
    fn evict(&mut self) {
        while let Some(source) = self.order.pop_front() {
            if self.take(source).is_some() {
                return;
            }
        }
    }
}

/// A kept connection that the server closed, or on which something came unasked, is of no use.
fn is_alive(connection: &Connection) -> bool {
    let mut byte = [0];
    let nothing = matches!(
        connection.stream.try_read(&mut byte),
        Err(ref cause) if cause.kind() == std::io::ErrorKind::WouldBlock
    );
    nothing && connection.buffer.is_empty()
}
