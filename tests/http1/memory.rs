//! What an idle connection costs, by accounting: the future of its task, which owns everything but
//! the socket's registration and the place among the deadlines.

use penstock::http::{Peer, serve};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::rig::{Rig, run, tcp_pair};

/// With what tokio keeps beside the future this fits an allocation of 384 bytes, three cache lines
/// pairs: a field more for every connection is a decision.
const FUTURE_BYTES_MAX: usize = 280;

fn future_bytes<IO>(rig: &Rig, io: IO) -> usize
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // What a worker keeps with a connection is a ticket of this size.
    let ticket: (usize, usize, [u8; 17]) = Default::default();
    size_of_val(&serve(io, Peer::Unix, rig.door(), ticket))
}

#[test]
fn an_idle_connection_is_small() {
    run(|rig| async move {
        let (near, far) = tcp_pair().await;
        let tcp = future_bytes(&rig, near);
        let unix = future_bytes(&rig, UnixStream::pair().expect("pair").0);
        println!("the future of a connection: {tcp} bytes over TCP, {unix} over a Unix socket");
        assert!(tcp <= FUTURE_BYTES_MAX && unix <= FUTURE_BYTES_MAX, "{tcp} and {unix} bytes");
        drop(far);
    });
}
