//! The bytes of a pod's connection. `$TOKEN` in them stands for a token that the service gave the pod.

use std::borrow::Cow;

use crate::agent::{PASSED_ON, SECRET, with_agent};

const PLACEHOLDER: &[u8] = b"$TOKEN";
/// Every status that the service or the HTTP library under it has a reason for.
const STATUSES: [&str; 9] = ["200", "400", "401", "403", "404", "405", "413", "414", "431"];

pub(super) fn run(input: &[u8]) {
    with_agent(|agent| {
        let bytes = with_token(input, agent.tokens.own.as_bytes());
        let answers = agent.converse(&bytes, true);
        if find(&bytes, agent.tokens.own.as_bytes()).is_none() {
            assert_eq!(find(&answers, SECRET.as_bytes()), None, "credentials without a token");
            assert_eq!(find(&answers, PASSED_ON.as_bytes()), None, "the real service's answer without a token");
        }
        if let Some(rest) = answers.strip_prefix(b"HTTP/1.1 ").or_else(|| answers.strip_prefix(b"HTTP/1.0 ")) {
            let status = rest.get(..3).and_then(|status| std::str::from_utf8(status).ok());
            assert!(status.is_some_and(|status| STATUSES.contains(&status)), "{status:?}");
        } else {
            assert!(answers.is_empty(), "an answer that is none");
        }
    });
}

fn with_token<'a>(input: &'a [u8], token: &[u8]) -> Cow<'a, [u8]> {
    let Some(at) = find(input, PLACEHOLDER) else { return Cow::Borrowed(input) };
    let (before, rest) = input.split_at(at);
    Cow::Owned([before, token, rest.get(PLACEHOLDER.len()..).unwrap_or_default()].concat())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
