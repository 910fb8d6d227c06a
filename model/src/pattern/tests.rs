use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(text)
}

#[test]
fn the_whole_text_must_match() {
    assert!(matches("red|blue", "red"));
    assert!(matches("red|blue", "blue"));
    assert!(!matches("red|blue", "redX"));
    assert!(!matches("red|blue", "Xblue"));
    assert!(!matches("app", "my-app"));
    assert!(!matches("app", "app\n"));
    assert!(matches("app-.*", "app-one"));
    assert!(matches("  app-.* \n", "app-one"));
    assert!(matches("^app$", "app"));
    assert!(matches("(?i)APP", "app"));
}

#[test]
fn a_pattern_cannot_leave_its_group() {
    for text in ["a)|(b", "a)(?:b", ")", "(", "(?:a", "a)$|^(?:b"] {
        assert!(Pattern::parse(text).is_err(), "{text:?}");
    }
    // A verbose comment would swallow the closing parenthesis.
    assert_eq!(Pattern::parse("(?x)a#").unwrap_err(), BadPattern::Unportable("a flag other than i, s and U"));
}

#[test]
fn what_re2_reads_otherwise_is_refused_by_name() {
    for text in [
        r"(?x)a b",
        r"(?R)a",
        r"(?u)a",
        r"(?m)a",
        r"[a&&b]",
        r"[a--b]",
        r"[a~~b]",
        r"[a[b]]",
        r"\pL",
        r"[\pL]",
        r"\<a",
        r"\b{start}a",
        r"a{1001}",
        r"a**",
        r"a{2}{3}",
        r"\u0061",
        r"[\u0061]",
        r"é",
        r"(?<n>a)",
        // Go's RE2 takes a count with a leading zero, or white space in it, as text.
        r"a{01}",
        r"a{00,3}",
        r"a{1,03}",
        r"a{ 1}",
        r"a{1 }?",
        r"a{1, 3}",
        // It counts repetitions within each other.
        r"(?:a{100}){11}",
        r"(?:(?:a{10})+b{2,11}){100}",
        // A range from `-` to `/`; a character of three bytes that folds to `k`.
        r"[--/]",
        r"[^--/]",
        r"(?i)\x{212A}",
        r"[\x{100}-\x{3000}]",
        r"\xff",
        r"(?P<a.b>a)",
    ] {
        assert!(matches!(Pattern::parse(text), Err(BadPattern::Unportable(_))), "{text:?}: {:?}", Pattern::parse(text));
    }
    for text in [
        r"a{1000}",
        r"a{0,3}",
        r"a{2,}",
        r"a+?",
        r"(a*)*",
        r"[^/]+",
        r"[[:alpha:]]+",
        r"\d+\w*\s?",
        r"\Aa\z",
        r"\ba\B",
        r"\.\-\/",
        r"(?P<n>a)",
        r"(?i:a)",
        r"(?s).",
        r"a{0}",
        r"a{0,0}",
        r"(?:a{10}){100}",
        r"(?:a{2,}){500}b{1000}",
        r"(?:a{0}){1000}",
        r"[a-]",
        r"[-a]",
    ] {
        assert!(Pattern::parse(text).is_ok(), "{text:?}: {:?}", Pattern::parse(text));
    }
}

#[test]
fn a_leading_star_and_other_nonsense_name_the_fault() {
    assert_eq!(Pattern::parse("*").unwrap_err(), BadPattern::Syntax("repetition operator missing expression".into()));
    // Text to RE2: whichever way this engine comes to read it, it must not be a repetition here.
    assert!(matches!(Pattern::parse("a{,3}"), Err(BadPattern::Syntax(_))));
    assert!(matches!(Pattern::parse("[z-a]"), Err(BadPattern::Syntax(_))));
    assert!(matches!(Pattern::parse("(?=a)"), Err(BadPattern::Syntax(_))));
    assert!(matches!(Pattern::parse(r"(a)\1"), Err(BadPattern::Syntax(_))));
    assert_eq!(Pattern::parse(&"a".repeat(MAX_PATTERN + 1)).unwrap_err(), BadPattern::TooLong(4097));
    assert_eq!(
        Pattern::parse(r"((a{1000}){1000}){1000}").unwrap_err(),
        BadPattern::Unportable("a repetition of more than 1,000, or several within each other")
    );
    assert_eq!(Pattern::parse(&format!("(?:{}){{1000}}", "(?:ab|cd)".repeat(50))).unwrap_err(), BadPattern::TooLarge);
}

#[test]
fn classes_are_ascii_as_in_re2() {
    assert!(!matches(r"\d", "٣"));
    assert!(!matches(r"\w", "é"));
    assert!(!matches(r"(?i)k", "\u{212a}"));
}

#[test]
fn globs_reach_over_slashes_and_take_everything_else_literally() {
    let glob = |pattern: &str, text: &str| Glob::parse(pattern).unwrap().matches(text);
    assert!(glob("arn:aws:iam::1:role/team/*", "arn:aws:iam::1:role/team/sub/app"));
    assert!(glob("a?c", "a/c"));
    assert!(!glob("a?c", "ac"));
    assert!(!glob("a.c", "abc"));
    assert!(!glob("app", "app2"));
    assert!(glob("*", ""));
    assert!(glob("a|b", "a|b"));
    assert!(!glob("a|b", "a"));
    assert!(glob("x+(y)", "x+(y)"));
}

#[test]
fn the_seeds_mistake_is_corrected() {
    let correct = |text: &str| corrected(text).map(|p| p.as_str().to_owned());
    assert_eq!(correct("*").as_deref(), Some(".*"));
    assert_eq!(correct("app-*").as_deref(), Some("app-.*"));
    assert_eq!(correct("a*b*").as_deref(), Some("a.*b.*"));
    assert_eq!(correct(".*"), None);
    assert_eq!(correct("(ab)*"), None);
    assert_eq!(correct("[ab]*"), None);
    assert_eq!(correct(r"a\*"), None);
    assert_eq!(correct(r"a\\*").as_deref(), Some(r"a\\.*"));
    assert_eq!(correct("(*"), None);
}

/// Time per character must not grow with the text; a backtracking engine would need longer than the universe for these.
#[test]
fn no_pattern_takes_super_linear_time() {
    let text = "a".repeat(4000) + "!";
    let begin = Instant::now();
    for pattern in
        ["(a*)*", "(a|aa)+", "(a|a?)+", "(.*)(.*)(.*)(.*)(.*)b", "(a+)+$", "a{0,1000}a{0,1000}b", "(x+x+)+y|a*b"]
    {
        assert!(!matches(pattern, &text), "{pattern}");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "took {:?}", begin.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in ".{0,120}") {
        let _ = Pattern::parse(&text);
        let _ = corrected(&text);
        let _ = Glob::parse(&text);
    }

    #[test]
    fn a_nasty_pattern_is_parsed_and_matched_in_bounded_time(
        text in r"([a-c.|]|\(|\)|\*|\+|\?|\{[0-9]{1,4}\}|\{[0-9],[0-9]{1,3}\}|\[|\]){0,60}",
    ) {
        let begin = Instant::now();
        if let Ok(pattern) = Pattern::parse(&text) { pattern.matches(&"abc".repeat(700)); }
        prop_assert!(begin.elapsed() < Duration::from_secs(5), "{text:?} took {:?}", begin.elapsed());
    }

    #[test]
    fn a_literal_matches_itself_alone(text in "[A-Za-z0-9/_+=,.@-]{1,64}", other in "[A-Za-z0-9/_+=,.@-]{1,64}") {
        let glob = Glob::parse(&text).unwrap();
        prop_assert!(glob.matches(&text));
        prop_assert_eq!(glob.matches(&other), text == other);
    }
}
