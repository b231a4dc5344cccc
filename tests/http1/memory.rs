//! What an idle connection costs, by accounting: its task and what it owns on the heap.

use std::rc::Rc;

use penstock::clock::Clock;
use penstock::http::{Limits, Peer, serve};
use tokio::net::{TcpStream, UnixStream};

use crate::rig::{Rig, run, tcp_pair};

const IDLE_BYTES_MAX: usize = 2048;

fn idle_bytes<IO>(rig: &Rig, io: IO) -> usize
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let task = serve(
        io,
        Peer::Unix,
        rig.script.clone(),
        Rc::new(Limits::default()),
        Clock::system(),
        rig.sink.clone(),
        rig.drainer.signal(),
    );
    // Its one sleep and its place in the drain are apart; buffers it has none while it is idle.
    let waker = size_of::<Option<std::task::Waker>>() + size_of::<usize>();
    size_of_val(&task) + size_of::<tokio::time::Sleep>() + waker
}

#[test]
fn an_idle_connection_is_small() {
    run(|rig| async move {
        let (near, far): (TcpStream, TcpStream) = tcp_pair().await;
        let tcp = idle_bytes(&rig, near);
        let unix = idle_bytes(&rig, UnixStream::pair().expect("pair").0);
        println!("an idle connection: {tcp} bytes over TCP, {unix} over a Unix socket");
        assert!(tcp <= IDLE_BYTES_MAX && unix <= IDLE_BYTES_MAX, "{tcp} and {unix} bytes");
        drop(far);
    });
}
