//! One person: comes, looks, waits for T0, taps, tries again as told, goes home.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::client::NoAnswer;
use super::hear::Meaning;
use super::opening::Flag;
use super::plan::{Person, Taps};
use super::tally::Fate;
use super::world::{Who, World};
use crate::shop::Dice;

/// Everything that `person` does, from their arrival on.
pub async fn act(world: Rc<World>, mut person: Person) {
    let who = Who { index: person.index, is_bot: false };
    let arrived = world.at_us(person.arrives_us);
    world.page(who, arrived).await;
    world.poll(who, Instant::now()).await;
    look_around(&world, who, &mut person, arrived).await;
    if world.settings().paths.purchase.is_none() {
        return world.home(who, Fate::Looked);
    }
    let due = world.t0().max(arrived) + Duration::from_micros(person.acts_us);
    let fate = tap(&world, who, &mut person, due).await;
    world.home(who, fate);
    if fate == Fate::SoldOut && person.watches {
        let fate = watch(&world, who, &mut person.dice).await;
        world.home(who, fate);
    }
}

/// Loads the page again, at random moments before T0.
async fn look_around(world: &World, who: Who, person: &mut Person, arrived: Instant) {
    let until_t0 = world.t0().saturating_duration_since(arrived);
    let window_us = u64::try_from(until_t0.as_micros()).unwrap_or(0);
    let reloads = world.settings().shape.reloads;
    let mut moments: Vec<u64> = (0..reloads).map(|_| person.dice.below(window_us + 1)).collect();
    moments.sort_unstable();
    for us in moments {
        let due = arrived + Duration::from_micros(us);
        sleep_until(due).await;
        world.page(who, due).await;
    }
}

/// One tap, or two at once.
async fn tap(world: &World, who: Who, person: &mut Person, due: Instant) -> Fate {
    let mut other = person.dice.clone();
    let key = new_key(who, &mut person.dice);
    match person.taps {
        Taps::One => buy(world, who, key, due, &mut person.dice).await,
        Taps::TwoSameKey | Taps::TwoKeys => {
            // Without this step both would draw the same key.
            other.draw();
            let second = match person.taps {
                Taps::TwoSameKey => key.clone(),
                _ => new_key(who, &mut other),
            };
            let (a, b) = tokio::join!(
                buy(world, who, key, due, &mut person.dice),
                buy(world, who, second, due, &mut other),
            );
            a.max(b)
        }
    }
}

/// Tries to buy until there is a final answer or the tries are used up.
async fn buy(world: &World, who: Who, mut key: String, due: Instant, dice: &mut Dice) -> Fate {
    let mut due = due;
    let mut fate = Fate::GaveUp;
    for attempt in 0..=world.settings().manners.retries_max {
        sleep_until(due).await;
        let wait_ms = match world.purchase(who, &key, due).await {
            Ok(heard) => match heard.meaning {
                Meaning::Won(_) => return Fate::Won,
                Meaning::SoldOut => return Fate::SoldOut,
                Meaning::No => return Fate::Refused,
                Meaning::Later(after_ms) => {
                    // What is unknown stays so, until somebody knows.
                    fate = if fate == Fate::Unknown { fate } else { Fate::GaveUp };
                    after_ms
                }
                Meaning::Declined => {
                    key = new_key(who, dice);
                    fate = Fate::GaveUp;
                    None
                }
                Meaning::Unknown(after_ms) => {
                    fate = Fate::Unknown;
                    after_ms
                }
            },
            Err(cause) => {
                fate = lost_contact(fate, cause);
                None
            }
        };
        due = Instant::now() + patience(world, wait_ms, attempt, dice);
    }
    fate
}

/// What someone knows who got no answer: nothing, if the request may have arrived.
fn lost_contact(before: Fate, cause: NoAnswer) -> Fate {
    match before {
        Fate::Unknown => Fate::Unknown,
        _ if cause.is_unsent() => Fate::Unreachable,
        _ => Fate::Unknown,
    }
}

/// Watches the flag of a sale that is sold out, and tries again when it opens once more.
async fn watch(world: &World, who: Who, dice: &mut Dice) -> Fate {
    let longest = world.settings().manners.poll_max_ms.max(1);
    let mut due = Instant::now() + Duration::from_millis(dice.below(longest));
    loop {
        sleep_until(due).await;
        let reply = world.poll(who, due).await;
        let flag = reply.as_ref().and_then(Flag::read);
        // No answer at all is worth another look; an answer that is no flag never becomes one.
        let no_flag = reply.is_some_and(|reply| reply.status == 404) && flag.is_none();
        let flag = flag.unwrap_or_default();
        if no_flag || flag.is_final || world.settings().paths.availability.is_none() {
            return Fate::SoldOut;
        }
        if flag.buyable {
            let key = new_key(who, dice);
            let fate = buy(world, who, key, Instant::now(), dice).await;
            if fate != Fate::SoldOut {
                return fate;
            }
        }
        let pause_ms = flag.poll_ms.unwrap_or(longest).clamp(1, longest);
        let jitter_ms = flag.jitter_ms.min(longest / 2);
        due = Instant::now() + Duration::from_millis(pause_ms + dice.below(jitter_ms + 1));
    }
}

/// How long someone waits before trying again: as told, or doubled each time; never all at once.
fn patience(world: &World, told_ms: Option<u64>, attempt: u32, dice: &mut Dice) -> Duration {
    let manners = &world.settings().manners;
    let wait_ms = match told_ms {
        Some(ms) => ms.min(manners.wait_max_ms) + dice.below(ms.min(manners.wait_max_ms) / 4 + 50),
        None => {
            let doubled = manners.backoff_ms.saturating_mul(1 << attempt.min(6));
            dice.around(doubled.min(manners.wait_max_ms), 500)
        }
    };
    Duration::from_millis(wait_ms)
}

/// A new `Idempotency-Key`: a new order, not a repeat.
fn new_key(who: Who, dice: &mut Dice) -> String {
    format!("k{:06}-{:016x}", who.index, dice.draw())
}
