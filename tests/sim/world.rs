//! A fleet in virtual time: one loop takes the next event, until a run is over. The same seed gives the
//! same events.
//!
//! Real: every operation of the ledger ([`crate::store`] runs the core). Modelled: nodes
//! ([`crate::node`] follows the claims layer step by step: batches, journal, undoing, delivery, joining,
//! reports in parts), the network (each message takes its own time, may overtake others, get lost, or
//! come long after its sender gave up), the shop, which has no stock control, and shoppers, who try again
//! on any node whatever they were told. The claims layer itself runs on threads and real files, where a
//! seed would not mean the same twice; `src/claims/tests` has it behind a faulty store.

use std::collections::BTreeMap;

use penstock::clock::UnixMs;
use penstock::ledger::{Claimed, Control, Op, OpResult, Reply};
use penstock::outcome::Verdict;

use crate::bug::Bug;
use crate::node::{Admission, Node};
use crate::oracle::Oracle;
use crate::plan::{Fault, faults};
use crate::rng::Rng;
use crate::sale::{T0, declare};
use crate::store::Store;

/// Nodes of the fleet.
pub const NODES: usize = 3;
const USERS: u64 = 36;
const STOCK: u64 = 8;
/// Units that the operator adds, where the plan says so.
pub const ADDED: u64 = 2;
/// Shoppers come until then, and the run is over then.
const LAST_SHOPPER: u64 = T0 + 30_000;
const END: u64 = T0 + 45_000;

/// What happens next.
#[derive(Clone, Debug)]
pub enum Event {
    Tick { node: usize, run: usize, count: u64 },
    Shopper { user: usize },
    AtStore { node: usize, run: usize, call: u64, op: Op },
    AtNode { node: usize, run: usize, call: u64, reply: Box<Reply> },
    TimedOut { node: usize, run: usize, call: u64 },
    Written { node: usize, run: usize, admissions: Vec<Admission> },
    AtShop { node: usize, run: usize, claim: usize },
    Decided { node: usize, run: usize, claim: usize, is_order: bool, is_heard: bool },
    FromShop { node: usize, run: usize, claim: usize, verdict: Verdict },
    NoAnswer { node: usize, run: usize, claim: usize },
    Fault(Fault),
}

/// Everything.
pub struct World {
    pub now: u64,
    pub bug: Bug,
    pub rng: Rng,
    pub store: Store,
    pub nodes: Vec<Node>,
    pub oracle: Oracle,
    queue: BTreeMap<(u64, u64), Event>,
    serial: u64,
    trace: Option<Vec<String>>,
}

/// What became of a run.
pub struct End {
    pub breach: Option<String>,
    pub trace: Vec<String>,
    pub events: u64,
    pub fences: u64,
}

/// One run; with a trace where somebody wants to read it.
pub fn run(seed: u64, bug: Bug, is_traced: bool) -> End {
    let mut world = World::new(seed, bug);
    world.trace = is_traced.then(Vec::new);
    let mut events = 0;
    while let Some(((at, _), event)) = world.queue.pop_first() {
        if at > END || world.oracle.breach.is_some() {
            break;
        }
        world.now = at;
        events += 1;
        if let Some(trace) = &mut world.trace {
            trace.push(format!("{at} {event:?}"));
        }
        world.happens(event);
    }
    if world.oracle.breach.is_none() {
        world.oracle.end(&world.store.ledger);
    }
    let breach = world.oracle.breach.take().map(|text| format!("{text} (at {})", world.now));
    let fences = world.store.ledger.state().map_or(0, |sale| sale.fences);
    End { breach, trace: world.trace.unwrap_or_default(), events, fences }
}

impl World {
    fn new(seed: u64, bug: Bug) -> World {
        let mut rng = Rng::new(seed);
        let plan = faults(&mut rng, seed % 4);
        let oracle = Oracle::new(STOCK as usize);
        let store = Store::new(STOCK, bug);
        let (queue, serial, trace) = Default::default();
        let nodes = (0..NODES).map(|_| Node::default()).collect();
        let now = T0 - 5_000;
        let mut world = World { now, bug, rng, store, nodes, oracle, queue, serial, trace };
        for node in 0..NODES {
            let wait = world.rng.range(0, 400);
            world.after(wait, Event::Tick { node, run: 0, count: 0 });
        }
        for user in 0..USERS as usize {
            // A third is there at T0, the others come later.
            let span = if user % 3 == 0 { 400 } else { 9_000 };
            let wait = 4_800 + world.rng.range(0, span);
            world.after(wait, Event::Shopper { user });
        }
        for (at, fault) in plan {
            world.after(at - now, Event::Fault(fault));
        }
        world
    }

    /// Something happens so much later.
    pub fn after(&mut self, wait_ms: u64, event: Event) {
        self.serial += 1;
        self.queue.insert((self.now + wait_ms, self.serial), event);
    }

    /// How long a message takes; `None`: for ever.
    pub fn delay(&mut self) -> Option<u64> {
        match self.rng.range(0, 1_000) {
            0..10 => None,
            10..40 => Some(self.rng.range(30, 2_500)),
            40..90 => Some(self.rng.range(5, 40)),
            _ => Some(self.rng.range(0, 4)),
        }
    }

    fn happens(&mut self, event: Event) {
        let is_of = |world: &World, node: usize, run: usize| {
            !world.nodes[node].is_down && world.nodes[node].run == run
        };
        match event {
            Event::Fault(fault) => self.befalls(fault),
            Event::Shopper { user } => self.shops(user),
            Event::AtStore { node, run, call, op } => self.at_store(node, run, call, &op),
            // The bytes are with the shop, whatever becomes of the node.
            Event::AtShop { node, run, claim } => self.at_shop(node, run, claim),
            Event::Decided { node, run, claim, is_order, is_heard } => {
                if is_order {
                    self.oracle.ordered(claim);
                }
                let verdict = if is_order { Verdict::Confirmed } else { Verdict::Failed };
                if is_heard {
                    let wait = self.rng.range(0, 5);
                    self.after(wait, Event::FromShop { node, run, claim, verdict });
                }
            }
            Event::Tick { node, run, count } if is_of(self, node, run) => {
                self.tick(node, count);
                self.after(100, Event::Tick { node, run, count: count + 1 });
            }
            Event::AtNode { node, run, call, reply } if is_of(self, node, run) => {
                self.hears(node, call, *reply);
            }
            Event::TimedOut { node, run, call } if is_of(self, node, run) => {
                self.timed_out(node, call);
            }
            Event::Written { node, run, admissions } if is_of(self, node, run) => {
                self.written(node, admissions);
            }
            Event::FromShop { node, run, claim, verdict } if is_of(self, node, run) => {
                let is_wrong = self.bug == Bug::AnyAnswerConfirms;
                self.ends(node, claim, if is_wrong { Verdict::Confirmed } else { verdict });
            }
            Event::NoAnswer { node, run, claim } if is_of(self, node, run) => {
                self.no_answer(node, claim);
            }
            // Of a process that is gone.
            _ => {}
        }
    }

    fn shops(&mut self, user: usize) {
        let node = self.rng.range(0, NODES as u64) as usize;
        if !self.nodes[node].is_down && !self.nodes[node].is_sold_out() {
            self.nodes[node].queue.push_back(user);
            self.claim(node);
        }
        let wait = self.rng.range(150, 2_500);
        if self.now + wait < LAST_SHOPPER {
            self.after(wait, Event::Shopper { user });
        }
    }

    fn at_store(&mut self, node: usize, run: usize, call: u64, op: &Op) {
        if !self.store.is_up || self.nodes[node].is_cut {
            return;
        }
        let reply = if self.bug == Bug::NodesClock {
            let now = UnixMs(self.now.saturating_add_signed(self.nodes[node].offset));
            self.store.ledger.apply(op, now)
        } else {
            self.store.apply(op, self.now)
        };
        if let OpResult::Claimed(claimed) = &reply.result
            && claimed.iter().any(|c| matches!(c, Claimed::Admitted { .. }))
            && self.store.time(self.now) < T0
        {
            self.oracle.breach("time: somebody was admitted before T0".to_owned());
        }
        self.oracle.look(&self.store.ledger, self.store.has_looked());
        if let Some(wait) = self.delay() {
            self.after(wait, Event::AtNode { node, run, call, reply: Box::new(reply) });
        }
    }

    /// The shop sells whatever it is asked for; it rejects some for reasons of its own.
    fn at_shop(&mut self, node: usize, run: usize, claim: usize) {
        let (is_order, is_heard) = match self.rng.range(0, 1_000) {
            0..700 => (true, true),
            700..900 => (false, true),
            900..950 => (true, false),
            _ => (false, false),
        };
        let is_slow = self.rng.permille(80);
        let wait = if is_slow { self.rng.range(900, 3_000) } else { self.rng.range(3, 80) };
        self.after(wait, Event::Decided { node, run, claim, is_order, is_heard });
    }

    fn befalls(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(node) => {
                self.nodes[node].crash();
                let journal = &self.nodes[node].journal;
                let lost = self.oracle.claims.iter_mut().enumerate();
                lost.filter(|(n, c)| c.node == node && !journal.contains_key(n))
                    .for_each(|(_, c)| c.is_orphan = true);
            }
            Fault::Restart(node) => self.restarts(node),
            Fault::Cut(node) => self.nodes[node].is_cut = true,
            Fault::Heal(node) => self.nodes[node].is_cut = false,
            Fault::Step(node, by) => self.nodes[node].offset += by,
            Fault::StepStore(by) => self.store.offset += by,
            Fault::Down => self.store.is_up = false,
            Fault::Up => self.store.is_up = true,
            Fault::FailOver(lacks) => {
                self.store.fail_over(Some(lacks));
            }
            Fault::Lost => {
                self.store.fail_over(None);
                if self.bug == Bug::DeclareAnew {
                    self.store.apply(&declare(STOCK), self.now);
                    self.store.apply(&Op::Control(Control::Resume), self.now);
                    self.nodes.iter_mut().for_each(Node::begin_anew);
                }
            }
            Fault::AddStock => {
                self.oracle.stock += ADDED as usize;
                self.nodes[0].is_adding = true;
            }
        }
    }
}
