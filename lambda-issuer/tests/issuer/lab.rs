//! A directory, an AWS and issuers on them: each issuer is an execution environment of its own.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use lambda_issuer::app;
use lambda_issuer::clock::Clock;
use lambda_issuer::config::Settings;
use lambda_issuer::handler::Issuer;
use lambda_issuer::lines::JsonLines;
use lambda_issuer::log;
use model::name::{ClusterName, InstanceId, Namespace, NodeName, PodName, ServiceAccount, Uid};
use model::record::{HealthRecord, NamespaceRecord, NodeRecord, PodRecord, QuarantineRecord, Record, RecordKey};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;

use crate::clock::LabClock;
use crate::fake_aws::FakeAws;

pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
pub(crate) const STAGE_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What was written, readable while it is written.
#[derive(Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn audit(&self) -> Vec<Value> {
        let lines = self.text();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line.get("audit").is_some()).collect()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log of the whole test process, at the level that writes most.
pub(crate) fn log() -> &'static Buffer {
    static LOG: OnceLock<Buffer> = OnceLock::new();
    LOG.get_or_init(|| {
        let buffer = Buffer::default();
        let out = buffer.clone();
        tracing::subscriber::set_global_default(log::subscriber(LevelFilter::TRACE, move || out.clone())).unwrap();
        buffer
    })
}

pub(crate) struct Lab {
    pub(crate) aws: FakeAws,
    pub(crate) clock: Arc<LabClock>,
    /// Audit and metrics of all its issuers.
    pub(crate) lines: Buffer,
    variables: HashMap<&'static str, String>,
}

/// An answer of the issuer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) body: Value,
}

impl Answer {
    /// The code of an entry's refusal, or `issued`.
    pub(crate) fn code(&self, place: usize) -> &str {
        let outcome = &self.body["outcomes"][place];
        if outcome.get("session").is_some() { "issued" } else { outcome["refused"]["code"].as_str().unwrap() }
    }

    pub(crate) fn message(&self, place: usize) -> &str {
        self.body["outcomes"][place]["refused"]["message"].as_str().unwrap()
    }

    pub(crate) fn access_key(&self, place: usize) -> &str {
        let session = usize::try_from(self.body["outcomes"][place]["session"].as_u64().unwrap()).unwrap();
        self.body["sessions"][session]["credentials"]["access_key_id"].as_str().unwrap()
    }
}

fn cluster() -> ClusterName {
    ClusterName::parse("prod").unwrap()
}

pub(crate) fn instance() -> InstanceId {
    InstanceId::parse(INSTANCE).unwrap()
}

impl Lab {
    /// A healthy directory with one node, and the pod `default/web-0` that may have the role `app`.
    pub(crate) fn new() -> Self {
        let _ = log();
        let roles = r#"{"AROAEXAMPLEEXAMPLE00":{"arn":"arn:aws:iam::123456789012:role/node","cluster":"prod"}}"#;
        let variables = [
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
            ("AWS_LAMBDA_FUNCTION_NAME", "issuer"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_REGION", "eu-central-1"),
            ("NODE_ROLES", roles),
            ("ASSUMABLE_ROLES", r#"{"prod":["arn:aws:iam::123456789012:role/*"]}"#),
            ("DIRECTORY_TABLE", "directory"),
            ("CACHE_TABLE", "cache"),
            ("KMS_KEY_ID", "alias/rolecall"),
            ("API_ID", "abc"),
            ("API_STAGE", "v1"),
            ("VPCE_IDS", "vpce-0123456789abcdef0"),
            ("STAGE_SECRET", STAGE_SECRET),
        ];
        let variables: HashMap<_, _> = variables.map(|(name, value)| (name, value.to_owned())).into();
        let clock = Arc::new(LabClock::start());
        let lab = Self { aws: FakeAws::new(Arc::clone(&clock)), clock, lines: Buffer::default(), variables };
        let node = NodeRecord {
            name: NodeName::parse("node-a").unwrap(),
            uid: Uid::parse("node-uid").unwrap(),
            addresses: vec!["10.0.1.10".parse().unwrap()],
        };
        lab.put(&RecordKey::node(&cluster(), &instance()), &node);
        lab.put_health();
        lab.put_namespace("default", ".*");
        lab.put_pod("default", "web-0", "app");
        lab
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.variables.insert(name, value.to_owned());
    }

    fn put(&self, key: &RecordKey, record: &impl Record) {
        self.put_text(key, &record.to_json());
    }

    pub(crate) fn put_text(&self, key: &RecordKey, record: &str) {
        self.aws.put("directory", key.as_str(), json!({"record": {"S": record}}));
    }

    pub(crate) fn put_health(&self) {
        let now = self.clock.now();
        self.put(&RecordKey::health(&cluster()), &HealthRecord { pods_as_of: now, namespaces_as_of: now });
    }

    pub(crate) fn put_namespace(&self, namespace: &str, permitted: &str) {
        let key = RecordKey::namespace(&cluster(), &Namespace::parse(namespace).unwrap());
        let record = NamespaceRecord { permitted: Some(permitted.to_owned()), ..NamespaceRecord::default() };
        self.put(&key, &record);
    }

    pub(crate) fn pod_key(namespace: &str, name: &str) -> RecordKey {
        RecordKey::pod(&cluster(), &Namespace::parse(namespace).unwrap(), &PodName::parse(name).unwrap())
    }

    pub(crate) fn put_pod(&self, namespace: &str, name: &str, role: &str) {
        self.put_pod_with(namespace, name, role, |_| {});
    }

    pub(crate) fn put_pod_with(&self, namespace: &str, name: &str, role: &str, change: impl FnOnce(&mut PodRecord)) {
        let mut record = PodRecord {
            uid: Uid::parse(&format!("{name}-uid")).unwrap(),
            role: role.to_owned(),
            external_id: None,
            session_name: None,
            service_account: ServiceAccount::parse("default").unwrap(),
            node: NodeName::parse("node-a").unwrap(),
            instance: Some(instance()),
            resource_version: "1".into(),
        };
        change(&mut record);
        self.put(&Self::pod_key(namespace, name), &record);
    }

    pub(crate) fn quarantine_key() -> RecordKey {
        RecordKey::quarantine(&cluster(), &instance())
    }

    pub(crate) fn quarantine(&self) {
        let record = QuarantineRecord { by: "ann".into(), reason: "drill".into(), since: self.clock.now() };
        self.put(&Self::quarantine_key(), &record);
    }

    fn sdk(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .endpoint_url("http://aws.test")
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
                Credentials::for_tests(),
            ))
            .http_client(self.aws.client())
            .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
                aws_smithy_async::rt::sleep::TokioSleep::new(),
            ))
            .build()
    }

    /// A new execution environment.
    pub(crate) async fn issuer(&self) -> Issuer {
        let settings = Settings::from_vars(&|name| self.variables.get(name).cloned()).unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        app::start(settings, &self.sdk(), clock, JsonLines::new(self.lines.clone())).await
    }

    /// The event of a node's request for pods, each `namespace/name`.
    pub(crate) fn event(&self, pods: &[&str], patience: Duration) -> Value {
        let mut event: Value = serde_json::from_str(include_str!("../data/proxy_event.json")).unwrap();
        let pods: Vec<Value> = pods
            .iter()
            .map(|pod| {
                let (namespace, name) = pod.split_once('/').unwrap();
                json!({"namespace": namespace, "name": name, "uid": format!("{name}-uid"), "sandbox_age_ms": 60_000})
            })
            .collect();
        let body = json!({"version": 1, "patience_ms": patience.as_millis(), "pods": pods});
        event["body"] = json!(body.to_string());
        event["requestContext"]["requestTimeEpoch"] = json!(self.clock.now());
        event
    }

    pub(crate) async fn ask(&self, issuer: &Issuer, pods: &[&str], patience: Duration) -> Answer {
        self.send(issuer, &self.event(pods, patience)).await
    }

    pub(crate) async fn send(&self, issuer: &Issuer, event: &Value) -> Answer {
        send_text(issuer, &event.to_string()).await
    }
}

pub(crate) async fn send_text(issuer: &Issuer, event: &str) -> Answer {
    let event = RawValue::from_string(event.to_owned()).unwrap();
    let answer = serde_json::to_value(issuer.handle(&event, "invocation-1").await).unwrap();
    let body = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    Answer { status: answer["statusCode"].as_u64().unwrap(), body }
}
