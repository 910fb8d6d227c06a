//! Who the issuer itself is: what short role names are completed with, and what pods may never have.

use model::arn::{AccountId, BaseArn, Partition, RoleArn};
use thiserror::Error;

use crate::aws_error::describe;

/// The issuer's own identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnIdentity {
    account: AccountId,
    partition: Partition,
    /// Its role, without the path, which STS does not tell. None where it does not run under a role.
    role: Option<RoleArn>,
    /// What a trust policy has to name.
    arn: String,
}

/// The issuer does not know who it is. For the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum UnknownIdentity {
    /// STS did not tell.
    #[error("STS GetCallerIdentity failed: {0}")]
    Sts(String),
    /// STS told something else.
    #[error("STS GetCallerIdentity answered with the ARN {0:?}")]
    Arn(String),
}

impl OwnIdentity {
    /// Asks STS.
    pub(crate) async fn ask(sts: &aws_sdk_sts::Client) -> Result<Self, UnknownIdentity> {
        let answer = sts.get_caller_identity().send().await.map_err(|error| UnknownIdentity::Sts(describe(&error)))?;
        Self::parse(answer.arn().unwrap_or_default())
    }

    fn parse(arn: &str) -> Result<Self, UnknownIdentity> {
        let unknown = || UnknownIdentity::Arn(arn.to_owned());
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let &["arn", partition, _, "", account, resource] = parts.as_slice() else { return Err(unknown()) };
        let partition = Partition::parse(partition).map_err(|_| unknown())?;
        let account = AccountId::parse(account).map_err(|_| unknown())?;
        let role = match resource.strip_prefix("assumed-role/") {
            Some(session) => {
                let name = session.split('/').next().unwrap_or_default();
                let role = format!("arn:{partition}:iam::{account}:role/{name}");
                Some(RoleArn::parse(&role).map_err(|_| unknown())?)
            }
            None => None,
        };
        let arn = role.as_ref().map_or_else(|| arn.to_owned(), ToString::to_string);
        Ok(Self { account, partition, role, arn })
    }

    /// The base of all roles of the issuer's account.
    pub(crate) fn base_arn(&self) -> BaseArn {
        BaseArn::of_account(&self.partition, &self.account)
    }

    /// The issuer's role.
    pub(crate) fn role(&self) -> Option<&RoleArn> {
        self.role.as_ref()
    }

    /// What a role's trust policy has to name.
    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_session_names_its_role() {
        let own = OwnIdentity::parse("arn:aws-cn:sts::123456789012:assumed-role/issuer/rolecall-issuer").unwrap();
        assert_eq!(own.base_arn().as_str(), "arn:aws-cn:iam::123456789012:role/");
        assert_eq!(own.role(), Some(&RoleArn::parse("arn:aws-cn:iam::123456789012:role/issuer").unwrap()));
        assert_eq!(own.arn(), "arn:aws-cn:iam::123456789012:role/issuer");
    }

    #[test]
    fn others_have_no_role() {
        let own = OwnIdentity::parse("arn:aws:iam::123456789012:root").unwrap();
        assert_eq!((own.role(), own.arn()), (None, "arn:aws:iam::123456789012:root"));
        for text in ["", "arn:aws:iam::1:root", "arn:aws:sts::123456789012:assumed-role//x"] {
            assert_eq!(OwnIdentity::parse(text), Err(UnknownIdentity::Arn(text.into())));
        }
    }
}
