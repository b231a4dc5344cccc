//! A server that does exactly what a test says, byte by byte.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local};

/// A listening server; it stops when dropped.
pub struct Origin {
    pub address: SocketAddr,
    /// Heads of the requests that came, in order.
    pub heads: Rc<RefCell<Vec<String>>>,
    pub accepted: Rc<Cell<usize>>,
    task: AbortHandle,
}

/// One connection, seen from the server.
pub struct Server {
    pub io: TcpStream,
    /// How many came before.
    pub number: usize,
    heads: Rc<RefCell<Vec<String>>>,
    received: Vec<u8>,
}

impl Origin {
    /// Runs `script` for every connection, side by side.
    pub async fn new<F, S>(script: S) -> Origin
    where
        F: Future<Output = ()> + 'static,
        S: Fn(Server) -> F + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        Origin::on(listener, script)
    }

    pub fn on<F, S>(listener: TcpListener, script: S) -> Origin
    where
        F: Future<Output = ()> + 'static,
        S: Fn(Server) -> F + 'static,
    {
        let address = listener.local_addr().expect("address");
        let (heads, accepted) = (Rc::<RefCell<Vec<String>>>::default(), Rc::new(Cell::new(0)));
        let (seen, count) = (heads.clone(), accepted.clone());
        let task = spawn_local(async move {
            while let Ok((io, _)) = listener.accept().await {
                let number = count.get();
                count.set(number + 1);
                let heads = seen.clone();
                spawn_local(script(Server { io, number, heads, received: Vec::new() }));
            }
        });
        Origin { address, heads, accepted, task: task.abort_handle() }
    }

    /// Answers every request with `response`, on connections that live.
    pub async fn constant(response: &'static str) -> Origin {
        Origin::new(move |mut server| async move {
            while server.request().await.is_some() {
                server.send(response).await;
            }
        })
        .await
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.heads.borrow().len()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Reads a whole request: its head in lower case, and its body decoded.
    pub async fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head().await?;
        let body = self.body(&head).await?;
        Some((head, body))
    }

    /// Reads a head.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                let head = String::from_utf8(head).expect("text");
                self.heads.borrow_mut().push(head.clone());
                return Some(head.to_ascii_lowercase());
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, head: &str) -> Option<Vec<u8>> {
        if head.contains("transfer-encoding: chunked\r\n") {
            let mut body = Vec::new();
            loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(&line, 16).expect("a chunk size");
                body.extend(self.take(size).await?);
                assert_eq!(self.line().await?, "");
                if size == 0 {
                    return Some(body);
                }
            }
        }
        let Some((_, rest)) = head.split_once("content-length: ") else { return Some(Vec::new()) };
        let length = rest.split("\r\n").next().and_then(|text| text.parse().ok());
        self.take(length.expect("a length")).await
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).expect("text"));
            }
            self.more().await?;
        }
    }

    pub async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.received.len() < count {
            self.more().await?;
        }
        Some(self.received.drain(..count).collect())
    }

    /// The head that came last, as it came.
    pub fn last_head(&self) -> String {
        self.heads.borrow().last().cloned().expect("a head")
    }

    /// The next bytes, whatever they are.
    pub async fn some(&mut self) -> Option<Vec<u8>> {
        if self.received.is_empty() {
            self.more().await?;
        }
        Some(std::mem::take(&mut self.received))
    }

    /// Forgets what came; says how much it was.
    pub fn discard(&mut self) -> usize {
        std::mem::take(&mut self.received).len()
    }

    async fn more(&mut self) -> Option<()> {
        let mut buffer = vec![0; 64 * 1024];
        match self.io.read(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                Some(())
            }
        }
    }

    /// Waits until the other side is gone.
    pub async fn gone(&mut self) {
        while self.more().await.is_some() {}
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have left; the test says whether it should have.
        let _ = self.io.write_all(bytes.as_ref()).await;
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.io.set_zero_linger().expect("linger");
    }
}

/// Says nothing for as long as the test may last.
pub async fn silence() {
    tokio::time::sleep(Duration::from_secs(600)).await;
}
