//! The release binary as Lambda starts it: a Runtime API that hands out one event, and a start that fails.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::lab::Lab;

const LIMIT: Duration = Duration::from_secs(20);

/// One request to the Runtime API: its first line, headers, body; answered with `answer`.
async fn serve_one(listener: &TcpListener, answer: &str) -> (String, BTreeMap<String, String>, String) {
    let (stream, _) = timeout(LIMIT, listener.accept()).await.expect("the program asks").unwrap();
    serve_on(&mut BufReader::new(stream), answer).await
}

async fn serve_on(
    stream: &mut BufReader<tokio::net::TcpStream>,
    answer: &str,
) -> (String, BTreeMap<String, String>, String) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        timeout(LIMIT, stream.read_line(&mut line)).await.expect("the program writes").unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> = headers.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    (lines[0].clone(), headers, String::from_utf8(body).unwrap())
}

fn program(address: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lambda-issuer"));
    command
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "issuer")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_REGION", "eu-central-1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_bad_setting_is_reported_to_lambda_and_ends_the_program() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let child = program(&listener.local_addr().unwrap().to_string()).spawn().unwrap();
    let answer = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (request, headers, body) = serve_one(&listener, answer).await;
    assert_eq!(request, "POST /2018-06-01/runtime/init/error HTTP/1.1");
    assert_eq!(headers["lambda-runtime-function-error-type"], "Rolecall.BadSetting");
    let report: Value = serde_json::from_str(&body).unwrap();
    let message = report["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("the environment variable NODE_ROLES is not set: write JSON such as {"), "{message}");
    let output = timeout(LIMIT, child.wait_with_output()).await.expect("the program ends").unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("NODE_ROLES is not set"));
}

#[tokio::test]
async fn the_release_binary_answers_an_event() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = program(&listener.local_addr().unwrap().to_string());
    command
        .envs(lab.variables().filter(|(name, _)| !name.starts_with("AWS_")))
        .env("AWS_ACCESS_KEY_ID", "ASIAISSUER")
        .env("AWS_SECRET_ACCESS_KEY", "secret-of-the-issuer")
        .env("AWS_SESSION_TOKEN", "token-of-the-issuer")
        .env("AWS_ENDPOINT_URL", format!("http://{}", lab.aws.listen().await))
        .env("LOG_LEVEL", "trace");
    let mut child = command.spawn().unwrap();
    let event = lab.event(&["default/web-0"], Duration::from_secs(5)).to_string();
    let next = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: r-1\r\n\
         Lambda-Runtime-Deadline-Ms: 9999999999999\r\nLambda-Runtime-Invoked-Function-Arn: a\r\n\
         Content-Length: {}\r\n\r\n{event}",
        event.len()
    );
    let (stream, _) = timeout(LIMIT, listener.accept()).await.expect("the program asks").unwrap();
    let mut stream = BufReader::new(stream);
    let (request, ..) = serve_on(&mut stream, &next).await;
    assert_eq!(request, "GET /2018-06-01/runtime/invocation/next HTTP/1.1");
    let (request, _, body) = serve_on(&mut stream, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(request, "POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["statusCode"], 200);
    assert!(answer["body"].as_str().unwrap().contains(r#""access_key_id":"ASIA1""#));

    child.kill().await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let written = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        written.contains(r#"{"audit":"issued""#) && written.contains(r#""Namespace":"Rolecall/Issuer""#),
        "{written}"
    );
    let secrets = lab.aws.state().secrets.clone();
    let own =
        ["secret-of-the-issuer".to_owned(), "token-of-the-issuer".to_owned(), crate::lab::STAGE_SECRET.to_owned()];
    assert!(secrets.iter().chain(&own).all(|secret| !written.contains(secret.as_str())));
}
