//! What everyone in the crowd shares: the target, the clock, the connections and the tally.

use std::cell::{Ref, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use super::client::{NoAnswer, exchange};
use super::hear::{Heard, Meaning, hear};
use super::opening::Opening;
use super::plan::Plan;
use super::pool::Pool;
use super::progress::Progress;
use super::report::Report;
use super::tally::{Fate, Kind, Span, Tally};
use super::wire::{self, Reply};

/// What everyone shares. One thread, so that nothing here is locked.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    opening: Opening,
    pool: Pool,
    tally: RefCell<Tally>,
    host: String,
    people: usize,
    bots: usize,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Number in the plan.
    pub index: u32,
    /// Whether it is a bot.
    pub is_bot: bool,
}

impl World {
    /// A world before anyone came.
    pub fn new(settings: Settings, address: SocketAddr, opening: Opening, plan: &Plan) -> World {
        let (people, bots) = (plan.people.len(), plan.bots.len());
        World {
            pool: Pool::new(address, settings.connections_max, settings.own_addresses),
            tally: RefCell::new(Tally::new(people + bots)),
            host: settings.dress.host.clone().unwrap_or_else(|| settings.target.authority()),
            settings,
            opening,
            people,
            bots,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When the sale opens.
    pub fn t0(&self) -> Instant {
        self.opening.t0
    }

    /// The moment so many microseconds after the start.
    pub fn at_us(&self, us: u64) -> Instant {
        self.opening.start + Duration::from_micros(us)
    }

    /// Loads the page; `due` is when that was planned.
    pub async fn page(&self, who: Who, due: Instant) {
        let Some(path) = &self.settings.paths.page else { return };
        // Counted by status within; there is nothing in a page that people act on here.
        let _ = self.get(Kind::Page, Span::Page, who, path, due).await;
    }

    /// Asks for the availability flag.
    pub async fn poll(&self, who: Who, due: Instant) -> Option<Reply> {
        let path = self.settings.paths.availability.as_ref()?;
        self.get(Kind::Poll, Span::Poll, who, path, due).await
    }

    /// Tries to buy.
    pub async fn purchase(&self, who: Who, key: &str, due: Instant) -> Result<Heard, NoAnswer> {
        let path = self.settings.paths.purchase.as_deref().unwrap_or_default();
        let request = self.order(who, key, path);
        let outcome = self.exchange(Kind::Purchase, who, &request, due).await;
        let us = micros(due.elapsed());
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Ok(reply) => {
                let heard = hear(&reply);
                let since_t0 = Instant::now().checked_duration_since(self.opening.t0);
                tally.hear(who.index, who.is_bot, &heard, since_t0.map(micros));
                tally.took(span_of(&heard), us);
                Ok(heard)
            }
            Err(cause) => {
                if cause == NoAnswer::Timeout {
                    tally.took(Span::Other, us);
                }
                Err(cause)
            }
        }
    }

    /// Someone goes home.
    pub fn home(&self, who: Who, fate: Fate) {
        self.tally.borrow_mut().home(who.index, fate);
    }

    /// How it stands.
    pub fn progress(&self) -> Progress {
        Progress::new(self)
    }

    /// How it went.
    pub fn report(&self) -> Report {
        Report::new(self)
    }

    /// Everything counted so far.
    pub fn tally(&self) -> Ref<'_, Tally> {
        self.tally.borrow()
    }

    /// The connections.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The start and T0.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// How many people and bots there are.
    pub fn crowd(&self) -> (usize, usize) {
        (self.people, self.bots)
    }

    async fn get(
        &self,
        kind: Kind,
        span: Span,
        who: Who,
        path: &str,
        due: Instant,
    ) -> Option<Reply> {
        let request = wire::request("GET", path, &self.host, &self.fields(who), None);
        let outcome = self.exchange(kind, who, &request, due).await;
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Ok(reply) => {
                tally.took(span, micros(due.elapsed()));
                *tally.statuses.entry(reply.status).or_default() += 1;
                Some(reply)
            }
            Err(cause) => {
                // A wait without an end is a latency too; leaving it out would flatter the target.
                if cause == NoAnswer::Timeout {
                    tally.took(span, micros(due.elapsed()));
                }
                None
            }
        }
    }

    async fn exchange(
        &self,
        kind: Kind,
        who: Who,
        request: &[u8],
        due: Instant,
    ) -> Result<Reply, NoAnswer> {
        self.tally.borrow_mut().of(kind).sent += 1;
        let timeout = Duration::from_millis(self.settings.timeout_ms);
        let sending = |at: Instant| {
            let lag = at.saturating_duration_since(due);
            self.tally.borrow_mut().took(Span::Lag, micros(lag));
        };
        let outcome = exchange(&self.pool, who.index, request, timeout, sending).await;
        let mut tally = self.tally.borrow_mut();
        match &outcome {
            Ok(_) => tally.of(kind).answered += 1,
            Err(cause) => tally.unanswered(kind, *cause),
        }
        outcome
    }

    fn order(&self, who: Who, key: &str, path: &str) -> Vec<u8> {
        let dress = &self.settings.dress;
        let mut fields = self.fields(who);
        if dress.keys {
            fields.push_str("Idempotency-Key: ");
            fields.push_str(key);
            fields.push_str("\r\n");
        }
        let pool = pick(&dress.pools, who.index);
        let body = if dress.body.contains('{') && dress.body != "{}" {
            let user = self.user(who);
            dress.body.replace("{user}", &user).replace("{pool}", pool).replace("{key}", key)
        } else {
            dress.body.clone()
        };
        wire::request("POST", path, &self.host, &fields, Some(&body))
    }

    fn fields(&self, who: Who) -> String {
        let dress = &self.settings.dress;
        let user = self.user(who);
        let mut fields = format!("Accept: */*\r\nCookie: {}={user}", dress.user_cookie);
        let city = pick(&dress.cities, who.index);
        if !city.is_empty() {
            fields.push_str("; city_id=");
            fields.push_str(city);
        }
        fields.push_str("\r\n");
        for (name, value) in &dress.headers {
            let value = value.replace("{user}", &user);
            fields.push_str(&format!("{name}: {value}\r\n"));
        }
        fields
    }

    fn user(&self, who: Who) -> String {
        let kind = if who.is_bot { "bot" } else { "" };
        format!("{}{kind}{:06}", self.settings.dress.user_prefix, who.index)
    }
}

/// Whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn span_of(heard: &Heard) -> Span {
    match &heard.meaning {
        Meaning::Won(_) => Span::Winner,
        Meaning::Unknown(_) | Meaning::Declined => Span::Other,
        Meaning::Later(_) if heard.from_shop => Span::Other,
        Meaning::No | Meaning::SoldOut | Meaning::Later(_) => Span::Loser,
    }
}

fn pick(from: &[String], index: u32) -> &str {
    match from.len() {
        0 => "",
        n => &from[index as usize % n],
    }
}
