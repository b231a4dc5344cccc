//! The cold path beside plain hyper: the same small answer from the same handler, once through hyper
//! alone, once through Penstock's HTTP/1.1 driver, which hands the request to hyper.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use penstock::clock::Clock;
use penstock::http::{
    Done, Door, Drainer, Exchange, Head, Limits, Peer, ResponseBody, Service, Step, serve,
};
use penstock::metrics::Sink;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::spawn_local;

use super::Outcome;

/// `hyper ADDRESS`: hyper and nothing else.
pub fn plain(args: &[String]) -> Outcome<()> {
    accept(args, |stream, _| async move {
        let answer = service_fn(|_| async { Ok::<_, Infallible>(response().map(Full::new)) });
        let io = TokioIo::new(stream);
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await;
    })
}

/// `cold ADDRESS`: the driver, with a service that leaves every request to hyper.
pub fn cold(args: &[String]) -> Outcome<()> {
    let (limits, drainer) = (Rc::new(Limits::default()), Drainer::new());
    let signal = drainer.signal();
    let door = Door::new(Rc::new(Cold), limits, Clock::system(), Sink::detached(), signal);
    let began = Cell::new(false);
    accept(args, move |stream, peer| {
        if !began.replace(true) {
            spawn_local(drainer.keep_time());
        }
        let connection = serve(stream, Peer::Tcp(peer), door.clone(), ());
        async move {
            connection.await;
        }
    })
}

/// One thread that accepts and serves for ever.
fn accept<F>(args: &[String], conn: impl Fn(TcpStream, SocketAddr) -> F) -> Outcome<()>
where
    F: Future<Output = ()> + 'static,
{
    let [address] = args else { return Err("one argument: the address".into()) };
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            spawn_local(conn(stream, peer));
        }
    })
}

struct Cold;

impl Service for Cold {
    fn decide(&self, _: &Head<'_>, _: &Exchange) -> Step {
        Step::Work(Box::new(|_, _| Box::pin(async { response().map(ResponseBody::Full) })))
    }

    fn finished(&self, _: &Exchange, _: &Done) {}
}

fn response() -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from_static(&[b'x'; 200]));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
