//! Our walker against hyper's decoder on the same bytes: where we see the end of a body, hyper sees
//! it at the same byte and reads the same body. Where hyper would go on, we refuse.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use penstock::http::head::BodyKind;
use penstock::http::walker::BodyWalker;
use proptest::prelude::*;

/// Gives hyper one byte at a time and counts them, so that the end it sees can be told.
struct ByteByByte {
    bytes: Vec<u8>,
    given: Rc<Cell<usize>>,
}

impl Read for ByteByByte {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let at = self.given.get();
        if let Some(byte) = self.bytes.get(at) {
            buf.put_slice(&[*byte]);
            self.given.set(at + 1);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for ByteByByte {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The body as hyper reads it and the byte at which it has its end, `None` if it refuses it.
fn by_hyper(framing: &str, body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let head = format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n");
    let given = Rc::new(Cell::new(0));
    let io = ByteByByte { bytes: [head.as_bytes(), body].concat(), given: given.clone() };
    let result = Rc::new(RefCell::new(None));
    let seen = result.clone();
    let start = head.len();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (seen, given) = (seen.clone(), given.clone());
        async move {
            let all = request.into_body().collect().await;
            // Only the first request counts; what follows it may look like another.
            if seen.borrow().is_none() {
                let end = given.get() - start;
                *seen.borrow_mut() = Some(all.ok().map(|all| (all.to_bytes().to_vec(), end)));
            }
            Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new()))
        }
    });
    let mut connection = pin!(http1::Builder::new().half_close(true).serve_connection(io, service));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        let ready = connection.as_mut().poll(&mut cx).is_ready();
        if ready || result.borrow().is_some() {
            break;
        }
    }
    result.borrow_mut().take().flatten()
}

/// The body without its chunks.
fn decoded(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").expect("walked");
        let digits = std::str::from_utf8(&body[..line]).expect("digits");
        let size = usize::from_str_radix(digits, 16).expect("digits");
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
}

fn chunked_stream() -> impl Strategy<Value = Vec<u8>> {
    let data = "[a-z\r\n0]{1,20}";
    let chunk = (data, any::<bool>()).prop_map(|(data, upper)| {
        let size = if upper { format!("{:X}", data.len()) } else { format!("{:02x}", data.len()) };
        format!("{size}\r\n{data}\r\n")
    });
    let odd = prop::sample::select(vec![
        "3;a=b\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "3\nabc\n",
        "0\r\n",
        "\r\n",
        "\n",
        "00\r\nX: y\r\n\r\n",
        "1\r\n\r\r\n",
        "X: y\r\n",
        "X:\t\r\n",
    ])
    .prop_map(str::to_owned);
    let end = prop::sample::select(vec![
        "0\r\n\r\n",
        "0\r\nX: y\r\nZ:\r\n\r\n",
        "000\r\n\r\n",
        "0\r\n\n",
        "0;\r\n\r\n",
        "",
    ]);
    let parts = prop::collection::vec(prop_oneof![8 => chunk, 1 => odd], 0..6);
    let changed = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (parts, end, changed).prop_map(|(parts, end, changed)| {
        let mut bytes = (parts.concat() + end + "GET / HTTP/1.1\r\n\r\n").into_bytes();
        if let Some((at, byte)) = changed {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn chunked_bodies_end_where_hyper_says(bytes in chunked_stream()) {
        let mut walker = BodyWalker::new(BodyKind::Chunked);
        if let Ok(used) = walker.advance(&bytes) && walker.is_done() {
            let body = decoded(&bytes[..used]);
            prop_assert_eq!(walker.data_bytes(), body.len() as u64);
            prop_assert_eq!(by_hyper("transfer-encoding: chunked", &bytes), Some((body, used)));
        }
    }

    #[test]
    fn sized_bodies_end_where_hyper_says(bytes in "[ -~]{0,40}", length in 1u64..40) {
        let mut walker = BodyWalker::new(BodyKind::Sized(length));
        let used = walker.advance(bytes.as_bytes()).expect("nothing to refuse");
        let ours = walker.is_done().then(|| (bytes.as_bytes()[..used].to_vec(), used));
        let framing = format!("content-length: {length}");
        prop_assert_eq!(by_hyper(&framing, bytes.as_bytes()), ours);
    }
}

#[test]
fn the_comparison_sees_the_end() {
    let whole = by_hyper("transfer-encoding: chunked", b"3\r\nabc\r\n0\r\n\r\nGET /");
    assert_eq!(whole, Some((b"abc".to_vec(), 13)));
    assert_eq!(by_hyper("transfer-encoding: chunked", b"3\r\nabcX"), None);
}
