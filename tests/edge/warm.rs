//! Pages before the crowd: warmed and pinned, kept over a restart and an upgrade, explained.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::client::{get, until};
use super::node::{Config, Node, Place, sale};

/// A shop whose every page is made by a function of the head of its request: fields and body.
pub struct Origin {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    fails: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    pub fn open(page: impl Fn(&str) -> (String, String) + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let (heads, fails) = (Arc::default(), Arc::<AtomicBool>::default());
        let asked = Arc::<AtomicUsize>::default();
        let origin = Origin { address, heads, fails, asked };
        let page: Arc<Page> = Arc::new(page);
        let (heads, fails, asked) =
            (origin.heads.clone(), origin.fails.clone(), origin.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (page, heads) = (page.clone(), heads.clone());
                let (fails, asked) = (fails.clone(), asked.clone());
                std::thread::spawn(move || talk(stream, &*page, &heads, &fails, &asked));
            }
        });
        origin
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on every request is answered 500.
    fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }
}

type Page = dyn Fn(&str) -> (String, String) + Send + Sync;

fn talk(
    mut stream: TcpStream,
    page: &Page,
    heads: &Mutex<Vec<String>>,
    fails: &AtomicBool,
    asked: &AtomicUsize,
) {
    let mut buffer = Vec::new();
    let mut byte = [0; 4096];
    loop {
        while !buffer.windows(4).any(|w: &[u8]| w == b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(n) if n > 0 => buffer.extend_from_slice(&byte[..n]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&buffer).to_ascii_lowercase();
        buffer.clear();
        asked.fetch_add(1, Ordering::SeqCst);
        heads.lock().expect("heads").push(head.clone());
        let (status, (fields, body)) = match fails.load(Ordering::SeqCst) {
            true => (500, (String::new(), "no".to_owned())),
            false => (200, page(&head)),
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{fields}\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A page of a few hundred words of HTML that names its target.
fn html(head: &str) -> (String, String) {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let body = format!("<h1>spring drop {target}</h1>{}", "<p>all the same</p>".repeat(100));
    ("content-type: text/html\r\ncache-control: max-age=600\r\n".to_owned(), body)
}

fn config() -> Config {
    Config {
        activity: "cities = [\"sh\", \"bj\"]\n".to_owned(),
        sale: sale("2099-01-01T00:00:00Z", 5),
        ..Config::default()
    }
}

fn warm(node: &Node, more: &[&str]) -> (Option<i32>, serde_json::Value) {
    let args = [&["warm", "drop", "--json"], more].concat();
    let output = node.place.verb(&args);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[test]
fn a_sale_is_warm_before_anybody_asks() {
    let shop = Origin::open(html);
    let node = Place::new(shop.address, &config()).start();
    let said = node.place.good(&["warm", "drop", "--verify", "--marker", "spring drop"]);
    assert!(said.contains("3 pages in 12 encodings") && said.contains("3 pinned, 0 failed"));
    assert_eq!(said.lines().filter(|line| line.ends_with("pinned")).count(), 12, "{said}");
    assert_eq!(shop.asked(), 3);
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 3.0);
    assert!(node.metric("penstock_cache_pinned_bytes") > 3.0 * 1_900.0);
    shop.fail();
    for target in ["/activity/8848", "/activity/8848?city=sh", "/activity/8848?city=bj"] {
        let answer = node.client().ask(get(target));
        assert_eq!(answer.status, 200);
        assert!(answer.field("cache-status").is_some_and(|status| status.contains("hit")));
    }
    assert_eq!(shop.asked(), 3, "nobody asked the shop");
    // What is warm stays as it is while the shop fails, and the verb says so.
    let (code, told) = warm(&node, &["--city", "sh"]);
    assert_eq!((code, &told["sum"]["failed"]), (Some(5), &1.into()), "{told}");
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 3.0);
    assert_eq!(node.place.good(&["warm", "drop", "--unpin"]), "3 pages unpinned\n");
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 0.0);
    // The end of the sale ends its pins.
    shop.fails.store(false, Ordering::SeqCst);
    assert_eq!(warm(&node, &[]).0, Some(0));
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 3.0);
    node.place.good(&["sale", "end", "drop"]);
    until("nothing is pinned", || node.metric("penstock_cache_pinned_entries") == 0.0);
    assert_eq!(node.place.verb(&["warm", "drop"]).status.code(), Some(4));
}

#[test]
fn a_page_that_is_not_as_expected_is_not_pinned() {
    let shop = Origin::open(|head| {
        let (fields, body) = html(head);
        match head {
            _ if head.contains("city=sh") => (format!("{fields}set-cookie: a=b\r\n"), body),
            _ if head.contains("city=bj") => (fields.replace("max-age=600", "private"), body),
            _ => (fields, body),
        }
    });
    let node = Place::new(shop.address, &config()).start();
    let (code, told) = warm(&node, &["--verify"]);
    assert_eq!(code, Some(5));
    let problems: Vec<String> = told["pages"]
        .as_array()
        .expect("pages")
        .iter()
        .map(|page| page["problems"].to_string())
        .collect();
    // In the order of the cities: none, bj, sh.
    assert_eq!(problems[0], "[]");
    assert!(problems[1].contains("private"), "{}", problems[1]);
    assert!(problems[2].contains("a cookie"), "{}", problems[2]);
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 1.0);
    let (_, told) = warm(&node, &["--verify", "--marker", "winter", "--bytes-min", "9000"]);
    let first = told["pages"][0]["problems"].to_string();
    assert!(first.contains("winter") && first.contains("9000"), "{first}");
    assert_eq!(warm(&node, &["--city", "gz"]).0, Some(1));
}

/// Ends the node and starts another one in its place.
fn restart(mut node: Node) -> Node {
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.end(), Some(0));
    again(&mut node)
}

/// Another node in the place of one that has ended.
fn again(node: &mut Node) -> Node {
    let dir = std::mem::replace(&mut node.place.dir, tempfile::tempdir().expect("a directory"));
    Place { dir }.start()
}

fn is_hit(node: &Node, target: &str) -> bool {
    let answer = node.client().ask(get(target));
    answer.field("cache-status").is_some_and(|status| status.contains("hit"))
}

#[test]
fn a_restart_is_warm() {
    let shop = Origin::open(html);
    let node = Place::new(shop.address, &config()).start();
    assert_eq!(warm(&node, &["--verify"]).0, Some(0));
    let before = node.client().ask(get("/activity/8848?city=sh"));
    let node = restart(node);
    assert!(!node.place.path("state/cache.snapshot").exists(), "it is read once");
    shop.fail();
    let after = node.client().ask(get("/activity/8848?city=sh"));
    assert_eq!((after.status, &after.body), (200, &before.body));
    assert_eq!(after.field("etag"), before.field("etag"));
    assert!(is_hit(&node, "/activity/8848") && is_hit(&node, "/activity/8848?city=bj"));
    assert_eq!(shop.asked(), 3);
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 3.0);
    assert_eq!(node.metric("penstock_cache_snapshots_total{result=\"read\"}"), 1.0);
    // What was purged does not come back, nor does anything after a crash.
    node.place.good(&["purge", "8848", "--city", "sh"]);
    let mut node = restart(node);
    assert!(!is_hit(&node, "/activity/8848?city=sh") && is_hit(&node, "/activity/8848?city=bj"));
    node.signal(rustix::process::Signal::KILL);
    node.end();
    assert!(!is_hit(&again(&mut node), "/activity/8848?city=bj"));
}

#[test]
fn an_upgrade_is_warm_and_a_failed_one_leaves_nothing() {
    let shop = Origin::open(html);
    let mut node = Place::new(shop.address, &config()).start();
    assert_eq!(warm(&node, &[]).0, Some(0));
    let good = std::fs::read_to_string(node.place.config()).expect("the config");
    std::fs::write(node.place.config(), format!("{good}\nwhat = 1\n")).expect("written");
    node.signal(rustix::process::Signal::USR2);
    until("it says so", || node.said("this process goes on"));
    std::fs::write(node.place.config(), good).expect("written");
    assert!(!node.place.path("state/cache.snapshot").exists());
    node.place.good(&["purge", "8848", "--city", "bj"]);
    shop.fail();
    let told = node.place.good(&["upgrade", "--wait", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let heir = i32::try_from(told["pid"].as_i64().expect("a number")).expect("a number");
    assert_eq!(node.end(), Some(0));
    assert!(is_hit(&node, "/activity/8848?city=sh") && is_hit(&node, "/activity/8848"));
    assert!(!is_hit(&node, "/activity/8848?city=bj"), "it was purged");
    assert_eq!(node.metric("penstock_cache_pinned_entries"), 2.0);
    let heir = rustix::process::Pid::from_raw(heir).expect("a number");
    let _ = rustix::process::kill_process(heir, rustix::process::Signal::KILL);
}

#[test]
fn a_snapshot_that_cannot_be_used_is_refused_and_the_node_starts() {
    let shop = Origin::open(html);
    let old = "[cache]\nsnapshot_age_max = \"1s\"\n".to_owned();
    let mut node = Place::new(shop.address, &config()).start();
    assert_eq!(warm(&node, &[]).0, Some(0));
    node.signal(rustix::process::Signal::TERM);
    node.end();
    let path = node.place.path("state/cache.snapshot");
    let whole = std::fs::read(&path).expect("a snapshot");
    let torn = whole[..whole.len() - 1].to_vec();
    for (bytes, why) in [(torn, "torn"), (b"something else".to_vec(), "no snapshot")] {
        std::fs::write(&path, bytes).expect("written");
        let next = again(&mut node);
        assert!(next.said("cache.snapshot: not used") && next.said(why), "{:?}", next.events());
        assert!(!is_hit(&next, "/activity/8848"));
        node = next;
        node.signal(rustix::process::Signal::KILL);
        node.end();
    }
    std::fs::write(node.place.path("state/cache.snapshot"), &whole).expect("written");
    let text = std::fs::read_to_string(node.place.config()).expect("the config");
    std::fs::write(node.place.config(), format!("{text}\n{old}")).expect("written");
    let written = std::time::Instant::now();
    until("it is old", || written.elapsed().as_millis() > 1_100);
    let next = again(&mut node);
    assert!(next.said("snapshot_age_max"), "{:?}", next.events());
    assert!(!is_hit(&next, "/activity/8848"));
}

fn explain(node: &Node, url: &str, more: &[&str]) -> serde_json::Value {
    let args = [&["explain", url, "--json"], more].concat();
    serde_json::from_str(&node.place.good(&args)).expect("JSON")
}

#[test]
fn a_request_is_explained_without_being_made() {
    let shop = Origin::open(html);
    let cached = "hosts = [\"shop.example\"]\ncache = {}\n".to_owned();
    let node = Place::new(shop.address, &Config { site: cached, ..config() }).start();
    let page = "http://shop.example/activity/8848?utm=1&city=sh";
    let told = explain(&node, page, &[]);
    assert_eq!((&told["route"], &told["cache"]["stored"]), (&"page".into(), &().into()));
    assert_eq!(told["why"], "nothing is stored");
    assert_eq!(warm(&node, &[]).0, Some(0));
    let told = explain(&node, page, &["-H", "Accept-Encoding: gzip"]);
    assert_eq!((&told["activity"], &told["city"]), (&"8848".into(), &"sh".into()));
    assert_eq!(told["sale"]["state"], "not_started");
    let cache = &told["cache"];
    assert_eq!((&cache["encoding"], &cache["why"]), (&"gzip".into(), &"it is fresh".into()));
    assert_eq!(cache["stored"]["pinned_for"], "shop/drop");
    assert_eq!(
        (&cache["stored"]["status"], &cache["stored"]["what"]),
        (&200.into(), &"page".into())
    );
    let keys: Vec<&str> = cache["key"]
        .as_array()
        .expect("a key")
        .iter()
        .filter_map(|part| part["value"].as_str())
        .collect();
    assert_eq!(keys, ["shop", "shop.example", "/activity/8848", "8848", "sh"]);
    // An ordinary route, before and after somebody asks for it.
    let ordinary = "http://shop.example/assets/x?b=2";
    let told = explain(&node, ordinary, &[]);
    assert_eq!((&told["route"], &told["why"]), (&"proxy".into(), &"nothing is stored".into()));
    assert_eq!(node.client().ask(get("/assets/x?b=2")).status, 200);
    until("it is stored", || explain(&node, ordinary, &[])["why"] == "it is fresh");
    let told = explain(&node, ordinary, &["-H", "Cache-Control: no-cache"]);
    assert_eq!(told["why"], "the client demands that the shop is asked");
    for (url, more, route, action) in [
        ("http://shop.example/activity/8848/availability", &[][..], "availability", "not_started"),
        ("http://shop.example/activity/8848/orders", &["-X", "POST"], "purchase", "not_started"),
        ("http://shop.example/activity/1/availability", &[], "availability", "unknown_activity"),
        ("http://nowhere.example/", &[], "own", "unknown_host"),
        ("http://shop.example/_penstock/health", &[], "own", "itself"),
    ] {
        let told = explain(&node, url, more);
        assert_eq!(told["route"], route, "{told}");
        assert!(told["action"].as_str().expect("text").contains(action), "{told}");
    }
    assert_eq!(shop.asked(), 4, "three pages, and one that a client asked for");
    assert_eq!(shop.heads().iter().filter(|head| head.contains("/assets/x")).count(), 1);
    let said = node.place.good(&["explain", page]);
    assert!(said.contains("pinned for shop/drop") && said.contains("why           it is fresh"));
    assert_eq!(node.place.verb(&["explain", "nonsense"]).status.code(), Some(1));
}

#[test]
fn every_state_is_warm_before_it_comes() {
    let shop = Origin::open(|head| {
        let state = head.lines().find_map(|line| line.strip_prefix("penstock-state: "));
        let (fields, body) = html(head);
        (fields, format!("{}{body}", state.unwrap_or("none")))
    });
    let by_state = Place::new(shop.address, &config());
    let text = std::fs::read_to_string(by_state.config()).expect("the config");
    let (plain, table) = (
        "page = \"/activity/{activity}\"",
        "page = { path = \"/activity/{activity}\", by_state = true }",
    );
    std::fs::write(by_state.config(), text.replace(plain, table)).expect("written");
    let node = by_state.start();
    let (code, told) = warm(&node, &["--verify", "--city", "sh"]);
    assert_eq!((code, &told["sum"]["pinned"]), (Some(0), &4.into()), "{told}");
    shop.fail();
    let body = |node: &Node| node.client().ask(get("/activity/8848?city=sh")).body;
    assert!(body(&node).starts_with("not_started<h1>"));
    node.place.good(&["sale", "end", "drop"]);
    until("the page is another", || body(&node).starts_with("ended<h1>"));
    assert_eq!(shop.asked(), 4);
}
