//! What befalls a run, decided from its seed before it begins.

use crate::rng::Rng;
use crate::sale::T0;

/// Something that goes wrong, or ends going wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process dies.
    Crash(usize),
    /// It starts again.
    Restart(usize),
    /// A node cannot reach the store, whatever is under way included.
    Cut(usize),
    /// It can again.
    Heal(usize),
    /// A node's wall clock jumps.
    Step(usize, i64),
    /// The store's wall clock jumps.
    StepStore(i64),
    /// The store answers nobody.
    Down,
    /// It answers again, as it was.
    Up,
    /// A replica takes over, which lacks so many of the last writes.
    FailOver(usize),
    /// A server takes over that knows nothing.
    Lost,
    /// The operator adds units.
    AddStock,
}

/// What happens when.
pub fn faults(rng: &mut Rng, kind: u64) -> Vec<(u64, Fault)> {
    let mut all = Vec::new();
    let forgets = kind >= 2;
    if forgets {
        // One in the crowd, perhaps one later; never two within one learning.
        for from in [T0 + 20, T0 + 8_000] {
            let at = from + rng.range(0, 2_500);
            let back = at + if rng.permille(500) { rng.range(1, 20) } else { rng.range(20, 300) };
            let how = if rng.permille(350) {
                Fault::Lost
            } else {
                Fault::FailOver(rng.range(1, 7) as usize)
            };
            all.extend([(at, Fault::Down), (back, how)]);
            if rng.permille(500) {
                break;
            }
        }
    } else {
        all.push((T0 + rng.range(0, 900), Fault::AddStock));
        for _ in 0..rng.range(0, 3) {
            let at = T0 + rng.range(0, 6_000);
            all.extend([(at, Fault::Down), (at + rng.range(1, 1_500), Fault::Up)]);
        }
    }
    if kind == 1 || kind == 3 {
        // One node at a time, and back before a learning would end without it.
        for slot in 0..3 {
            let (node, at) =
                (rng.range(0, 3) as usize, T0 - 500 + slot * 7_000 + rng.range(0, 3_500));
            // The first often in the crowd, where most is open.
            let is_in_crowd = slot == 0 && rng.permille(800);
            let at = if is_in_crowd { T0 + rng.range(5, 120) } else { at };
            let back = at + rng.range(50, 1_500);
            // Where nothing is forgotten it may be away for long.
            let long = if forgets { back } else { at + rng.range(50, 12_000) };
            match rng.range(0, 3) {
                0 => all.extend([(at, Fault::Cut(node)), (back, Fault::Heal(node))]),
                _ => all.extend([(at, Fault::Crash(node)), (long, Fault::Restart(node))]),
            }
        }
    }
    for _ in 0..rng.range(0, 4) {
        let at = T0 - 3_000 + rng.range(0, 8_000);
        let by = rng.range(1, 4_000) as i64 * if rng.permille(500) { 1 } else { -1 };
        match rng.range(0, 4) {
            3 if !forgets => all.push((at, Fault::StepStore(by / 8))),
            node => all.push((at, Fault::Step(node.min(2) as usize, by))),
        }
    }
    all
}
