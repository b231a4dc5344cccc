//! A disk that is full: what is only nice to have is dropped, what must not be lost stops admissions, and
//! both go on when there is room.

use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::client::{get, purchase, until};
use super::node::{Config, Node, Place, quick_shop};

/// A path of the node's own disk as this process sees it.
fn inside(node: &Node, path: &Path) -> PathBuf {
    let root = format!("/proc/{}/root", node.pid());
    PathBuf::from(root).join(path.strip_prefix("/").expect("an absolute path"))
}

fn not_here() {
    eprintln!("no disk can be mounted here: not tried");
}

#[test]
fn a_full_disk_under_the_access_log_drops_lines_and_nothing_else() {
    let shop = quick_shop();
    let dir = tempfile::tempdir().expect("a directory");
    let (disk, log) = (dir.path().join("log"), dir.path().join("log/access.log"));
    let more = format!("[log]\naccess = \"{}\"\nsample_pages = 1\n", log.display());
    let place = Place::new(shop.address(), &Config { more, ..Config::default() });
    let Some(node) = place.start_on_disk(&disk, "64k") else { return not_here() };
    let mut client = node.client();
    until("lines are dropped", || {
        for _ in 0..50 {
            assert_eq!(client.ask(get("/activity/8848")).status, 200);
        }
        node.metric("penstock_log_dropped_total") > 0.0
    });
    assert!(node.said("the access log cannot be written"));
    let told = node.events().iter().filter(|line| line.contains("cannot be written")).count();
    assert!(told < 5, "not for each line");
    // It is moved away, as a rotation does, and there is room again.
    std::fs::remove_file(inside(&node, &log)).expect("removed");
    node.signal(Signal::USR1);
    until("lines are written again", || {
        assert_eq!(client.ask(get("/activity/8848")).status, 200);
        std::fs::read_to_string(inside(&node, &log)).is_ok_and(|lines| lines.contains("/activity"))
    });
}

#[test]
fn a_full_disk_under_the_state_admits_nobody_until_there_is_room() {
    let shop = quick_shop();
    let config = Config {
        sale: super::node::sale("2020-01-01T00:00:00Z", 1_000),
        more: "[limits]\nuser = \"off\"\naddress = \"off\"\n".to_owned(),
        ..Config::default()
    };
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("admin.sock");
    let admin = format!("socket = \"{}\"\n", socket.display());
    let place = Place::new(shop.address(), &Config { admin, ..config });
    let state = place.path("state");
    let Some(node) = place.start_on_disk(&state, "4m") else { return not_here() };
    node.place.good(&["sale", "resume", "drop"]);
    let (mut buyer, mut won) = (0, 0);
    let mut buy = || {
        buyer += 1;
        let status = node.client().ask(purchase(&format!("u{buyer}"))).status;
        won += usize::from(status == 201);
        status
    };
    assert_eq!(buy(), 201);
    let filler = inside(&node, &state.join("filler"));
    let mut file = std::fs::File::create(&filler).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
    // What fits into the last block may still be written. Journal or ledger, one of them is the first.
    until("nobody is admitted, and the operator hears why", || {
        let status = buy();
        assert!([201, 503].contains(&status), "{status}");
        status == 503 && node.said("nobody is admitted")
    });
    let mut client = node.client();
    assert_eq!(client.ask(get("/activity/8848")).status, 200, "pages are served");
    assert_eq!(client.ask(get("/activity/8848/availability")).status, 200);
    drop(file);
    std::fs::remove_file(filler).expect("removed");
    until("there is room, and purchases are admitted", || buy() == 201);
    until("every admission is accounted for", || {
        let sale = node.place.good(&["sale", "show", "drop", "--json"]);
        let sale: serde_json::Value = serde_json::from_str(&sale).expect("JSON");
        let counted = ["confirmed", "held", "limbo"].map(|name| sale[name].as_u64());
        counted == [won, 0, 0].map(|n| Some(n as u64))
    });
}
