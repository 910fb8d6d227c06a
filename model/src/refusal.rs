//! Why a pod gets no credentials, and why a whole request gets no answer: two closed lists that travel on the wire, into
//! metrics and into what people read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::arn::RoleArn;

macro_rules! codes {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal / $pascal:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$vdoc])* $variant,)+ }

        impl $type {
            /// Every code, in the order in which they are checked.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code on the wire, in logs and in metrics: `namespace_forbids_role`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The code as EC2 spells its own in a credentials document: `NamespaceForbidsRole`.
            pub const fn document_code(self) -> &'static str {
                match self { $(Self::$variant => $pascal,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// Why one pod of a request gets no credentials.
    RefusalCode {
        /// The directory has no record and is too old to say that there is none.
        DirectoryStale => "directory_stale" / "DirectoryStale",
        /// No record yet, but the directory may not have heard of the pod or of its node's instance.
        PodUnknown => "pod_unknown" / "PodUnknown",
        /// The directory is newer than the sandbox and has no annotated pod of that name.
        NoRole => "no_role" / "NoRole",
        /// The record of that name has another UID.
        PodReplaced => "pod_replaced" / "PodReplaced",
        /// The record's instance is not the one that signed.
        PodOnOtherNode => "pod_on_other_node" / "PodOnOtherNode",
        /// The pod's annotation is no role.
        InvalidRole => "invalid_role" / "InvalidRole",
        /// The directory has not heard of the namespace yet.
        NamespaceUnknown => "namespace_unknown" / "NamespaceUnknown",
        /// The namespace carries no permission, and there is no default.
        NamespacePermitsNothing => "namespace_permits_nothing" / "NamespacePermitsNothing",
        /// The namespace's permission cannot be read.
        InvalidPermittedPattern => "invalid_permitted_pattern" / "InvalidPermittedPattern",
        /// The namespace's permission does not cover the role.
        NamespaceForbidsRole => "namespace_forbids_role" / "NamespaceForbidsRole",
        /// The issuer's own list does not cover the role, or it is one of Rolecall's own.
        IssuerForbidsRole => "issuer_forbids_role" / "IssuerForbidsRole",
        /// STS refused.
        AssumeRoleDenied => "assume_role_denied" / "AssumeRoleDenied",
        /// STS throttles, or a budget is spent.
        StsThrottled => "sts_throttled" / "StsThrottled",
        /// STS did not answer, or answered with a fault of its own.
        StsUnavailable => "sts_unavailable" / "StsUnavailable",
        /// Not ready within the request's patience; being worked on.
        Pending => "pending" / "Pending",
    }
}

codes! {
    /// Why a whole request gets no outcome for any pod.
    RequestRefusalCode {
        /// The body is not a request that we know.
        BadRequest => "bad_request" / "BadRequest",
        /// Whoever signed is no node of a known cluster, or signed from the wrong place.
        CallerNotANode => "caller_not_a_node" / "CallerNotANode",
        /// An operator has cut this node off.
        NodeQuarantined => "node_quarantined" / "NodeQuarantined",
        /// The directory cannot be read just now.
        Unavailable => "unavailable" / "Unavailable",
    }
}

/// What asking again can change, which is what a caller acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Ask again soon: the pod's request is held, the refusal is not remembered.
    Soon,
    /// Only an edit or a deployment changes it: remembered 2 s, backing off to 30 s, and shown to the pod.
    OnEdit,
}

impl RefusalCode {
    /// What asking again can change, for the codes where it does not depend on the directory's age.
    pub(crate) const fn retry(self) -> Retry {
        match self {
            Self::DirectoryStale
            | Self::PodUnknown
            | Self::NamespaceUnknown
            | Self::StsThrottled
            | Self::StsUnavailable
            | Self::Pending => Retry::Soon,
            Self::NoRole
            | Self::PodReplaced
            | Self::PodOnOtherNode
            | Self::InvalidRole
            | Self::NamespacePermitsNothing
            | Self::InvalidPermittedPattern
            | Self::NamespaceForbidsRole
            | Self::IssuerForbidsRole
            | Self::AssumeRoleDenied => Retry::OnEdit,
        }
    }
}

/// Why one pod gets no credentials, with the sentence that says what to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule that refused.
    pub code: RefusalCode,
    /// Names the object, the annotation and what to write.
    pub message: String,
    /// Whether asking again helps.
    pub retry: Retry,
    /// The role that was wanted, where the pod may be told: never that of another pod's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleArn>,
}

impl Refusal {
    /// A refusal with its code's usual answer to asking again.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry: code.retry(), role: None }
    }

    /// The same, naming the role that was wanted.
    #[must_use]
    pub fn for_role(self, role: &RoleArn) -> Self {
        Self { role: Some(role.clone()), ..self }
    }

    /// The same, asked again soon while `worthwhile`.
    #[must_use]
    pub(crate) fn retry_soon_if(self, worthwhile: bool) -> Self {
        Self { retry: if worthwhile { Retry::Soon } else { Retry::OnEdit }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_text_and_serde_agree_for_every_code() {
        for code in RefusalCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.document_code().to_lowercase(), code.as_str().replace('_', ""));
        }
        for code in RequestRefusalCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn codes_are_checked_in_the_order_of_the_design() {
        let names: Vec<_> = RefusalCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(
            names,
            [
                "directory_stale",
                "pod_unknown",
                "no_role",
                "pod_replaced",
                "pod_on_other_node",
                "invalid_role",
                "namespace_unknown",
                "namespace_permits_nothing",
                "invalid_permitted_pattern",
                "namespace_forbids_role",
                "issuer_forbids_role",
                "assume_role_denied",
                "sts_throttled",
                "sts_unavailable",
                "pending",
            ]
        );
    }
}
