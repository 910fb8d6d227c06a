//! The text of an input. Targets with several fields read one per line, so that seeds can be written and read by people.

/// The next line without its end; `None` after the last.
pub(crate) fn line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    if rest.is_empty() {
        return None;
    }
    let (line, after) = rest.split_once('\n').unwrap_or((*rest, ""));
    *rest = after;
    Some(line)
}

/// The input as text; `None` where it is none.
pub(crate) fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
