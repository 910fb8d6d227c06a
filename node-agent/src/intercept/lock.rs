//! The lock behind: the instance itself gives credentials to nobody further away than the node.
//!
//! Before the rules are there, after a reboot say, only this protects the node's role: tokens required, and token answers
//! that die on their first hop. Proven from what arrives: a token is asked for, and a rule of ours must have counted the
//! answer with one hop left.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpStream, time::timeout};

use super::{
    family::{Family, METADATA_PORT},
    listing,
    nft::{self, NftError},
    rules::hop_limit_comment,
};

/// The metadata service answers in a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub(super) enum Lock {
    /// Hop limit 1 and tokens required.
    Holds,
    /// A pod could receive a token.
    HopLimitNot1,
    /// A pod needs no token.
    TokensNotRequired,
    /// No metadata service answers this node.
    Unreachable,
    /// Not looked at yet, or not to be looked at.
    Unknown,
}

impl From<Lock> for &'static str {
    fn from(lock: Lock) -> Self {
        lock.name()
    }
}

impl Lock {
    /// Its name in files and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::HopLimitNot1 => "hop_limit_not_1",
            Self::TokensNotRequired => "tokens_not_required",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }

    /// What to do about it, for people; none where there is nothing to do.
    pub(super) const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Holds | Self::Unknown => None,
            Self::HopLimitNot1 => Some(
                "the instance's metadata hop limit is not 1, so a pod whose call is not intercepted (after a reboot, \
                 before this program runs) can get the node's credentials: run `aws ec2 \
                 modify-instance-metadata-options --instance-id ID --http-tokens required \
                 --http-put-response-hop-limit 1`, and set the same in the launch template",
            ),
            Self::TokensNotRequired => Some(
                "the instance's metadata service answers without a token, so the hop limit protects nothing: run `aws \
                 ec2 modify-instance-metadata-options --instance-id ID --http-tokens required \
                 --http-put-response-hop-limit 1`, and set the same in the launch template",
            ),
            Self::Unreachable => Some(
                "no metadata service answers this node at 169.254.169.254 or fd00:ec2::254, so its hop limit is not \
                 known: enable the instance's metadata endpoint; it is asked again",
            ),
        }
    }
}

/// Looks, over the first family whose metadata service answers: the instance has one hop limit for both.
pub(super) async fn look() -> Result<Lock, NftError> {
    for family in Family::BOTH {
        let before = Count::of(family).await?;
        let Some(token) = ask(family, "PUT", "/latest/api/token").await else { continue };
        let after = Count::of(family).await?;
        let (Some(before), Some(after)) = (before, after) else { return Ok(Lock::Unknown) };
        if before.table != after.table || token != StatusCode::OK {
            // The count was lost in between, or the service is not well: no verdict.
            return Ok(Lock::Unknown);
        }
        if before.answers == after.answers {
            return Ok(Lock::HopLimitNot1);
        }
        return Ok(match ask(family, "GET", "/latest/meta-data/instance-id").await {
            Some(StatusCode::UNAUTHORIZED) => Lock::Holds,
            Some(StatusCode::OK) => Lock::TokensNotRequired,
            _ => Lock::Unknown,
        });
    }
    Ok(Lock::Unreachable)
}

/// What the counting rule has counted, and in which incarnation of the table.
struct Count {
    table: u64,
    answers: u64,
}

impl Count {
    /// None while the table is not there.
    async fn of(family: Family) -> Result<Option<Self>, NftError> {
        let Some(listing) = nft::list().await? else { return Ok(None) };
        let answers = listing::packets(&listing, &hop_limit_comment(family));
        Ok(listing::table_handle(&listing).zip(answers).map(|(table, answers)| Self { table, answers }))
    }
}

/// The status of the answer; none where none came.
async fn ask(family: Family, method: &str, path: &str) -> Option<StatusCode> {
    let to = SocketAddr::new(family.metadata(), METADATA_PORT);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, to.ip().to_string())
        .header(header::CONTENT_LENGTH, "0")
        // The shortest life there is: the token is thrown away.
        .header(TOKEN_TTL, "1")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let answer = async {
        let stream = TcpStream::connect(to).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::select! {
            answer = sender.send_request(request) => answer.ok(),
            _ended = connection => None,
        }
    };
    timeout(PATIENCE, answer).await.ok().flatten().map(|answer| answer.status())
}
