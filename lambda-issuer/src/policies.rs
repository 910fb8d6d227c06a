//! The policy of each cluster. It is complete once the issuer knows its own identity, which completes short role names and is
//! itself no role for pods.

use std::collections::BTreeMap;

use model::arn::RoleArn;
use model::name::ClusterName;
use model::policy::ClusterPolicy;
use model::session::Attribution;
use tokio::sync::OnceCell;

use crate::config::{ClusterSettings, PolicySettings};
use crate::identity::{OwnIdentity, UnknownIdentity};

/// The policies, made on first use and then kept.
pub(crate) struct Policies {
    settings: PolicySettings,
    sts: aws_sdk_sts::Client,
    known: OnceCell<KnownPolicies>,
}

/// The policies of all clusters.
pub(crate) struct KnownPolicies {
    by_cluster: BTreeMap<ClusterName, ClusterPolicy>,
    issuer: String,
}

impl Policies {
    /// Not yet known.
    pub(crate) fn new(settings: PolicySettings, sts: aws_sdk_sts::Client) -> Self {
        Self { settings, sts, known: OnceCell::new() }
    }

    /// The clusters that have a policy.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.settings.clusters.keys()
    }

    /// The policies. A failure is not kept: the next request asks STS again.
    pub(crate) async fn known(&self) -> Result<&KnownPolicies, UnknownIdentity> {
        let made = async { Ok(KnownPolicies::new(&self.settings, &OwnIdentity::ask(&self.sts).await?)) };
        self.known.get_or_try_init(|| made).await
    }
}

impl KnownPolicies {
    fn new(settings: &PolicySettings, own: &OwnIdentity) -> Self {
        let base_arn = settings.base_arn.clone().unwrap_or_else(|| own.base_arn());
        let protected: Vec<RoleArn> = settings.protected.iter().chain(own.role()).cloned().collect();
        let policy = |(cluster, of_cluster): (&ClusterName, &ClusterSettings)| {
            let policy = ClusterPolicy {
                cluster: cluster.clone(),
                base_arn: base_arn.clone(),
                keys: settings.keys.clone(),
                assumable: of_cluster.assumable.clone(),
                protected: protected.clone(),
                default_permitted: settings.default_permitted.clone(),
                allowed_roles_syntax: settings.allowed_roles_syntax,
                attribution: Attribution { cluster_arn: of_cluster.arn.clone(), ..settings.attribution.clone() },
                stale_limit: settings.stale_limit,
            };
            (cluster.clone(), policy)
        };
        Self { by_cluster: settings.clusters.iter().map(policy).collect(), issuer: own.arn().to_owned() }
    }

    /// A cluster's policy.
    pub(crate) fn of(&self, cluster: &ClusterName) -> Option<&ClusterPolicy> {
        self.by_cluster.get(cluster)
    }

    /// What a role's trust policy has to name.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }
}
