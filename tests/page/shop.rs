//! A shop whose every answer is a script of raw bytes, waits and closes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// One step of an answer.
pub enum Act {
    Write(Vec<u8>),
    /// Waits until the test lets one more go on.
    Wait(Rc<Semaphore>),
    Close,
}

type Script = Box<dyn Fn(usize, &str) -> Vec<Act>>;

/// The shop: what it was asked, in order.
#[derive(Clone)]
pub struct Shop {
    pub address: SocketAddr,
    seen: Rc<RefCell<Vec<String>>>,
    script: Rc<RefCell<Script>>,
}

impl Shop {
    /// A shop that answers request number n (from 0), whose head it sees, by `script`.
    pub async fn open(script: impl Fn(usize, &str) -> Vec<Act> + 'static) -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let shop = Shop {
            address: listener.local_addr().expect("address"),
            seen: Rc::default(),
            script: Rc::new(RefCell::new(Box::new(script))),
        };
        let this = shop.clone();
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(this.clone().talk(stream));
            }
        });
        shop
    }

    /// From now on it answers by `script`.
    pub fn change(&self, script: impl Fn(usize, &str) -> Vec<Act> + 'static) {
        *self.script.borrow_mut() = Box::new(script);
    }

    pub fn asked(&self) -> usize {
        self.seen.borrow().len()
    }

    /// The head of request number `n`, in lower case.
    pub fn head(&self, n: usize) -> String {
        self.seen.borrow()[n].to_ascii_lowercase()
    }

    async fn talk(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                    break at + 4;
                }
                match stream.read_buf(&mut buffer).await {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
            };
            let head: Vec<u8> = buffer.drain(..end).collect();
            let head = String::from_utf8(head).expect("text");
            let n = self.asked();
            self.seen.borrow_mut().push(head.clone());
            let acts = (self.script.borrow())(n, &head);
            for act in acts {
                match act {
                    Act::Write(bytes) => {
                        if stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    Act::Wait(gate) => gate.acquire().await.expect("open").forget(),
                    Act::Close => return,
                }
            }
        }
    }
}

/// A whole answer with its length.
pub fn page(status: u16, fields: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![Act::Write(
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{fields}\r\n{body}").into(),
    )]
}

/// The same, once `gate` lets it go.
pub fn gated(gate: &Rc<Semaphore>, status: u16, fields: &str, body: &str) -> Vec<Act> {
    let mut acts = vec![Act::Wait(gate.clone())];
    acts.extend(page(status, fields, body));
    acts
}

/// A gate that nothing passes yet.
pub fn gate() -> Rc<Semaphore> {
    Rc::new(Semaphore::new(0))
}
