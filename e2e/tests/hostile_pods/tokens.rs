//! Tokens that are not the pod's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{Connections, PodClient};
use e2e::metadata::LIST;
use e2e::net::PodSpec;
use e2e::process::wait_for;
use e2e::world::{NAMESPACE, ROLE, World};
use reqwest::Method;

use crate::load::TOKEN;

const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
/// When a token of one second has surely expired.
const EXPIRED: Duration = Duration::from_secs(10);

pub(crate) async fn only_the_pods_own_fresh_token_is_taken(world: &mut World) -> Result<()> {
    let pod = world.pod("tokens", ROLE).await?;
    let neighbour = world.pod("tokens-neighbour", ROLE).await?;
    let elsewhere = world.pod_on("node-b", PodSpec::new(NAMESPACE, "tokens-elsewhere").role(ROLE)).await?;
    let client = PodClient::new(&pod, Connections::Kept)?;
    let own = token_of(&client).await?;
    let mut tokens = vec![String::new(), "a".repeat(4096), own.clone() + "A", own.to_lowercase()];
    tokens.push(token_of(&PodClient::new(&neighbour, Connections::New)?).await?);
    tokens.push(token_of(&PodClient::new(&elsewhere, Connections::New)?).await?);
    tokens.extend((0..own.len()).map(|length| own[..length].to_owned()));
    tokens.extend((0..own.len()).map(|place| flipped(&own, place)));
    for token in &tokens {
        let seen = client.get_with(LIST, token).await?;
        ensure!(seen.answer == Ok((401, "rolecall: bad_token".into())), "{} characters: {seen:?}", token.len());
    }
    let twice = client.ask(Method::GET, LIST, &[(TOKEN, &own), (TOKEN, &own)]).await?;
    ensure!(twice.answer == Ok((401, "rolecall: bad_token".into())), "twice: {twice:?}");
    let seen = client.get_with(LIST, &own).await?;
    ensure!(seen.answer == Ok((200, ROLE.into())), "its own: {seen:?}");
    let short = client.ask(Method::PUT, "/latest/api/token", &[(TTL, "1")]).await?;
    let short = short.body().context("no token of a second")?.to_owned();
    wait_for("a token's end", EXPIRED, async || {
        (client.get_with(LIST, &short).await.ok()?.status() == Some(401)).then_some(())
    })
    .await
}

async fn token_of(client: &PodClient) -> Result<String> {
    let token = client.token().await?;
    ensure!(token.status() == Some(200), "{token:?}");
    token.body().map(str::to_owned).context("no token")
}

/// With another letter at one place. The last letter's low bits are no part of the token; a whole other letter is.
fn flipped(token: &str, place: usize) -> String {
    let other = if token.as_bytes()[place] == b'A' { "Q" } else { "A" };
    format!("{}{other}{}", &token[..place], &token[place + 1..])
}
