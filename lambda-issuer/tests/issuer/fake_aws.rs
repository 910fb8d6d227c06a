//! DynamoDB, KMS and STS as far as the issuer speaks with them: their protocols on a real port, with faults to switch on.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lambda_issuer::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::expression::{self, Item};

/// What STS says to the next `AssumeRole`.
#[derive(Clone, Debug, Default)]
pub(crate) enum StsMood {
    /// A session.
    #[default]
    Gives,
    /// A session of another role.
    GivesAnother,
    /// A session whose expiration cannot be read.
    GivesGarbage,
    /// An error of this status, code and message.
    Refuses(u16, &'static str, &'static str),
    /// Nothing, ever.
    Hangs,
}

/// Everything that the fake remembers, and its faults.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) tables: HashMap<String, BTreeMap<String, Item>>,
    /// The parameters of each `AssumeRole`.
    pub(crate) assumed: Vec<BTreeMap<String, String>>,
    /// Secrets and tokens handed out.
    pub(crate) secrets: Vec<String>,
    pub(crate) generated_keys: u32,
    pub(crate) decrypted_keys: u32,
    pub(crate) mood: StsMood,
    pub(crate) sts_delay: Duration,
    pub(crate) kms_down: bool,
    /// Tables that answer with a server's fault.
    pub(crate) down: Vec<String>,
    /// How many keys one `BatchGetItem` handles, if not all.
    pub(crate) batch_handles: Option<usize>,
    pub(crate) batches: u32,
    /// How long a session lasts.
    pub(crate) session_secs: Option<u64>,
}

/// A running fake. Its tasks end with it.
pub(crate) struct FakeAws {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

type Answer = (u16, String);

impl FakeAws {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&state), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn put(&self, table: &str, pk: &str, attributes: Value) {
        let Value::Object(mut item) = attributes else { panic!("an item is an object") };
        item.insert("pk".into(), json!({"S": pk}));
        self.state().tables.entry(table.into()).or_default().insert(pk.into(), item);
    }
}

async fn serve(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.headers().get("x-amz-target").map(|t| t.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (status, text) = match target.as_deref().and_then(|t| t.split_once('.')) {
        Some(("DynamoDB_20120810", operation)) => dynamo(&state, operation, &serde_json::from_slice(&body).unwrap()),
        Some(("TrentService", operation)) => kms(&state, operation, &serde_json::from_slice(&body).unwrap()),
        Some(other) => panic!("unknown target {other:?}"),
        None => sts(&state, &form(std::str::from_utf8(&body).unwrap())).await,
    };
    Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
}

fn fault(kind: &str) -> Answer {
    (400, json!({"__type": kind, "message": "the fake says so"}).to_string())
}

fn dynamo(state: &Mutex<State>, operation: &str, input: &Value) -> Answer {
    let mut state = state.lock().unwrap();
    if operation == "BatchGetItem" {
        return batch_get(&mut state, input);
    }
    let table = input["TableName"].as_str().unwrap().to_owned();
    if state.down.contains(&table) {
        return (500, json!({"__type": "InternalServerError"}).to_string());
    }
    let items = state.tables.entry(table).or_default();
    let key = if operation == "PutItem" { &input["Item"]["pk"] } else { &input["Key"]["pk"] };
    let pk = key["S"].as_str().unwrap().to_owned();
    let old = items.get(&pk).cloned();
    let values: BTreeMap<String, Value> =
        serde_json::from_value(input.get("ExpressionAttributeValues").cloned().unwrap_or_else(|| json!({}))).unwrap();
    if let Some(condition) = input.get("ConditionExpression").and_then(Value::as_str)
        && !expression::holds(condition, old.as_ref(), &values)
    {
        let mut error = json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"});
        if input.get("ReturnValuesOnConditionCheckFailure") == Some(&json!("ALL_OLD"))
            && let Some(old) = old
        {
            error["Item"] = Value::Object(old);
        }
        return (400, error.to_string());
    }
    match operation {
        "GetItem" => {
            assert_eq!(input["ConsistentRead"], true);
            (200, old.map_or_else(|| json!({}), |item| json!({"Item": item})).to_string())
        }
        "PutItem" => {
            items.insert(pk, input["Item"].as_object().unwrap().clone());
            (200, "{}".into())
        }
        "UpdateItem" => {
            let mut item = old.unwrap_or_default();
            item.insert("pk".into(), json!({"S": pk}));
            expression::update(input["UpdateExpression"].as_str().unwrap(), &mut item, &values);
            items.insert(pk, item.clone());
            (200, json!({"Attributes": item}).to_string())
        }
        other => panic!("unknown operation {other}"),
    }
}

fn batch_get(state: &mut State, input: &Value) -> Answer {
    state.batches += 1;
    let (table, wanted) = input["RequestItems"].as_object().unwrap().iter().next().unwrap();
    if state.down.contains(table) {
        return (500, json!({"__type": "InternalServerError"}).to_string());
    }
    assert_eq!(wanted["ConsistentRead"], true);
    let keys = wanted["Keys"].as_array().unwrap();
    if keys.len() > 100 {
        return fault("ValidationException");
    }
    let handled = state.batch_handles.unwrap_or(keys.len()).min(keys.len());
    let items = state.tables.entry(table.clone()).or_default();
    let found: Vec<&Item> = keys[..handled].iter().filter_map(|key| items.get(key["pk"]["S"].as_str()?)).collect();
    let mut answer = json!({"Responses": {table: found}, "UnprocessedKeys": {}});
    if handled < keys.len() {
        answer["UnprocessedKeys"][table] = json!({"Keys": keys[handled..]});
    }
    (200, answer.to_string())
}

fn kms(state: &Mutex<State>, operation: &str, input: &Value) -> Answer {
    let mut state = state.lock().unwrap();
    if state.kms_down {
        return (500, json!({"__type": "KMSInternalException"}).to_string());
    }
    assert_eq!(input["KeyId"], "alias/rolecall");
    let context = input["EncryptionContext"].to_string();
    match operation {
        "GenerateDataKey" => {
            state.generated_keys += 1;
            let key = STANDARD.encode([u8::try_from(state.generated_keys).unwrap(); 32]);
            let wrapped = STANDARD.encode(format!("{context}|{key}"));
            (200, json!({"KeyId": "k", "Plaintext": key, "CiphertextBlob": wrapped}).to_string())
        }
        "Decrypt" => {
            state.decrypted_keys += 1;
            let wrapped = STANDARD.decode(input["CiphertextBlob"].as_str().unwrap()).unwrap();
            match String::from_utf8(wrapped).unwrap().split_once('|') {
                Some((made_for, key)) if made_for == context => {
                    (200, json!({"KeyId": "k", "Plaintext": key}).to_string())
                }
                _ => fault("InvalidCiphertextException"),
            }
        }
        other => panic!("unknown operation {other}"),
    }
}

async fn sts(state: &Mutex<State>, form: &BTreeMap<String, String>) -> Answer {
    if form["Action"] == "GetCallerIdentity" {
        let arn = "arn:aws:sts::123456789012:assumed-role/issuer/function";
        let result = format!("<Arn>{arn}</Arn><UserId>AROAISSUER:function</UserId><Account>123456789012</Account>");
        return (200, xml("GetCallerIdentity", &result));
    }
    let (mood, delay, count) = {
        let mut state = state.lock().unwrap();
        state.assumed.push(form.clone());
        (state.mood.clone(), state.sts_delay, state.assumed.len())
    };
    tokio::time::sleep(delay).await;
    let name = match mood {
        StsMood::Hangs => std::future::pending().await,
        StsMood::Refuses(status, code, message) => {
            let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
            return (status, format!("<ErrorResponse>{error}</ErrorResponse>"));
        }
        StsMood::Gives | StsMood::GivesGarbage => form["RoleArn"].rsplit('/').next().unwrap().to_owned(),
        StsMood::GivesAnother => "another".to_owned(),
    };
    let mut state = state.lock().unwrap();
    let (secret, token) =
        (format!("secret-{count}-of-{name}-0123456789"), format!("token-{count}-of-{name}-0123456789"));
    state.secrets.extend([secret.clone(), token.clone()]);
    let expires =
        SystemClock.now().as_secs() + state.session_secs.unwrap_or_else(|| form["DurationSeconds"].parse().unwrap());
    let garbage = matches!(mood, StsMood::GivesGarbage);
    let expires = DateTime::from_secs(i64::try_from(expires).unwrap()).fmt(Format::DateTime).unwrap();
    let expires = if garbage { "soon".to_owned() } else { expires };
    let session = &form["RoleSessionName"];
    let result = format!(
        "<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/{name}/{session}</Arn>\
         <AssumedRoleId>AROAX:{session}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>ASIA{count}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>"
    );
    (200, xml("AssumeRole", &result))
}

fn xml(operation: &str, result: &str) -> String {
    format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <{operation}Result>{result}</{operation}Result></{operation}Response>"
    )
}

fn form(body: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                bytes.push(if byte == b'+' { b' ' } else { byte });
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}
