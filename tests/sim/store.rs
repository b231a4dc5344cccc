//! The store: the real ledger on a server with a clock of its own, and a replica that lags behind.

use std::collections::VecDeque;

use penstock::clock::UnixMs;
use penstock::ident::ServerId;
use penstock::ledger::{Memory, Op, Reply};

use crate::bug::Bug;
use crate::sale::{ledger, sale_id};

/// The store.
pub struct Store {
    pub ledger: Memory,
    pub is_up: bool,
    /// What its wall clock is ahead of the true time.
    pub offset: i64,
    /// The ledger's time never goes back.
    now: u64,
    past: VecDeque<Memory>,
    servers: u8,
    /// The one that answers, as the ledger could see.
    server: ServerId,
    bug: Bug,
}

/// Most writes that a replica may lack.
const LAG_MAX: usize = 8;

impl Store {
    pub fn new(stock: u64, bug: Bug) -> Store {
        let (past, ledger, server) = (VecDeque::new(), ledger(stock), ServerId::default());
        Store { ledger, is_up: true, offset: 0, now: 0, past, servers: 0, server, bug }
    }

    /// The ledger's time at the true time `now`.
    pub fn time(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now.saturating_add_signed(self.offset));
        self.now
    }

    /// Applies one operation at the true time `now`.
    pub fn apply(&mut self, op: &Op, now: u64) -> Reply {
        let now = self.time(now);
        let before = self.ledger.clone();
        let reply = self.ledger.apply(op, UnixMs(now));
        if self.ledger != before {
            self.past.push_back(before);
            if self.past.len() > LAG_MAX {
                self.past.pop_front();
            }
        }
        reply
    }

    /// Another server takes over, which lacks the last writes; `None`: all.
    pub fn fail_over(&mut self, lacks: Option<usize>) {
        self.ledger = match lacks {
            None => Memory::new(sale_id()),
            Some(lacks) => match self.past.len().checked_sub(lacks) {
                Some(at) if at < self.past.len() => self.past[at].clone(),
                _ => self.ledger.clone(),
            },
        };
        self.past.clear();
        self.is_up = true;
        self.servers += 1;
        if self.bug != Bug::NoFence {
            self.server = ServerId([self.servers; 16]);
            self.ledger.moved_to(self.server);
        }
    }

    /// Whether the ledger has seen which server it runs on: outcomes do not look, and admit nobody.
    pub fn has_looked(&self) -> bool {
        self.ledger.state().is_none_or(|sale| sale.server == self.server)
    }
}
