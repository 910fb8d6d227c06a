//! One request and what became of it, and when a pod is well again.

use tokio::time::Instant;

use super::Verdict;

/// So many right answers in a row show that a pod is well.
pub const STREAK: usize = 20;

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent.
    pub began: Instant,
    /// What became of it.
    pub verdict: Verdict,
}

impl Sample {
    /// Whether it was answered as it must be.
    pub fn is_right(&self) -> bool {
        matches!(self.verdict, Verdict::Right(_))
    }
}

/// When a pod whose requests these are, in their order, was well again after `fault` began: the sending of the first of
/// [`STREAK`] or more right answers in a row after which none failed. `fault` itself where none failed since. None: it is
/// not well, or not for long enough.
pub fn well_from(samples: &[Sample], fault: Instant) -> Option<Instant> {
    let since = samples.get(samples.partition_point(|sample| sample.began < fault)..).unwrap_or_default();
    let after = since.iter().rposition(|sample| !sample.is_right()).map_or(0, |last| last + 1);
    let streak = since.get(after..).unwrap_or_default();
    let first = streak.first().filter(|_| streak.len() >= STREAK)?;
    Some(if after == 0 { fault } else { first.began })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One sample each 100 ms: `.` right, `x` failed.
    fn samples(start: Instant, text: &str) -> Vec<Sample> {
        let verdict = |c| if c == '.' { Verdict::Right(None) } else { Verdict::Failed(String::new()) };
        let began = |n: u32| start + Duration::from_millis(100) * n;
        (0..).zip(text.chars()).map(|(n, c)| Sample { began: began(n), verdict: verdict(c) }).collect()
    }

    #[test]
    fn well_is_twenty_in_a_row_with_nothing_after() {
        let start = Instant::now();
        let fault = start + Duration::from_millis(200);
        let well = |text: &str| well_from(&samples(start, text), fault).map(|well| (well - start).as_millis());
        let twenty = ".".repeat(STREAK);
        assert_eq!(well(&format!("..{twenty}")), Some(200), "never unwell");
        assert_eq!(well(&format!("xx{twenty}")), Some(200), "what failed before the fault is not its doing");
        assert_eq!(well(&format!("..x.x{twenty}")), Some(500));
        assert_eq!(well(&format!("..x{twenty}x{twenty}")), Some(2400));
        assert_eq!(well(&format!("..x{}", ".".repeat(STREAK - 1))), None, "too short");
        assert_eq!(well(&format!("..{twenty}x")), None);
        assert_eq!(well(""), None);
    }
}
