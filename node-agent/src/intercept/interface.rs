//! Which interfaces pods are behind, in the notation of kiam and kube2iam.

use std::{fmt, str::FromStr};

use super::veth::FAR_END;

/// Linux's IFNAMSIZ less the terminating zero.
const LONGEST_NAME: usize = 15;

/// The near end of the self-check's pair where any name fits.
const NEAR_END: &str = "rolecall0";
/// And what is left of it behind a long prefix.
const SHORT_NEAR_END: &str = "rc0";

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(String);

impl InterfaceName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no name or pattern of interfaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// Empty, too long, or with a character that no interface has here.
    #[error(
        "`{0}` is not an interface name: write 1 to 15 letters, digits, `.`, `-` or `_`; a pattern may end in `+` \
         (any ending) and may begin with `!` (any but)"
    )]
    NotAName(String),
    /// A lone `+`.
    #[error(
        "`{0}` names every interface, `lo` too: leave the setting out for all but the host's own, or write `!eth0`"
    )]
    Everything(String),
    /// Both `eni+` and `!eth0`.
    #[error("`{0}` and `{1}` cannot be combined: write either names to include or, all with `!`, names to exclude")]
    Mixed(InterfacePattern, InterfacePattern),
    /// `!rolecall+`.
    #[error("`{0}` excludes `{1}`, the interface of the self-check: name another one with --check-interface")]
    ExcludesCheck(InterfacePattern, InterfaceName),
}

impl FromStr for InterfaceName {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let named = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        // `.` and `..` are no interface names to the kernel either.
        if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(named) || matches!(text, "." | "..") {
            return Err(InterfaceError::NotAName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// `eni+` (names beginning with `eni`), `cbr0` (this one), `!eth0` (any but this one), `!eth+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePattern {
    excludes: bool,
    name: InterfaceName,
    any_ending: bool,
}

impl FromStr for InterfacePattern {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let (excludes, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (any_ending, stem) = rest.strip_suffix('+').map_or((false, rest), |stem| (true, stem));
        if any_ending && stem.is_empty() {
            return Err(InterfaceError::Everything(text.to_owned()));
        }
        let name = stem.parse().map_err(|_| InterfaceError::NotAName(text.to_owned()))?;
        Ok(Self { excludes, name, any_ending })
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.excludes { "!" } else { "" };
        let ending = if self.any_ending { "+" } else { "" };
        write!(f, "{not}{}{ending}", self.name)
    }
}

impl InterfacePattern {
    fn names(&self, name: &str) -> bool {
        if self.any_ending { name.starts_with(self.name.as_str()) } else { name == self.name.as_str() }
    }

    fn condition(&self) -> Condition {
        let ending = if self.any_ending { "*" } else { "" };
        Condition { equal: !self.excludes, name: format!("{}{ending}", self.name) }
    }

    /// A name of at most 15 bytes that this including pattern matches; none where it matches one name only.
    fn fitting_name(&self) -> Option<InterfaceName> {
        [NEAR_END, SHORT_NEAR_END]
            .into_iter()
            .filter(|_| self.any_ending)
            .find_map(|ending| format!("{}{ending}", self.name).parse().ok())
    }
}

/// One comparison of the interface a packet came in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) equal: bool,
    /// In the notation of nftables: a trailing `*` is any ending.
    pub(super) name: String,
}

/// The interfaces of pods, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodInterfaces {
    patterns: Vec<InterfacePattern>,
    near_end: InterfaceName,
}

impl PodInterfaces {
    /// No pattern at all means: any but the host's own. `check` names the near end of the self-check's pair; by default
    /// a name that fits the patterns is made.
    pub(super) fn new(patterns: Vec<InterfacePattern>, check: Option<InterfaceName>) -> Result<Self, InterfaceError> {
        if let Some(other) = patterns.iter().find(|p| Some(p.excludes) != patterns.first().map(|p| p.excludes)) {
            return Err(InterfaceError::Mixed(patterns.first().unwrap_or(other).clone(), other.clone()));
        }
        let fitting = || patterns.iter().filter(|p| !p.excludes).find_map(InterfacePattern::fitting_name);
        let near_end = check.or_else(fitting).unwrap_or_else(|| InterfaceName(NEAR_END.to_owned()));
        if let Some(pattern) = patterns.iter().find(|p| p.excludes && p.names(near_end.as_str())) {
            return Err(InterfaceError::ExcludesCheck(pattern.clone(), near_end));
        }
        Ok(Self { patterns, near_end })
    }

    /// The name of the near end of the self-check's pair.
    pub(super) const fn near_end(&self) -> &InterfaceName {
        &self.near_end
    }

    /// Whether the host's own interfaces must be found out.
    pub(super) const fn need_host_interfaces(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether one of `names` is an interface that a pattern includes, the self-check's pair apart; none where no pattern
    /// includes any. A pattern that misses the pods would else prove itself by the self-check alone.
    pub(super) fn matches_any(&self, names: &[String]) -> Option<bool> {
        let is_own = |name: &String| [self.near_end.as_str(), FAR_END].contains(&name.as_str());
        let is_included = |name: &String| self.patterns.iter().any(|p| p.names(name));
        let includes = self.patterns.iter().any(|p| !p.excludes);
        includes.then(|| names.iter().any(|name| !is_own(name) && is_included(name)))
    }

    /// Each inner list is the conditions of one rule; a packet is from a pod when all of any one list hold.
    pub(super) fn alternatives(&self, host: &[String]) -> Vec<Vec<Condition>> {
        let loopback = || Condition { equal: false, name: "lo".to_owned() };
        let including = self.patterns.first().is_some_and(|p| !p.excludes);
        if including {
            let mut alternatives: Vec<_> = self.patterns.iter().map(|p| vec![p.condition()]).collect();
            if !self.patterns.iter().any(|p| p.names(self.near_end.as_str())) {
                alternatives.push(vec![Condition { equal: true, name: self.near_end.to_string() }]);
            }
            return alternatives;
        }
        let mut all = vec![loopback()];
        all.extend(self.patterns.iter().map(InterfacePattern::condition));
        if self.need_host_interfaces() {
            all.extend(host.iter().filter(|name| *name != "lo").map(|n| Condition { equal: false, name: n.clone() }));
        }
        vec![all]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pods(patterns: &[&str]) -> Result<PodInterfaces, InterfaceError> {
        PodInterfaces::new(patterns.iter().map(|p| p.parse().unwrap()).collect(), None)
    }

    fn shown(alternatives: &[Vec<Condition>]) -> Vec<String> {
        let one = |c: &Condition| format!("{}{}", if c.equal { "" } else { "!" }, c.name);
        alternatives.iter().map(|all| all.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn patterns_become_conditions() {
        let host = ["lo".to_owned(), "eth0".to_owned(), "eth1".to_owned()];
        let of = |patterns: &[&str]| shown(&pods(patterns).unwrap().alternatives(&host));
        assert_eq!(of(&[]), ["!lo !eth0 !eth1"]);
        assert_eq!(of(&["!ens5", "!ens6+"]), ["!lo !ens5 !ens6*"]);
        assert_eq!(of(&["eni+"]), ["eni*"]);
        assert_eq!(of(&["eni+", "cali+"]), ["eni*", "cali*"]);
        assert_eq!(of(&["cbr0"]), ["cbr0", "rolecall0"], "no name fits cbr0, so the near end gets a rule of its own");
    }

    #[test]
    fn the_self_checks_own_pair_is_no_match() {
        let of = |patterns: &[&str], names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            pods(patterns).unwrap().matches_any(&names)
        };
        assert_eq!(of(&["enx+"], &["lo", "eth0", "eni1", "enxrolecall0", "rolecall-pod"]), Some(false));
        assert_eq!(of(&["r+"], &["rrolecall0", "rolecall-pod"]), Some(false));
        assert_eq!(of(&["enx+", "eni+"], &["eni1"]), Some(true));
        assert_eq!(of(&["cbr0"], &["cbr0"]), Some(true));
        assert_eq!(of(&[], &["eni1"]), None);
        assert_eq!(of(&["!eth0"], &["eth0"]), None);
    }

    #[test]
    fn near_end_fits_the_pattern() {
        let of = |patterns: &[&str]| pods(patterns).unwrap().near_end().to_string();
        assert_eq!(of(&[]), "rolecall0");
        assert_eq!(of(&["!eth0"]), "rolecall0");
        assert_eq!(of(&["eni+"]), "enirolecall0");
        assert_eq!(of(&["twelve-chars+"]), "twelve-charsrc0");
        assert_eq!(of(&["thirteen-char+"]), "rolecall0");
        let named = PodInterfaces::new(vec!["cali+".parse().unwrap()], Some("check0".parse().unwrap())).unwrap();
        assert_eq!(shown(&named.alternatives(&[])), ["cali*", "check0"]);
    }

    #[test]
    fn bad_patterns_say_what_to_write() {
        let parse = |text: &str| text.parse::<InterfacePattern>().unwrap_err();
        assert_eq!(parse("+"), InterfaceError::Everything("+".to_owned()));
        for text in ["", "!", "!!eth0", "eni*", "e+i", "a b", "eth0/1", "sixteen-letters-", "..", "é"] {
            assert_eq!(parse(text), InterfaceError::NotAName(text.to_owned()), "{text}");
        }
        assert_eq!(
            pods(&["eni+", "!eth0"]),
            Err(InterfaceError::Mixed("eni+".parse().unwrap(), "!eth0".parse().unwrap()))
        );
        assert_eq!(
            pods(&["!role+"]),
            Err(InterfaceError::ExcludesCheck("!role+".parse().unwrap(), "rolecall0".parse().unwrap()))
        );
    }

    proptest! {
        #[test]
        fn a_pattern_is_shown_as_it_was_written(text in "!?[a-z0-9._-]{1,15}\\+?") {
            prop_assume!(!matches!(text.trim_start_matches('!').trim_end_matches('+'), "." | ".."));
            prop_assert_eq!(text.parse::<InterfacePattern>().unwrap().to_string(), text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            if let Ok(pattern) = text.parse::<InterfacePattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
