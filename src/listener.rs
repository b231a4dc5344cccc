//! Sockets that accept clients, and the worker threads that serve them.
//!
//! ```text
//! TCP    one SO_REUSEPORT socket for each worker; the kernel spreads the connections
//! one    a Unix socket, or one of TCP that systemd bound: one acceptor, which deals to the worker with
//!        the fewest connections
//! ```
//!
//! Every connection passes the [`Caps`] before a byte of it is read. A worker is one thread with a
//! current-thread runtime; what it begins it ends. Listeners come and go while it runs, by numbers that
//! are never used again.

mod accept;
mod addresses;
mod caps;
pub mod files;
mod greet;
mod handshake;
mod inherited;
mod pressure;
mod socket;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::config::address::ListenAddress;
use crate::ident::Name;

use inherited::Found;

pub use accept::{Shared, deal};
pub use caps::{Caps, Ticket};
pub use inherited::Inherited;
pub use pressure::{Pressure, Steps};
pub use socket::UnixSocket;
pub use worker::{Change, Errand, Make, Order, Seat, Worker, spawn};

/// How far a process is on its way; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are accepted.
    Serving,
    /// Connections end with their current response; those who come are still taken.
    Draining,
    /// Nobody new: listeners are closed, after they took whom the kernel had accepted already.
    Closed,
    /// Threads end, whatever they were doing.
    Stopped,
}

/// A listener whose sockets are bound.
#[derive(Debug)]
pub struct Bound {
    /// Its name in the config.
    pub name: Name,
    /// Where it listens; a port of 0 has become the one that was taken.
    pub address: ListenAddress,
    /// The sockets.
    pub sockets: Sockets,
}

/// The sockets of one listener.
#[derive(Debug)]
pub enum Sockets {
    /// At least one for each worker.
    Tcp(Vec<TcpListener>),
    /// One for all, bound by somebody else.
    One(Vec<TcpListener>),
    /// One for all.
    Unix(UnixSocket),
}

impl Sockets {
    /// Other descriptors of the same sockets.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        match self {
            Sockets::Tcp(sockets) | Sockets::One(sockets) => {
                sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
            }
            Sockets::Unix(socket) => Ok(vec![socket.listener()?.into()]),
        }
    }
}

/// Why a listener could not be bound: its name, its address and the cause.
#[derive(Debug, thiserror::Error)]
#[error("listen.{name}: cannot listen on {address}: {cause}{hint}")]
pub struct BindError {
    name: Name,
    address: String,
    cause: io::Error,
    hint: &'static str,
}

/// Binds one listener, for so many workers, unless its sockets are among the inherited ones; the file
/// of a Unix socket gets `mode`. `has_port`: this process listens on the same port already, by another
/// address.
pub fn bind(
    name: &Name,
    address: &ListenAddress,
    mode: Option<u32>,
    workers: usize,
    inherited: &mut Inherited,
    has_port: bool,
) -> Result<Bound, BindError> {
    let fail = |cause: io::Error| BindError {
        name: name.clone(),
        address: address.to_string(),
        hint: hint(&cause),
        cause,
    };
    let sockets = match (inherited.take(address), address) {
        (Found::Tcp(sockets), _) => {
            let sockets = socket::inherit(sockets, workers).map_err(fail)?;
            if sockets.len() < workers { Sockets::One(sockets) } else { Sockets::Tcp(sockets) }
        }
        (Found::Unix(socket), ListenAddress::Unix(path)) => {
            Sockets::Unix(UnixSocket::adopt(socket, path).map_err(fail)?)
        }
        (_, ListenAddress::Tcp(address)) => {
            Sockets::Tcp(socket::tcp(*address, workers, has_port).map_err(fail)?)
        }
        (_, ListenAddress::Unix(path)) => {
            Sockets::Unix(UnixSocket::bind(path, mode.unwrap_or(PUBLIC_MODE)).map_err(fail)?)
        }
    };
    let address = match &sockets {
        Sockets::Tcp(sockets) | Sockets::One(sockets) => {
            let taken = sockets.first().map(TcpListener::local_addr).transpose();
            taken.map_err(fail)?.map_or_else(|| address.clone(), ListenAddress::Tcp)
        }
        Sockets::Unix(_) => address.clone(),
    };
    Ok(Bound { name: name.clone(), address, sockets })
}

/// A Unix socket of the operator's: inherited, or bound for this user alone.
pub fn bind_private(path: &Path, inherited: &mut Inherited) -> io::Result<UnixSocket> {
    match inherited.take(&ListenAddress::Unix(path.to_owned())) {
        Found::Unix(socket) => UnixSocket::adopt(socket, path),
        _ => UnixSocket::bind(path, PRIVATE_MODE),
    }
}

/// A TCP socket of the operator's.
pub fn bind_one(address: SocketAddr, inherited: &mut Inherited) -> io::Result<TcpListener> {
    let found = match inherited.take(&ListenAddress::Tcp(address)) {
        Found::Tcp(mut sockets) => sockets.pop(),
        _ => None,
    };
    let listener = found.map_or_else(|| TcpListener::bind(address), Ok)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "; another process has it, or another listener of this file",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, a socket needs a writable directory"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

/// Mode of a client's Unix socket where none is set: who may reach it is decided by its directory, as with other
/// servers.
const PUBLIC_MODE: u32 = 0o666;
/// Whoever can open the operator's socket can end a sale.
const PRIVATE_MODE: u32 = 0o600;
