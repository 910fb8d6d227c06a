//! The settings. This is the one file that reads the environment, once; whatever it finds wrong, it names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::annotation::AnnotationKeys;
use model::arn::{BaseArn, RoleArn};
use model::assumable::AssumableRoles;
use model::name::{ClusterName, RoleId};
use model::permission::{AllowedRolesSyntax, Permission};
use model::policy::DEFAULT_STALE_LIMIT;
use model::session::{Attribution, AttributionMode};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::caller::{Gate, NodeRole};
use crate::credentials::Limits;

/// The shortest stage secret: 32 characters of the 74 that a stage variable may have are beyond guessing.
const MIN_SECRET: usize = 32;
/// API Gateway's limit for the value of a stage variable.
const MAX_SECRET: usize = 512;
/// Budgets that leave room for five environments' worth of a busy node, and not for a runaway.
const DEFAULT_BUDGET_NAMESPACE: u64 = 60;
const DEFAULT_BUDGET_INSTANCE: u64 = 120;

/// All settings of the issuer.
#[derive(Debug)]
pub struct Settings {
    /// What a request must have come through, and who may sign it.
    pub(crate) gate: Gate,
    /// Who may have what.
    pub(crate) policy: PolicySettings,
    /// The name of the table that annotation-sync writes.
    pub(crate) directory_table: String,
    /// The name of the issuer's own table.
    pub(crate) cache_table: String,
    /// The id, ARN or alias of the KMS key that wraps the data keys.
    pub(crate) kms_key: String,
    /// New sessions a minute.
    pub(crate) limits: Limits,
    /// How much of the issuer's own log is written.
    pub log_level: LevelFilter,
}

/// The settings of the decision.
#[derive(Clone, Debug)]
pub(crate) struct PolicySettings {
    /// What differs from cluster to cluster.
    pub(crate) clusters: BTreeMap<ClusterName, ClusterSettings>,
    /// What short role names are completed with; none: the roles of the issuer's own account.
    pub(crate) base_arn: Option<BaseArn>,
    /// Roles that no pod may have. The node roles are among them, the issuer's own is added when it is known.
    pub(crate) protected: Vec<RoleArn>,
    /// What a namespace without annotations permits.
    pub(crate) default_permitted: Option<Permission>,
    /// The keys of the annotations.
    pub(crate) keys: AnnotationKeys,
    /// How `allowed-roles` is written.
    pub(crate) allowed_roles_syntax: AllowedRolesSyntax,
    /// How sessions are attributed, but for the cluster's ARN.
    pub(crate) attribution: Attribution,
    /// How old the directory may be before existing records are no longer believed.
    pub(crate) stale_limit: Duration,
}

/// The settings of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    /// The roles that its pods may have at all.
    pub(crate) assumable: AssumableRoles,
    /// Its ARN, for the session tag.
    pub(crate) arn: Option<String>,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the environment variable {variable} {problem}")]
pub struct BadSetting {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it, and what to write.
    pub problem: String,
}

/// Where the Lambda Runtime API is, for the report of a failed start.
pub fn runtime_api() -> Option<String> {
    environment("AWS_LAMBDA_RUNTIME_API")
}

impl Settings {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, BadSetting> {
        Self::from_vars(&environment)
    }

    /// Reads variables from any source.
    pub fn from_vars(vars: &dyn Fn(&str) -> Option<String>) -> Result<Self, BadSetting> {
        Self::read(&Variables(vars))
    }

    fn read(vars: &Variables<'_>) -> Result<Self, BadSetting> {
        vars.check_runtime()?;
        let nodes = NodeRoles::read(vars)?;
        let policy = PolicySettings::read(vars, &nodes)?;
        Ok(Self {
            policy,
            gate: Gate {
                api_id: vars.text("API_ID", "the REST API's id, such as a1b2c3d4e5")?,
                stage: vars.text("API_STAGE", "the name of the API's stage, such as v1")?,
                vpce_ids: vars.vpce_ids()?,
                stage_secret: vars.stage_secret()?,
                source_ip_check: vars.switch("SOURCE_IP_CHECK", true)?,
                node_roles: nodes.roles,
            },
            directory_table: vars.text("DIRECTORY_TABLE", "the name of the directory table")?,
            cache_table: vars.text("CACHE_TABLE", "the name of the cache table")?,
            kms_key: vars.text("KMS_KEY_ID", "the id or ARN of the KMS key that seals the cache")?,
            limits: Limits {
                namespace_per_minute: vars.number("BUDGET_NAMESPACE_PER_MINUTE", DEFAULT_BUDGET_NAMESPACE)?,
                instance_per_minute: vars.number("BUDGET_INSTANCE_PER_MINUTE", DEFAULT_BUDGET_INSTANCE)?,
            },
            log_level: vars.parsed("LOG_LEVEL", "off, error, warn, info, debug or trace", LevelFilter::INFO)?,
        })
    }
}

impl PolicySettings {
    fn read(vars: &Variables<'_>, nodes: &NodeRoles) -> Result<Self, BadSetting> {
        let mut protected: Vec<RoleArn> = vars.json_or("PROTECTED_ROLES", r#"["arn:aws:iam::123456789012:role/x"]"#)?;
        protected.extend(nodes.roles.values().map(|role| role.arn.clone()));
        let modes = "role, namespace, service-account or pod";
        let attribution = Attribution {
            mode: vars.word("ATTRIBUTION", modes)?.unwrap_or(AttributionMode::Role),
            session_tags: vars.switch("SESSION_TAGS", false)?,
            source_identity: vars.switch("SOURCE_IDENTITY", false)?,
            cluster_arn: None,
        };
        let base_arn = vars.get("BASE_ARN").map(|text| BaseArn::parse(&text));
        let default_permitted = vars.get("DEFAULT_PERMITTED").map(|text| Permission::permitted(&text));
        Ok(Self {
            clusters: clusters(vars, nodes)?,
            base_arn: base_arn.transpose().map_err(|error| bad("BASE_ARN", format!("is not usable: {error}")))?,
            protected,
            default_permitted: default_permitted.transpose().map_err(|error| {
                bad("DEFAULT_PERMITTED", format!("is no regular expression of roles, such as team/.*: {error}"))
            })?,
            keys: vars.json_or("ANNOTATION_KEYS", r#"{"role":"iam.amazonaws.com/role"}"#)?,
            allowed_roles_syntax: vars.word("ALLOWED_ROLES_SYNTAX", "glob or regexp")?.unwrap_or_default(),
            attribution,
            stale_limit: Duration::from_secs(vars.number("STALE_LIMIT_SECONDS", DEFAULT_STALE_LIMIT.as_secs())?),
        })
    }
}

/// `NODE_ROLES`, read.
struct NodeRoles {
    roles: BTreeMap<RoleId, NodeRole>,
    cluster_arns: BTreeMap<ClusterName, Option<String>>,
}

impl NodeRoles {
    fn read(vars: &Variables<'_>) -> Result<Self, BadSetting> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            arn: RoleArn,
            cluster: ClusterName,
            cluster_arn: Option<String>,
        }
        const NAME: &str = "NODE_ROLES";
        const EXAMPLE: &str =
            r#"{"AROAEXAMPLEEXAMPLE00":{"arn":"arn:aws:iam::123456789012:role/node","cluster":"prod"}}"#;
        let written: BTreeMap<RoleId, Written> = vars.json(NAME, EXAMPLE)?;
        if written.is_empty() {
            return Err(bad(NAME, format!("names no role: write, for example, {EXAMPLE}")));
        }
        let mut cluster_arns: BTreeMap<ClusterName, Option<String>> = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for (id, role) in written {
            let known = cluster_arns.entry(role.cluster.clone()).or_default();
            if known.is_some() && role.cluster_arn.is_some() && *known != role.cluster_arn {
                return Err(bad(
                    NAME,
                    format!("gives the cluster {} two values of cluster_arn: keep one", role.cluster),
                ));
            }
            *known = known.take().or(role.cluster_arn);
            roles.insert(id, NodeRole { arn: role.arn, cluster: role.cluster });
        }
        Ok(Self { roles, cluster_arns })
    }
}

/// Every cluster that has nodes, with the roles that its pods may have: there is no default.
fn clusters(vars: &Variables<'_>, nodes: &NodeRoles) -> Result<BTreeMap<ClusterName, ClusterSettings>, BadSetting> {
    const NAME: &str = "ASSUMABLE_ROLES";
    const EXAMPLE: &str = r#"{"prod":["arn:aws:iam::123456789012:role/pods/*"]}"#;
    let mut written: BTreeMap<ClusterName, AssumableRoles> = vars.json(NAME, EXAMPLE)?;
    let settings = nodes.cluster_arns.iter().map(|(cluster, arn)| match written.remove(cluster) {
        Some(assumable) => Ok((cluster.clone(), ClusterSettings { assumable, arn: arn.clone() })),
        None => Err(bad(
            NAME,
            format!("has no list for the cluster {cluster} of NODE_ROLES: write, for example, {EXAMPLE}"),
        )),
    });
    let settings = settings.collect::<Result<_, _>>()?;
    match written.keys().next() {
        None => Ok(settings),
        Some(cluster) => {
            Err(bad(NAME, format!("has a list for {cluster}, which NODE_ROLES does not name: correct one of them")))
        }
    }
}

fn environment(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    std::env::var(name).ok()
}

fn bad(variable: &'static str, problem: impl Into<String>) -> BadSetting {
    BadSetting { variable, problem: problem.into() }
}

/// The environment, as a function so that tests need no process of their own.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// An empty variable is one that is not set: CloudFormation cannot leave one out.
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str, expected: &str) -> Result<String, BadSetting> {
        self.get(name).ok_or_else(|| bad(name, format!("is not set: write {expected}")))
    }

    fn json<T: DeserializeOwned>(&self, name: &'static str, example: &str) -> Result<T, BadSetting> {
        let text = self.text(name, &format!("JSON such as {example}"))?;
        serde_json::from_str(&text)
            .map_err(|error| bad(name, format!("is not usable ({error}): write JSON such as {example}")))
    }

    fn json_or<T: DeserializeOwned + Default>(&self, name: &'static str, example: &str) -> Result<T, BadSetting> {
        if self.get(name).is_none() { Ok(T::default()) } else { self.json(name, example) }
    }

    /// One of a closed list of words, as serde knows them.
    fn word<T: DeserializeOwned>(&self, name: &'static str, words: &str) -> Result<Option<T>, BadSetting> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let word = serde_json::from_value(serde_json::Value::String(value.clone()));
        word.map(Some).map_err(|_| bad(name, format!("is {value:?}: write {words}")))
    }

    fn switch(&self, name: &'static str, default: bool) -> Result<bool, BadSetting> {
        match self.get(name).as_deref() {
            None => Ok(default),
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(bad(name, format!("is {other:?}: write on or off"))),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str, expected: &str, default: T) -> Result<T, BadSetting> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.parse().map_err(|_| bad(name, format!("is {value:?}: write {expected}")))
    }

    /// A whole number from 1.
    fn number(&self, name: &'static str, default: u64) -> Result<u64, BadSetting> {
        let number = self.parsed(name, "a whole number from 1", default)?;
        if number == 0 { Err(bad(name, "is 0: write a whole number from 1")) } else { Ok(number) }
    }

    fn vpce_ids(&self) -> Result<BTreeSet<String>, BadSetting> {
        const NAME: &str = "VPCE_IDS";
        const EXPECTED: &str = "the ids of the VPC endpoints in front of the API, such as vpce-0123456789abcdef0, \
                                with a comma between them";
        let ids = self.text(NAME, EXPECTED)?;
        let ids: BTreeSet<String> = ids.split(',').map(|id| id.trim().to_owned()).collect();
        match ids.iter().find(|id| !id.starts_with("vpce-")) {
            None => Ok(ids),
            Some(other) => Err(bad(NAME, format!("holds {other:?}: write {EXPECTED}"))),
        }
    }

    /// The secret is never quoted.
    fn stage_secret(&self) -> Result<SecretString, BadSetting> {
        const NAME: &str = "STAGE_SECRET";
        const EXPECTED: &str = "32 to 512 random letters and digits, the same as the stage variable rolecall_secret";
        let secret = self.text(NAME, EXPECTED)?;
        let usable = (MIN_SECRET..=MAX_SECRET).contains(&secret.len())
            && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#&=,".contains(&b));
        if usable { Ok(secret.into()) } else { Err(bad(NAME, format!("is not usable: write {EXPECTED}"))) }
    }

    /// What the Lambda runtime and the SDK would otherwise miss with a panic, or by asking a metadata service.
    fn check_runtime(&self) -> Result<(), BadSetting> {
        const BY_LAMBDA: &str = "is not set: this program is the bootstrap of an AWS Lambda function, which sets it";
        for name in [
            "AWS_LAMBDA_RUNTIME_API",
            "AWS_LAMBDA_FUNCTION_NAME",
            "AWS_LAMBDA_FUNCTION_VERSION",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            "AWS_REGION",
        ] {
            self.get(name).ok_or_else(|| bad(name, BY_LAMBDA))?;
        }
        self.parsed("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "a number of megabytes", 0_i32).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
