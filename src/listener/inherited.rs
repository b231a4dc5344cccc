//! Listening sockets that somebody else bound for us: systemd, or the process whose work we take over.
//! They are found again by their addresses.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::Socket;

use crate::config::address::ListenAddress;

/// Sockets that wait for the listener they belong to.
#[derive(Debug, Default)]
pub struct Inherited(Vec<One>);

#[derive(Debug)]
struct One {
    /// Where it listens.
    at: ListenAddress,
    /// What the config of whoever bound it called that, with a port of 0 perhaps.
    configured: Option<String>,
    socket: Listening,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What there is for one address.
#[derive(Debug)]
pub(super) enum Found {
    /// TCP sockets.
    Tcp(Vec<TcpListener>),
    /// A Unix socket.
    Unix(UnixListener),
    /// Nothing.
    Nothing,
}

impl Inherited {
    /// What systemd passed to this process (`LISTEN_FDS`, `LISTEN_PID`). The variables are used up: no
    /// process that we start takes the sockets for its own.
    pub fn of_systemd() -> io::Result<Inherited> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut inherited = Inherited::default();
        for at in 0..passed.len() {
            // One that was taken is gone: the kind is found out by asking.
            if let Ok(Some(tcp)) = passed.take_tcp_listener(at) {
                inherited.add(tcp.into(), None)?;
            } else if let Ok(Some(unix)) = passed.take_unix_listener(at) {
                inherited.add(unix.into(), None)?;
            } else {
                let said =
                    format!("LISTEN_FDS: socket {at} accepts no streams: ListenStream= does");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
            }
        }
        Ok(inherited)
    }

    /// Adds a socket; `configured` is what its binder's config calls the address.
    pub fn add(&mut self, socket: OwnedFd, configured: Option<String>) -> io::Result<()> {
        let socket = Socket::from(socket);
        let address = socket.local_addr()?;
        let one = match (address.as_socket(), address.as_pathname()) {
            (Some(at), _) => {
                let (at, socket) = (ListenAddress::Tcp(at), Listening::Tcp(socket.into()));
                One { at, configured, socket }
            }
            (None, Some(path)) => {
                let at = ListenAddress::Unix(PathBuf::from(path));
                One { at, configured, socket: Listening::Unix(socket.into()) }
            }
            (None, None) => {
                let said = "an inherited socket has neither a TCP address nor a path";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
            }
        };
        self.0.push(one);
        Ok(())
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a socket has this port, on whatever address.
    pub fn has_port(&self, port: u16) -> bool {
        self.0.iter().any(|one| matches!(&one.at, ListenAddress::Tcp(at) if at.port() == port))
    }

    /// Takes what belongs to `address`.
    pub(super) fn take(&mut self, address: &ListenAddress) -> Found {
        let configured = address.to_string();
        let is_it =
            |one: &mut One| one.at == *address || one.configured.as_ref() == Some(&configured);
        let (mut tcp, mut unix) = (Vec::new(), None);
        for one in self.0.extract_if(.., is_it) {
            match one.socket {
                Listening::Tcp(socket) => tcp.push(socket),
                Listening::Unix(socket) => unix = Some(socket),
            }
        }
        match unix {
            Some(socket) => Found::Unix(socket),
            None if tcp.is_empty() => Found::Nothing,
            None => Found::Tcp(tcp),
        }
    }
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, one) in self.0.iter().enumerate() {
            write!(f, "{}{}", if n > 0 { ", " } else { "" }, one.at)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_where_they_listen_or_what_they_were_called() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = ListenAddress::Tcp(tcp.local_addr().unwrap());
        let called: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let mut inherited = Inherited::default();
        let copy = tcp.try_clone().unwrap();
        inherited.add(tcp.into(), None).unwrap();
        inherited.add(copy.into(), Some(called.to_string())).unwrap();
        inherited.add(UnixListener::bind(&path).unwrap().into(), None).unwrap();
        assert!(matches!(inherited.take(&called), Found::Tcp(sockets) if sockets.len() == 1));
        assert!(matches!(inherited.take(&called), Found::Nothing));
        assert!(matches!(inherited.take(&at), Found::Tcp(sockets) if sockets.len() == 1));
        assert!(inherited.to_string().ends_with("http.sock"));
        assert!(matches!(inherited.take(&ListenAddress::Unix(path)), Found::Unix(_)));
        assert!(inherited.is_empty());
    }
}
