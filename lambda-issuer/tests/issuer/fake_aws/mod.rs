//! DynamoDB, KMS and STS as far as the issuer speaks with them: their protocols, with faults to switch on. Issuers in this
//! process call it without a socket, so that tokio's clock can be paused; a program calls it on a real port.

mod door;
mod dynamo;
mod expression;
mod kms;
mod sts;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::LabClock;
use expression::Item;
pub(crate) use sts::{Quota, StsMood};

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
    /// What STS says of a role, by its name, where that differs.
    pub(crate) moods: HashMap<String, StsMood>,
    pub(crate) sts_delay: Duration,
    pub(crate) sts_quota: Option<Quota>,
    /// Of every so many calls of `AssumeRole`, the last fails with an error of STS's own.
    pub(crate) sts_fails_every: Option<usize>,
    pub(crate) kms_down: bool,
    /// How long DynamoDB takes, at most; each call another part of it.
    pub(crate) dynamo_delay: Duration,
    dynamo_calls: u32,
    /// DynamoDB as a table that carries so many calls at once, each of which takes the time; the others queue.
    pub(crate) dynamo_lanes: Option<(Arc<Semaphore>, Duration)>,
    /// How many calls of DynamoDB are open, and how many were at most.
    open_dynamo_calls: usize,
    pub(crate) most_open_dynamo_calls: usize,
    /// Tables that answer with a server's fault.
    pub(crate) down: Vec<String>,
    /// An item of the cache that is written, with nonsense, just before every call.
    pub(crate) restless: Option<String>,
    /// How many keys one `BatchGetItem` handles, if not all.
    pub(crate) batch_handles: Option<usize>,
    pub(crate) batches: u32,
    /// How long a session lasts.
    pub(crate) session_secs: Option<u64>,
}

impl State {
    /// How often `AssumeRole` was asked for a role, by its name.
    pub(crate) fn assumed_by_role(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for told in &self.assumed {
            *counts.entry(told["RoleArn"].rsplit('/').next().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }
}

/// A running fake. Its tasks end with it.
pub(crate) struct FakeAws {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    state: Mutex<State>,
    clock: Arc<LabClock>,
}

/// Status and body.
type Answer = (u16, String);

impl FakeAws {
    pub(crate) fn new(clock: Arc<LabClock>) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), clock }), tasks: Mutex::default() }
    }

    /// What issuers in this process call it through.
    pub(crate) fn client(&self) -> SharedHttpClient {
        door::in_process(Arc::clone(&self.shared))
    }

    /// Opens a port for a program.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let (address, serving) = door::on_a_port(Arc::clone(&self.shared)).await;
        self.tasks.lock().unwrap().spawn(serving);
        address
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    pub(crate) fn put(&self, table: &str, pk: &str, attributes: Value) {
        let Value::Object(mut item) = attributes else { panic!("an item is an object") };
        item.insert("pk".into(), json!({"S": pk}));
        self.state().tables.entry(table.into()).or_default().insert(pk.into(), item);
    }
}

impl Shared {
    async fn answer(&self, target: Option<&str>, body: &[u8]) -> Answer {
        match target.and_then(|target| target.split_once('.')) {
            Some(("DynamoDB_20120810", operation)) => {
                let _open = OpenCall::begin(self);
                let (delay, lanes) = {
                    let mut state = self.state.lock().unwrap();
                    (state.next_dynamo_delay(), state.dynamo_lanes.clone())
                };
                tokio::time::sleep(delay).await;
                if let Some((lanes, takes)) = lanes {
                    let _lane = lanes.acquire().await.unwrap();
                    tokio::time::sleep(takes).await;
                }
                dynamo::answer(&mut self.state.lock().unwrap(), operation, &serde_json::from_slice(body).unwrap())
            }
            Some(("TrentService", operation)) => {
                kms::answer(&mut self.state.lock().unwrap(), operation, &serde_json::from_slice(body).unwrap())
            }
            Some(other) => panic!("unknown target {other:?}"),
            None => sts::answer(self, std::str::from_utf8(body).unwrap()).await,
        }
    }
}

/// Counts a call of DynamoDB for as long as somebody waits for it.
struct OpenCall<'a>(&'a Shared);

impl<'a> OpenCall<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut state = shared.state.lock().unwrap();
        state.open_dynamo_calls += 1;
        state.most_open_dynamo_calls = state.most_open_dynamo_calls.max(state.open_dynamo_calls);
        drop(state);
        Self(shared)
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().open_dynamo_calls -= 1;
    }
}

impl State {
    /// Calls overtake each other, in the same way in each run.
    fn next_dynamo_delay(&mut self) -> Duration {
        self.dynamo_calls = self.dynamo_calls.wrapping_add(1);
        self.dynamo_delay * (self.dynamo_calls.wrapping_mul(7_919) % 100) / 100
    }
}

fn fault(kind: &str) -> Answer {
    (400, json!({"__type": kind, "message": "the fake says so"}).to_string())
}
