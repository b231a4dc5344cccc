//! More than there is room for: descriptors, memory, processors. Who is there is served, who comes is
//! refused, the operator is answered, and the process lives.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::client::{Client, get, until};
use super::node::{Config, Node, Place, quick_shop, shop_with};
use super::origin::Origin;

/// A connection that was let in.
fn served(node: &Node) -> Client {
    let mut client = node.client();
    assert_eq!(client.ask(get("/health")).status, 200);
    client
}

#[test]
fn without_descriptors_it_refuses_and_recovers() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start_with_files(90);
    assert!(node.said("raise it"), "the caps promise more than there is");
    let mut first = served(&node);
    let mut crowd: Vec<Client> = (0..120).map(|_| node.client()).collect();
    until("it says so", || node.said("cannot accept connections"));
    assert_eq!(first.ask(get("/health")).status, 200, "who is there is served");
    assert_eq!(first.ask(get("/activity/8848")).status, 200, "and gets to the shop");
    let refused = crowd.iter_mut().filter_map(|client| {
        client.send(get("/health"));
        client.answer().is_none().then_some(())
    });
    assert!(refused.count() > 20);
    // The operator, whose interface needs descriptors too.
    node.place.good(&["sale", "resume", "drop"]);
    assert!(node.metric("penstock_closes_total{reason=\"descriptors\"}") >= 1.0);
    let told = node.events().iter().filter(|line| line.contains("cannot accept")).count();
    assert_eq!(told, 1, "not for each of them");
    drop(crowd);
    until("there is room again", || {
        let mut client = node.client();
        client.send(get("/health"));
        client.answer().is_some()
    });
}

#[test]
fn when_the_last_descriptor_is_gone_accepting_waits_and_goes_on() {
    // A shop that answers nobody: connections to it take the reserve.
    let origin = Origin::start(|_, conn| {
        let mut end = [0];
        let _ = conn.read(&mut end);
        false
    });
    let node = Place::new(origin.address, &Config::default()).start_with_files(90);
    let mut first = served(&node);
    let mut crowd: Vec<Client> = (0..60).map(|_| node.client()).collect();
    for client in &mut crowd {
        client.send(get("/cart"));
    }
    until("accept fails", || {
        crowd.push(node.client());
        node.said("trying again until it works")
    });
    let (before, began) = (busy_ms(&node), std::time::Instant::now());
    // What it spends in a second: on a busy machine it can only be less.
    until("a second is over", || began.elapsed().as_secs() >= 1);
    let spent = busy_ms(&node) - before;
    assert!(spent < 200, "it waits rather than spins: {spent} ms of a second");
    assert_eq!(first.ask(get("/health")).status, 200, "who is there is served");
    drop(crowd);
    until("there is room again", || {
        let mut client = node.client();
        client.send(get("/health"));
        client.answer().is_some()
    });
    assert!(node.metric("penstock_accept_errors_total") >= 1.0);
}

/// A control group that may use one processor's time; gone with the test.
struct OneProcessor(std::path::PathBuf);

impl OneProcessor {
    /// `None`: none can be made here.
    fn make() -> Option<OneProcessor> {
        let name = format!("penstock-test-{}", std::process::id());
        // Versions 1 and 2 of control groups.
        for (root, quota) in [("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")] {
            let group = std::path::Path::new("/sys/fs/cgroup").join(root).join(&name);
            if std::fs::create_dir(&group).is_ok() {
                let made = OneProcessor(group);
                if std::fs::write(made.0.join(quota), "100000").is_ok() {
                    return Some(made);
                }
            }
        }
        None
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn there_are_as_many_workers_as_the_quota_gives_time_for() {
    let Some(group) = OneProcessor::make() else {
        eprintln!("no control group can be made here: not tried");
        return;
    };
    let shop = quick_shop();
    let place = Place::new(shop.address(), &Config::default());
    let text = std::fs::read_to_string(place.config()).expect("the config");
    std::fs::write(place.config(), text.replace("workers = 2", "workers = 0")).expect("written");
    let mut command = std::process::Command::new("sh");
    let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$1\" run -c \"$2\"";
    command.args(["-c", script]).arg(&group.0).arg(env!("CARGO_BIN_EXE_penstock"));
    command.arg(place.config());
    let node = place.start_by(command, || {});
    let workers = node.thread_names().iter().filter(|name| name.starts_with("worker-")).count();
    assert_eq!(workers, 1);
}

/// What the node has used of the processors.
fn busy_ms(node: &Node) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).expect("a process");
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().expect("a number"))
        .collect();
    (fields[0] + fields[1]) * 10
}

/// What the node takes of memory that no file backs, in bytes.
pub fn resident(node: &Node) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", node.pid())).expect("a process");
    let mut pages =
        statm.split_ascii_whitespace().skip(1).map(|n| n.parse::<u64>().expect("pages"));
    let (resident, shared) = (pages.next().expect("resident"), pages.next().expect("shared"));
    (resident - shared) * 4096
}

const MIB: u64 = 1 << 20;

#[test]
fn the_cache_makes_way_before_memory_runs_out() {
    let shop = shop_with(|shop| shop.page_bytes = 400_000);
    // The cache alone may take more than twice what there is.
    let limit = 96 * MIB;
    let more =
        "[memory]\nlimit = \"96MiB\"\n[cache]\nsize = \"256MiB\"\ncompress_bytes_min = \"1GiB\"\n";
    let node =
        Place::new(shop.address(), &Config { more: more.to_owned(), ..Config::default() }).start();
    let mut idle = served(&node);
    let mut client = node.client();
    let mut most = 0;
    for n in 0..600 {
        client.send(get(&format!("/activity/a{n}")));
        let answer = client.answer().unwrap_or_else(|| {
            // Closed between two requests, as idle ones are.
            client = node.client();
            client.ask(get(&format!("/activity/a{n}")))
        });
        assert_eq!(answer.status, 200);
        if answer.closes() {
            client = node.client();
        }
        most = most.max(resident(&node));
    }
    assert!(most < limit, "{} MiB", most / MIB);
    assert!(node.metric("penstock_memory_cache_shrinks_total") >= 1.0);
    assert!(node.metric("penstock_cache_bytes_max") < 200e6);
    assert_eq!(node.metric("penstock_memory_guard_limit_bytes"), 96.0 * MIB as f64);
    assert!(idle.is_closed(), "who did nothing was shed");
    assert!(node.metric("penstock_closes_total{reason=\"overload\"}") >= 1.0);
    assert_eq!(node.client().ask(get("/activity/a599")).status, 200, "it lives");
    // The cache keeps to what there is room for, instead of growing into the limit again and again.
    let changes = node.events().iter().filter(|line| line.contains("memory is")).count();
    assert!((2..=8).contains(&changes), "{:?}", node.events());
    assert_eq!(node.metric("penstock_memory_level_changes_total"), changes as f64);
}

#[test]
fn heads_that_never_end_make_way_before_memory_runs_out() {
    let origin = Origin::mirror();
    let more = "[memory]\nlimit = \"64MiB\"\n[http]\nhead_timeout = \"1h\"\n\
        head_bytes_max = \"256KiB\"\nfield_bytes_max = \"200KiB\"\n[limits]\nconnects_per_address = \"off\"\n";
    let config = Config { more: more.to_owned(), ..Config::default() };
    let place = {
        let place = Place::new(origin.address, &config);
        // One table `[http]` for both.
        let text = std::fs::read_to_string(place.config()).unwrap();
        let text = text
            .replace("\n[http]\nworkers = 2\n", "\n")
            .replace("[http]\nhead", "[http]\nworkers = 2\nhead");
        std::fs::write(place.config(), text).unwrap();
        place
    };
    let node = place.start();
    let first = served(&node);
    // Heads that never end, 180 KiB each: more than there is room for.
    let begun = format!("GET / HTTP/1.1\r\nHost: shop.example\r\nX: {}", "x".repeat(180 << 10));
    let mut held: Vec<TcpStream> = Vec::new();
    let mut most = 0;
    let refuses = || node.said("refusing new connections");
    // Three times what there is room for, and no more: what the kernel keeps of them is taken in turn, long
    // after this on a busy machine.
    for _ in 0..1_000 {
        if refuses() {
            break;
        }
        let Ok(mut stream) = TcpStream::connect(node.address("http")) else { continue };
        if stream.write_all(begun.as_bytes()).is_ok() {
            held.push(stream);
        }
        most = most.max(resident(&node));
    }
    until("it refuses", || {
        most = most.max(resident(&node));
        refuses()
    });
    // Of a control group the guard would have this limit where memory.max is a ninth more.
    assert!(most < 64 * MIB / 9 * 10, "{} MiB", most / MIB);
    // Those that were begun are cut, although their own timeout is an hour.
    until("they are cut", || {
        let of = |reason| node.metric(&format!("penstock_closes_total{{reason=\"{reason}\"}}"));
        of("head_timeout") + of("overload") >= 100.0
    });
    // Those that the kernel keeps come in turn.
    drop((first, held));
    until("there is room again", || {
        let mut client = node.client();
        client.send(get("/health"));
        client.answer().is_some()
    });
    until("it says so", || node.said("memory is less short: calm"));
}

/// Asks for pages as fast as it can, over many connections, until told to stop.
fn crowd(
    to: SocketAddr,
    stop: &Arc<AtomicBool>,
    answers: &Arc<AtomicUsize>,
) -> std::thread::JoinHandle<()> {
    let (stop, answers) = (stop.clone(), answers.clone());
    std::thread::spawn(move || {
        let many = get("/activity/8848").repeat(64);
        while !stop.load(Ordering::Relaxed) {
            let mut clients: Vec<Client> = (0..16).map(|_| Client::tcp(to)).collect();
            for _ in 0..20 {
                for client in &mut clients {
                    client.send(&many);
                }
                for client in &mut clients {
                    for _ in 0..64 {
                        if client.answer().is_some() {
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    })
}

#[test]
fn a_saturated_edge_still_obeys() {
    let shop = quick_shop();
    let more = "[limits]\nconnections_max = 40\n".to_owned();
    let node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    let to = node.address("http");
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // More connections than the edge may have, each with more requests than it can answer.
    let crowds: Vec<_> = (0..3).map(|_| crowd(to, &stop, &answers)).collect();
    until("the edge is saturated", || answers.load(Ordering::Relaxed) > 2_000);
    assert!(node.thread_names().iter().any(|name| name == "admin"), "a worker of its own");
    for _ in 0..5 {
        node.place.good(&["sale", "resume", "drop"]);
        assert!(node.metric("penstock_connections_open") >= 1.0);
        assert_eq!(node.place.verb(&["ctl", "ready"]).status.code(), Some(0));
        node.place.good(&["sale", "pause", "drop"]);
        node.place.good(&["purge", "8848"]);
    }
    assert!(!crowds.iter().any(std::thread::JoinHandle::is_finished), "all the while");
    assert!(node.metric("penstock_closes_total{reason=\"refused\"}") >= 1.0);
    stop.store(true, Ordering::Relaxed);
    for crowd in crowds {
        crowd.join().unwrap();
    }
}

/// Control groups of version 2 as a container has them, where they can be shown to the node: files in
/// a directory that stands for them, in a mount namespace of its own.
#[test]
fn the_limit_of_the_control_group_counts() {
    let shop = quick_shop();
    let place = Place::new(shop.address(), &Config::default());
    let groups = place.path("groups");
    std::fs::create_dir(&groups).unwrap();
    let set = |name: &str, value: u64| {
        // Whole at once: the node looks at any time.
        let new = groups.join("new");
        std::fs::write(&new, format!("{value}\n")).unwrap();
        std::fs::rename(&new, groups.join(name)).unwrap();
    };
    set("memory.max", 1_000_000_000);
    set("memory.current", 100_000_000);
    let Some(node) = place.start_with_groups(&groups) else {
        eprintln!("no mount namespaces here: nothing to show");
        return;
    };
    let level = |expected: f64| {
        until("the level", || node.metric("penstock_memory_level") == expected);
    };
    // Nine tenths of memory.max are the limit.
    assert_eq!(node.metric("penstock_memory_guard_limit_bytes"), 9e8);
    level(0.0);
    let mut idle = served(&node);
    set("memory.current", 820_000_000);
    level(1.0);
    assert!(idle.is_closed(), "it is shed");
    let mut client = node.client();
    let answer = client.ask(get("/health"));
    assert_eq!((answer.status, answer.closes()), (200, true), "no connection is kept");
    set("memory.current", 860_000_000);
    level(2.0);
    until("the cache shrinks", || node.metric("penstock_cache_bytes_max") < 200e6);
    set("memory.current", 885_000_000);
    level(3.0);
    assert!(node.client().is_closed(), "nobody new");
    // A little less changes nothing: no flapping.
    set("memory.current", 870_000_000);
    set("memory.high", 885_000_000);
    until("the nearer limit", || node.metric("penstock_memory_guard_limit_bytes") == 885e6);
    assert_eq!(node.metric("penstock_memory_level"), 3.0);
    set("memory.current", 200_000_000);
    level(0.0);
    assert!(!served(&node).ask(get("/health")).closes());
    until("the cache grows again", || node.metric("penstock_cache_bytes_max") > 200e6);
    let told = |text: &str| node.events().iter().filter(|line| line.contains(text)).count();
    let lines = ["shedding idle", "shrinking the cache", "refusing new"].map(told);
    assert_eq!((lines, told("less short: calm")), ([1, 1, 1], 1), "{:?}", node.events());
    assert_eq!(node.metric("penstock_memory_level_changes_total"), 4.0);
}
