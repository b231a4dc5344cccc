//! A shop of raw bytes: what it is sent stands in the test's hands, and what it says is said as it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::client::PATIENCE;

/// A connection that a node made.
pub trait Conn: Read + Write + Send {
    fn patience(&self, how_long: std::time::Duration);
}

impl Conn for TcpStream {
    fn patience(&self, how_long: std::time::Duration) {
        self.set_read_timeout(Some(how_long)).expect("a timeout");
    }
}

impl Conn for UnixStream {
    fn patience(&self, how_long: std::time::Duration) {
        self.set_read_timeout(Some(how_long)).expect("a timeout");
    }
}

type Serve = Arc<dyn Fn(&str, &mut dyn Conn) -> bool + Send + Sync>;

/// It serves until the process ends; each connection on a thread of its own.
pub struct Origin {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// `serve` gets the head of each request and the connection; it says whether that goes on.
    pub fn start(serve: impl Fn(&str, &mut dyn Conn) -> bool + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, serve): (_, Serve) = (heads.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for conn in listener.incoming().map_while(Result::ok) {
                let (kept, serve) = (kept.clone(), serve.clone());
                std::thread::spawn(move || talk(conn, &kept, &serve));
            }
        });
        Origin { address, heads }
    }

    /// One that answers everything with what it was sent.
    pub fn mirror() -> Origin {
        Origin::start(|head, conn| conn.write_all(mirrored(head).as_bytes()).is_ok())
    }

    /// The heads that came, in their order.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }
}

/// A shop at a Unix socket that answers with what it was sent, until it is dropped.
pub struct UnixOrigin {
    listener: UnixListener,
    path: std::path::PathBuf,
    pub connections: Arc<std::sync::atomic::AtomicUsize>,
}

impl UnixOrigin {
    pub fn start(path: &Path) -> UnixOrigin {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        let connections: Arc<std::sync::atomic::AtomicUsize> = Arc::default();
        let (accepting, count) = (listener.try_clone().expect("a copy"), connections.clone());
        std::thread::spawn(move || {
            for conn in accepting.incoming().map_while(Result::ok) {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let serve: Serve =
                    Arc::new(|head, conn| conn.write_all(mirrored(head).as_bytes()).is_ok());
                std::thread::spawn(move || talk(conn, &Arc::default(), &serve));
            }
        });
        UnixOrigin { listener, path: path.to_owned(), connections }
    }
}

impl Drop for UnixOrigin {
    fn drop(&mut self) {
        // Nobody can connect any more, and those who wait are refused.
        let _ = std::fs::remove_file(&self.path);
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn mirrored(head: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len())
}

fn talk(mut conn: impl Conn, heads: &Arc<Mutex<Vec<String>>>, serve: &Serve) {
    conn.patience(PATIENCE);
    let mut came = Vec::new();
    while let Some(head) = head(&mut conn, &mut came) {
        heads.lock().expect("heads").push(head.clone());
        if !serve(&head, &mut conn) {
            return;
        }
    }
}

/// Byte by byte: what follows is the test's.
fn head(conn: &mut impl Read, came: &mut Vec<u8>) -> Option<String> {
    came.clear();
    let mut byte = [0];
    while !came.ends_with(b"\r\n\r\n") {
        conn.read_exact(&mut byte).ok()?;
        came.extend_from_slice(&byte);
    }
    String::from_utf8(came.clone()).ok()
}
