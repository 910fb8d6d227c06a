//! The Runtime API, version 2018-06-01: what one environment's program asks over HTTP becomes calls to its environment,
//! which answers them in its own time.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Lambda's limit for an answer: 6 MiB and what its envelope may take.
pub(super) const MAX_ANSWER: usize = 6 * 1024 * 1024 + 100;
/// An error's document is cut off by Lambda far below this.
const MAX_ERROR: usize = 256 * 1024;
/// A program keeps one or two connections open; more are waited with.
const MAX_CONNECTIONS: usize = 16;
/// Calls that an environment has not taken yet.
const CALLS: usize = MAX_CONNECTIONS;

const PREFIX: &str = "/2018-06-01/runtime/";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// One event on its way to the program.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) request_id: String,
    pub(super) deadline_ms: i64,
    pub(super) function_arn: String,
    pub(super) trace: String,
    pub(super) event: Bytes,
}

/// What the environment says to a call that is no `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// The id is not of the event that is being handled.
    UnknownRequest,
    /// The call has no place in the environment's state.
    WrongState,
}

/// An error that the program reports.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) error_type: String,
    pub(super) document: Bytes,
}

/// One call of the program.
#[derive(Debug)]
pub(super) enum Call {
    /// It asks for an event. The sender goes, unused, when the call has no place now.
    Next(oneshot::Sender<Delivery>),
    /// It answers the event `id`; an answer that is too large is its size.
    Response { id: String, answer: Result<Bytes, usize>, verdict: oneshot::Sender<Verdict> },
    /// It could not handle the event `id`.
    Error { id: String, report: Report, verdict: oneshot::Sender<Verdict> },
    /// It cannot start.
    InitError { report: Report, verdict: oneshot::Sender<Verdict> },
}

/// One environment's listener. Dropping it closes every connection.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl RuntimeApi {
    /// Listens on a free port of the loopback address.
    pub(super) async fn start() -> std::io::Result<(Self, mpsc::Receiver<Call>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (calls, receiver) = mpsc::channel(CALLS);
        Ok((Self { address, task: tokio::spawn(accept(listener, calls)) }, receiver))
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, calls: mpsc::Sender<Call>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, calls.clone()))),
                Err(error) => tracing::warn!(%error, "the Runtime API cannot accept"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, calls: mpsc::Sender<Call>) {
    let service = service_fn(move |request| {
        let calls = calls.clone();
        async move { Ok::<_, Infallible>(answer(request, &calls).await) }
    });
    // A connection that breaks is the program's end or its wish; the environment sees either for itself.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, calls: &mpsc::Sender<Call>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path.strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(calls).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            let id = (*id).to_owned();
            let answer = read(request, MAX_ANSWER).await;
            let too_large = answer.is_err();
            let said = ask(calls, |verdict| Call::Response { id, answer, verdict }).await;
            if too_large && said == Verdict::Accepted { too_large_answer() } else { verdict_answer(said) }
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            let id = (*id).to_owned();
            let report = report(request).await;
            verdict_answer(ask(calls, |verdict| Call::Error { id, report, verdict }).await)
        }
        (&Method::POST, ["init", "error"]) => {
            let report = report(request).await;
            verdict_answer(ask(calls, |verdict| Call::InitError { report, verdict }).await)
        }
        _ => response(StatusCode::NOT_FOUND, Bytes::from_static(b"404 page not found\n")),
    }
}

async fn next(calls: &mpsc::Sender<Call>) -> Response<Full<Bytes>> {
    let (sender, delivery) = oneshot::channel();
    if calls.send(Call::Next(sender)).await.is_err() {
        return verdict_answer(Verdict::WrongState);
    }
    let Ok(delivery) = delivery.await else {
        return verdict_answer(Verdict::WrongState);
    };
    let mut response = response(StatusCode::OK, delivery.event);
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", delivery.request_id),
        ("lambda-runtime-deadline-ms", delivery.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", delivery.function_arn),
        ("lambda-runtime-trace-id", delivery.trace),
    ];
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Hands a call to the environment; one that is gone accepts nothing.
async fn ask(calls: &mpsc::Sender<Call>, call: impl FnOnce(oneshot::Sender<Verdict>) -> Call) -> Verdict {
    let (sender, verdict) = oneshot::channel();
    if calls.send(call(sender)).await.is_err() {
        return Verdict::WrongState;
    }
    verdict.await.unwrap_or(Verdict::WrongState)
}

async fn report(request: Request<Incoming>) -> Report {
    let error_type = request.headers().get(ERROR_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("Unhandled");
    let error_type = error_type.to_owned();
    Report { error_type, document: read(request, MAX_ERROR).await.unwrap_or_default() }
}

/// The body, or the limit that it breaks. A body that breaks off is empty: Lambda, too, answers with what it has.
async fn read(request: Request<Incoming>, limit: usize) -> Result<Bytes, usize> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(limit),
        Err(_) => Ok(Bytes::new()),
    }
}

fn verdict_answer(verdict: Verdict) -> Response<Full<Bytes>> {
    let (status, body) = match verdict {
        Verdict::Accepted => (StatusCode::ACCEPTED, json!({ "status": "OK" })),
        Verdict::UnknownRequest => {
            (StatusCode::BAD_REQUEST, json!({ "errorType": "InvalidRequestID", "errorMessage": "Invalid request ID" }))
        }
        Verdict::WrongState => (
            StatusCode::FORBIDDEN,
            json!({ "errorType": "InvalidStateTransition", "errorMessage": "State transition is not allowed" }),
        ),
    };
    json_answer(status, &body)
}

fn too_large_answer() -> Response<Full<Bytes>> {
    let message = format!("Exceeded maximum allowed payload size ({MAX_ANSWER} bytes).");
    json_answer(
        StatusCode::PAYLOAD_TOO_LARGE,
        &json!({ "errorType": "RequestEntityTooLarge", "errorMessage": message }),
    )
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = response(status, Bytes::from(body.to_string()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        _api: RuntimeApi,
        calls: mpsc::Receiver<Call>,
        client: reqwest::Client,
        base: String,
    }

    async fn lab() -> Lab {
        rustls::crypto::ring::default_provider().install_default().ok();
        let (api, calls) = RuntimeApi::start().await.unwrap();
        let base = format!("http://{}{PREFIX}", api.address());
        Lab { _api: api, calls, client: reqwest::Client::new(), base }
    }

    impl Lab {
        /// Posts as the program, and answers as the environment.
        async fn post(&mut self, path: &str, body: Vec<u8>, said: Verdict) -> (u16, String, Call) {
            let sent = self.client.post(format!("{}{path}", self.base)).body(body).send();
            let taken = async {
                let mut call = self.calls.recv().await.unwrap();
                let (Call::Response { verdict, .. } | Call::Error { verdict, .. } | Call::InitError { verdict, .. }) =
                    &mut call
                else {
                    panic!("{call:?}")
                };
                std::mem::replace(verdict, oneshot::channel().0).send(said).unwrap();
                call
            };
            let (answer, call) = tokio::join!(sent, taken);
            let answer = answer.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap(), call)
        }
    }

    #[tokio::test]
    async fn verdicts_are_lambdas_documents() {
        let mut lab = lab().await;
        let (status, body, call) = lab.post("invocation/one/response", b"{}".to_vec(), Verdict::Accepted).await;
        assert_eq!((status, body.as_str()), (202, r#"{"status":"OK"}"#));
        assert!(matches!(call, Call::Response { id, answer: Ok(body), .. } if id == "one" && &*body == b"{}"));

        let (status, body, _) = lab.post("invocation/two/error", Vec::new(), Verdict::UnknownRequest).await;
        let document = r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#;
        assert_eq!((status, body.as_str()), (400, document));

        let (status, body, call) = lab.post("init/error", b"why".to_vec(), Verdict::WrongState).await;
        let document = r#"{"errorMessage":"State transition is not allowed","errorType":"InvalidStateTransition"}"#;
        assert_eq!((status, body.as_str()), (403, document));
        let Call::InitError { report, .. } = call else { panic!("{call:?}") };
        assert_eq!((report.error_type.as_str(), &*report.document), ("Unhandled", &b"why"[..]));
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_only_its_size() {
        let mut lab = lab().await;
        let (status, body, call) =
            lab.post("invocation/one/response", vec![b'x'; MAX_ANSWER + 1], Verdict::Accepted).await;
        assert_eq!(status, 413, "{body}");
        assert!(matches!(call, Call::Response { answer: Err(MAX_ANSWER), .. }));
    }

    #[tokio::test]
    async fn a_next_without_a_place_and_an_unknown_path_are_refused() {
        let mut lab = lab().await;
        let asked = lab.client.get(format!("{}invocation/next", lab.base)).send();
        let refused = async { drop(lab.calls.recv().await.unwrap()) };
        let (answer, ()) = tokio::join!(asked, refused);
        assert_eq!(answer.unwrap().status().as_u16(), 403);
        for path in ["invocation/next/", "invocation//", "exit/error", ""] {
            let answer = lab.client.get(format!("{}{path}", lab.base)).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 404, "{path}");
        }
    }
}
