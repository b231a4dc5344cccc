//! Over sockets at both ends: framing, slow clients, clients that leave.

use std::cell::RefCell;
use std::rc::Rc;

use penstock::clock::Clock;
use penstock::http::{Door, Drainer, Limits, Peer, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::spawn_local;

use crate::rig::{self, Worker, run, settings, until};
use crate::shop::{Act, Shop, gate, gated, page};

/// Opens a door to `worker` and says where.
async fn open(worker: &Rc<Worker>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let worker = worker.clone();
    let door = Rc::new(rig::Door { worker: worker.clone(), done: RefCell::default() });
    spawn_local(async move {
        let drainer = Drainer::new();
        spawn_local(drainer.keep_time());
        let door = Door::new(
            door.clone(),
            Rc::new(Limits::default()),
            Clock::system(),
            worker.sink.clone(),
            drainer.signal(),
        );
        while let Ok((stream, from)) = listener.accept().await {
            spawn_local(serve(stream, Peer::Tcp(from), door.clone(), ()));
        }
    });
    address
}

async fn send(address: std::net::SocketAddr, method: &str, fields: &str) -> TcpStream {
    // A small window: what a slow client does not read stays with the edge.
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(4096).expect("buffer");
    let mut stream = socket.connect(address).await.expect("connect");
    let text = format!("{method} /activity/8848 HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n");
    stream.write_all(text.as_bytes()).await.expect("write");
    stream
}

async fn exchange(address: std::net::SocketAddr, method: &str, fields: &str) -> String {
    let mut stream = send(address, method, &format!("Connection: close\r\n{fields}")).await;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("read");
    String::from_utf8(all).expect("text")
}

#[test]
fn head_and_get_agree_from_fill_and_from_cache() {
    run(async {
        let fields = "content-type: text/plain\r\n";
        let shop = Shop::open(move |_, _| page(200, fields, "the page")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        let address = open(&worker).await;
        for status in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl="] {
            let head = exchange(address, "HEAD", "").await;
            assert!(
                head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
                "{head}"
            );
            assert!(head.contains("content-length: 8\r\n"), "{head}");
            assert!(head.contains(&format!("cache-status: penstock; {status}")), "{head}");
            worker.quiet().await;
        }
        let get = exchange(address, "GET", "").await;
        assert!(get.ends_with("\r\n\r\nthe page") && get.contains("content-length: 8\r\n"));
        assert!(get.contains("age: 0"));
        assert_eq!(get.matches("\r\ndate: ").count(), 1);
        let known = exchange(address, "GET", "If-None-Match: *\r\n").await;
        assert!(known.starts_with("HTTP/1.1 304 Not Modified\r\n") && known.ends_with("\r\n\r\n"));
        assert_eq!(shop.asked(), 1);
    });
}

#[test]
fn a_slow_first_client_delays_nobody() {
    run(async {
        let big = "x".repeat(4 << 20);
        let body = big.clone();
        let shop = Shop::open(move |_, _| page(200, "", &body)).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        let address = open(&worker).await;
        let slow = send(address, "GET", "").await;
        until(|| shop.asked() == 1).await;
        for _ in 0..3 {
            let got = exchange(address, "GET", "").await;
            assert!(got.ends_with(&big[..1000]) && got.len() > big.len());
        }
        drop(slow);
        worker.quiet().await;
        assert_eq!(shop.asked(), 1);
    });
}

/// The page may not be stored, and two clients read it at different speeds.
#[test]
fn a_slow_client_of_an_uncacheable_page_delays_nobody() {
    run(async {
        let big = "x".repeat(4 << 20);
        let body = big.clone();
        let gate = gate();
        let held = gate.clone();
        let private = "cache-control: private\r\n";
        let shop = Shop::open(move |_, _| gated(&held, 200, private, &body)).await;
        let worker = Worker::new(&settings(
            shop.address,
            "ttl = \"1h\"",
            "[cache]\nentry_bytes_max = \"64KiB\"",
        ));
        let address = open(&worker).await;
        let slow = send(address, "GET", "").await;
        until(|| shop.asked() == 1).await;
        let quick = spawn_local(async move { exchange(address, "GET", "").await });
        let waited = penstock::metrics::Counter::CacheWaited;
        until(|| worker.counted(waited) == 1).await;
        gate.add_permits(1);
        let got = quick.await.expect("no panic");
        assert!(got.ends_with(&big[..1000]) && got.len() > big.len());
        drop(slow);
        worker.quiet().await;
    });
}

#[test]
fn a_client_that_leaves_in_mid_body_cancels_nothing() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nthe ";
            vec![Act::Write(head.into()), Act::Wait(held.clone()), Act::Write(b"page".into())]
        })
        .await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        let address = open(&worker).await;
        let mut leaver = send(address, "GET", "").await;
        let mut first = [0; 1];
        leaver.read_exact(&mut first).await.expect("head");
        drop(leaver);
        gate.add_permits(1);
        worker.quiet().await;
        assert!(exchange(address, "GET", "").await.ends_with("\r\n\r\nthe page"));
        assert_eq!(shop.asked(), 1);
    });
}

/// RFC 9110 15.2, RFC 8297: interim answers come before the answer, to those who wait for it, and are
/// never stored.
#[test]
fn early_hints_are_relayed_and_not_stored() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| {
            let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
            let mut acts = vec![Act::Write(hints.into()), Act::Wait(held.clone())];
            acts.extend(page(200, "cache-control: max-age=60\r\n", "list"));
            acts
        })
        .await;
        for more in ["", "[site.shop.cache]"] {
            let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", more));
            let address = open(&worker).await;
            let mut stream = TcpStream::connect(address).await.expect("connect");
            let text = "GET /list HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
            stream.write_all(text.as_bytes()).await.expect("write");
            let expected = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
            let mut hints = vec![0; expected.len()];
            stream.read_exact(&mut hints).await.expect("hints, before the answer");
            assert_eq!(String::from_utf8(hints).expect("text"), expected);
            gate.add_permits(1);
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.expect("answer");
            assert!(
                rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\nlist"),
                "{rest}"
            );
            assert!(!rest.contains("link:"));
            worker.quiet().await;
            if !more.is_empty() {
                let hit = worker.get("/list", 0).await;
                assert!(
                    hit.field("cache-status").contains("hit") && !hit.headers.contains_key("link")
                );
            }
        }
        // HTTP/1.0 knows none.
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        let mut stream = TcpStream::connect(open(&worker).await).await.expect("connect");
        gate.add_permits(1);
        stream.write_all(b"GET /list HTTP/1.0\r\nHost: shop.example\r\n\r\n").await.expect("write");
        let mut all = String::new();
        stream.read_to_string(&mut all).await.expect("answer");
        assert!(all.starts_with("HTTP/1.0 200") || all.starts_with("HTTP/1.1 200"), "{all}");
    });
}
