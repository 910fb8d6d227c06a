//! One line for every credential handed out and for every refusal, on standard output. Access key ids are in it, since they
//! lead from CloudTrail back to a pod; secrets never are.

use model::name::{ClusterName, InstanceId, NodeName, PodRef};
use model::refusal::{Refusal, RequestRefusalCode};
use model::session::SessionSpec;
use model::time::UnixMillis;
use serde::Serialize;

use crate::caller::Caller;
use crate::credentials::Issued;
use crate::event::RequestContext;
use crate::lines::JsonLines;

/// No text that a caller chose is longer than this in the audit.
const MAX_TEXT: usize = 200;

/// The audit of one request.
pub(crate) struct Audit<'a> {
    /// Where the lines go.
    pub(crate) lines: &'a JsonLines,
    /// The function's id of the invocation.
    pub(crate) invocation: &'a str,
    /// What the API says of the request.
    pub(crate) context: &'a RequestContext,
    /// When.
    pub(crate) now: UnixMillis,
}

#[derive(Serialize)]
struct Line<'a, T> {
    audit: &'static str,
    time: UnixMillis,
    request_id: &'a str,
    api_request_id: Option<String>,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct Pod<'a> {
    cluster: &'a ClusterName,
    instance: &'a InstanceId,
    node: Option<&'a NodeName>,
    namespace: &'a str,
    #[serde(rename = "pod")]
    name: &'a str,
    #[serde(rename = "pod_uid")]
    uid: &'a str,
}

impl<'a> Pod<'a> {
    fn new(caller: &'a Caller, node: Option<&'a NodeName>, pod: &'a PodRef) -> Self {
        Self {
            cluster: &caller.cluster,
            instance: &caller.instance,
            node,
            namespace: pod.namespace.as_str(),
            name: pod.name.as_str(),
            uid: pod.uid.as_str(),
        }
    }
}

impl Audit<'_> {
    /// A pod was handed credentials.
    pub(crate) fn issued(
        &self,
        caller: &Caller,
        node: Option<&NodeName>,
        pod: &PodRef,
        spec: &SessionSpec,
        issued: &Issued,
    ) {
        #[derive(Serialize)]
        struct IssuedLine<'a> {
            #[serde(flatten)]
            pod: Pod<'a>,
            role: &'a str,
            session_name: &'a str,
            access_key_id: &'a str,
            expiration: UnixMillis,
            source: crate::credentials::Source,
        }
        self.write(
            "issued",
            IssuedLine {
                pod: Pod::new(caller, node, pod),
                role: spec.role.as_str(),
                session_name: &spec.session_name,
                access_key_id: &issued.credentials.access_key_id,
                expiration: issued.credentials.expiration,
                source: issued.source,
            },
        );
    }

    /// A pod was refused.
    pub(crate) fn refused(&self, caller: &Caller, node: Option<&NodeName>, pod: &PodRef, refusal: &Refusal) {
        #[derive(Serialize)]
        struct RefusedLine<'a> {
            #[serde(flatten)]
            pod: Pod<'a>,
            role: Option<&'a str>,
            code: &'a str,
            message: &'a str,
        }
        self.write(
            "refused",
            RefusedLine {
                pod: Pod::new(caller, node, pod),
                role: refusal.role.as_ref().map(model::arn::RoleArn::as_str),
                code: refusal.code.as_str(),
                message: &refusal.message,
            },
        );
    }

    /// A whole request was refused. `cause` is the private one.
    pub(crate) fn request_refused(&self, code: RequestRefusalCode, cause: &str) {
        #[derive(Serialize)]
        struct RequestRefusedLine<'a> {
            code: &'a str,
            cause: &'a str,
            caller: Option<String>,
            user_arn: Option<String>,
            access_key: Option<String>,
            source_ip: Option<String>,
            vpce_id: Option<String>,
        }
        let identity = &self.context.identity;
        self.write(
            "request_refused",
            RequestRefusedLine {
                code: code.as_str(),
                cause,
                caller: cut(identity.caller.as_deref()),
                user_arn: cut(identity.user_arn.as_deref()),
                access_key: cut(identity.access_key.as_deref()),
                source_ip: cut(identity.source_ip.as_deref()),
                vpce_id: cut(identity.vpce_id.as_deref()),
            },
        );
    }

    fn write(&self, audit: &'static str, rest: impl Serialize) {
        self.lines.write(&Line {
            audit,
            time: self.now,
            request_id: self.invocation,
            api_request_id: cut(self.context.extended_request_id.as_deref()),
            rest,
        });
    }
}

fn cut(text: Option<&str>) -> Option<String> {
    text.map(|text| text.chars().take(MAX_TEXT).collect())
}
