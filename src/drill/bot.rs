//! A bot: begins before T0 and does not listen, until it is told the final word.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::hear::Meaning;
use super::plan::Bot;
use super::tally::Fate;
use super::world::{Who, World};

/// Everything that `bot` does.
pub async fn act(world: Rc<World>, mut bot: Bot) {
    let who = Who { index: bot.index, is_bot: true };
    if world.settings().paths.purchase.is_none() {
        return world.home(who, Fate::Looked);
    }
    let manners = world.settings().manners.clone();
    let lead = Duration::from_millis(manners.bot_lead_ms);
    let begins = world.t0().checked_sub(lead).unwrap_or_else(|| world.at_us(0));
    let every_ms = manners.bot_every_ms.max(1);
    let mut due = begins.max(world.at_us(0)) + Duration::from_millis(bot.dice.below(every_ms));
    let mut fate = Fate::GaveUp;
    for _ in 0..manners.bot_tries_max {
        sleep_until(due).await;
        let key = format!("b{:06}-{:016x}", who.index, bot.dice.draw());
        fate = match world.purchase(who, &key, due).await {
            Ok(heard) => match heard.meaning {
                Meaning::Won(_) => Fate::Won,
                Meaning::SoldOut => Fate::SoldOut,
                Meaning::No => Fate::Refused,
                Meaning::Unknown(_) => Fate::Unknown,
                Meaning::Later(_) | Meaning::Declined => Fate::GaveUp,
            },
            Err(cause) if cause.is_unsent() => Fate::Unreachable,
            Err(_) => Fate::Unknown,
        };
        if matches!(fate, Fate::Won | Fate::SoldOut | Fate::Refused) {
            break;
        }
        // Open loop here too: the next try does not wait for a slow answer to the last one.
        due = (due + Duration::from_millis(bot.dice.around(every_ms, 200))).max(Instant::now());
    }
    world.home(who, fate);
}
