//! The access log of a running node.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::client::{get, purchase, until};
use super::node::{Config, Place, quick_shop};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn every_kind_is_sampled_and_every_admission_has_its_line() {
    let shop = quick_shop();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.jsonl");
    let more = format!(
        "[log]\naccess = \"{}\"\nsample_pages = 2\nsample_availability = 0\nsample_refusals = 3\n",
        path.display()
    );
    let mut node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    node.place.good(&["sale", "resume", "drop"]);
    let mut client = node.client();
    for _ in 0..6 {
        client.ask(get("/activity/8848?city=sh"));
        client.ask(get("/activity/8848/availability"));
        client.ask(get("/activity/77/availability"));
        client.ask(get("/cart"));
    }
    for user in ["a", "b", "c", "d", "e"] {
        assert_eq!(client.ask(purchase(user)).status, 201);
    }
    client.ask("GET /x\"\u{1b}[31m HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let odd = "GET /odd HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: a\"\\\tb\u{202e}\r\n\r\n";
    node.client().ask(odd);
    node.signal(Signal::TERM);
    assert_eq!(node.end(), Some(0), "what is queued is written before the end");
    let lines = lines(&path);
    let of = |route: &str| lines.iter().filter(|line| line["route"] == route).collect::<Vec<_>>();
    let pages = of("page");
    assert_eq!(pages.len(), 3);
    assert_eq!(pages[2]["status"], 200);
    // Where the sale is heard of late, one of them is fetched again.
    assert!(pages[1..].iter().any(|page| page["cache"] == "hit"), "{pages:?}");
    assert_eq!(pages[0]["path"], "/activity/8848?city=sh");
    let refused = of("availability");
    assert_eq!(refused.len(), 2, "only refusals are sampled here");
    assert_eq!(refused[0]["reason"], "unknown_activity");
    let admitted = of("purchase");
    assert_eq!(admitted.len(), 5);
    for line in admitted {
        let told = (&line["reason"], &line["outcome"], &line["sale"], &line["client"]);
        assert_eq!(
            told,
            (&"admitted".into(), &"confirmed".into(), &"shop/drop".into(), &"127.0.0.1".into())
        );
        assert_eq!(line["claim"].as_str().unwrap().len(), 24);
    }
    assert_eq!(of("proxy").len(), 7);
    let agent = of("proxy").last().unwrap()["user_agent"].as_str().unwrap().to_owned();
    assert!(agent.starts_with("a\"\\\tb") && !agent.contains('\u{202e}'), "{agent:?}");
}

#[test]
fn usr1_opens_the_log_again() {
    let shop = quick_shop();
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.jsonl"), dir.path().join("access.1"));
    let more = format!("[log]\naccess = \"{}\"\n", path.display());
    let node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    node.client().ask(get("/before"));
    until("the first line", || lines(&path).len() == 1);
    std::fs::rename(&path, &moved).unwrap();
    node.signal(Signal::USR1);
    until("the new file", || path.exists());
    node.client().ask(get("/after"));
    until("the line in the new file", || lines(&path).len() == 1);
    assert_eq!(lines(&path)[0]["path"], "/after");
    assert_eq!(lines(&moved)[0]["path"], "/before");
}

#[test]
fn a_full_disk_under_the_log_costs_lines_and_no_request() {
    let shop = quick_shop();
    let more = "[log]\naccess = \"/dev/full\"\nsample_pages = 1\nsample_refusals = 1\n".to_owned();
    let node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
    node.place.good(&["sale", "resume", "drop"]);
    let mut client = node.client();
    for _ in 0..50 {
        assert_eq!(client.ask(get("/activity/8848")).status, 200);
    }
    assert_eq!(client.ask(purchase("one")).status, 201, "the journal is another file");
    until("lines are dropped and counted", || node.metric("penstock_log_dropped_total") >= 50.0);
    assert!(node.said("the access log cannot be written"));
}

#[test]
fn a_reload_moves_the_log_to_another_file() {
    let shop = quick_shop();
    let place = Place::new(shop.address(), &Config::default());
    let node = place.start();
    let (path, file) = (node.place.config(), node.place.path("access.log"));
    let text = std::fs::read_to_string(&path).expect("the config");
    let log = format!("{text}\n[log]\naccess = \"{}\"\nsample_pages = 1\n", file.display());
    std::fs::write(&path, log).expect("written");
    node.place.good(&["reload", "--wait"]);
    assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    until("it is written", || std::fs::read_to_string(&file).is_ok_and(|log| log.contains("8848")));
}
