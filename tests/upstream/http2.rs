//! A shop that speaks HTTP/2: many requests on one connection, purchases each on one of their own.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use penstock::upstream::{Body, Timeouts, Written};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::Instant;

use super::origin::Origin;
use super::rig::*;

/// Requests that a connection takes at once.
const SHARED_BY: usize = 64;

/// A server that answers a request when it is told to.
struct Shop {
    origin: Origin,
    waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>>,
    /// Requests that ended before their answer.
    gone: Rc<Cell<usize>>,
    /// Closes all connections.
    cut: Rc<Notify>,
}

struct Gone(Rc<Cell<usize>>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[derive(Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

impl Shop {
    async fn new() -> Shop {
        let waiting = Rc::<RefCell<Vec<oneshot::Sender<()>>>>::default();
        let (gone, cut) = (Rc::<Cell<usize>>::default(), Rc::new(Notify::new()));
        let (all, left, end) = (waiting.clone(), gone.clone(), cut.clone());
        let origin = Origin::new(move |server| {
            let (all, left, end) = (all.clone(), left.clone(), end.clone());
            async move {
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let (go, told) = oneshot::channel();
                    let (all, gone) = (all.clone(), Gone(left.clone()));
                    async move {
                        let read = request.into_body().collect().await.map(|body| body.to_bytes());
                        all.borrow_mut().push(go);
                        let _ = told.await;
                        std::mem::forget(gone);
                        let body = read.unwrap_or_default();
                        let said = if body.is_empty() { Bytes::from("ok") } else { body };
                        Ok::<_, Infallible>(http::Response::new(Full::new(said)))
                    }
                });
                let mut builder = http2::Builder::new(Local);
                builder.max_concurrent_streams(200);
                tokio::select! {
                    _ = builder.serve_connection(TokioIo::new(server.io), service) => {}
                    () = end.notified() => {}
                }
            }
        })
        .await;
        Shop { origin, waiting, gone, cut }
    }

    fn stage(&self, lines: &str) -> Stage {
        stage(&[self.origin.address.to_string()], &format!("http2 = true\n{lines}"))
    }

    async fn until_waiting(&self, count: usize) {
        until(|| self.waiting.borrow().len() == count).await;
    }

    /// Answers all.
    fn answer(&self) {
        for go in self.waiting.take() {
            let _ = go.send(());
        }
    }

    fn connections(&self) -> usize {
        self.origin.accepted.get()
    }
}

/// What requests in tasks of their own came to.
#[derive(Clone, Default)]
struct Done(Rc<RefCell<Vec<Said>>>);

type Said = Result<String, (Written, String)>;

impl Done {
    fn ask(
        &self,
        stage: &Stage,
        method: Method,
        body: &'static str,
        times: Timeouts,
    ) -> AbortHandle {
        let (group, done) = (stage.group.clone(), self.0.clone());
        let task = spawn_local(async move {
            let body = if body.is_empty() { Body::Empty } else { Body::Full(Bytes::from(body)) };
            let said = match group.send(request(method, body), times).await {
                Ok(answer) => Ok(text(answer.body).await),
                Err(error) => Err((error.written, error.cause)),
            };
            done.borrow_mut().push(said);
        });
        task.abort_handle()
    }

    fn get(&self, stage: &Stage) -> AbortHandle {
        self.ask(stage, Method::GET, "", PATIENT)
    }

    async fn all(&self, count: usize) {
        until(|| self.0.borrow().len() == count).await;
        let wrong: Vec<_> = self.0.borrow().iter().filter(|said| said.is_err()).cloned().collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn many_requests_share_one_connection() {
    run(|| async {
        let shop = Shop::new().await;
        let (stage, done) = (shop.stage(""), Done::default());
        for _ in 0..SHARED_BY {
            done.get(&stage);
        }
        shop.until_waiting(SHARED_BY).await;
        assert_eq!(shop.connections(), 1, "who comes while it is made waits for it");
        // It is full.
        done.ask(&stage, Method::POST, "more", PATIENT);
        shop.until_waiting(SHARED_BY + 1).await;
        assert_eq!(shop.connections(), 2);
        shop.answer();
        done.all(SHARED_BY + 1).await;
        assert!(done.0.borrow().contains(&Ok("more".to_owned())));
        for _ in 0..3 {
            done.get(&stage);
            shop.until_waiting(1).await;
            shop.answer();
        }
        done.all(SHARED_BY + 4).await;
        assert_eq!(shop.connections(), 2, "they stay");
    });
}

#[test]
fn a_purchase_has_a_connection_for_itself() {
    run(|| async {
        let shop = Shop::new().await;
        let (stage, done) = (shop.stage(""), Done::default());
        done.get(&stage);
        let until = Some(Instant::now() + LONG);
        for _ in 0..3 {
            done.ask(&stage, Method::POST, "order", Timeouts { until, ..PATIENT });
        }
        shop.until_waiting(4).await;
        assert_eq!(shop.connections(), 4);
        shop.answer();
        done.all(4).await;
        // Each of them serves the next one, and only purchases.
        done.ask(&stage, Method::POST, "order", Timeouts { until, ..PATIENT });
        done.get(&stage);
        shop.until_waiting(2).await;
        assert_eq!(shop.connections(), 4);
        shop.answer();
        done.all(6).await;
    });
}

#[test]
fn who_leaves_ends_its_stream_alone() {
    run(|| async {
        let shop = Shop::new().await;
        let (stage, done) = (shop.stage(""), Done::default());
        let leaves = done.get(&stage);
        shop.until_waiting(1).await;
        done.get(&stage);
        shop.until_waiting(2).await;
        leaves.abort();
        until(|| shop.gone.get() == 1).await;
        shop.answer();
        done.all(1).await;
        assert_eq!(shop.connections(), 1);
    });
}

#[test]
fn room_goes_to_who_waits() {
    run(|| async {
        let shop = Shop::new().await;
        let (stage, done) = (shop.stage("connections_max = 1"), Done::default());
        let asked: Vec<_> = (0..SHARED_BY).map(|_| done.get(&stage)).collect();
        shop.until_waiting(SHARED_BY).await;
        done.get(&stage);
        done.get(&stage);
        // One place by a client that leaves, the other by an answer.
        asked[0].abort();
        until(|| shop.gone.get() == 1 && shop.waiting.borrow().len() == SHARED_BY + 1).await;
        shop.answer();
        shop.until_waiting(1).await;
        shop.answer();
        done.all(SHARED_BY + 1).await;
        assert_eq!(shop.connections(), 1);
    });
}

#[test]
fn a_connection_that_ends_is_replaced() {
    run(|| async {
        let shop = Shop::new().await;
        let (stage, done) = (shop.stage(""), Done::default());
        done.get(&stage);
        shop.until_waiting(1).await;
        shop.answer();
        done.all(1).await;
        // While it is idle, nobody hears of it.
        shop.cut.notify_waiters();
        done.ask(&stage, Method::POST, "more", PATIENT);
        shop.until_waiting(1).await;
        assert_eq!(shop.connections(), 2);
        shop.answer();
        done.all(2).await;
        // While requests wait: a GET is sent once more, a POST is not.
        done.get(&stage);
        done.ask(&stage, Method::POST, "lost", PATIENT);
        shop.until_waiting(2).await;
        let _kept = shop.waiting.take();
        shop.cut.notify_waiters();
        shop.until_waiting(1).await;
        assert_eq!(shop.connections(), 3);
        shop.answer();
        until(|| done.0.borrow().len() == 4).await;
        let failed: Vec<_> = done.0.borrow().iter().filter_map(|said| said.clone().err()).collect();
        assert!(matches!(&failed[..], [(Written::Maybe, _)]), "{failed:?}");
    });
}

#[test]
fn one_that_is_not_answered_times_out_although_others_are() {
    run(|| async {
        let shop = Shop::new().await;
        let (stage, done) = (shop.stage(""), Done::default());
        done.ask(&stage, Method::POST, "slow", Timeouts { first_byte: SHORT * 4, ..PATIENT });
        shop.until_waiting(1).await;
        let kept = shop.waiting.take();
        // The connection is never silent meanwhile.
        let busy = spawn_local({
            let (group, waiting) = (stage.group.clone(), shop.waiting.clone());
            async move {
                loop {
                    let asked = group.send(request(Method::GET, Body::Empty), PATIENT);
                    let answered = async {
                        until(|| !waiting.borrow().is_empty()).await;
                        for go in waiting.take() {
                            let _ = go.send(());
                        }
                    };
                    let (answer, ()) = tokio::join!(asked, answered);
                    drop(text(answer.expect("an answer").body).await);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        until(|| done.0.borrow().len() == 1).await;
        assert!(matches!(&done.0.borrow()[..], [Err((Written::Maybe, _))]));
        busy.abort();
        drop(kept);
    });
}
