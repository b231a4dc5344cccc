//! The stage: a runtime like a worker's, a scripted service, and connections to it.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use penstock::clock::Clock;
use penstock::http::{Door, Drainer, Limits, Peer, serve};
use penstock::metrics::{Counter, Sink};
use penstock::outcome::CloseReason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::client::Client;
use crate::script::Script;

/// A test that hangs fails after this time; nothing else depends on it.
const HANG: Duration = Duration::from_secs(60);

/// One worker's worth of driver.
pub struct Rig {
    pub script: Rc<Script>,
    pub limits: Limits,
    pub sink: Sink,
    pub drainer: Drainer,
}

/// Runs a test on a current-thread runtime inside a `LocalSet`, as a worker does.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Rig) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    LocalSet::new().block_on(&runtime, async move {
        let rig = Rig::new();
        tokio::time::timeout(HANG, test(rig)).await.expect("the test hangs");
    });
}

/// The same with a clock that jumps to the next timer whenever everything waits.
pub fn run_paused<F: Future<Output = ()>>(test: impl FnOnce(Rig) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("runtime");
    LocalSet::new().block_on(&runtime, async move { test(Rig::new()).await });
}

impl Rig {
    fn new() -> Rig {
        let drainer = Drainer::new();
        spawn_local(drainer.keep_time());
        Rig { script: Rc::default(), limits: Limits::default(), sink: Sink::detached(), drainer }
    }

    pub fn counted(&self, counter: Counter) -> u64 {
        self.sink.get(counter)
    }

    /// A connection over loopback TCP.
    pub async fn tcp(&self) -> Client {
        let (near, far) = tcp_pair().await;
        near.set_nodelay(true).expect("nodelay");
        Client::new(near, self.serve(far))
    }

    /// A connection over a Unix socket.
    pub fn unix(&self) -> Client {
        let (near, far) = UnixStream::pair().expect("socket pair");
        Client::new(near, self.serve(far))
    }

    /// A connection over a pipe that holds `bytes` in each direction: 1 splits every write at every
    /// byte.
    pub fn pipe(&self, bytes: usize) -> Client {
        let (near, far) = tokio::io::duplex(bytes);
        Client::new(near, self.serve(far))
    }

    pub fn serve<IO>(&self, io: IO) -> JoinHandle<CloseReason>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let peer = Peer::Tcp(([127, 0, 0, 1], 4000).into());
        spawn_local(serve(io, peer, self.door(), ()))
    }

    pub fn door(&self) -> Rc<Door<Script>> {
        Door::new(
            self.script.clone(),
            Rc::new(self.limits.clone()),
            Clock::system(),
            self.sink.clone(),
            self.drainer.signal(),
        )
    }
}

pub async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connect"), far.expect("accept").0)
}

/// Lets everything that can run, run, until `condition` holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
