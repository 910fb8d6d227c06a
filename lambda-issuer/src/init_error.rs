//! The report of a failed start to the Lambda Runtime API, so that it appears in what an invocation fails with and not only in
//! the log. `lambda_runtime` has no public way to send one.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::json;

/// The Runtime API is a process on the same machine: what takes longer than this is not there.
const LIMIT: Duration = Duration::from_secs(2);

/// Posts `message` to the Runtime API at `address` (`host:port`) and waits for its answer.
pub fn post(address: &str, message: &str) -> io::Result<()> {
    let body = json!({"errorType": "Rolecall.BadSetting", "errorMessage": message, "stackTrace": []}).to_string();
    let resolved = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&resolved, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Lambda-Runtime-Function-Error-Type: Rolecall.BadSetting\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}
