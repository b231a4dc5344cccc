//! What is written in one wake-up goes out in one piece, and a slow reader is waited for.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use penstock::clock::Clock;
use penstock::http::{Door, Peer, serve_h2};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::spawn_local;

use super::client::*;
use super::rig::{BIG, Rig, run};

/// Counts writes.
struct Counted(DuplexStream, Rc<Cell<usize>>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.set(self.1.get() + 1);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn many_small_responses_are_one_write() {
    run(async |rig: Rig| {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let writes = Rc::new(Cell::new(0));
        let door = Door::new(
            rig.told.clone(),
            Rc::new(rig.limits.clone()),
            Clock::system(),
            rig.sink.clone(),
            rig.drainer.signal(),
        );
        let io = Box::new(Counted(far, writes.clone()));
        let task = spawn_local(serve_h2(io, Peer::Unix, door, ()));
        let mut client = Client::new(near, task);
        client.greet(&[]).await;
        super::rig::settle().await;
        let before = writes.get();
        let streams: Vec<u32> = (0..25).map(|n| 1 + 2 * n).collect();
        client
            .send(streams.iter().flat_map(|stream| get(*stream, "/kilobyte")).collect::<Vec<_>>())
            .await;
        assert_eq!(client.responses(&streams).await.len(), 25);
        assert_eq!(writes.get() - before, 1);
    });
}

/// Through a pipe of every width the same comes out, however often it is full.
#[test]
fn slow_readers_get_everything() {
    for width in [1, 7, 100, 4_096, 40_000] {
        run(async |rig: Rig| {
            let mut client = rig.pipe(width);
            client.greet(&[&4u16.to_be_bytes()[..], &(1u32 << 24).to_be_bytes()].concat()).await;
            client.send(frame(WINDOW_UPDATE, 0, 0, &(1u32 << 24).to_be_bytes())).await;
            let path = if width < 100 { "/" } else { "/big" };
            let size = if width < 100 { 26 } else { BIG };
            client.send([get(1, path), get(3, path), get(5, "/")].concat()).await;
            let responses = client.responses(&[1, 3, 5]).await;
            let sizes: Vec<_> = responses.values().map(|response| response.body.len()).collect();
            assert_eq!(sizes, [size, size, 26], "{width}");
        });
    }
}

/// What waits for a client that does not read is bounded.
#[test]
fn a_slow_reader_is_felt_by_who_writes() {
    run(async |rig: Rig| {
        let mut client = rig.pipe(1_000);
        client.greet(&[&4u16.to_be_bytes()[..], &(1u32 << 30).to_be_bytes()].concat()).await;
        client.send(frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes())).await;
        let streams: Vec<u32> = (0..40).map(|n| 1 + 2 * n).collect();
        for stream in &streams {
            client.send(get(*stream, "/big")).await;
        }
        super::rig::settle().await;
        let taken = rig.told.done.borrow().len();
        assert_eq!(taken, 0, "not one whole response has left its source");
        assert!(client.responses(&streams).await.values().all(|one| one.body.len() == BIG));
    });
}

/// The same responses from hyper's HTTP/2 without the cork between it and the stream.
#[test]
fn without_the_cork_there_is_a_write_for_each() {
    run(async |_: Rig| {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let writes = Rc::new(Cell::new(0));
        let io = hyper_util::rt::TokioIo::new(Counted(far, writes.clone()));
        let service = hyper::service::service_fn(|_| async {
            let body = http_body_util::Full::new(bytes::Bytes::from_static(&[b'x'; 1_000]));
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let connection =
            hyper::server::conn::http2::Builder::new(Local).serve_connection(io, service);
        let task = spawn_local(async move {
            let _ = connection.await;
            penstock::outcome::CloseReason::ClientClosed
        });
        let mut client = Client::new(near, task);
        client.greet(&[]).await;
        super::rig::settle().await;
        let before = writes.get();
        let streams: Vec<u32> = (0..25).map(|n| 1 + 2 * n).collect();
        client.send(streams.iter().flat_map(|stream| get(*stream, "/")).collect::<Vec<_>>()).await;
        assert_eq!(client.responses(&streams).await.len(), 25);
        assert!(
            writes.get() - before >= 25,
            "{}: then the cork is not needed",
            writes.get() - before
        );
    });
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
