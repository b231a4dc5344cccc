//! Where a server is, and how its name becomes addresses.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout, timeout_at};

use super::stream::Stream;

/// An entry of `upstream.X.servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// An address and a port.
    Ip(SocketAddr),
    /// A name, to be resolved, and a port.
    Name(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// What nobody can connect to. `check` refuses it.
    Bad(String),
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectError {
    pub timed_out: bool,
    pub cause: String,
}

impl Address {
    pub(super) fn new(text: &str) -> Address {
        let bad = || Address::Bad(format!("`{text}` is not host:port or unix:/path"));
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Address::Unix(path.into()) } else { bad() };
        }
        let Some((host, port)) = text.rsplit_once(':') else { return bad() };
        let Ok(port) = port.parse::<u16>() else { return bad() };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Address::Ip(SocketAddr::new(ip, port)),
            Err(_) if host.is_empty() || host.contains([':', '[', ']', '/']) => bad(),
            Err(_) => Address::Name(host.to_owned(), port),
        }
    }

    /// The name that its certificate should have, where no other is set.
    pub(super) fn host(&self) -> String {
        match self {
            Address::Ip(address) => address.ip().to_string(),
            Address::Name(host, _) => host.clone(),
            Address::Unix(_) | Address::Bad(_) => "localhost".to_owned(),
        }
    }

    /// Connects within `limit`, to the addresses of a name one after the other.
    pub(super) async fn connect(
        &self,
        names: &Arc<Names>,
        limit: Duration,
    ) -> Result<Stream, ConnectError> {
        let deadline = Instant::now() + limit;
        let connecting = async {
            match self {
                Address::Ip(address) => tcp(*address).await,
                Address::Name(host, port) => {
                    let addresses = Names::get(names, host, *port).await?;
                    one_of(&addresses, names.turn.fetch_add(1, Ordering::Relaxed), deadline).await
                }
                Address::Unix(path) => match UnixStream::connect(path).await {
                    Ok(stream) => Ok(Stream::Unix(stream)),
                    Err(error) => Err(ConnectError::new(&error)),
                },
                Address::Bad(why) => Err(ConnectError { timed_out: false, cause: why.clone() }),
            }
        };
        let too_long =
            || ConnectError { timed_out: true, cause: "connecting took too long".into() };
        timeout(limit, connecting).await.unwrap_or_else(|_| Err(too_long()))
    }
}

impl ConnectError {
    fn new(cause: &dyn std::fmt::Display) -> ConnectError {
        ConnectError { timed_out: false, cause: cause.to_string() }
    }
}

/// What a server's name resolved to, for all workers. One question is asked at a time, off the
/// requests' path once there was an answer; the last good answer is kept while the resolver fails.
#[derive(Debug, Default)]
pub(super) struct Names {
    state: Mutex<Known>,
    answered: Notify,
    /// With which address the next connection begins.
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// When `addresses` came.
    at: Option<Instant>,
    /// When a question was answered last, well or not.
    asked: Option<Instant>,
    error: Option<String>,
    asking: bool,
}

impl Names {
    async fn get(
        names: &Arc<Names>,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let mut waited = false;
        loop {
            let answered = names.answered.notified();
            tokio::pin!(answered);
            // Before looking: an answer that comes in between wakes us all the same.
            answered.as_mut().enable();
            if let Some(known) = names.look(waited, host, port) {
                return known;
            }
            answered.await;
            waited = true;
        }
    }

    /// The addresses or the error; nothing while a question is open.
    fn look(
        self: &Arc<Names>,
        waited: bool,
        host: &str,
        port: u16,
    ) -> Option<Result<Vec<SocketAddr>, ConnectError>> {
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let has_good = known.at.is_some_and(|at| at.elapsed() < GOOD);
        let is_fresh = known.asked.is_some_and(|at| at.elapsed() < FRESH);
        if waited && !has_good && !known.asking {
            let cause = known.error.clone().unwrap_or_else(|| "no address".to_owned());
            return Some(Err(ConnectError { timed_out: false, cause }));
        }
        let is_enough = has_good && is_fresh;
        if !known.asking && !is_enough {
            known.asking = true;
            let question = Question { names: self.clone() };
            spawn_local(question.ask(host.to_owned(), port));
        }
        has_good.then(|| Ok(known.addresses.clone()))
    }

    fn learn(&self, answer: Result<Vec<SocketAddr>, String>) {
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.asked = Some(now);
        match answer {
            Ok(addresses) => {
                *known = Known { addresses, at: Some(now), asked: Some(now), ..Known::default() };
            }
            Err(error) => known.error = Some(error),
        }
    }
}

/// A question that is under way; it ends with its worker at the latest.
struct Question {
    names: Arc<Names>,
}

impl Question {
    async fn ask(self, host: String, port: u16) {
        let answer = match lookup_host((host.as_str(), port)).await {
            Ok(found) => {
                let mut addresses: Vec<SocketAddr> = Vec::new();
                for address in found.take(ADDRESSES_MAX) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                if addresses.is_empty() { Err("no address".to_owned()) } else { Ok(addresses) }
            }
            Err(error) => Err(error.to_string()),
        };
        self.names.learn(answer);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.names.state.lock().unwrap_or_else(PoisonError::into_inner).asking = false;
        self.names.answered.notify_waiters();
    }
}

/// Tries the addresses from number `first` on. Each but the last gets half of the time that is left,
/// so that one that is silent does not hide the others.
async fn one_of(
    addresses: &[SocketAddr],
    first: usize,
    deadline: Instant,
) -> Result<Stream, ConnectError> {
    let mut last = Err(ConnectError::new(&"no address"));
    let count = addresses.len();
    for (at, address) in addresses.iter().cycle().skip(first % count.max(1)).take(count).enumerate()
    {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let share = if at + 1 < count { left / 2 } else { left };
        let silent = ConnectError { timed_out: true, cause: format!("{address} does not answer") };
        last = timeout_at(now + share, tcp(*address)).await.unwrap_or(Err(silent));
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn tcp(address: SocketAddr) -> Result<Stream, ConnectError> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(Stream::Tcp(stream))
    };
    connecting.await.map_err(|error| ConnectError::new(&error))
}

/// A name is asked for again after this, beside the requests.
const FRESH: Duration = Duration::from_secs(10);
/// The last good addresses are used for so long while the name does not resolve.
const GOOD: Duration = Duration::from_secs(3600);
/// More addresses of one name are ignored.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_names_or_sockets() {
        let ip = |text: &str| Address::Ip(text.parse().expect("address"));
        assert_eq!(Address::new("10.0.0.1:80"), ip("10.0.0.1:80"));
        assert_eq!(Address::new("[::1]:8080"), ip("[::1]:8080"));
        assert_eq!(Address::new("shop-1.local:80"), Address::Name("shop-1.local".into(), 80));
        assert_eq!(Address::new("unix:/run/shop"), Address::Unix("/run/shop".into()));
        for bad in ["", "shop", "shop:", ":80", "shop:http", "unix:run", "http://a:80", "a:b:80"] {
            assert!(matches!(Address::new(bad), Address::Bad(_)), "{bad}");
        }
    }
}
