//! The play: what happens in which order. Each step is one function.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Guests};
use super::edge::{Edge, Metrics, Sale, add_metrics};
use super::facts::{Facts, Kill, Matched, Side};
use super::place::{Place, STOCK};
use super::screen::{Live, Screen};
use super::shop::{ERROR_PERMILLE, ORDERS_PER_S, Shop};
use super::stop::Stop;
use super::{DemoError, Script, Settings, journal};
use crate::clock::{Clock, UnixMs};

/// What every step needs.
struct Stage<'a> {
    settings: &'a Settings,
    script: Script,
    stop: &'a Stop,
    screen: &'a mut Screen,
    place: Place,
    shop: Shop,
    clock: Clock,
}

/// What act 2 collects as it goes.
#[derive(Default)]
struct Course {
    edge_metrics: Metrics,
    edge_ready_ms: u64,
    kill: Option<Kill>,
    matched: Matched,
    returned: u64,
}

const MATCH_LONGEST: Duration = Duration::from_secs(20);
const SOLD_OUT_LONGEST: Duration = Duration::from_secs(45);
const RESTOCK_LONGEST: Duration = Duration::from_secs(20);

/// Plays it all; returns what was counted and where everything was written.
pub fn play(
    settings: &Settings,
    stop: &Stop,
    screen: &mut Screen,
) -> Result<(Facts, PathBuf), DemoError> {
    let script = settings.script();
    let place = Place::make(settings.port)?;
    screen.say(format!(
        "{STOCK} tickets. {} people. One small shop ({ORDERS_PER_S} orders/s{}).",
        script.people_with,
        if settings.faults { ", 2 % errors" } else { "" }
    ));
    screen.say(format!("everything is in {}", place.dir.display()));
    let shop = Shop::start(&place, settings.faults, settings.seed, stop)?;
    let clock = Clock::system();
    let mut stage = Stage { settings, script, stop, screen, place, shop, clock };

    let without = stage.act_one()?;
    stage.shop.reset()?;
    let facts = stage.act_two(without)?;
    Ok((facts, stage.place.dir.clone()))
}

impl Stage<'_> {
    /// The shop alone: the crowd goes straight to it.
    fn act_one(&mut self) -> Result<Side, DemoError> {
        self.screen
            .say("ACT 1: the shop alone. It checks the stock, then decrements it, on purpose,");
        self.screen.say("       as many small shops do.");
        let t0 = self.clock.now().wall.plus(self.script.lead_without_ms);
        let guests = Guests {
            people: self.script.people_without,
            bots: 0,
            spread_ms: self.script.spread_ms / 2,
            reloads: 0,
            polls: false,
            longest_ms: self.script.act_one_ms,
            seed: self.settings.seed,
        };
        let mut crowd = Crowd::start(&self.place, self.place.shop, t0, &guests)?;
        let ends = Instant::now() + Duration::from_millis(self.script.act_one_ms);
        while Instant::now() < ends && !crowd.has_ended() {
            self.pause("the shop alone", &crowd, None)?;
        }
        let client = crowd.end(self.stop)?;
        let shop = self.shop.stats()?;
        self.screen.next_act();
        self.screen.say(format!(
            "       sold {} of {STOCK}: {} oversold, p99 {:.1} s at the shop, {} of {} requests failed",
            shop.orders,
            shop.oversold(),
            shop.latency_ms.p99 / 1_000.0,
            client.errors(),
            client.requests()
        ));
        self.screen.say("       This is what we are here for.");
        Ok(Side { client, shop })
    }

    /// The same shop behind Penstock.
    fn act_two(&mut self, without: Side) -> Result<Facts, DemoError> {
        let t0 = self.clock.now().wall.plus(self.script.lead_with_ms);
        self.place.write_config(t0)?;
        let mut edge = Edge::start(&self.place, self.stop)?;
        let mut course = Course { edge_ready_ms: edge.ready_after_ms, ..Course::default() };
        self.screen.say("ACT 2: the same shop, unchanged, behind Penstock.");
        self.screen.say(format!("       {}", self.place.config().display()));
        self.screen.say(format!(
            "       ready in {} ms: http://{}{}",
            course.edge_ready_ms,
            self.place.edge,
            self.place.page()
        ));
        let mut crowd = Crowd::start(&self.place, self.place.edge, t0, &self.guests())?;
        self.until_t0(&mut edge, &mut crowd, t0)?;
        if self.settings.faults {
            edge = self.kill(edge, &crowd, t0, &mut course)?;
        }
        self.until_sold_out(&mut edge, &crowd)?;
        self.match_limbo(&edge, &crowd, &mut course)?;
        self.restock(&mut edge, &crowd, &mut course)?;
        self.match_limbo(&edge, &crowd, &mut course)?;
        self.until_home(&edge, &crowd)?;
        let client = crowd.end(self.stop)?;
        let shop = self.shop.stats()?;
        self.screen.next_act();
        self.finish(&edge, t0, course, without, Side { client, shop })
    }

    fn guests(&self) -> Guests {
        Guests {
            people: self.script.people_with,
            bots: self.script.bots,
            spread_ms: self.script.spread_ms,
            reloads: 1,
            polls: true,
            longest_ms: 150_000,
            seed: self.settings.seed,
        }
    }

    /// Pages, polls and early bots.
    fn until_t0(
        &mut self,
        edge: &mut Edge,
        crowd: &mut Crowd,
        t0: UnixMs,
    ) -> Result<(), DemoError> {
        while self.clock.now().wall.plus(NEARLY_MS) < t0 {
            edge.check()?;
            self.pause("pages and polls before T0; bots try already", crowd, Some(edge))?;
        }
        let (progress, shop) = (crowd.progress().unwrap_or_default(), self.shop.stats()?);
        self.sleep_until(t0)?;
        let early = progress.heard.get("not_started").copied().unwrap_or(0);
        let is_early = shop.first_post_ms != 0 && shop.first_post_ms < t0.0;
        let forwarded = if is_early { shop.posts } else { 0 };
        self.screen.say(format!(
            "T0     pages {} → the shop rendered {} · bots heard not_started {early} times, {forwarded} forwarded",
            progress.pages, shop.pages
        ));
        Ok(())
    }

    /// `kill -9` in mid-sale, and the edge's return from the same file.
    fn kill(
        &mut self,
        edge: Edge,
        crowd: &Crowd,
        t0: UnixMs,
        course: &mut Course,
    ) -> Result<Edge, DemoError> {
        let due = t0.plus(self.script.kill_after_ms);
        while self.clock.now().wall.plus(NEARLY_MS) < due {
            self.pause("the sale is open", crowd, Some(&edge))?;
        }
        self.sleep_until(due)?;
        // What it counted up to here would be gone with it.
        add_metrics(&mut course.edge_metrics, &edge.verbs().metrics()?);
        let sale = edge.verbs().sale()?;
        let pid = edge.id();
        let killed = self.clock.now().wall;
        edge.kill();
        self.screen.say(format!(
            "KILL   kill -9 {pid} with {} sold and {} on their way to the shop",
            sale.confirmed, sale.held
        ));
        let back = killed.plus(self.script.down_ms);
        while self.clock.now().wall < back {
            self.pause("the edge is dead", crowd, None)?;
        }
        let edge = Edge::start(&self.place, self.stop)?;
        let down_ms = self.clock.now().wall.since(killed);
        self.screen.say(format!("BACK   from the same file after {down_ms} ms; the sale goes on"));
        course.kill =
            Some(Kill { pid, after_t0_ms: killed.since(t0), down_ms, sold_before: sale.confirmed });
        Ok(edge)
    }

    fn until_sold_out(&mut self, edge: &mut Edge, crowd: &Crowd) -> Result<(), DemoError> {
        let is_over = |sale: &Sale| sale.state == "sold_out" && sale.held == 0;
        let sale = self.until("sold out", edge, crowd, SOLD_OUT_LONGEST, is_over)?;
        self.screen.say(format!(
            "SOLD   out: {} sold + {} of which nobody knows = {} of {}",
            sale.confirmed,
            sale.limbo,
            sale.confirmed + sale.limbo,
            sale.stock
        ));
        Ok(())
    }

    /// What nobody knows is held against the shop's own orders, once the shop is idle. A young one may
    /// still reach the shop, so that its absence from the list proves nothing yet.
    fn match_limbo(
        &mut self,
        edge: &Edge,
        crowd: &Crowd,
        course: &mut Course,
    ) -> Result<(), DemoError> {
        let before = edge.verbs().sale()?;
        if before.limbo == 0 {
            return Ok(());
        }
        let ends = Instant::now() + MATCH_LONGEST;
        let after = loop {
            while self.shop.stats()?.in_flight > 0 {
                self.pause("the shop finishes its orders", crowd, Some(edge))?;
            }
            let orders = self.shop.export_orders()?;
            edge.verbs().limbo_match(&orders)?;
            let after = edge.verbs().sale()?;
            if after.limbo == 0 || Instant::now() >= ends {
                break after;
            }
            self.pause("what is unknown is too young to be matched", crowd, Some(edge))?;
        };
        let sold = after.confirmed.saturating_sub(before.confirmed);
        let left = before.limbo.saturating_sub(after.limbo);
        let found = Matched { unknown: before.limbo, sold, not_sold: left.saturating_sub(sold) };
        self.screen.say(format!(
            "LIMBO  {} unknown, matched with the shop's orders: {} sold, {} not, {} still unknown",
            found.unknown, found.sold, found.not_sold, after.limbo
        ));
        course.matched.unknown += found.unknown;
        course.matched.sold += found.sold;
        course.matched.not_sold += found.not_sold;
        Ok(())
    }

    /// Cancelled orders return their units; people who kept watching get them.
    fn restock(
        &mut self,
        edge: &mut Edge,
        crowd: &Crowd,
        course: &mut Course,
    ) -> Result<(), DemoError> {
        let cancelled = self.shop.cancel(self.script.returned)?;
        let units: u64 = cancelled.iter().map(|line| line.units).sum();
        let epoch = edge.verbs().sale()?.epoch;
        edge.verbs().restock(units)?;
        course.returned = units;
        self.screen.say(format!(
            "BACK   {} cancelled orders return {units} units: penstock sale restock",
            cancelled.len()
        ));
        let is_over =
            |sale: &Sale| sale.epoch > epoch && sale.state == "sold_out" && sale.held == 0;
        let sale = self.until("sold out again", edge, crowd, RESTOCK_LONGEST, is_over)?;
        self.screen.say(format!(
            "SOLD   out again: {} sold of {} + {units} returned; epoch {}",
            sale.confirmed, STOCK, sale.epoch
        ));
        Ok(())
    }

    /// Those who were told to wait try again, until everyone has had their last word.
    fn until_home(&mut self, edge: &Edge, crowd: &Crowd) -> Result<(), DemoError> {
        let ends = Instant::now() + HOME_LONGEST;
        while Instant::now() < ends && crowd.progress().is_none_or(|progress| progress.away > 0) {
            self.pause("the last ones try again and hear that it is sold out", crowd, Some(edge))?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        edge: &Edge,
        t0: UnixMs,
        mut course: Course,
        without: Side,
        with: Side,
    ) -> Result<Facts, DemoError> {
        add_metrics(&mut course.edge_metrics, &edge.verbs().metrics()?);
        self.screen
            .say("AUDIT  the journal, the ledger and the shop's orders, held against each other");
        let orders = self.shop.export_orders()?;
        let audit = edge.verbs().audit(&orders)?;
        for check in &audit.checks {
            let mark = if check.holds { "holds " } else { "BROKEN" };
            self.screen.say(format!("       {mark} {} ({})", check.name, check.said));
        }
        let fast = if self.settings.fast { " --fast" } else { "" };
        let faults = if self.settings.faults { "" } else { " --no-faults" };
        Ok(Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
            command: format!("penstock demo{fast}{faults} --seed {}", self.settings.seed),
            stock: STOCK,
            returned: course.returned,
            orders_per_s: u64::from(ORDERS_PER_S),
            error_permille: if self.settings.faults { u64::from(ERROR_PERMILLE) } else { 0 },
            t0_ms: t0.0,
            without,
            with,
            ledger: edge.verbs().sale()?,
            journal: journal::read(&self.place.state_dir().join("journal"))?,
            edge: course.edge_metrics,
            edge_ready_ms: course.edge_ready_ms,
            kill: course.kill,
            matched: course.matched,
            audit,
        })
    }

    /// Shows the sale until it is as `is_so` says.
    fn until(
        &mut self,
        what: &str,
        edge: &mut Edge,
        crowd: &Crowd,
        longest: Duration,
        is_so: impl Fn(&Sale) -> bool,
    ) -> Result<Sale, DemoError> {
        let ends = Instant::now() + longest;
        loop {
            edge.check()?;
            let sale = edge.verbs().sale()?;
            if is_so(&sale) {
                return Ok(sale);
            }
            if Instant::now() >= ends {
                return Err(DemoError::Late {
                    what: what.to_owned(),
                    after_ms: u64::try_from(longest.as_millis()).unwrap_or(0),
                    log: self.place.log("edge").display().to_string(),
                });
            }
            self.pause("the sale is open", crowd, Some(edge))?;
        }
    }

    /// The last moments before something that must be on time: nothing else is done meanwhile.
    fn sleep_until(&self, at: UnixMs) -> Result<(), DemoError> {
        self.stop.check()?;
        std::thread::sleep(Duration::from_millis(at.since(self.clock.now().wall)));
        Ok(())
    }

    /// Shows how it stands, and lets a little time pass.
    fn pause(&mut self, title: &str, crowd: &Crowd, edge: Option<&Edge>) -> Result<(), DemoError> {
        self.stop.check()?;
        let Some(progress) = crowd.progress() else {
            std::thread::sleep(PAUSE);
            return Ok(());
        };
        let live = Live {
            title: title.to_owned(),
            stock: STOCK,
            crowd: progress,
            // A screen that misses one number is better than a demo that stops for it.
            shop: self.shop.stats().unwrap_or_default(),
            sale: edge.and_then(|edge| edge.verbs().sale().ok()),
        };
        self.screen.show(&live);
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

const NEARLY_MS: u64 = 400;
const HOME_LONGEST: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);
