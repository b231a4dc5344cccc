//! How short memory is, as one word that everybody understands.

use std::time::Duration;

use crate::config::schema;

/// Each level does what those before it do, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    Calm,
    /// Connections that wait for a request are closed soon, others after their response.
    Shed,
    /// The cache shrinks.
    Shrink,
    /// New connections are refused, those that wait for a request are closed at once.
    Refuse,
}

/// Where the levels begin, in thousandths of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps([u64; 3]);

impl Steps {
    /// As `[memory]` says.
    pub fn new(settings: &schema::Memory) -> Steps {
        let schema::Memory { shed_at_percent, shrink_at_percent, refuse_at_percent, .. } = settings;
        Steps([*shed_at_percent, *shrink_at_percent, *refuse_at_percent].map(|p| u64::from(p) * 10))
    }
}

impl Steps {
    /// Below this all is calm, whatever was before.
    pub fn calm_permille(&self) -> u64 {
        self.0[0].saturating_sub(SLACK_PERMILLE)
    }
}

impl Pressure {
    const ALL: [Pressure; 4] = [Pressure::Calm, Pressure::Shed, Pressure::Shrink, Pressure::Refuse];

    /// The level after a look that found `permille` of the limit taken. A level ends only
    /// `SLACK_PERMILLE` below its beginning: what hovers about a step does not flap.
    #[must_use]
    pub fn next(self, permille: u64, steps: &Steps) -> Pressure {
        let mut level = Pressure::Calm;
        for (step, reached) in steps.0.into_iter().zip(Pressure::ALL.into_iter().skip(1)) {
            let from = if self >= reached { step.saturating_sub(SLACK_PERMILLE) } else { step };
            if permille >= from {
                level = reached;
            }
        }
        level
    }

    /// How long connections may wait for a request; `None`: as long as the settings say.
    pub fn patience(self) -> Option<Duration> {
        match self {
            Pressure::Calm => None,
            Pressure::Shed | Pressure::Shrink => Some(SHED_IDLE),
            Pressure::Refuse => Some(Duration::ZERO),
        }
    }

    /// For logs.
    pub fn label(self) -> &'static str {
        match self {
            Pressure::Calm => "calm",
            Pressure::Shed => "shedding idle connections",
            Pressure::Shrink => "shrinking the cache",
            Pressure::Refuse => "refusing new connections",
        }
    }
}

const SLACK_PERMILLE: u64 = 50;
/// Enough for a client that is in the middle of something.
const SHED_IDLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps() -> Steps {
        Steps::new(&schema::Memory::default())
    }

    #[test]
    fn levels_begin_at_their_steps_and_end_below_them() {
        let mut level = Pressure::Calm;
        let mut at = |permille| {
            level = level.next(permille, &steps());
            level
        };
        use Pressure::{Calm, Refuse, Shed, Shrink};
        for (permille, expected) in [
            (0, Calm),
            (899, Calm),
            (900, Shed),
            (851, Shed),
            (849, Calm),
            (899, Calm),
            (955, Shrink),
            (901, Shrink),
            (899, Shed),
            (949, Shed),
            (980, Refuse),
            (931, Refuse),
            (929, Shrink),
            (1_200, Refuse),
            (100, Calm),
            (2_000, Refuse),
        ] {
            assert_eq!(at(permille), expected, "{permille}");
        }
    }

    proptest! {
        #[test]
        fn more_memory_is_never_less_pressure(
            before in 0usize..4, one in 0u64..1_500, more in 0u64..500
        ) {
            let before = Pressure::ALL[before];
            prop_assert!(before.next(one, &steps()) <= before.next(one + more, &steps()));
            // It stays where it went while nothing changes.
            let after = before.next(one, &steps());
            prop_assert_eq!(after.next(one, &steps()), after);
        }
    }
}
