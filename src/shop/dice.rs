//! Seeded random numbers of the tools: the same seed gives the same run, on every machine and in
//! every version, which no generator of a library promises.

/// One stream of random numbers (SplitMix64).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Stream number `stream` of `seed`: streams are independent, so that what one user draws does
    /// not depend on when another one draws.
    pub fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice { state: seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03) };
        // Two steps separate the streams of neighbouring seeds.
        dice.draw();
        let state = dice.draw();
        Dice { state }
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product is uniform but for 1 in 2^64 / bound.
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in `0.0 .. 1.0`.
    pub fn unit(&mut self) -> f64 {
        const STEPS: f64 = 9_007_199_254_740_992.0; // 2^53: every step is exact in an f64
        (self.draw() >> 11) as f64 / STEPS
    }

    /// True in `permille` of 1,000 draws.
    pub fn permille(&mut self, permille: u32) -> bool {
        self.below(1_000) < u64::from(permille)
    }

    /// `centre` give or take `permille` thousandths of it, evenly.
    pub fn around(&mut self, centre: u64, permille: u32) -> u64 {
        let reach = centre * u64::from(permille.min(1_000)) / 1_000;
        centre - reach + self.below(2 * reach + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_streams_differ() {
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            (0..8).map(|_| dice.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(7, 4));
        assert_ne!(draw(7, 3), draw(8, 3));
    }

    #[test]
    fn numbers_stay_in_their_range_and_fill_it() {
        let mut dice = Dice::new(1, 1);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[usize::try_from(dice.below(10)).unwrap()] = true;
            assert!((0.0..1.0).contains(&dice.unit()));
            assert!((700..=1_300).contains(&dice.around(1_000, 300)));
        }
        assert!(seen.iter().all(|s| *s));
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.around(0, 300), 0);
    }

    #[test]
    fn permille_is_about_right() {
        let mut dice = Dice::new(2, 2);
        let hits = (0..100_000).filter(|_| dice.permille(20)).count();
        assert!((1_700..2_300).contains(&hits), "{hits}");
        assert!(!(0..1_000).any(|_| dice.permille(0)));
        assert!((0..1_000).all(|_| dice.permille(1_000)));
    }
}
