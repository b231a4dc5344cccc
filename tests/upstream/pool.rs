//! Who gets which connection: turns, caps over all workers, queues, idle connections, purchases.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use penstock::metrics::Counter;
use penstock::upstream::{Body, Shared, Stage as At, Written};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_local;

use crate::origin::Origin;
use crate::rig::{
    OK, PATIENT, SHORT, Stage, failed, request, run, shared, stage, text, until, worker,
};

/// Servers that answer with their number.
async fn numbered<const N: usize>() -> [Origin; N] {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2",
    ];
    let mut origins = Vec::new();
    for answer in answers.iter().take(N) {
        origins.push(Origin::constant(answer).await);
    }
    origins.try_into().unwrap_or_else(|_| panic!("{N} servers"))
}

fn addresses(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.address.to_string()).collect()
}

/// A server that answers when it is told to, and counts the connections it has.
struct Held {
    origin: Origin,
    /// Requests that wait for their answers.
    waiting: Rc<RefCell<Vec<tokio::sync::oneshot::Sender<()>>>>,
    open: Rc<Cell<usize>>,
    open_max: Rc<Cell<usize>>,
}

impl Held {
    async fn new() -> Held {
        let waiting = Rc::<RefCell<Vec<tokio::sync::oneshot::Sender<()>>>>::default();
        let (open, open_max) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (queue, count, max) = (waiting.clone(), open.clone(), open_max.clone());
        let origin = Origin::new(move |mut server| {
            let (queue, count, max) = (queue.clone(), count.clone(), max.clone());
            async move {
                count.set(count.get() + 1);
                max.set(max.get().max(count.get()));
                while server.request().await.is_some() {
                    let (go, told) = tokio::sync::oneshot::channel();
                    queue.borrow_mut().push(go);
                    let _ = told.await;
                    server.send(OK).await;
                }
                count.set(count.get() - 1);
            }
        })
        .await;
        Held { origin, waiting, open, open_max }
    }

    async fn until_waiting(&self, count: usize) {
        until(|| self.waiting.borrow().len() == count).await;
    }

    /// Answers the request that waits longest.
    fn answer(&self) {
        let go = self.waiting.borrow_mut().remove(0);
        go.send(()).expect("the server waits");
    }
}

/// Sends a request in a task of its own and notes its answer.
fn ask(stage: &Stage, done: &Rc<RefCell<Vec<String>>>, tag: &'static str) {
    let (group, done) = (stage.group.clone(), done.clone());
    spawn_local(async move {
        let said = match group.send(request(Method::GET, Body::Empty), PATIENT).await {
            Ok(answer) => text(answer.body).await,
            Err(error) => format!("{:?}", error.at),
        };
        done.borrow_mut().push(format!("{tag} {said}"));
    });
}

#[test]
fn servers_take_turns() {
    run(|| async {
        let origins = numbered::<3>().await;
        let stage = stage(&addresses(&origins), "");
        let mut answers = String::new();
        for _ in 0..9 {
            answers += &stage.get_text().await;
        }
        assert_eq!(answers, "012012012");
        assert!(origins.iter().all(|origin| origin.accepted.get() == 1));
        // Another worker begins with another server.
        let other = worker(&stage.shared);
        assert_eq!(other.get_text().await, "1");
    });
}

#[test]
fn a_server_that_is_down_is_passed_over_and_comes_back() {
    run(|| async {
        let [first, second] = numbered::<2>().await;
        let stage = stage(&addresses(&[first, second]), "");
        // Both are gone now: their listeners were dropped with the array.
        let error = failed(stage.get().await);
        assert_eq!((error.at, error.written), (At::Connect, Written::Nothing));
        assert_eq!(stage.sink.get(Counter::UpstreamConnectErrors), 2, "each is tried once");
        // All are held: that is no reason to refuse.
        let _ = failed(stage.get().await);
        assert_eq!(stage.sink.get(Counter::UpstreamConnectErrors), 4);
        let servers: Vec<String> = stage.shared.report().into_iter().map(|s| s.server).collect();
        let listener = TcpListener::bind(&servers[1]).await.expect("the address is free");
        let origin = Origin::on(listener, |mut server| async move {
            while server.request().await.is_some() {
                server.send(OK).await;
            }
        });
        for _ in 0..6 {
            assert_eq!(stage.get_text().await, "ok");
        }
        assert_eq!(origin.requests(), 6);
        // The one that is still down was tried now and then at most, not six times.
        assert!(stage.sink.get(Counter::UpstreamConnectErrors) <= 6);
        let report = stage.shared.report();
        assert!(!report[1].held && report[1].connects == 1, "{report:?}");
    });
}

#[test]
fn unix_sockets_are_servers() {
    run(|| async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("shop.sock");
        let stage = stage(&[format!("unix:{}", path.display())], "");
        let error = failed(stage.get().await);
        assert_eq!((error.at, error.written), (At::Connect, Written::Nothing));
        let listener = UnixListener::bind(&path).expect("bind");
        spawn_local(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut io, _) = listener.accept().await.expect("accept");
            let mut buffer = [0; 4096];
            while io.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                io.write_all(OK.as_bytes()).await.expect("sent");
            }
        });
        for _ in 0..3 {
            assert_eq!(stage.get_text().await, "ok");
        }
        assert_eq!(stage.sink.get(Counter::UpstreamConnects), 1);
    });
}

#[test]
fn who_waits_gets_the_connection_that_becomes_free() {
    run(|| async {
        let held = Held::new().await;
        let stage = stage(&addresses(std::slice::from_ref(&held.origin)), "connections_max = 2");
        let done = Rc::default();
        for tag in ["a", "b", "c", "d", "e"] {
            ask(&stage, &done, tag);
            tokio::task::yield_now().await;
        }
        for left in [2, 2, 2, 2, 1] {
            held.until_waiting(left).await;
            held.answer();
        }
        until(|| done.borrow().len() == 5).await;
        assert_eq!(*done.borrow(), ["a ok", "b ok", "c ok", "d ok", "e ok"]);
        assert_eq!((held.open_max.get(), held.origin.accepted.get()), (2, 2));
    });
}

#[test]
fn the_queue_is_bounded_in_length_and_time() {
    run(|| async {
        let held = Held::new().await;
        let settings = "connections_max = 1\nqueue_max = 2\nqueue_timeout = \"80ms\"";
        let stage = stage(&addresses(std::slice::from_ref(&held.origin)), settings);
        let done = Rc::default();
        ask(&stage, &done, "a");
        held.until_waiting(1).await;
        ask(&stage, &done, "b");
        ask(&stage, &done, "c");
        tokio::task::yield_now().await;
        let error = failed(stage.post("order").await);
        assert_eq!((error.at, error.written), (At::Queue, Written::Nothing));
        assert!(!error.timed_out);
        assert_eq!(stage.sink.get(Counter::UpstreamQueueFull), 1);
        until(|| done.borrow().len() == 2).await;
        assert_eq!(*done.borrow(), ["b Queue", "c Queue"]);
        // The queue is empty again, and the connection is still there.
        ask(&stage, &done, "d");
        tokio::task::yield_now().await;
        held.answer();
        held.until_waiting(1).await;
        held.answer();
        until(|| done.borrow().len() == 4).await;
        assert_eq!(done.borrow()[2..], ["a ok", "d ok"]);
        assert_eq!(held.origin.accepted.get(), 1);
    });
}

#[test]
fn who_leaves_the_queue_takes_nothing_along() {
    run(|| async {
        let held = Held::new().await;
        let settings = "connections_max = 1";
        let stage = stage(&addresses(std::slice::from_ref(&held.origin)), settings);
        let done = Rc::default();
        ask(&stage, &done, "a");
        held.until_waiting(1).await;
        let leaver = {
            let group = stage.group.clone();
            spawn_local(async move {
                let _ = group.send(request(Method::GET, Body::Empty), PATIENT).await;
            })
        };
        tokio::task::yield_now().await;
        ask(&stage, &done, "c");
        tokio::task::yield_now().await;
        leaver.abort();
        held.answer();
        held.until_waiting(1).await;
        held.answer();
        until(|| done.borrow().len() == 2).await;
        assert_eq!(*done.borrow(), ["a ok", "c ok"]);
        assert_eq!(held.origin.requests(), 2);
    });
}

#[test]
fn the_cap_is_one_for_all_workers_and_idle_connections_give_way() {
    run(|| async {
        let held = Held::new().await;
        let shared = shared(&addresses(std::slice::from_ref(&held.origin)), "connections_max = 2");
        let (one, two) = (worker(&shared), worker(&shared));
        let done = Rc::default();
        // The first worker takes both places and keeps them idle.
        ask(&one, &done, "a");
        ask(&one, &done, "b");
        held.until_waiting(2).await;
        held.answer();
        held.answer();
        until(|| done.borrow().len() == 2).await;
        until(|| shared.report()[0].in_flight == 0).await;
        assert_eq!(shared.report()[0].open, 2);
        // The second needs one: it gets it without waiting for keep-alive to end.
        ask(&two, &done, "c");
        held.until_waiting(1).await;
        assert_eq!((shared.report()[0].open, held.open_max.get()), (2, 2));
        held.answer();
        until(|| done.borrow().len() == 3).await;
    });
}

#[test]
fn a_busy_worker_does_not_starve_another() {
    run(|| async {
        let held = Held::new().await;
        let shared = shared(&addresses(std::slice::from_ref(&held.origin)), "connections_max = 2");
        let (one, two) = (worker(&shared), worker(&shared));
        let done: Rc<RefCell<Vec<String>>> = Rc::default();
        (0..4).for_each(|_| ask(&one, &done, "a"));
        held.until_waiting(2).await;
        ask(&two, &done, "x");
        tokio::task::yield_now().await;
        // The first worker always has somebody who waits.
        for answers in 1.. {
            ask(&one, &done, "a");
            held.answer();
            until(|| done.borrow().len() == answers).await;
            held.until_waiting(2).await;
            if done.borrow().contains(&"x ok".to_owned()) {
                break;
            }
            assert!(answers < 8, "it waits for ever");
        }
        assert_eq!(held.open_max.get(), 2);
    });
}

/// Two threads with a worker each, and a server that counts by what the kernel knows: its own threads
/// hear of a close later than it happens.
#[test]
fn workers_on_threads_share_one_cap() {
    let open_max = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let max = open_max.clone();
    std::thread::spawn(move || {
        let mut open: Vec<std::net::TcpStream> = Vec::new();
        while let Ok((mut io, _)) = listener.accept() {
            open.retain(is_open);
            open.push(io.try_clone().expect("a second handle"));
            max.fetch_max(open.len(), Ordering::SeqCst);
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut buffer = [0; 4096];
                while io.read(&mut buffer).is_ok_and(|read| read > 0) {
                    if io.write_all(OK.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let shared = shared(&[address], "connections_max = 3\nqueue_timeout = \"50s\"");
    let work = |shared: Arc<Shared>| {
        std::thread::spawn(move || {
            run(|| async move {
                let stage = worker(&shared);
                let done = Rc::default();
                for _ in 0..200 {
                    ask(&stage, &done, "x");
                }
                until(|| done.borrow().len() == 200).await;
                assert!(done.borrow().iter().all(|answer| answer == "x ok"));
            });
        })
    };
    let threads = [work(shared.clone()), work(shared.clone())];
    threads.into_iter().for_each(|thread| thread.join().expect("a worker"));
    assert!((1..=3).contains(&open_max.load(Ordering::SeqCst)), "{open_max:?}");
    assert_eq!((shared.report()[0].open, shared.report()[0].in_flight), (0, 0));
}

/// Whether the other side has not closed, asked without waiting.
fn is_open(io: &std::net::TcpStream) -> bool {
    const PEEK_AND_DO_NOT_WAIT: i32 = 0x02 | 0x40;
    let mut byte = [std::mem::MaybeUninit::uninit()];
    match socket2::SockRef::from(io).recv_with_flags(&mut byte, PEEK_AND_DO_NOT_WAIT) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn idle_connections_end_before_the_server_ends_them() {
    run(|| async {
        let held = Held::new().await;
        let settings = "keep_alive_timeout = \"80ms\"";
        let stage = stage(&addresses(std::slice::from_ref(&held.origin)), settings);
        let done = Rc::default();
        ask(&stage, &done, "a");
        held.until_waiting(1).await;
        held.answer();
        until(|| done.borrow().len() == 1).await;
        assert_eq!(held.open.get(), 1);
        until(|| held.open.get() == 0).await;
        assert_eq!(stage.shared.report()[0].open, 0);
    });
}

#[test]
fn a_server_that_keeps_connections_shortly_is_believed() {
    run(|| async {
        let answer =
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=9\r\nContent-Length: 2\r\n\r\nok";
        let origin = Origin::constant(answer).await;
        let stage = stage(&addresses(std::slice::from_ref(&origin)), "");
        for _ in 0..3 {
            assert_eq!(stage.get_text().await, "ok");
        }
        assert_eq!(origin.accepted.get(), 3);
    });
}

#[test]
fn a_server_that_closes_is_not_asked_on_that_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        run(|| async {
            let origin = Origin::constant(answer).await;
            let stage = stage(&addresses(std::slice::from_ref(&origin)), "");
            for number in 1..=3 {
                let answer = stage.post("order").await.expect("an answer");
                assert_eq!(text(answer.body).await, "ok");
                assert_eq!(origin.accepted.get(), number);
            }
            until(|| stage.shared.report()[0].open == 0).await;
        });
    }
}

#[test]
fn purchases_have_places_and_a_queue_over_all_workers() {
    run(|| async {
        let settings =
            "purchases_max = 2\npurchase_queue_max = 1\npurchase_queue_timeout = \"80ms\"";
        let shared = shared(&["127.0.0.1:1".to_owned()], settings);
        let (one, two) = (worker(&shared).group, worker(&shared).group);
        let first = one.purchase_place().await.expect("a place");
        assert!(one.has_purchase_room() && two.has_purchase_room());
        let _second = two.purchase_place().await.expect("a place");
        assert!(one.has_purchase_room(), "in the queue");
        let group = two.clone();
        let waits = spawn_local(async move { group.purchase_place().await });
        tokio::task::yield_now().await;
        assert!(!one.has_purchase_room() && !two.has_purchase_room());
        assert!(one.purchase_place().await.is_none(), "the queue is full");
        drop(first);
        let third = waits.await.expect("a task").expect("a place");
        // Who waits too long has no place either.
        assert!(one.purchase_place().await.is_none());
        drop(third);
        assert!(one.purchase_place().await.is_some());
    });
}

#[test]
fn nobody_waits_for_a_place_where_there_is_no_queue() {
    run(|| async {
        let settings = "purchases_max = 1\npurchase_queue_max = 0";
        let group = stage(&["127.0.0.1:1".to_owned()], settings).group;
        let _place = group.purchase_place().await.expect("a place");
        assert!(!group.has_purchase_room());
        let start = tokio::time::Instant::now();
        assert!(group.purchase_place().await.is_none());
        assert!(start.elapsed() < SHORT * 10);
    });
}
