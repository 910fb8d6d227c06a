//! Counts what passed and what failed, over the lints and over all test programs.

/// The running total.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    complaints: Vec<String>,
}

impl Tally {
    pub(super) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(super) fn fail(&mut self, complaint: impl Into<String>) {
        self.failed += 1;
        self.complaints.push(complaint.into());
    }

    /// Takes one line of a test program's output. An ignored test counts as a failed one: a check that nobody runs must
    /// not look like one that holds.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(name) = failed_test(line) {
            self.complaints.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| counts.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what)?.parse().ok());
        let (passed, failed, ignored): (Option<u64>, Option<u64>, Option<u64>) =
            (count(" passed"), count(" failed"), count(" ignored"));
        self.passed += passed.unwrap_or(0);
        self.failed += failed.unwrap_or(0);
        if let Some(ignored) = ignored.filter(|ignored| *ignored > 0) {
            self.failed += ignored;
            self.complaints.push(format!("{ignored} ignored"));
        }
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_are_added() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s");
        tally.read("test a::b ... FAILED");
        tally.read("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s");
        tally.pass();
        assert_eq!((tally.passed(), tally.failed()), (16, 1));
        assert_eq!(tally.complaints(), ["a::b"]);
    }

    #[test]
    fn an_ignored_test_fails_the_run() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!((tally.passed(), tally.failed()), (1, 2));
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut tally = Tally::default();
        tally.read("3 passed, 1 failed");
        tally.read("test a ... ok");
        assert_eq!((tally.passed(), tally.failed()), (0, 0));
    }
}
