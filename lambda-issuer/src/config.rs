//! The settings: what the variables mean. Whatever is wrong with one is named. `variables` is the one file that reads the
//! environment, once.

mod variables;

use std::collections::BTreeMap;
use std::time::Duration;

use model::annotation::AnnotationKeys;
use model::arn::{AccountId, BaseArn, Partition, RoleArn};
use model::assumable::AssumableRoles;
use model::name::{ClusterName, RoleId};
use model::permission::{AllowedRolesSyntax, Permission};
use model::policy::DEFAULT_STALE_LIMIT;
use model::session::{Attribution, AttributionMode};
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use crate::caller::{Gate, NodeRole};
use crate::credentials::Limits;
use variables::{Variables, bad};

pub use variables::{BadSetting, runtime_api};

/// Budgets far above what refreshes need (a session is shared for 20 minutes), and below a tenth of an account's STS rate.
const DEFAULT_BUDGET_NAMESPACE: u64 = 60;
const DEFAULT_BUDGET_INSTANCE: u64 = 120;

/// EKS's limit for a cluster's name.
const MAX_CLUSTER_NAME: usize = 100;

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

impl Settings {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, BadSetting> {
        Self::from_vars(&variables::environment)
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
        let written: BTreeMap<RoleId, Written> = vars.json_map(NAME, EXAMPLE)?;
        if written.is_empty() {
            return Err(bad(NAME, format!("names no role: write, for example, {EXAMPLE}")));
        }
        let mut cluster_arns: BTreeMap<ClusterName, Option<String>> = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for (id, role) in written {
            if let Some(arn) = role.cluster_arn.as_deref().filter(|arn| !is_cluster_arn(arn)) {
                return Err(bad(
                    NAME,
                    format!(
                        "has the cluster_arn {arn:?}: write the ARN of an EKS cluster, such as \
                         arn:aws:eks:eu-central-1:123456789012:cluster/prod, or leave it out"
                    ),
                ));
            }
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

/// Whether `text` is what EKS itself would put into the tag `eks-cluster-arn`. STS would refuse every session with a tag
/// that it does not take, and a policy never matches one that is misspelt.
fn is_cluster_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let &["arn", partition, "eks", region, account, resource] = parts.as_slice() else { return false };
    let is_word =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    Partition::parse(partition).is_ok()
        && AccountId::parse(account).is_ok()
        && is_word(region)
        && resource.strip_prefix("cluster/").is_some_and(|name| name.len() <= MAX_CLUSTER_NAME && is_word(name))
}

/// Every cluster that has nodes, with the roles that its pods may have: there is no default.
fn clusters(vars: &Variables<'_>, nodes: &NodeRoles) -> Result<BTreeMap<ClusterName, ClusterSettings>, BadSetting> {
    const NAME: &str = "ASSUMABLE_ROLES";
    const EXAMPLE: &str = r#"{"prod":["arn:aws:iam::123456789012:role/pods/*"]}"#;
    let mut written: BTreeMap<ClusterName, AssumableRoles> = vars.json_map(NAME, EXAMPLE)?;
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

#[cfg(test)]
mod tests;
