//! How long to wait before asking again, and the chance that keeps the nodes of a fleet from asking in step.

use std::time::Duration;

/// The first three retries: a directory that is one flush behind has caught up by then, and the third still falls within
/// the 900 ms for which a pod's request is held.
const QUICK: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// The first slow retry; each later one doubles.
const SLOW_FIRST: Duration = Duration::from_secs(1);
/// The slowest retry, and the longest that a refusal is remembered: what a person who has just edited an annotation will
/// wait.
pub(super) const SLOWEST: Duration = Duration::from_secs(30);
/// How long the first refusal is remembered, and the first pause between background questions.
const MEMORY_FIRST: Duration = Duration::from_secs(2);

/// The pause after the `failures`th failure in a row: 100, 200, 400 ms, then 1 to 30 s. The slow ones are shortened by up to
/// half, by chance, so that what failed together does not come back together.
pub(super) fn retry(failures: u32, chance: &mut Chance) -> Duration {
    let nth = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    if let Some(quick) = QUICK.get(nth) {
        return *quick;
    }
    let doublings = u32::try_from(nth - QUICK.len()).unwrap_or(u32::MAX);
    let pause = doubled(SLOW_FIRST, doublings);
    pause.saturating_sub(chance.up_to(pause / 2))
}

/// The pause after a failure that only an operator can end: slow from the first.
pub(super) fn retry_slowly(chance: &mut Chance) -> Duration {
    SLOWEST.saturating_sub(chance.up_to(SLOWEST / 2))
}

/// How long the `times`th refusal in a row is remembered: 2 s, doubling to 30 s.
pub(super) fn memory(times: u32) -> Duration {
    doubled(MEMORY_FIRST, times.saturating_sub(1))
}

fn doubled(first: Duration, doublings: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(doublings)).min(SLOWEST)
}

/// A stream of pseudo-random numbers (`SplitMix64`). Nothing secret depends on it: it spreads load.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A stream that `seed` decides.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration of at least zero and less than `most`, in whole microseconds.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next().checked_rem(micros).unwrap_or(0))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retries_are_quick_three_times_and_then_slow() {
        let mut chance = Chance::new(1);
        let millis: Vec<_> = (1..=3).map(|failures| retry(failures, &mut chance).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400]);
        for (failures, most) in [(4, 1), (5, 2), (6, 4), (7, 8), (8, 16), (9, 30), (10, 30), (u32::MAX, 30)] {
            let pause = retry(failures, &mut chance);
            assert!(
                pause > Duration::from_secs(most) / 2 && pause <= Duration::from_secs(most),
                "{failures}: {pause:?}"
            );
        }
    }

    #[test]
    fn refusals_are_remembered_for_2_s_backing_off_to_30() {
        let secs: Vec<_> = (1..=7).map(|times| memory(times).as_secs()).collect();
        assert_eq!(secs, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(memory(u32::MAX), SLOWEST);
    }

    #[test]
    fn two_nodes_do_not_retry_in_step() {
        let pauses: std::collections::HashSet<_> =
            (0..100).map(|seed| retry(9, &mut Chance::new(seed)).as_millis() / 100).collect();
        assert!(pauses.len() > 60, "only {} distinct pauses of 100 nodes", pauses.len());
    }

    proptest! {
        #[test]
        fn chance_stays_below_its_bound(seed: u64, micros in 1_u64..10_000_000_000) {
            let most = Duration::from_micros(micros);
            prop_assert!(Chance::new(seed).up_to(most) < most);
        }

        #[test]
        fn a_pause_is_never_zero_and_never_over_30_s(seed: u64, failures in 1_u32..) {
            let pause = retry(failures, &mut Chance::new(seed));
            prop_assert!(pause >= Duration::from_millis(100) && pause <= SLOWEST);
        }
    }
}
