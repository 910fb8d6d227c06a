//! Who is asking: from what API Gateway says of the request, and never from the request.
//!
//! Each check has a cause of its own, which is logged. What the caller is told names the settings to look at and not the
//! values that were expected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::arn::RoleArn;
use model::name::{ClusterName, InstanceId, RoleId};
use model::record::NodeRecord;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::event::{ProxyEvent, RequestContext};

/// The stage variable that carries the deploy-time secret.
pub const SECRET_VARIABLE: &str = "rolecall_secret";
/// The one resource of the API.
pub const RESOURCE_PATH: &str = "/credentials";
/// Its one method.
pub const METHOD: &str = "POST";

/// What a request must have come through, and who may sign it.
#[derive(Debug)]
pub struct Gate {
    /// The API's id.
    pub api_id: String,
    /// The API's stage.
    pub stage: String,
    /// The VPC endpoints in front of it.
    pub vpce_ids: BTreeSet<String>,
    /// The secret in the stage's variables: whoever can invoke the function, but not through the API, does not have it.
    pub stage_secret: SecretString,
    /// The roles of nodes, by unique id: a role that was deleted and made again under its name is another one.
    pub node_roles: BTreeMap<RoleId, NodeRole>,
    /// Whether requests must come from an address of their node.
    pub source_ip_check: bool,
}

/// The role of a cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRole {
    /// Its ARN.
    pub arn: RoleArn,
    /// The cluster whose nodes have it.
    pub cluster: ClusterName,
}

/// A proven caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The cluster that its role belongs to.
    pub cluster: ClusterName,
    /// The EC2 instance whose credentials signed.
    pub instance: InstanceId,
    /// Where the request came from.
    pub source_ip: IpAddr,
}

/// Why a request comes from no node. `Display` is the private cause.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotANode {
    /// The event is not of API Gateway's form.
    #[error("the event is no proxy event")]
    MalformedEvent,
    /// The stage variable is missing or wrong: an invocation past the API, or a stage deployed with another secret.
    #[error("the stage variable {SECRET_VARIABLE} is missing or is not STAGE_SECRET")]
    StageSecret,
    /// Another API, stage, resource, method or endpoint.
    #[error("{field} is {got:?}")]
    OtherDoor {
        /// The field of `requestContext`.
        field: &'static str,
        /// What it was.
        got: Option<String>,
    },
    /// The signer is no session of an IAM role.
    #[error("caller {got:?} is no role session")]
    NoRoleSession {
        /// `identity.caller`.
        got: Option<String>,
    },
    /// The signer's role is not in `NODE_ROLES`.
    #[error("role id {role_id} is not in NODE_ROLES")]
    UnknownRole {
        /// The role's unique id.
        role_id: RoleId,
    },
    /// Account or ARN are not those of the role that the id names.
    #[error("{field} is {got:?}, which does not belong to the role that NODE_ROLES has for this id")]
    OtherIdentity {
        /// The field of `identity`.
        field: &'static str,
        /// What it was.
        got: Option<String>,
    },
    /// The session's name is no instance id, so EC2 did not make the session.
    #[error("session name {got:?} is no instance id")]
    NoInstance {
        /// The session's name.
        got: String,
    },
    /// The source address cannot be read.
    #[error("sourceIp {got:?} is no address")]
    NoSourceIp {
        /// What it was.
        got: Option<String>,
    },
    /// The directory has no readable record of the node, so its addresses are not known.
    #[error("the directory has no readable record of the node {instance}")]
    NoNodeRecord {
        /// The instance.
        instance: InstanceId,
    },
    /// The request came from an address that is none of the node's.
    #[error("sourceIp {got} is none of the addresses of {instance}: {known:?}")]
    OtherAddress {
        /// The address.
        got: IpAddr,
        /// The instance.
        instance: InstanceId,
        /// The node's addresses.
        known: Vec<IpAddr>,
    },
}

impl NotANode {
    /// What the caller is told.
    pub fn public_message(&self) -> &'static str {
        match self {
            Self::MalformedEvent | Self::StageSecret | Self::OtherDoor { .. } => {
                "the request did not come through this issuer's API: compare the issuer's API_ID, API_STAGE, VPCE_IDS and \
                 STAGE_SECRET with what is deployed (the issuer's log has the cause)"
            }
            Self::NoRoleSession { .. } | Self::UnknownRole { .. } | Self::OtherIdentity { .. } => {
                "whoever signed the request is no node of a cluster that this issuer serves: compare the node role's unique \
                 id and ARN with the issuer's NODE_ROLES (the issuer's log has the cause)"
            }
            Self::NoInstance { .. } => {
                "the request was signed with a session of the node role that EC2 did not make: only an instance's own \
                 credentials, from its metadata service, are accepted"
            }
            Self::NoNodeRecord { .. } => {
                "the directory does not have this node yet: check that annotation-sync runs for this cluster"
            }
            Self::NoSourceIp { .. } | Self::OtherAddress { .. } => {
                "the request did not come from an address of the node that signed it: send it from the node's own network, \
                 or, where there is network address translation in between, set the issuer's SOURCE_IP_CHECK=off"
            }
        }
    }
}

impl Gate {
    /// Who sent `event`. Its source address is still to be compared, with [`Gate::check_source`].
    pub fn identify(&self, event: &ProxyEvent) -> Result<Caller, NotANode> {
        self.check_secret(event)?;
        let context = &event.request_context;
        self.check_door(context)?;
        let (role, instance) = self.check_identity(context)?;
        let source_ip = context.identity.source_ip.as_deref();
        let source_ip = source_ip
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .ok_or_else(|| NotANode::NoSourceIp { got: source_ip.map(cut) })?
            .to_canonical();
        Ok(Caller { cluster: role.cluster.clone(), instance, source_ip })
    }

    /// Whether the request came from an address of the node that signed it, which bounds what a replayed request is worth.
    pub fn check_source(&self, caller: &Caller, node: Option<&NodeRecord>) -> Result<(), NotANode> {
        if !self.source_ip_check {
            return Ok(());
        }
        let node = node.ok_or_else(|| NotANode::NoNodeRecord { instance: caller.instance.clone() })?;
        if node.addresses.iter().any(|address| address.to_canonical() == caller.source_ip) {
            return Ok(());
        }
        Err(NotANode::OtherAddress {
            got: caller.source_ip,
            instance: caller.instance.clone(),
            known: node.addresses.clone(),
        })
    }

    fn check_secret(&self, event: &ProxyEvent) -> Result<(), NotANode> {
        let given = event.stage_variables.as_ref().and_then(|variables| variables.get(SECRET_VARIABLE));
        let expected = self.stage_secret.expose_secret().as_bytes();
        match given {
            Some(given) if bool::from(given.as_bytes().ct_eq(expected)) => Ok(()),
            _ => Err(NotANode::StageSecret),
        }
    }

    fn check_door(&self, context: &RequestContext) -> Result<(), NotANode> {
        let same = |field, got: &Option<String>, expected: &str| {
            if got.as_deref() == Some(expected) {
                Ok(())
            } else {
                Err(NotANode::OtherDoor { field, got: got.as_deref().map(cut) })
            }
        };
        same("apiId", &context.api_id, &self.api_id)?;
        same("stage", &context.stage, &self.stage)?;
        same("resourcePath", &context.resource_path, RESOURCE_PATH)?;
        same("httpMethod", &context.http_method, METHOD)?;
        let vpce_id = &context.identity.vpce_id;
        if vpce_id.as_ref().is_some_and(|id| self.vpce_ids.contains(id)) {
            return Ok(());
        }
        Err(NotANode::OtherDoor { field: "vpceId", got: vpce_id.as_deref().map(cut) })
    }

    fn check_identity(&self, context: &RequestContext) -> Result<(&NodeRole, InstanceId), NotANode> {
        let identity = &context.identity;
        let no_session = || NotANode::NoRoleSession { got: identity.caller.as_deref().map(cut) };
        let (role_id, session) = identity.caller.as_deref().and_then(|c| c.split_once(':')).ok_or_else(no_session)?;
        let role_id = RoleId::parse(role_id).map_err(|_| no_session())?;
        let Some(role) = self.node_roles.get(&role_id) else { return Err(NotANode::UnknownRole { role_id }) };
        let instance = InstanceId::parse(session).map_err(|_| NotANode::NoInstance { got: cut(session) })?;
        let other = |field, got: &Option<String>| NotANode::OtherIdentity { field, got: got.as_deref().map(cut) };
        if identity.account_id.as_deref() != Some(role.arn.account()) {
            return Err(other("accountId", &identity.account_id));
        }
        let (partition, account, name) = (role.arn.partition(), role.arn.account(), role.arn.name());
        let user_arn = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{instance}");
        if identity.user_arn.as_deref() != Some(&*user_arn) {
            return Err(other("userArn", &identity.user_arn));
        }
        Ok((role, instance))
    }
}

/// At most 100 characters, so that no caller can flood the log.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
