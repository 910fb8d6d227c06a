//! Method, path and header fields of one request, so that it is known exactly what was asked. The input is the request's lines;
//! the first ends with `strict` where tokens are required. `$OWN`, `$NEIGHBOUR` and `$EXPIRED` stand for tokens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::agent::{GivenTokens, PASSED_ON, SECRET, with_agent};
use crate::text::text;

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

struct Request<'a> {
    first: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

pub(super) fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    with_agent(|agent| {
        let text = with_tokens(text, &agent.tokens);
        let (strict, text) = match text.strip_prefix("strict ") {
            Some(text) => (true, text),
            None => (false, &*text),
        };
        let Some(request) = Request::read(text) else { return };
        let bytes = format!("{}\r\n\r\n", text.trim_end_matches('\n').replace('\n', "\r\n"));
        let answer = agent.converse(bytes.as_bytes(), strict);
        request.check(&String::from_utf8_lossy(&answer), strict, &agent.tokens);
    });
}

fn with_tokens(text: &str, tokens: &GivenTokens) -> String {
    let text = text.replace("$OWN", &tokens.own).replace("$NEIGHBOUR", &tokens.neighbours);
    text.replace("$EXPIRED", &tokens.expired)
}

impl<'a> Request<'a> {
    /// `None` where a line could be more or less than one to another reader: that is the target `http`.
    fn read(text: &'a str) -> Option<Self> {
        let mut lines = text.trim_end_matches('\n').split('\n');
        let first = lines.next()?;
        let fields = lines.map(|line| line.split_once(':').unwrap_or((line, ""))).collect::<Vec<_>>();
        let is_one_line = |line: &str| !line.is_empty() && !line.contains('\r');
        (is_one_line(first) && text.trim_end_matches('\n').split('\n').all(is_one_line))
            .then_some(Self { first, fields })
    }

    fn values(&self, name: &str) -> Vec<&'a str> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim_matches([' ', '\t'])).collect()
    }

    fn check(&self, answer: &str, strict: bool, tokens: &GivenTokens) {
        let is_ok = answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200");
        let gives_something = answer.contains(SECRET) || answer.contains(PASSED_ON);
        assert!(is_ok || !gives_something, "{answer}");
        if is_ok {
            assert!(self.host_is_ours(), "an answer to a foreign Host: {:?}", self.values("host"));
        }
        if is_ok && self.first.starts_with("PUT ") {
            self.check_token_answer(answer, tokens);
        } else if is_ok {
            assert!(self.first.starts_with("GET /") || self.first.starts_with("HEAD /"), "{}", self.first);
            match self.values(TOKEN).as_slice() {
                [] => assert!(!strict, "an answer without the token that is required"),
                values => assert_eq!(values, [tokens.own.as_str()], "an answer to a wrong token"),
            }
        }
        if answer.contains(SECRET) {
            assert!(self.first.contains("/security-credentials/"), "{}", self.first);
        }
    }

    fn check_token_answer(&self, answer: &str, tokens: &GivenTokens) {
        assert!(self.values("x-forwarded-for").is_empty(), "a token for a proxy");
        let values = self.values(TTL);
        let [ttl] = values.as_slice() else { unreachable!("a token for {values:?}") };
        let ttl: u32 = ttl.parse().expect("a number of seconds");
        assert!((1..=21_600).contains(&ttl), "{ttl}");
        let echo = format!("{TTL}: {ttl}\r\n");
        assert!(answer.contains(&echo), "no echo of the lifetime: {answer}");
        assert_eq!(answer.rsplit("\r\n").next().map(str::len), Some(tokens.own.len()), "{answer}");
    }

    /// HTTP/1.0 alone may come without the field.
    fn host_is_ours(&self) -> bool {
        match self.values("host").as_slice() {
            [] => self.first.ends_with("HTTP/1.0"),
            [host] => is_ours(host),
            _ => false,
        }
    }
}

fn is_ours(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let name = host.strip_suffix(":80").unwrap_or(&host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
    address == Ok(V4.into())
        || (address == Ok(V6.into()) && name.starts_with('['))
        || matches!(name, "instance-data" | "instance-data.ec2.internal")
}
