//! Ending: nobody who asked goes without an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;

use super::client::{Client, get, purchase, until};
use super::node::{Config, Place, quick_shop, shop_with};

#[test]
fn a_drain_under_load_loses_no_answer() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &Config::default()).start();
    let address = node.address("http");
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = |n: usize| {
        let (stop, answers) = (stop.clone(), answers.clone());
        std::thread::spawn(move || {
            let mut client = Client::tcp(address);
            let mut lost = 0;
            while !stop.load(Ordering::Relaxed) {
                let path = if n.is_multiple_of(2) { "/activity/8848" } else { "/cart" };
                client.send(get(path));
                let Some(answer) = client.answer() else {
                    lost += 1;
                    break;
                };
                answers.fetch_add(1, Ordering::Relaxed);
                if answer.closes() {
                    // Said before it was done: not lost.
                    assert!(client.is_closed());
                    break;
                }
            }
            lost
        })
    };
    let clients: Vec<_> = (0..8).map(load).collect();
    until("the load runs", || answers.load(Ordering::Relaxed) > 200);
    node.signal(Signal::TERM);
    assert_eq!(node.end(), Some(0));
    stop.store(true, Ordering::Relaxed);
    let lost: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(lost, 0, "requests without an answer");
    assert!(node.said("drained"));
}

#[test]
fn a_purchase_under_way_is_awaited_even_if_its_client_left() {
    let shop = shop_with(|shop| shop.gap_ms = 1_500);
    let mut node = Place::new(shop.address(), &Config::default()).start();
    node.place.good(&["sale", "resume", "drop"]);
    let (mut stays, mut leaves) = (node.client(), node.client());
    stays.send(purchase("stays"));
    leaves.send(purchase("leaves"));
    until("both are with the shop", || shop.stats().in_flight == 2);
    drop(leaves);
    node.signal(Signal::TERM);
    let answer = stays.answer().expect("an answer");
    assert_eq!((answer.status, answer.closes()), (201, true));
    assert_eq!(node.end(), Some(0));
    // The next run finds nothing left open.
    let node = Place { dir: std::mem::replace(&mut node.place.dir, tempfile::tempdir().unwrap()) };
    let node = node.start();
    let sale = node.place.good(&["sale", "show", "drop", "--json"]);
    let sale: serde_json::Value = serde_json::from_str(&sale).unwrap();
    assert_eq!(
        (&sale["confirmed"], &sale["held"], &sale["limbo"]),
        (&2.into(), &0.into(), &0.into())
    );
}

#[test]
fn a_purchase_is_awaited_even_after_the_deadline() {
    let shop = shop_with(|shop| shop.gap_ms = 4_000);
    let more = "[drain]\ntimeout = \"100ms\"\n".to_owned();
    let mut node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    node.place.good(&["sale", "resume", "drop"]);
    let (mut buyer, mut slow) = (node.client(), node.client());
    // One that sends the rest of its head never, and is not waited for.
    slow.send("GET /cart HTTP/1.1\r\n");
    buyer.send(purchase("buyer"));
    until("it is with the shop", || shop.stats().in_flight == 1);
    node.signal(Signal::TERM);
    assert_eq!(buyer.answer().expect("an answer").status, 201);
    assert_eq!(node.end(), Some(0));
    assert!(node.said("drain.timeout is over"), "or it would prove nothing");
    let journal = std::fs::read_dir(node.place.path("state/journal")).expect("a journal");
    let lines: String = journal
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| std::fs::read_to_string(path).expect("lines"))
        .collect();
    assert!(lines.contains("confirmed"), "{lines}");
}

#[test]
fn health_is_red_before_listeners_close() {
    let shop = quick_shop();
    let more = "[drain]\nnotice = \"3s\"\n".to_owned();
    let mut node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    let mut client = node.client();
    assert_eq!(client.ask(get("/health")).status, 200);
    node.signal(Signal::TERM);
    until("health is red", || {
        // New connections are taken all the while.
        node.client().ask(get("/health")).status == 503
    });
    let ready = node.place.verb(&["ctl", "ready"]);
    assert_eq!(ready.status.code(), Some(1));
    assert!(String::from_utf8(ready.stdout).unwrap().contains("draining"));
    assert_eq!(client.ask(get("/activity/8848")).status, 200, "served all the while");
    assert_eq!(node.end(), Some(0));
}

#[test]
fn a_second_word_ends_at_once() {
    let shop = quick_shop();
    let more = "[drain]\nnotice = \"10m\"\n".to_owned();
    let mut node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    node.signal(Signal::TERM);
    until("it drains", || node.said("draining"));
    assert!(node.is_running());
    node.signal(Signal::INT);
    assert_eq!(node.end(), Some(0));
}

#[test]
fn other_signals_end_nothing() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &Config::default()).start();
    node.signal(Signal::USR1);
    assert_eq!(node.client().ask(get("/health")).status, 200);
    assert!(node.is_running());
}

#[test]
fn who_waits_in_the_queue_when_listeners_close_is_answered() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &Config::default()).start();
    let mut first = node.client();
    assert_eq!(first.ask(get("/activity/8848")).status, 200);
    // While it is stopped the kernel accepts for it; the word to end comes with them.
    node.signal(Signal::STOP);
    let mut waiting: Vec<Client> = (0..50).map(|_| node.client()).collect();
    for client in &mut waiting {
        client.send(get("/activity/8848"));
    }
    node.signal(Signal::TERM);
    node.signal(Signal::CONT);
    for client in &mut waiting {
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    assert_eq!(node.end(), Some(0));
}
