//! A function for this crate's tests, on the real Lambda runtime client. The event says what to do; behind API Gateway, the
//! request's body does. The variable `INIT` says what goes wrong before the first event.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match variable("INIT").as_deref() {
        Some("exit") => std::process::exit(7),
        Some("error") => report_init_error()?,
        Some("hang") => std::future::pending().await,
        _ => {}
    }
    say("ready");
    lambda_runtime::run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    let body: Option<Value> =
        event.get("body").and_then(Value::as_str).and_then(|body| serde_json::from_str(body).ok());
    let order = body.as_ref().unwrap_or(&event);
    match order.get("do").and_then(Value::as_str) {
        Some("sleep") => {
            let ms = order.get("ms").and_then(Value::as_u64).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(json!({ "slept": ms, "pid": std::process::id() }))
        }
        Some("exit") => std::process::exit(3),
        Some("fail") => Err("this is what the event asked for".into()),
        Some("large") => Ok(Value::String("x".repeat(7 * 1024 * 1024))),
        Some("leave-work") => {
            tokio::spawn(async {
                loop {
                    say("still at work");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            Ok(Value::Null)
        }
        Some("variables") => Ok(std::env::vars().map(|(name, value)| (name, Value::from(value))).collect()),
        Some("context") => Ok(json!({
            "request_id": context.request_id,
            "deadline": context.deadline,
            "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id,
        })),
        Some("answer") => Ok(order.get("answer").cloned().unwrap_or_default()),
        _ if event.get("requestContext").is_some() => {
            let headers = json!({ "x-from": "function" });
            Ok(json!({ "statusCode": 200, "headers": headers, "body": event.to_string(), "isBase64Encoded": false }))
        }
        _ => Ok(json!({ "echo": event, "pid": std::process::id() })),
    }
}

/// The runtime client has no call for this.
fn report_init_error() -> Result<(), Error> {
    let api = variable("AWS_LAMBDA_RUNTIME_API").unwrap_or_default();
    let body = r#"{"errorType":"Config.Missing","errorMessage":"NODE_ROLES is not set"}"#;
    let mut stream = TcpStream::connect(&api)?;
    write!(
        stream,
        "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\
         Lambda-Runtime-Function-Error-Type: Config.Missing\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::vars().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}
