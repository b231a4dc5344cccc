//! Who comes when, and what they will do: drawn from the seed before anything is sent.

use serde::Serialize;

use crate::shop::Dice;

/// How people arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Evenly before T0; all want to buy at T0.
    #[default]
    Spike,
    /// More and more of them, evenly rising.
    Ramp,
    /// Independently of each other, with exponential gaps.
    Poisson,
}

/// Who comes, and when.
#[derive(Clone, Debug)]
pub struct Shape {
    /// People.
    pub people: u32,
    /// Bots.
    pub bots: u32,
    /// How people arrive.
    pub arrival: Arrival,
    /// Milliseconds over which they arrive; absent: until T0, or 10 s where it is past.
    pub over_ms: Option<u64>,
    /// Milliseconds after T0, or after their arrival, within which they act.
    pub spread_ms: u64,
    /// How often each one loads the page again before T0.
    pub reloads: u32,
    /// Of 1,000 people, how many tap twice.
    pub double_tap_permille: u32,
    /// Of 1,000 people who find it sold out, how many keep watching.
    pub watch_permille: u32,
    /// Seed of all of it.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            people: 1_000,
            bots: 0,
            arrival: Arrival::Spike,
            over_ms: None,
            spread_ms: 2_000,
            reloads: 0,
            double_tap_permille: 30,
            watch_permille: 20,
            seed: 1,
        }
    }
}

/// One who comes to buy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Number, from 0.
    pub index: u32,
    /// Microseconds from the start to their arrival.
    pub arrives_us: u64,
    /// Microseconds from T0, or from their arrival if that is later, to their first purchase.
    pub acts_us: u64,
    /// Whether they tap twice.
    pub taps: Taps,
    /// Whether they keep watching a sale that is sold out.
    pub watches: bool,
    /// Everything else they draw.
    pub dice: Dice,
}

/// How often the button is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// Once.
    One,
    /// Twice, and the page sends the same key.
    TwoSameKey,
    /// Twice, as from two tabs: two keys.
    TwoKeys,
}

/// One who does not wait.
#[derive(Clone, Debug)]
pub struct Bot {
    /// Number, from 0, after all people.
    pub index: u32,
    /// Everything it draws.
    pub dice: Dice,
}

/// The whole drill.
#[derive(Clone, Debug)]
pub struct Plan {
    /// People in the order of their arrival.
    pub people: Vec<Person>,
    /// Bots.
    pub bots: Vec<Bot>,
}

impl Plan {
    /// Draws a plan for a sale that opens `lead_ms` after the start.
    pub fn new(shape: &Shape, lead_ms: u64) -> Plan {
        let over_us = 1_000 * shape.over_ms.unwrap_or(if lead_ms == 0 { 10_000 } else { lead_ms });
        let mut crowd = Dice::new(shape.seed, 0);
        let mut arrivals: Vec<u64> = match shape.arrival {
            Arrival::Spike => (0..shape.people).map(|_| crowd.below(over_us.max(1))).collect(),
            // The root of an even number: twice as many come in the second half of any part.
            Arrival::Ramp => {
                (0..shape.people).map(|_| (crowd.unit().sqrt() * over_us as f64) as u64).collect()
            }
            Arrival::Poisson => exponential(&mut crowd, shape.people, over_us),
        };
        arrivals.sort_unstable();
        let people = (0..shape.people).zip(arrivals);
        let people = people.map(|(index, at)| Person::draw(shape, index, at)).collect();
        let bots = shape.people..shape.people.saturating_add(shape.bots);
        let bots =
            bots.map(|index| Bot { index, dice: Dice::new(shape.seed, 1 + u64::from(index)) });
        Plan { people, bots: bots.collect() }
    }
}

impl Person {
    fn draw(shape: &Shape, index: u32, arrives_us: u64) -> Person {
        let mut dice = Dice::new(shape.seed, 1 + u64::from(index));
        let acts_us = dice.below(shape.spread_ms * 1_000 + 1);
        let taps = match (dice.permille(shape.double_tap_permille), dice.permille(500)) {
            (false, _) => Taps::One,
            (true, true) => Taps::TwoSameKey,
            (true, false) => Taps::TwoKeys,
        };
        let watches = dice.permille(shape.watch_permille);
        Person { index, arrives_us, acts_us, taps, watches, dice }
    }
}

fn exponential(dice: &mut Dice, people: u32, over_us: u64) -> Vec<u64> {
    let mean_us = over_us as f64 / f64::from(people.max(1));
    let mut at_us = 0.0;
    (0..people)
        .map(|_| {
            // 1 - unit is never 0, so that the logarithm is finite.
            at_us += -mean_us * (1.0 - dice.unit()).ln();
            at_us as u64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(arrival: Arrival, seed: u64) -> Shape {
        Shape { people: 4_000, bots: 3, arrival, seed, ..Shape::default() }
    }

    #[test]
    fn a_seed_repeats_the_whole_plan() {
        for arrival in [Arrival::Spike, Arrival::Ramp, Arrival::Poisson] {
            let people = |seed| Plan::new(&shape(arrival, seed), 5_000).people;
            assert_eq!(people(7), people(7));
            assert_ne!(people(7), people(8));
        }
    }

    #[test]
    fn arrivals_follow_their_model() {
        let half = |arrival| {
            let plan = Plan::new(&shape(arrival, 1), 10_000);
            assert!(plan.people.is_sorted_by_key(|p| p.arrives_us));
            plan.people.iter().filter(|p| p.arrives_us < 5_000_000).count()
        };
        assert!((1_850..2_150).contains(&half(Arrival::Spike)));
        assert!((1_850..2_150).contains(&half(Arrival::Poisson)));
        // A rising rate has a quarter of its people in the first half.
        assert!((900..1_100).contains(&half(Arrival::Ramp)));
    }

    #[test]
    fn shares_are_as_asked_for() {
        let shape = Shape { double_tap_permille: 500, ..shape(Arrival::Spike, 3) };
        let plan = Plan::new(&shape, 1_000);
        let twice = plan.people.iter().filter(|p| p.taps != Taps::One).count();
        assert!((1_850..2_150).contains(&twice), "{twice}");
        assert!(plan.people.iter().all(|p| p.acts_us <= 2_000_000));
        assert_eq!(plan.bots.iter().map(|b| b.index).collect::<Vec<_>>(), [4_000, 4_001, 4_002]);
    }
}
