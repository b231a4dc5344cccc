//! A way between two parties that leads where it is told, and can be slow, half-open or cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to the bytes of one direction, on every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They pass.
    None,
    /// They arrive so much later.
    Slow(Duration),
    /// They never arrive, and the connection stands: half-open.
    Lost,
    /// So many bytes pass, then the connection ends in their middle; once.
    CutAfter(usize),
}

/// A direction.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// From those who connect.
    Asks,
    /// To them.
    Replies,
}

/// The way. Whoever connects to `at` reaches the server behind it.
pub struct Proxy {
    pub at: SocketAddr,
    way: Arc<Mutex<Way>>,
}

struct Way {
    to: SocketAddr,
    asks: Fault,
    replies: Fault,
    open: Vec<TcpStream>,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let way = Way { to: server, asks: Fault::None, replies: Fault::None, open: Vec::new() };
        let way = Arc::new(Mutex::new(way));
        let proxy = Proxy { at, way: way.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                join(&way, client);
            }
        });
        proxy
    }

    /// Everybody is thrown out and comes in again to `server`.
    pub fn turn(&self, server: SocketAddr) {
        let mut way = lock(&self.way);
        way.to = server;
        way.cut();
    }

    /// From now on.
    pub fn be(&self, side: Side, fault: Fault) {
        *lock(&self.way).fault(side) = fault;
    }

    /// All is well again. Connections that lost bytes end: nobody sees a gap in one.
    pub fn heal(&self) {
        let mut way = lock(&self.way);
        if [way.asks, way.replies].contains(&Fault::Lost) {
            way.cut();
        }
        (way.asks, way.replies) = (Fault::None, Fault::None);
    }

    /// Whether a cut has happened that was asked for.
    pub fn has_cut(&self, side: Side) -> bool {
        *lock(&self.way).fault(side) == Fault::None
    }
}

impl Way {
    fn fault(&mut self, side: Side) -> &mut Fault {
        match side {
            Side::Asks => &mut self.asks,
            Side::Replies => &mut self.replies,
        }
    }

    fn cut(&mut self) {
        for stream in self.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What becomes of the next `n` bytes.
    fn next(&mut self, side: Side, n: usize) -> Fault {
        let fault = self.fault(side);
        match *fault {
            Fault::CutAfter(left) if left >= n => {
                *fault = Fault::CutAfter(left - n);
                Fault::None
            }
            Fault::CutAfter(left) => {
                *fault = Fault::None;
                Fault::CutAfter(left)
            }
            other => other,
        }
    }
}

/// Leads a connection to the server, as long as it is open at both ends.
fn join(way: &Arc<Mutex<Way>>, client: TcpStream) {
    // Held while it connects: a way that turns meanwhile would miss this one.
    let mut open = lock(way);
    let Ok(server) = TcpStream::connect(open.to) else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    for (side, from, into) in [(Side::Asks, &client, &server), (Side::Replies, &server, &client)] {
        let (Ok(from), Ok(into)) = (from.try_clone(), into.try_clone()) else { return };
        let way = way.clone();
        std::thread::spawn(move || pump(&way, side, from, into));
    }
    open.open.extend([client, server]);
}

fn pump(way: &Mutex<Way>, side: Side, mut from: TcpStream, mut into: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let now = lock(way).next(side, n);
        let passes = match now {
            Fault::None => n,
            Fault::Slow(by) => {
                std::thread::sleep(by);
                n
            }
            Fault::Lost => continue,
            Fault::CutAfter(left) => left,
        };
        if into.write_all(&buffer[..passes]).is_err() || passes < n {
            break;
        }
    }
    for stream in [from, into] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}
