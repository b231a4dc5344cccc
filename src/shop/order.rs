//! The order backend: workers with a queue, a stock, an error model.
//!
//! ```text
//! arrive → queue (bounded) → worker → look at the stock → gap → take → order → answer
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::dice::Dice;
use super::log::{Event, Line, Log};
use super::stats::{Latency, Stats};
use super::stock::{Looked, Stock};
use super::{Settings, ShopError};
use crate::clock::Clock;

/// An order request, parsed.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who buys.
    pub user: String,
    /// Which pool; absent: the first.
    pub pool: Option<String>,
    /// How many.
    pub units: u64,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// The `Penstock-Admission`.
    pub admission: Option<String>,
    /// When it was read, in Unix milliseconds.
    pub received_ms: u64,
}

/// An order in the shop's books.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its number.
    pub id: String,
    /// What was asked for.
    pub ask: Ask,
    /// The pool it took from.
    pub pool: String,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// What became of an order request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// An order with this number, new or the first one of the same key.
    Made(String),
    /// Not enough is left.
    SoldOut,
    /// Refused for good by the error model.
    Declined,
    /// Answered 500, whether or not an order was made.
    Broken,
    /// Closed without an answer, whether or not an order was made.
    Dropped,
    /// Too many wait, or the books are full.
    Busy,
    /// There is no such pool.
    UnknownPool,
}

/// Where the error model strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Decline,
    ErrorBefore,
    ErrorAfter,
    DropBefore,
    DropAfter,
}

/// The backend: settings, books and workers.
#[derive(Debug)]
pub struct Backend {
    pub(super) settings: Settings,
    books: Mutex<Books>,
    workers: Semaphore,
    held: watch::Sender<bool>,
    clock: Clock,
}

#[derive(Debug)]
pub(super) struct Books {
    pub(super) stats: Stats,
    pub(super) orders: Vec<Order>,
    stock: Stock,
    by_key: HashMap<String, usize>,
    latency_us: Histogram<u64>,
    dice: Dice,
    log: Option<Log>,
    /// Raised by a reset: an order that began before it is not written after it.
    generation: u64,
}

impl Backend {
    /// A backend with full stock. Opens the order log.
    pub fn new(settings: Settings) -> Result<Backend, ShopError> {
        if settings.stock.is_empty() {
            return Err(ShopError::Setting("the shop needs at least one pool: --stock 100"));
        }
        if settings.workers == 0 || settings.orders_per_s == 0 || settings.connections_max == 0 {
            return Err(ShopError::Setting(
                "workers, orders per second and connections must be at least 1",
            ));
        }
        if settings.fail_permille + settings.error_permille + settings.drop_permille > 1_000 {
            return Err(ShopError::Setting("the fault shares add up to more than 1,000 permille"));
        }
        let log = match &settings.log {
            Some(path) => Some(
                Log::open(path).map_err(|cause| ShopError::Log { path: path.clone(), cause })?,
            ),
            None => None,
        };
        Ok(Backend {
            books: Mutex::new(Books::new(&settings, log, 0)),
            workers: Semaphore::new(settings.workers as usize),
            held: watch::Sender::new(false),
            clock: Clock::system(),
            settings,
        })
    }

    /// Takes an order request from its arrival to its answer.
    pub async fn place(&self, ask: Ask) -> Placed {
        let began = Instant::now();
        let Some(arrived) = self.arrive(&ask) else { return Placed::Busy };
        let placed = self.work(&ask, &arrived).await;
        let mut books = self.books();
        if books.generation == arrived.generation {
            books.stats.in_flight -= 1;
            let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            books.latency_us.saturating_record(us);
        }
        placed
    }

    /// Counts a request that never became an [`Ask`].
    pub fn count_invalid(&self) {
        let mut books = self.books();
        books.stats.posts += 1;
        books.stats.invalid += 1;
    }

    /// Stops orders between the check of the stock and their making, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Forgets every order and count; the stock is full again. Orders under way are given up.
    pub fn reset(&self) {
        let mut books = self.books();
        let log = books.log.take();
        *books = Books::new(&self.settings, log, books.generation + 1);
        let line = Line {
            t: self.clock.now().wall.0,
            event: Event::Reset,
            order: String::new(),
            user: String::new(),
            pool: String::new(),
            units: 0,
            key: None,
            admission: None,
        };
        books.append(&line);
    }

    /// Cancels the `count` newest orders that still stand; returns how many there were.
    pub fn cancel(&self, count: usize) -> Vec<Order> {
        let t = self.clock.now().wall.0;
        let mut books = self.books();
        let newest: Vec<usize> = (0..books.orders.len())
            .rev()
            .filter(|i| !books.orders[*i].cancelled)
            .take(count)
            .collect();
        newest.into_iter().map(|i| books.cancel(i, t)).collect()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let books = self.books();
        let mut stats = books.stats.clone();
        stats.stock = books.stock.pools().clone();
        stats.latency_ms = Latency::of_us(&books.latency_us);
        stats.users_twice = books.users_twice();
        stats
    }

    /// Every order, oldest first.
    pub fn orders(&self) -> Vec<Order> {
        self.books().orders.clone()
    }

    /// What the shop's clock shows, in Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now().wall.0
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the arrival and draws what will go wrong. None if too many wait already.
    fn arrive(&self, ask: &Ask) -> Option<Arrived> {
        let now_ms = self.clock.now().wall.0;
        let mut books = self.books();
        books.stats.posts += 1;
        books.stats.with_admission += u64::from(ask.admission.is_some());
        books.stats.last_post_ms = now_ms;
        if books.stats.first_post_ms == 0 {
            books.stats.first_post_ms = now_ms;
        }
        let room = u64::from(self.settings.workers) + u64::from(self.settings.queue_max);
        let full = books.orders.len() >= self.settings.orders_max;
        if books.stats.in_flight >= room || full {
            books.stats.busy += 1;
            return None;
        }
        books.stats.in_flight += 1;
        books.stats.in_flight_max = books.stats.in_flight_max.max(books.stats.in_flight);
        let service_us =
            u64::from(self.settings.workers) * 1_000_000 / u64::from(self.settings.orders_per_s);
        Some(Arrived {
            generation: books.generation,
            service: Duration::from_micros(books.dice.around(service_us, 300)),
            latency: millis(books.dice.around(u64::from(self.settings.latency_ms), 500)),
            gap: millis(books.dice.around(u64::from(self.settings.gap_ms), 300)),
            fault: books.draw_fault(&self.settings),
        })
    }

    async fn work(&self, ask: &Ask, arrived: &Arrived) -> Placed {
        tokio::time::sleep(arrived.latency).await;
        {
            // The semaphore is never closed; an order without a worker would still be answered.
            let _worker = self.workers.acquire().await;
            tokio::time::sleep(arrived.service).await;
        }
        let (pool, taken) = match self.look(ask, arrived) {
            Ok(looked) => looked,
            Err(placed) => return placed,
        };
        self.gap(arrived).await;
        self.write(ask, arrived, pool, taken)
    }

    /// The first look at the stock, and everything that ends an order before it is made.
    fn look(&self, ask: &Ask, arrived: &Arrived) -> Result<(String, bool), Placed> {
        let mut books = self.books();
        if books.generation != arrived.generation {
            return Err(Placed::Busy);
        }
        if self.settings.idempotent
            && let Some(first) = ask.key.as_ref().and_then(|key| books.by_key.get(key)).copied()
        {
            books.stats.repeated += 1;
            return Err(Placed::Made(books.orders[first].id.clone()));
        }
        match arrived.fault {
            Fault::Decline => {
                books.stats.declined += 1;
                return Err(Placed::Declined);
            }
            Fault::ErrorBefore => {
                books.stats.errors_before += 1;
                return Err(Placed::Broken);
            }
            Fault::DropBefore => {
                books.stats.dropped_before += 1;
                return Err(Placed::Dropped);
            }
            Fault::None | Fault::ErrorAfter | Fault::DropAfter => {}
        }
        let first = books.stock.pools().keys().next().cloned().unwrap_or_default();
        let pool = ask.pool.clone().unwrap_or(first);
        match books.stock.look(&pool, ask.units) {
            Looked::Unknown => {
                books.stats.invalid += 1;
                Err(Placed::UnknownPool)
            }
            Looked::SoldOut => {
                books.stats.sold_out += 1;
                Err(Placed::SoldOut)
            }
            looked => {
                books.stats.in_gap += 1;
                Ok((pool, looked == Looked::Taken))
            }
        }
    }

    async fn gap(&self, arrived: &Arrived) {
        tokio::time::sleep(arrived.gap).await;
        let mut held = self.held.subscribe();
        // It ends with an error only when the backend itself is gone.
        let _ = held.wait_for(|held| !*held).await;
    }

    fn write(&self, ask: &Ask, arrived: &Arrived, pool: String, taken: bool) -> Placed {
        let t = self.clock.now().wall.0;
        let mut books = self.books();
        if books.generation != arrived.generation {
            return Placed::Busy;
        }
        books.stats.in_gap -= 1;
        if !taken {
            books.stock.take(&pool, ask.units);
        }
        let id = books.make(ask, pool, t);
        match arrived.fault {
            Fault::ErrorAfter => {
                books.stats.errors_after += 1;
                Placed::Broken
            }
            Fault::DropAfter => {
                books.stats.dropped_after += 1;
                Placed::Dropped
            }
            _ => Placed::Made(id),
        }
    }
}

/// What was drawn for an order when it arrived.
#[derive(Debug)]
struct Arrived {
    generation: u64,
    service: Duration,
    latency: Duration,
    gap: Duration,
    fault: Fault,
}

impl Books {
    fn new(settings: &Settings, log: Option<Log>, generation: u64) -> Books {
        Books {
            stats: Stats::default(),
            orders: Vec::new(),
            stock: Stock::new(settings.stock_check, &settings.stock),
            by_key: HashMap::new(),
            latency_us: latencies(),
            dice: Dice::new(settings.seed, generation),
            log,
            generation,
        }
    }

    fn draw_fault(&mut self, settings: &Settings) -> Fault {
        let after = self.dice.permille(500);
        let drawn = self.dice.below(1_000);
        let declines = u64::from(settings.fail_permille);
        let errors = declines + u64::from(settings.error_permille);
        let drops = errors + u64::from(settings.drop_permille);
        match (drawn, after) {
            (n, _) if n < declines => Fault::Decline,
            (n, false) if n < errors => Fault::ErrorBefore,
            (n, true) if n < errors => Fault::ErrorAfter,
            (n, false) if n < drops => Fault::DropBefore,
            (n, true) if n < drops => Fault::DropAfter,
            _ => Fault::None,
        }
    }

    fn make(&mut self, ask: &Ask, pool: String, t: u64) -> String {
        let id = format!("S{:07}", self.orders.len() + 1);
        self.stats.orders += 1;
        self.stats.units += ask.units;
        let order = Order { id: id.clone(), ask: ask.clone(), pool, cancelled: false };
        self.append(&order.line(t, Event::Confirmed));
        if let Some(key) = &ask.key {
            self.by_key.entry(key.clone()).or_insert(self.orders.len());
        }
        self.orders.push(order);
        id
    }

    fn cancel(&mut self, index: usize, t: u64) -> Order {
        self.orders[index].cancelled = true;
        let order = self.orders[index].clone();
        self.stats.cancelled += 1;
        self.stats.units_cancelled += order.ask.units;
        self.stock.put_back(&order.pool, order.ask.units);
        self.append(&order.line(t, Event::Cancelled));
        order
    }

    fn append(&mut self, line: &Line) {
        if let Some(log) = &mut self.log
            && let Err(cause) = log.write(line)
        {
            // A mock that stops selling because its log is full would hide what is being tested.
            tracing::error!(%cause, "the shop's order log cannot be written; it is closed");
            self.log = None;
        }
    }

    fn users_twice(&self) -> u64 {
        let mut by_user: HashMap<&str, u64> = HashMap::new();
        for order in self.orders.iter().filter(|order| !order.cancelled) {
            *by_user.entry(&order.ask.user).or_default() += 1;
        }
        by_user.values().filter(|n| **n > 1).count() as u64
    }
}

impl Order {
    /// The order's line in the log, or in a listing.
    pub fn line(&self, t: u64, event: Event) -> Line {
        Line {
            t,
            event,
            order: self.id.clone(),
            user: self.ask.user.clone(),
            pool: self.pool.clone(),
            units: self.ask.units,
            key: self.ask.key.clone(),
            admission: self.ask.admission.clone(),
        }
    }
}

/// An empty histogram of microseconds, up to ten minutes, three digits exact.
pub fn latencies() -> Histogram<u64> {
    const US_MAX: u64 = 600_000_000;
    // The bounds are constants that the library accepts: low 1, high above 2 × low, 3 digits.
    Histogram::new_with_bounds(1, US_MAX, 3).expect("constant bounds are valid")
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
