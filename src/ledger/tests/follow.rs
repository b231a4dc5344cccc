//! The shop's own number: cases by name, and a shop that sells through another door too.

use proptest::prelude::*;

use super::*;
use crate::sale::follow::{APART_MS, READ_MAX_MS};

fn source() -> Stock {
    Stock::Shop(Source { redis: Some("stock:{pool}".into()), ..Source::default() })
}

fn followed() -> Case {
    Case::open(1, |d| drop(d.pools.insert(name("a"), Pool { stock: source() })))
}

impl Case {
    /// Reads `left` from the shop: the ledger first, as it was `ago` milliseconds before.
    fn read(&mut self, ago: u64, left: Option<u64>) -> Observed {
        let state = self.state().clone();
        let confirmed_before = state.pools[0].confirmed;
        self.told(state.mark(), self.now - ago, left, confirmed_before)
    }

    fn told(&mut self, mark: Mark, at: u64, left: Option<u64>, confirmed_before: u64) -> Observed {
        let readings = vec![Reading { pool: name("a"), left, confirmed_before }];
        match self.run(Op::Observe(Observe { mark, read_at: UnixMs(at), readings })) {
            OpResult::Observed(mut all) => all.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nobody_is_admitted_on_a_number_that_is_unknown_or_old() {
    let mut case = followed();
    assert_eq!(case.claim(1, 1, 1), Claimed::Unread, "nobody has read it");
    assert_eq!(case.read(0, Some(2)), Observed::Applied);
    case.now += READ_MAX_MS;
    assert!(matches!(case.claim(1, 1, 1), Claimed::Admitted { .. }));
    case.now += 1;
    assert_eq!(case.claim(2, 2, 1), Claimed::Unread, "too old");
    assert_eq!(case.read(0, Some(1)), Observed::Applied);
    assert_eq!(case.read(0, None), Observed::Applied);
    assert_eq!(case.claim(2, 2, 1), Claimed::Unread, "it says nothing now");
    assert!(!case.pool("a").3, "unknown is not sold out");
}

#[test]
fn an_order_that_is_in_both_numbers_holds_a_unit_back_until_the_next_reading() {
    let mut case = followed();
    case.read(0, Some(2));
    case.claim(1, 1, 1);
    // The shop has counted the order, and not answered yet.
    case.now += 1;
    case.read(0, Some(1));
    assert_eq!(case.claim(2, 2, 1), Claimed::Busy);
    case.resolve(1, 1, Verdict::Confirmed);
    assert_eq!(case.claim(2, 2, 1), Claimed::Busy);
    assert!(!case.pool("a").3, "counted twice is not sold");
    case.now += 1;
    case.read(0, Some(1));
    assert!(matches!(case.claim(2, 2, 1), Claimed::Admitted { .. }));
}

#[test]
fn a_reading_of_nothing_closes_only_with_another() {
    let mut case = followed();
    case.read(0, Some(0));
    assert_eq!(case.claim(1, 1, 1), Claimed::Busy);
    case.now += APART_MS - 1;
    case.read(0, Some(0));
    assert!(!case.pool("a").3);
    case.now += 1;
    case.read(0, Some(1));
    case.now += APART_MS;
    case.read(0, Some(0));
    assert!(!case.pool("a").3, "there was something between them");
    case.now += APART_MS;
    case.read(0, Some(0));
    assert!(case.pool("a").3 && case.state().sold_out);
    // A unit that comes back is a restock, as always.
    case.now += 1;
    case.read(0, Some(1));
    assert_eq!(case.claim(1, 1, 1), Claimed::SoldOut);
    assert!(refused_word(case.restock("a", 1)).contains("shop"));
    assert!(refused_word(case.add_stock("a", 1)).contains("shop"));
    assert_eq!(case.restock("a", 0), Controlled::Applied);
    assert!(matches!(case.claim(1, 1, 1), Claimed::Admitted { .. }));
}

#[test]
fn what_closes_a_pool_must_be_young_too() {
    let mut case = followed();
    case.read(0, Some(1));
    case.claim(1, 1, 1);
    for _ in 0..2 {
        case.now += APART_MS;
        case.read(0, Some(0));
    }
    assert!(!case.pool("a").3, "the order may fail yet");
    case.now += READ_MAX_MS + 1;
    case.resolve(1, 1, Verdict::Failed);
    assert!(!case.pool("a").3, "the shop may have the unit back since");
}

#[test]
fn a_cancelled_order_is_back_when_the_shop_says_so() {
    let mut case = followed();
    case.read(0, Some(1));
    case.buy(1, 1, Verdict::Confirmed);
    case.now += 1;
    let (mark, began) = (case.state().mark(), case.now);
    // The shop has taken it back before it was read, and says V afterwards.
    case.now += 1;
    case.resolve(1, 1, Verdict::Void);
    assert_eq!(case.told(mark, began, Some(1), 1), Observed::Late);
    assert_eq!(case.claim(2, 2, 1), Claimed::Busy);
    case.now += 1;
    assert_eq!(case.read(0, Some(1)), Observed::Applied);
    assert!(matches!(case.claim(2, 2, 1), Claimed::Admitted { .. }));
    assert_eq!(case.claim(3, 3, 1), Claimed::Busy);
}

#[test]
fn a_reading_counts_in_its_order_and_its_generation_and_only_where_the_shop_leads() {
    let mut case = followed();
    case.now += 10;
    assert_eq!(case.read(0, Some(5)), Observed::Applied);
    assert_eq!(case.read(1, Some(7)), Observed::Late);
    let other = Mark { fences: 9, ..case.state().mark() };
    assert_eq!(case.told(other, case.now, Some(7), 0), Observed::Late);
    // A time that is yet to come is now.
    let mark = case.state().mark();
    assert_eq!(case.told(mark, case.now + 99, Some(7), 0), Observed::Applied);
    assert_eq!(case.state().pools[0].follow.as_ref().map(|f| f.read_at.0), Some(case.now));
    let version = case.state().version;
    case.read(0, Some(3));
    assert_eq!(case.state().version, version, "the shop's number is no news");
    let mut own = Case::open(1, |_| {});
    assert_eq!(own.read(0, Some(7)), Observed::NotFollowed);
    assert_eq!(own.state().pools[0].stock, 1);
}

#[test]
fn another_place_can_be_declared_until_it_opens() {
    let mut case = followed();
    case.read(0, Some(5));
    let mut said = declaration(&[("a", 5)]);
    assert!(refused(case.declare(said.clone())).contains("redis stock:{pool}"));
    case.now = T0 - 1;
    assert_eq!(case.declare(said.clone()), Declared::Applied);
    assert_eq!(case.state().pools[0].follow, None);
    said.pools.insert(name("a"), Pool { stock: source() });
    said.per_user.units = 2;
    assert_eq!(case.declare(said), Declared::Applied);
    case.now = T0;
    assert_eq!(case.claim(1, 1, 1), Claimed::Unread);
}

/// What happens around a shop that sells through another door too.
#[derive(Clone, Debug)]
enum Event {
    /// A client comes to us.
    Claim,
    /// The shop takes the order of the n-th of ours that it has not looked at.
    Take(usize),
    /// The n-th answer of the shop comes to us.
    Answer(usize),
    /// The n-th order that we know of is cancelled: the shop has the unit back, and says so later.
    Cancel(usize),
    /// The n-th word about a cancelled order comes to us.
    Void(usize),
    /// The other door sells a unit, or takes one back.
    Other,
    Return,
    /// A reading begins, or its second half, or its end, where one is under way.
    Read,
    Time(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        6 => Just(Event::Claim),
        6 => (0..4usize).prop_map(Event::Take),
        6 => (0..4usize).prop_map(Event::Answer),
        1 => (0..4usize).prop_map(Event::Cancel),
        1 => (0..4usize).prop_map(Event::Void),
        2 => Just(Event::Other),
        1 => Just(Event::Return),
        9 => Just(Event::Read),
        2 => prop_oneof![Just(1u64), Just(APART_MS)].prop_map(Event::Time),
    ];
    proptest::collection::vec(one, 1..120)
}

/// The shop, which never sells more than it has, and what is on its way between it and us.
struct World {
    case: Case,
    left: u64,
    /// Sold through the other door since the last reading that counts saw the number, and since the
    /// one under way did.
    others: (u64, u64),
    sent: Vec<u8>,
    answers: Vec<(u8, bool)>,
    orders: Vec<u8>,
    cancelled: Vec<u8>,
    reading: Reader,
    next: u8,
}

enum Reader {
    Idle,
    Began(Mark, u64, u64),
    Read(Mark, u64, u64, u64),
}

impl World {
    fn new(left: u64) -> World {
        World {
            case: followed(),
            left,
            others: (0, 0),
            sent: Vec::new(),
            answers: Vec::new(),
            orders: Vec::new(),
            cancelled: Vec::new(),
            reading: Reader::Idle,
            next: 1,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Claim if self.next < 250 => {
                let n = self.next;
                self.next += 1;
                if let Claimed::Admitted { .. } = self.case.claim(n, n, 1) {
                    self.sent.push(n);
                }
            }
            Event::Take(n) if n < self.sent.len() => {
                let order = self.sent.remove(n);
                let is_taken = self.left > 0;
                self.left -= u64::from(is_taken);
                self.answers.push((order, is_taken));
            }
            Event::Answer(n) if n < self.answers.len() => {
                let (order, is_taken) = self.answers.remove(n);
                let verdict = if is_taken { Verdict::Confirmed } else { Verdict::Failed };
                assert_eq!(self.case.resolve(order, order, verdict), Resolved::Applied);
                self.orders.extend(is_taken.then_some(order));
            }
            Event::Cancel(n) if n < self.orders.len() => {
                self.cancelled.push(self.orders.remove(n));
                self.left += 1;
            }
            Event::Void(n) if n < self.cancelled.len() => {
                let order = self.cancelled.remove(n);
                self.case.resolve(order, order, Verdict::Void);
            }
            Event::Other if self.left > 0 => {
                self.left -= 1;
                self.others = (self.others.0 + 1, self.others.1 + 1);
            }
            Event::Return => self.left += 1,
            Event::Read => self.read(),
            Event::Time(ms) => self.case.now += ms,
            _ => {}
        }
    }

    fn read(&mut self) {
        self.reading = match self.reading {
            Reader::Idle => {
                let state = self.case.state();
                Reader::Began(state.mark(), self.case.now, state.pools[0].confirmed)
            }
            Reader::Began(mark, at, confirmed) => {
                self.others.1 = 0;
                Reader::Read(mark, at, confirmed, self.left)
            }
            Reader::Read(mark, at, confirmed, left) => {
                if self.case.told(mark, at, Some(left), confirmed) == Observed::Applied {
                    self.others.0 = self.others.1;
                }
                Reader::Idle
            }
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whoever is admitted finds a unit, but for what the other door sold since the number was read.
    /// Who is turned away makes room for the next until it is read again.
    #[test]
    fn the_other_door_is_the_only_reason_that_the_shop_turns_one_away(
        left in 0..6u64,
        events in events(),
    ) {
        let mut world = World::new(left);
        for event in &events {
            world.happen(event);
            let room = world.case.state().pools[0].room(1_000).max(0) as u64;
            let promised = world.sent.len() as u64 + room;
            prop_assert!(
                room == 0 || promised <= world.left + world.others.0,
                "{promised} promised, {} left, {} sold elsewhere", world.left, world.others.0
            );
        }
    }
}
