//! The program `nft`, and our table through it.

use std::{io, process::Stdio, time::Duration};

use nftables::schema::{NfCmd, NfListObject, NfObject, Nftables};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{
    listing::Shape,
    rules::{RuleSet, TABLE, table},
};

/// A listing or a transaction takes about 20 ms; one that takes this long is stuck behind the kernel's lock.
const NFT_TIMEOUT: Duration = Duration::from_secs(10);

/// The oldest version whose JSON was tried with our rules.
const OLDEST: (u32, u32, u32) = (1, 0, 6);

#[derive(Debug, thiserror::Error)]
pub(super) enum NftError {
    #[error("`nft` is not on PATH: install nftables 1.0.6 or later in the image")]
    NotFound,
    #[error("nft is too old ({0}): install nftables 1.0.6 or later in the image")]
    TooOld(String),
    #[error("nft cannot be run")]
    Run(#[source] io::Error),
    #[error("nft gave no answer within {NFT_TIMEOUT:?}")]
    Timeout,
    #[error("nft refused: {0}")]
    Refused(String),
    #[error("nft printed no JSON: its build lacks JSON support")]
    NotJson(#[source] serde_json::Error),
    #[error("the rules cannot be written as JSON")]
    Write(#[source] serde_json::Error),
}

impl From<io::Error> for NftError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::Run(error) }
    }
}

/// The version, once it is known to do.
pub(super) async fn version() -> Result<String, NftError> {
    let output = run(&["--version"], None).await?;
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    match parse_version(&text) {
        Some(version) if version >= OLDEST => Ok(text),
        _ => Err(NftError::TooOld(text)),
    }
}

/// Our table as plain JSON; none where there is no such table.
pub(super) async fn list() -> Result<Option<Value>, NftError> {
    match run(&["-j", "list", "table", "inet", TABLE], None).await {
        Ok(output) => serde_json::from_slice(&output).map(Some).map_err(NftError::NotJson),
        Err(NftError::Refused(message)) if message.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes our table, if it is there.
pub(super) async fn delete() -> Result<(), NftError> {
    let table = || NfListObject::Table(table());
    let commands = [NfCmd::Add(table()), NfCmd::Delete(table())];
    commit(&Nftables { objects: commands.into_iter().map(NfObject::CmdObject).collect() }).await
}

async fn commit(transaction: &Nftables<'_>) -> Result<(), NftError> {
    let json = serde_json::to_vec(transaction).map_err(NftError::Write)?;
    run(&["-j", "-f", "-"], Some(&json)).await.map(drop)
}

async fn run(args: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, NftError> {
    let mut child = Command::new("nft")
        .args(args)
        // Messages are read, so they must not be translated.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let work = async {
        // Taken, and so closed at the end of the block: nft reads to the end of its input.
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.unwrap_or_default()).await.or_else(reader_is_gone)?;
        }
        child.wait_with_output().await
    };
    let output = timeout(NFT_TIMEOUT, work).await.map_err(|_| NftError::Timeout)?.map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(NftError::Refused(String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Whoever hung up before it read everything says why in its own message.
fn reader_is_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let mut parts = word.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Our table in the kernel, kept equal to the rules wanted.
#[derive(Debug, Default)]
pub(super) struct InstalledTable {
    /// What nft printed just after our own transaction, where that is not what we wrote: another version of nft may
    /// spell a rule in another way, and must not make us replace the table forever. Only with every rule in its place:
    /// somebody may have deleted one in between.
    spelling: Option<(Shape, Shape)>,
}

/// What a look at the table led to.
#[derive(Debug)]
pub(super) struct Kept {
    /// The table as it is now.
    pub(super) listing: Value,
    /// What was wrong, if the table was replaced; `["the table is missing"]` on a node that never had one.
    pub(super) replaced: Option<Vec<String>>,
}

impl InstalledTable {
    /// Looks at the table and replaces it when it differs from `rules`, or when `force` is set.
    pub(super) async fn keep(&mut self, rules: &RuleSet, force: bool) -> Result<Kept, NftError> {
        let wanted = Shape::wanted(rules).map_err(NftError::Write)?;
        let wrong = match list().await? {
            None => vec!["the table is missing".to_owned()],
            Some(listing) => {
                let found = Shape::listed(&listing);
                let differences = self.expected(&wanted).differences(&found);
                if differences.is_empty() && !force {
                    return Ok(Kept { listing, replaced: None });
                }
                differences
            }
        };
        commit(&rules.transaction()).await?;
        let listing = list().await?.ok_or_else(|| NftError::Refused("the new table is gone again".to_owned()))?;
        let found = Shape::listed(&listing);
        self.spelling = (found != wanted && found.has_outline_of(&wanted)).then_some((wanted, found));
        Ok(Kept { listing, replaced: Some(wrong) })
    }

    fn expected<'a>(&'a self, wanted: &'a Shape) -> &'a Shape {
        match &self.spelling {
            Some((written, printed)) if written == wanted => printed,
            _ => wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("nftables v1.0.6 (Lester Gooch #5)"), Some((1, 0, 6)));
        assert_eq!(parse_version("nftables v1.1"), Some((1, 1, 0)));
        assert_eq!(parse_version("something else"), None);
    }

    proptest! {
        #[test]
        fn any_version_text_is_read(text in ".*") {
            let _ = parse_version(&text);
        }
    }
}
