use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use super::ledger::Sale;
use super::*;
use crate::clock::{Clock, UnixMs};
use crate::config::schema::JournalSync;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, Salt, UserKey};
use crate::journal::{Event, Journal, Line};
use crate::ledger::{Record, RecordKind};
use crate::metrics::Sink;

const T0: u64 = 10_000;
const SALT: Salt = Salt([7; 16]);
const NODE: NodeId = NodeId([1; 8]);

fn line(n: u8, t: u64, event: Event) -> Line {
    let user = UserKey::of_identity(&SALT, format!("u{n}").as_bytes());
    Line {
        t,
        seq: 0,
        sale: "shop/drop".to_owned(),
        epoch: 1,
        pool: Name::new("default").unwrap(),
        user,
        attempt: AttemptId::of_key(&SALT, &user, format!("k{n}").as_bytes()),
        claim: ClaimId([n; 12]),
        node: NODE,
        units: 1,
        event,
        status: None,
        code: None,
        order: None,
        chain: String::new(),
    }
}

fn record(n: u8, kind: RecordKind) -> Record {
    let Line { user, attempt, claim, pool, units, node, .. } = line(n, 0, Event::Admitted);
    Record { kind, user, claim, attempt, pool, units, node, deadline: UnixMs(0) }
}

fn order(n: u8) -> OrderRow {
    OrderRow {
        order: format!("S{n}"),
        user: Some(format!("u{n}")),
        key: Some(format!("k{n}")),
        ..OrderRow::default()
    }
}

/// Writes a journal, and says where.
fn write(dir: &Path, lines: &[Line]) -> PathBuf {
    let (clock, sink) = (Clock::system(), Sink::detached());
    let (journal, _) = Journal::open(dir, JournalSync::Batch, clock, sink, drop).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(journal.keep(lines.to_vec())).unwrap();
    dir.join("journal")
}

/// A sale of 3: two sold, one in limbo that the shop has not, one failed.
struct World {
    lines: Vec<Line>,
    records: Vec<Record>,
    orders: Vec<OrderRow>,
    stock: u64,
    /// What the counters say besides the records.
    astray: u64,
    /// How many journals the lines stand in, one after the other.
    journals: usize,
    sold_out: bool,
    nodes: Nodes,
}

impl World {
    fn good() -> World {
        use Event::{Admitted, Confirmed, Failed, Unknown};
        let limbo = Line { status: Some(502), ..line(3, T0 + 9, Unknown) };
        World {
            lines: vec![
                line(1, T0, Admitted),
                line(2, T0 + 1, Admitted),
                line(4, T0 + 1, Admitted),
                line(1, T0 + 5, Confirmed),
                line(4, T0 + 6, Failed),
                line(3, T0 + 6, Admitted),
                line(2, T0 + 7, Confirmed),
                limbo,
            ],
            records: vec![
                record(1, RecordKind::Confirmed),
                record(2, RecordKind::Confirmed),
                record(3, RecordKind::Limbo),
            ],
            orders: vec![order(1), order(2)],
            stock: 3,
            astray: 0,
            journals: 1,
            sold_out: false,
            nodes: Nodes { count: 1, purchases: 9, claims: 5, batches: 4, ..Nodes::default() },
        }
    }

    fn sale(&self) -> Value {
        let units = |kind| self.records.iter().filter(|r| r.kind == kind).count() as u64;
        json!({
            "id": "shop/drop", "epoch": 1, "version": 4, "opens_at_ms": T0,
            "ends_at_ms": T0 + 1_000, "ledger_ms": T0 + 100, "fences": 1,
            "overshoot_permille": 1000, "per_user": {"orders": 1, "units": 1}, "salt": SALT,
            "pools": [{
                "name": "default", "stock": self.stock,
                "confirmed": units(RecordKind::Confirmed) + self.astray,
                "held": units(RecordKind::Admitted), "limbo": units(RecordKind::Limbo),
                "sold_out": self.sold_out,
            }],
        })
    }

    fn judge(&self) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let part = self.lines.len().div_ceil(self.journals);
        let journals: Vec<PathBuf> = self
            .lines
            .chunks(part)
            .enumerate()
            .map(|(i, lines)| write(&dir.path().join(i.to_string()), lines))
            .collect();
        let id = "shop/drop".parse().unwrap();
        let past = Past::read(&journals, &id).unwrap();
        let sale: Sale = serde_json::from_value(self.sale()).unwrap();
        let later = (sale.epoch, sale.version);
        let ledger = Ledger { sale, time: UnixMs(T0 + 100), records: self.records.clone(), later };
        judge(&id, &ledger, &past, &self.nodes, Some(&self.orders), false)
    }

    /// The invariants that are broken, by the first word of their names.
    fn broken(change: impl FnOnce(&mut World)) -> Vec<&'static str> {
        let mut world = World::good();
        change(&mut world);
        world.what_is_broken()
    }

    fn what_is_broken(&self) -> Vec<&'static str> {
        let report = self.judge();
        let broken = report.invariants.iter().filter(|check| !check.holds);
        broken.map(|check| check.name.split(' ').next().unwrap()).collect()
    }
}

#[test]
fn a_good_sale_holds_and_its_sums_add_up() {
    let report = World::good().judge();
    let text = report.to_string();
    assert!(report.holds, "{text}");
    assert!(text.contains("admitted 4 = sold 2 + failed 1 + unknown 1 + open 0"), "{text}");
    assert!(text.contains("holds  I1 budget: observed 3 of bound 3"), "{text}");
    assert!(text.contains(", status 502"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["holds"], true);
    assert_eq!(json["invariants"][0]["observed"], 3);
}

/// What is wrong, how it comes about, what breaks.
type Case = (&'static str, fn(&mut World), &'static [&'static str]);

#[test]
fn each_fault_breaks_its_own_invariant() {
    use Event::Failed;
    let cases: [Case; 25] = [
        ("one unit too many", |w| w.stock = 2, &["I1", "I4"]),
        ("too many at once, for a moment", |w| w.lines.swap(4, 5), &["I1"]),
        ("a counter astray", |w| w.astray = 1, &["I1", "I2"]),
        (
            "a user twice",
            |w| {
                w.stock = 4;
                let user = w.lines[0].user;
                w.lines[6].user = user;
                w.lines[1].user = user;
                w.records[1].user = user;
            },
            &["I3"],
        ),
        ("failed, then confirmed", |w| w.lines.insert(3, line(1, T0 + 2, Failed)), &["I5"]),
        ("a record lost", |w| drop(w.records.pop()), &["I6"]),
        (
            "an admission that nobody wrote",
            |w| w.lines.retain(|l| l.claim != ClaimId([2; 12])),
            &["I6"],
        ),
        ("before T0", |w| w.lines[0].t = T0 - 1, &["I10"]),
        ("after the end", |w| w.lines[0].t = T0 + 1_000, &["I8"]),
        ("a newer epoch before an older", |w| epochs(w, &[2, 1]), &["I7"]),
        ("an epoch that the ledger forgot", |w| epochs(w, &[1, 2]), &["I7"]),
        ("a unit held beyond its time", overdue, &["I6"]),
        ("lines of two purchases", |w| w.lines[6].units = 2, &["I5"]),
        ("more units in the ledger", |w| w.records[0].units = 2, &["I2", "I3", "I4", "I5"]),
        ("sold out before all is sold", |w| (w.stock, w.sold_out) = (5, true), &["I11"]),
        ("a store asked for nobody", |w| w.nodes.claims = 10, &["I12"]),
        ("a cache beyond its size", |w| w.nodes.cache_bytes = (2, 1), &["I13"]),
        ("a store asked too often", |w| w.nodes.calls_per_second = 20_004, &["I14"]),
        ("an order after its time", |w| w.orders[0].received_ms = Some(T0 + 300), &["I15"]),
        ("two answers", two_answers, &["E1"]),
        ("an answer to somebody else", |w| w.lines[3].order = Some("S2".to_owned()), &["E6"]),
        ("an order past the gate", |w| w.orders.push(order(9)), &["E5"]),
        ("a sale without its order", |w| drop(w.orders.pop()), &["E2"]),
        ("an order that is said to have failed", |w| w.orders.push(order(4)), &["E3"]),
        (
            "two orders of one claim",
            |w| w.orders.push(OrderRow { order: "S11".to_owned(), ..order(1) }),
            &["E4", "I3"],
        ),
    ];
    for (what, change, want) in cases {
        assert_eq!(World::broken(change), want, "{what}");
    }
}

/// The first admissions are of these epochs.
fn epochs(world: &mut World, epochs: &[u32]) {
    for (line, epoch) in world.lines.iter_mut().zip(epochs) {
        line.epoch = *epoch;
    }
    world.lines[1].t = T0 + 600;
}

fn overdue(world: &mut World) {
    world.lines.pop();
    world.records[2] = record(3, RecordKind::Admitted);
    world.records[2].deadline = UnixMs(T0 - 6_000);
}

fn two_answers(world: &mut World) {
    world.lines[3].order = Some("S1".to_owned());
    let again = Line { order: Some("S7".to_owned()), ..world.lines[3].clone() };
    world.lines.push(again);
}

#[test]
fn an_oversold_shop_breaks_all_that_count() {
    use Event::{Admitted, Confirmed};
    let oversold = World::broken(|w| {
        w.orders.extend((5..7).map(|n| OrderRow { order: format!("S{n}"), ..order(n) }));
        w.lines.push(line(5, T0 + 20, Admitted));
        w.lines.push(line(5, T0 + 21, Confirmed));
    });
    assert_eq!(oversold, ["I1", "I4", "I6", "E5", "I4"]);
}

#[test]
fn a_cancelled_order_was_an_order_and_its_unit_comes_back_by_a_restock() {
    let mut world = World::good();
    world.orders[0].status = Some("cancelled".to_owned());
    world.stock = 4;
    world.lines.push(line(5, T0 + 50, Event::Admitted));
    world.lines.push(line(5, T0 + 51, Event::Confirmed));
    world.records.push(record(5, RecordKind::Confirmed));
    world.orders.push(order(5));
    let report = world.judge();
    assert!(report.holds, "{report}");
}

#[test]
fn orders_are_tied_by_claim_id_pass_or_number_where_the_client_sent_no_key() {
    let mut world = World::good();
    world.orders[0].key = Some(ClaimId([1; 12]).to_string());
    world.lines[6].order = Some("S2".to_owned());
    world.orders[1] = OrderRow { order: "S2".to_owned(), ..OrderRow::default() };
    let report = world.judge();
    assert!(report.holds, "{report}");
}

#[test]
fn the_reapers_line_after_an_outcome_takes_nothing_back() {
    let mut world = World::good();
    world.lines.push(line(1, T0 + 20, Event::Unknown));
    world.lines.push(line(4, T0 + 20, Event::Unknown));
    let report = world.judge();
    assert!(report.holds, "{report}");
    assert_eq!((report.sum.sold, report.sum.failed, report.sum.unknown), (2, 1, 1));
}

#[test]
fn the_lines_of_two_journals_are_one_past() {
    let two = || World { journals: 2, ..World::good() };
    let report = two().judge();
    assert!(report.holds, "{report}");
    // The fourth unit is given back long after three others were taken: no order of lines explains it.
    let mut world = two();
    world.lines[4].t = T0 + 600;
    assert_eq!(world.what_is_broken(), ["I1"]);
    // One user has two at once, in two journals.
    let mut world = two();
    let (user, attempt) = (world.lines[5].user, world.lines[5].attempt);
    for line in world.lines.iter_mut().filter(|line| line.claim == ClaimId([4; 12])) {
        (line.user, line.attempt) = (user, attempt);
    }
    assert_eq!(world.what_is_broken(), Vec::<&str>::new());
    world.stock = 4;
    world.lines[4].t = T0 + 600;
    assert_eq!(world.what_is_broken(), ["I3"]);
    // What was resolved at one node is read before it was admitted at the other.
    let mut world = two();
    world.lines.rotate_left(4);
    assert!(world.judge().holds);
}

/// Answers like a node, for as many requests as come.
fn node(dir: &Path, sale: Value, records: Vec<Record>) -> PathBuf {
    let socket = dir.join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let body = match head.split(' ').nth(1) {
                Some("/v1/sales/shop/drop") => sale.to_string(),
                Some("/v1/sales/shop/drop/records?max=1000") => {
                    let next = records.last().map(|record| record.user);
                    json!({"records": records, "next": next}).to_string()
                }
                Some("/metrics") => "penstock_up_seconds 4\npenstock_cache_bytes 0\n".to_owned(),
                Some(path) if path.contains("after=") => {
                    json!({"records": [], "next": null}).to_string()
                }
                _ => continue,
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            // A client that only looked whether somebody is there has gone.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    socket
}

#[test]
fn a_forged_line_in_the_files_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::good();
    let journal = write(dir.path(), &world.lines);
    let mut records = world.records.clone();
    records.sort_by_key(|record| record.user);
    let socket = node(dir.path(), world.sale(), records);
    let orders = dir.path().join("orders.csv");
    std::fs::write(&orders, "order,user,key\nS1,u1,k1\nS2,u2,k2\n").unwrap();
    let inputs = Inputs {
        sale: "shop/drop".parse().unwrap(),
        sockets: vec![socket],
        journals: vec![journal],
        orders: Some(orders),
    };
    let report = audit(&inputs).unwrap();
    assert!(report.holds && !report.moving, "{report}");

    // Somebody turns the limbo claim into a sale, and makes the number of lines fit.
    let file = dir.path().join("journal/00000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"unknown\"", "\"confirmed\"")).unwrap();
    let report = audit(&inputs).unwrap();
    let chain = report.invariants.iter().find(|check| check.name == "journal chain").unwrap();
    assert!(!report.holds && !chain.holds);
    assert!(chain.details[0].contains("00000001.jsonl, line 8"), "{:?}", chain.details);

    std::fs::remove_file(dir.path().join("admin.sock")).unwrap();
    assert!(matches!(audit(&inputs), Err(AuditError::Unreachable(_))));
}
