//! Nobody waits for somebody else's pipeline, large page or slow line. What is judged is the order of
//! events and counts, never how long something took.

use std::future::Future;
use std::time::Duration;

use penstock::outcome::CloseReason;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::client::{Client, get};
use crate::rig::{Rig, run, run_paused, tcp_pair, until};

/// A connection whose first bytes have all arrived when the driver first looks.
async fn loaded(rig: &Rig, bytes: &str) -> Client {
    let (mut near, far) = tcp_pair().await;
    near.write_all(bytes.as_bytes()).await.expect("the kernel's buffers");
    Client::new(near, rig.serve(far))
}

/// A connection whose client has little room for what it does not read.
async fn narrow(rig: &Rig) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(4096).expect("buffer");
    let near = socket.connect(listener.local_addr().expect("address"));
    let (near, far): (_, std::io::Result<(TcpStream, _)>) = tokio::join!(near, listener.accept());
    Client::new(near.expect("connect"), rig.serve(far.expect("accept").0))
}

/// The longest run of decisions about one connection while the other had requests too. The query
/// says whose a request is.
fn longest_run(rig: &Rig) -> usize {
    let seen = rig.script.seen.borrow();
    let whose: Vec<bool> = seen.iter().map(|line| line.contains("?one")).collect();
    let both_until = [true, false].map(|one| whose.iter().rposition(|w| *w == one));
    let both_until = both_until.into_iter().flatten().min().expect("both were served");
    whose[..both_until].chunk_by(|a, b| a == b).map(<[bool]>::len).max().expect("decisions")
}

#[test]
fn two_pipelines_take_turns() {
    run(|rig| async move {
        let mut clients = [
            loaded(&rig, &get("/hot?one").repeat(400)).await,
            loaded(&rig, &get("/hot?two").repeat(400)).await,
        ];
        for client in &mut clients {
            for _ in 0..400 {
                assert_eq!(client.response().await.text(), "hot");
            }
            client.lives().await;
        }
        // 256 KiB at 8 KiB an answer, and as much again where a turn ended at the edge of a poll.
        let longest = longest_run(&rig);
        assert!(longest <= 64, "{longest} requests of one client in a row");
    });
}

#[test]
fn a_flood_and_large_pages_do_not_keep_a_polite_client_waiting() {
    run(|rig| async move {
        let large = loaded(&rig, &get("/hot-large?one").repeat(200)).await;
        let flood = loaded(&rig, &get("/hot?one").repeat(2000)).await;
        let mut polite = rig.tcp().await;
        assert_eq!(polite.get("/hot?two").await.text(), "hot");
        let before = rig.script.seen.borrow().iter().take_while(|l| !l.contains("?two")).count();
        assert!(before < 1000, "{before} requests of others came first");
        polite.lives().await;
        flood.leave().await;
        large.leave().await;
    });
}

#[test]
fn a_reader_that_stalls_is_cut_while_others_are_served() {
    run(|mut rig| async move {
        rig.limits.write_timeout = Duration::from_millis(100);
        for path in ["/hot-large", "/big", "/big-chunked"] {
            let stalled = narrow(&rig).await;
            let seen = rig.script.seen.borrow().len();
            stalled.send(get(path).repeat(8) + &get("/behind"));
            until(|| rig.script.seen.borrow().len() > seen).await;
            let mut polite = rig.tcp().await;
            polite.lives().await;
            assert_eq!(stalled.ended().await, CloseReason::WriteTimeout, "{path}");
            let cut = rig.script.done.borrow().iter().filter(|done| !done.complete).count();
            assert_eq!(cut, 1, "{path}: the answer that was cut is counted as cut");
            rig.script.done.borrow_mut().clear();
            polite.lives().await;
            assert!(!rig.script.saw("/behind"));
        }
    });
}

/// Lets a client take `bytes` every five seconds, and says when it was cut.
async fn drip(client: &mut Client, bytes: usize, begun: Instant) -> u64 {
    loop {
        sleep(Duration::from_secs(5)).await;
        let mut left = bytes;
        while left > 0 {
            if !client.read_more().await {
                return begun.elapsed().as_secs();
            }
            left = left.saturating_sub(client.discard());
        }
    }
}

fn paused(
    path: &'static str,
    bytes: usize,
) -> impl FnOnce(Rig) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    move |rig| {
        Box::pin(async move {
            let mut client = rig.pipe(1000);
            client.send(get(path));
            let cut = drip(&mut client, bytes, Instant::now()).await;
            assert!((10..=40).contains(&cut), "{path}: cut after {cut} s");
            assert_eq!(client.ended().await, CloseReason::WriteTimeout, "{path}");
            let done = rig.script.done.borrow().last().cloned().expect("finished");
            assert!(!done.complete);
        })
    }
}

#[test]
fn a_reader_that_drips_is_cut_although_it_takes_something() {
    for path in ["/hot-large", "/big", "/big-chunked"] {
        run_paused(paused(path, 100));
    }
}
