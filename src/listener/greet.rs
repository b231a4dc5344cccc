//! The first bytes of a connection to a listener that expects PROXY headers: who the client is, or why
//! the connection ends here.
//!
//! Not a byte behind the header is read from the socket: what comes next, TLS or HTTP, finds it as if
//! the client had connected by itself.

use std::io;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};

use super::caps::Ticket;
use crate::http::proxy_header::{self, ProxyHeader, Seen, V2_BYTES_MAX};
use crate::http::{Door, Peer, Service};
use crate::metrics::{Counter, Sink};
use crate::outcome::CloseReason;

/// A socket whose next bytes can be looked at without being taken.
pub(super) trait Peek: AsyncRead + Unpin {
    /// Waits for bytes and copies what there is; 0 is the end.
    fn peek(&self, bytes: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
}

impl Peek for TcpStream {
    async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        TcpStream::peek(self, bytes).await
    }
}

impl Peek for UnixStream {
    async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        loop {
            self.readable().await?;
            let peeked = self.try_io(tokio::io::Interest::READABLE, || {
                Ok(recv(self, &mut *bytes, RecvFlags::PEEK)?.1)
            });
            match peeked {
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return peeked,
            }
        }
    }
}

/// Why a connection ends before its first request.
enum Ends {
    Unlisted,
    Missing,
    Malformed(proxy_header::Malformed),
    Late,
    /// The peer left.
    Gone,
    /// A cap refuses the client that the header names.
    Capped(CloseReason),
}

/// Hears who is there: the client, and the door that is open to it. `None`: the connection ends, and
/// that is counted and told.
pub(super) async fn greet<IO: Peek, S: Service>(
    io: &mut IO,
    peer: Peer,
    door: Rc<Door<S>>,
    rules: &ProxyHeader,
    ticket: &mut Ticket,
    sink: &Sink,
) -> Option<(Peer, Rc<Door<S>>)> {
    let ends = match hear(io, &peer, rules).await {
        Ok(Some(client)) => {
            sink.inc(Counter::ProxyHeaders);
            match ticket.charge(&client) {
                Ok(()) => return Some((client, door)),
                Err(why) => Ends::Capped(why),
            }
        }
        Ok(None) if rules.health_without => match door.health_only() {
            Some(door) => return Some((peer, door)),
            None => Ends::Missing,
        },
        Ok(None) => Ends::Missing,
        Err(ends) => ends,
    };
    refuse(&ends, &peer, rules, ticket, sink);
    None
}

/// The client that the header names, or the peer itself; `None`: there is no header.
async fn hear<IO: Peek>(
    io: &mut IO,
    peer: &Peer,
    rules: &ProxyHeader,
) -> Result<Option<Peer>, Ends> {
    if !rules.is_listed(peer) {
        return Err(Ends::Unlisted);
    }
    match tokio::time::timeout(rules.timeout, header(io)).await {
        Ok(Ok(named)) => Ok(named.map(|client| client.map_or_else(|| peer.clone(), Peer::Tcp))),
        Ok(Err(ends)) => Err(ends),
        Err(_) => Err(Ends::Late),
    }
}

/// Takes the header off the socket, and no byte more.
async fn header<IO: Peek>(io: &mut IO) -> Result<Option<Option<std::net::SocketAddr>>, Ends> {
    let mut bytes = vec![0; V2_BYTES_MAX];
    let mut taken = 0;
    loop {
        let Some(room) = bytes.get_mut(taken..).filter(|room| !room.is_empty()) else {
            // No header is as long as this: the reader says so before.
            return Err(Ends::Malformed(proxy_header::Malformed::TooLong));
        };
        let seen = io.peek(room).await.map_err(|_| Ends::Gone)?;
        if seen == 0 {
            return Err(Ends::Gone);
        }
        let (used, named) = match proxy_header::read(&bytes[..taken + seen]) {
            Err(malformed) => return Err(Ends::Malformed(malformed)),
            Ok(Seen::Absent) => return Ok(None),
            Ok(Seen::Header(used, client)) => (used, Some(client)),
            Ok(Seen::Part) => (taken + seen, None),
        };
        io.read_exact(&mut bytes[taken..used]).await.map_err(|_| Ends::Gone)?;
        taken = used;
        if named.is_some() {
            return Ok(named);
        }
    }
}

fn refuse(ends: &Ends, peer: &Peer, rules: &ProxyHeader, ticket: &Ticket, sink: &Sink) {
    let (counter, said) = match ends {
        Ends::Unlisted => (
            Counter::ProxyHeadersUnlisted,
            "its address is not in proxy_protocol.from; add it if it is your balancer".to_owned(),
        ),
        Ends::Missing => (
            Counter::ProxyHeadersMissing,
            "it sent no PROXY header; let the balancer send one, and set \
             proxy_protocol.health_without if it was a health check"
                .to_owned(),
        ),
        Ends::Malformed(why) => (Counter::ProxyHeadersMalformed, why.to_string()),
        Ends::Late => (
            Counter::ProxyHeadersLate,
            format!("its PROXY header was not whole after {:?}", rules.timeout),
        ),
        Ends::Gone => return sink.close(CloseReason::ClientClosed),
        Ends::Capped(why) => return sink.close(*why),
    };
    sink.inc(counter);
    sink.close(CloseReason::ProxyHeader);
    if rules.is_worth_telling(ticket.now()) {
        let peer = match peer {
            Peer::Tcp(address) => address.ip().to_string(),
            Peer::Unix => "unix".to_owned(),
        };
        tracing::warn!(peer, "a connection was refused: {said}");
    }
}
