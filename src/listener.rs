//! Sockets that accept clients, and the worker threads that serve them.
//!
//! ```text
//! TCP    one SO_REUSEPORT socket for each worker; the kernel spreads the connections
//! Unix   one socket, one acceptor, which deals to the worker with the fewest connections
//! ```
//!
//! Every connection passes the [`Caps`] before a byte of it is read. A worker is one thread with a
//! current-thread runtime; what it begins it ends.

mod accept;
mod addresses;
mod caps;
pub mod files;
mod greet;
mod pressure;
mod socket;
mod worker;

use std::io;

use crate::config::address::ListenAddress;
use crate::ident::Name;

pub use accept::deal;
pub use caps::{Caps, Ticket};
pub use pressure::{Pressure, Steps};
pub use socket::UnixSocket;
pub use worker::{Dealt, Seat, Worker, spawn};

/// How far a process is on its way; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are accepted.
    Serving,
    /// Nobody new: listeners close, connections end with their current response.
    Draining,
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
    /// One for each worker.
    Tcp(Vec<std::net::TcpListener>),
    /// One for all.
    Unix(UnixSocket),
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

/// Binds one listener, for so many workers; the file of a Unix socket gets `mode`.
pub fn bind(
    name: &Name,
    address: &ListenAddress,
    mode: Option<u32>,
    workers: usize,
) -> Result<Bound, BindError> {
    let fail = |cause: io::Error| BindError {
        name: name.clone(),
        address: address.to_string(),
        hint: hint(&cause),
        cause,
    };
    let (address, sockets) = match address {
        ListenAddress::Tcp(address) => {
            let sockets = socket::tcp(*address, workers).map_err(fail)?;
            let taken = sockets.first().map(std::net::TcpListener::local_addr).transpose();
            let taken = taken.map_err(fail)?.unwrap_or(*address);
            (ListenAddress::Tcp(taken), Sockets::Tcp(sockets))
        }
        ListenAddress::Unix(path) => {
            let socket = UnixSocket::bind(path, mode.unwrap_or(PUBLIC_MODE)).map_err(fail)?;
            (ListenAddress::Unix(path.clone()), Sockets::Unix(socket))
        }
    };
    Ok(Bound { name: name.clone(), address, sockets })
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
