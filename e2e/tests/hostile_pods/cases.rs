//! Requests that are not what an SDK sends, and the exact answer to each.

use crate::raw::Then::{self, Closed, InStep};

/// One connection: what is sent, the answers to it, and what becomes of the connection.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) answers: &'static [(u16, &'static str)],
    pub(crate) then: Then,
}

/// An answer of the HTTP reader, before any rule of the agent's.
const BAD: &[(u16, &str)] = &[(400, "")];
const NOT_FOUND: &[(u16, &str)] = &[(404, "rolecall: not_found")];
const FOREIGN: &[(u16, &str)] = &[(403, "rolecall: foreign_host")];
const METHOD: &[(u16, &str)] = &[(405, "rolecall: method_not_allowed")];
const TOO_LARGE: &[(u16, &str)] = &[(413, "rolecall: body_too_large")];
/// The region, which [`REGION`] asks for.
const OK: &[(u16, &str)] = &[(200, e2e::cloud::REGION)];
const REGION: &str = "GET /latest/meta-data/placement/region HTTP/1.1\r\n";
const HOST: &str = "Host: 169.254.169.254\r\n";
/// A request that would be answered with 404, hidden in a body: nobody may answer it.
const HIDDEN: &str = "GET /latest/user-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";

fn case(name: &'static str, bytes: String, answers: &'static [(u16, &'static str)], then: Then) -> Case {
    Case { name, bytes: bytes.into_bytes(), answers, then }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [smuggling(), framing(), targets(), methods(), hosts(), sizes()].into_iter().flatten().collect()
}

/// Where two readers could disagree on where the body ends. With both headers the coding counts and the connection ends after
/// the answer (RFC 9112, 6.1), so that nothing behind the body is ever read as a request.
fn smuggling() -> Vec<Case> {
    let body = |headers: &str, body: &str| format!("{REGION}{HOST}{headers}\r\n{body}");
    let length = HIDDEN.len();
    vec![
        case(
            "CL.TE",
            body(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), &format!("0\r\n\r\n{HIDDEN}")),
            OK,
            Closed,
        ),
        case(
            "TE.CL",
            body(&format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), &format!("0\r\n\r\n{HIDDEN}")),
            OK,
            Closed,
        ),
        case(
            "two lengths that differ",
            body(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), HIDDEN),
            BAD,
            Closed,
        ),
        case("a list of lengths", body("Content-Length: 0, 5\r\n", HIDDEN), BAD, Closed),
        case("a signed length", body("Content-Length: +5\r\n", "hello"), BAD, Closed),
        case("a negative length", body("Content-Length: -1\r\n", ""), BAD, Closed),
        case("a hexadecimal length", body("Content-Length: 0x5\r\n", "hello"), BAD, Closed),
        case("a length beyond 64 bits", body("Content-Length: 99999999999999999999999\r\n", ""), BAD, Closed),
        case("an unknown coding", body("Transfer-Encoding: gzip\r\n", ""), BAD, Closed),
        case("chunked is not last", body("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), BAD, Closed),
        case("a misspelt coding", body("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), BAD, Closed),
        case(
            "chunked in HTTP/1.0",
            format!(
                "GET /latest/meta-data/placement/region HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            BAD,
            Closed,
        ),
        case("a body of a GET", body(&format!("Content-Length: {length}\r\n"), HIDDEN), OK, InStep),
        case("a chunked body", body("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), OK, InStep),
        case("a chunk's extension", body("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n"), OK, InStep),
    ]
}

/// Where two readers could disagree on where a line or a field ends.
fn framing() -> Vec<Case> {
    let with = |line: &str| format!("{REGION}{HOST}{line}\r\n");
    vec![
        case("obs-fold", with("X-A: b\r\n c\r\n"), BAD, Closed),
        case("a space before the colon", with("Content-Length : 5\r\n"), BAD, Closed),
        case("a space before the name", format!("{REGION} {HOST}\r\n"), BAD, Closed),
        case("a field without a colon", with("Nonsense\r\n"), BAD, Closed),
        case("a NUL in a value", with("X-A: b\0c\r\n"), BAD, Closed),
        case("a bare CR in a value", with("X-A: b\rc\r\n"), BAD, Closed),
        case("a bare CR as a line's end", REGION.replace("\r\n", "\r") + "Host: 169.254.169.254\r\r", BAD, Closed),
        case("HTTP/0.9", "GET /latest/meta-data/placement/region\r\n".into(), BAD, Closed),
        case("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[], Closed),
        case("HTTP/3.7", format!("GET / HTTP/3.7\r\n{HOST}\r\n"), BAD, Closed),
        case("HTTP/1.9", format!("GET / HTTP/1.9\r\n{HOST}\r\n"), BAD, Closed),
        case("no protocol at all", "\u{1}\u{2}\u{3}hello\r\n\r\n".into(), BAD, Closed),
        case("TLS", "\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n".into(), BAD, Closed),
        case("two spaces before the target", format!("GET  / HTTP/1.1\r\n{HOST}\r\n"), BAD, Closed),
        case("a tab in the request line", format!("GET\t/ HTTP/1.1\r\n{HOST}\r\n"), BAD, Closed),
        case("lines that end with LF alone", format!("{REGION}{HOST}\r\n").replace('\r', ""), OK, InStep),
        case("empty lines before the request", format!("\r\n\r\n{REGION}{HOST}\r\n"), OK, InStep),
    ]
}

/// Targets that are meant for a proxy, or for nobody.
fn targets() -> Vec<Case> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
    vec![
        case("absolute form", get("http://169.254.169.254/latest/meta-data/placement/region"), NOT_FOUND, InStep),
        case(
            "absolute form of another host",
            get("http://evil.example/latest/meta-data/placement/region"),
            NOT_FOUND,
            InStep,
        ),
        case("absolute form of user-data", get("http://169.254.169.254/latest/user-data"), NOT_FOUND, InStep),
        case("asterisk form", get("*"), NOT_FOUND, InStep),
        case("no slash", get("latest/meta-data/placement/region"), BAD, Closed),
        case("CONNECT", format!("CONNECT 169.254.169.254:80 HTTP/1.1\r\n{HOST}\r\n"), METHOD, InStep),
        case("CONNECT to the node", format!("CONNECT 10.0.1.10:8182 HTTP/1.1\r\n{HOST}\r\n"), METHOD, InStep),
        case("OPTIONS *", format!("OPTIONS * HTTP/1.1\r\n{HOST}\r\n"), METHOD, InStep),
    ]
}

fn methods() -> Vec<Case> {
    let ask = |method: &str| format!("{method} /latest/meta-data/placement/region HTTP/1.1\r\n{HOST}\r\n");
    vec![
        case("TRACE", ask("TRACE"), METHOD, InStep),
        case("DELETE", ask("DELETE"), METHOD, InStep),
        case("a method of nobody's", ask("BREW"), METHOD, InStep),
        case("lower case", ask("get"), METHOD, InStep),
        case("GET of a token", format!("GET /latest/api/token HTTP/1.1\r\n{HOST}\r\n"), METHOD, InStep),
        case(
            "X-Forwarded-For on the PUT",
            format!(
                "PUT /latest/api/token HTTP/1.1\r\n{HOST}X-aws-ec2-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n"
            ),
            &[(403, "rolecall: forwarded")],
            InStep,
        ),
        case(
            "the PUT of a dated version",
            format!("PUT /2021-03-23/api/token HTTP/1.1\r\n{HOST}X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"),
            &[(403, "rolecall: dated_token")],
            InStep,
        ),
        case(
            "no lifetime",
            format!("PUT /latest/api/token HTTP/1.1\r\n{HOST}\r\n"),
            &[(400, "rolecall: bad_ttl")],
            InStep,
        ),
    ]
}

fn hosts() -> Vec<Case> {
    let with = |hosts: &str| format!("{REGION}{hosts}\r\n");
    vec![
        case("another host", with("Host: evil.example\r\n"), FOREIGN, Closed),
        case("the node's own", with("Host: 10.0.1.10:8181\r\n"), FOREIGN, Closed),
        case("no host", with(""), FOREIGN, Closed),
        case("an empty host", with("Host:\r\n"), FOREIGN, Closed),
        case("the host twice", with(&HOST.repeat(2)), FOREIGN, Closed),
        case("one host and another", with(&format!("{HOST}Host: evil.example\r\n")), FOREIGN, Closed),
        case("a host with a name before it", with("Host: user@169.254.169.254\r\n"), FOREIGN, Closed),
        case("the address as one number", with("Host: 2852039166\r\n"), FOREIGN, Closed),
        case("a name of the service's", with("Host: instance-data\r\n"), OK, InStep),
    ]
}

/// More than the agent reads.
fn sizes() -> Vec<Case> {
    let with = |line: &str| format!("{REGION}{HOST}{line}\r\n");
    let field = |bytes: usize| format!("X-A: {}\r\n", "a".repeat(bytes));
    vec![
        case("a header of 64 KiB", with(&field(64 << 10)), &[(431, "")], Closed),
        case("a header of 1 MiB", with(&field(1 << 20)), &[(431, "")], Closed),
        case("65 fields", with(&"X-A: b\r\n".repeat(64)), &[(431, "")], Closed),
        case("64 fields", with(&"X-A: b\r\n".repeat(63)), OK, InStep),
        case(
            "a path of 12 KiB",
            format!("GET /latest/{} HTTP/1.1\r\n{HOST}\r\n", "a/".repeat(6 << 10)),
            NOT_FOUND,
            InStep,
        ),
        case("a body of 2 KiB", with(&format!("Content-Length: 2048\r\n\r\n{}", "a".repeat(2046))), TOO_LARGE, Closed),
        case("a body of 1 GiB, announced", with("Content-Length: 1073741824\r\n"), TOO_LARGE, Closed),
        case(
            "a body that is to be asked for",
            with("Content-Length: 5000\r\nExpect: 100-continue\r\n"),
            TOO_LARGE,
            Closed,
        ),
        case("a small body that is to be asked for", with("Content-Length: 5\r\nExpect: 100-continue\r\n"), OK, Closed),
    ]
}
