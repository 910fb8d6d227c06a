//! The cache table, with whatever its owner's root could write there: nothing of it is served but what an issuer sealed for
//! that very session and that still has its 40 minutes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::cloud::Item;
use e2e::net::PodSpec;
use e2e::signer::Keys;
use e2e::world::{NAMESPACE, PERMITTED, ROLE, World};
use model::arn::RoleArn;
use model::credentials::SessionCredentials;
use model::session::{CacheKey, SESSION_DURATION, SessionSpec};
use model::time::UnixMillis;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::json;

use crate::callers::body_for;
use crate::request::{Request, now};
use crate::witness::{audit, with_sts_calls};

const AWS: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const FAR_FUTURE: &str = "9999999999999";

/// A pod with a session of its own, by its session name, and the session's place in the cache.
struct Cached {
    keys: Keys,
    pod: PodSpec,
    key: CacheKey,
}

/// What a node got for its pod.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    access_key_id: String,
    source: String,
}

impl Cached {
    async fn new(world: &World, name: &str) -> Result<Self> {
        let directory = world.lab.directory();
        let pod = PodSpec::new(NAMESPACE, name).role(ROLE).annotation("iam.amazonaws.com/session-name", name);
        directory.permit(NAMESPACE, PERMITTED).await?;
        directory.put_pod(NAMESPACE, name, &directory.record_of(&pod, world.lab.node("node-a")?, ROLE)?).await?;
        directory.up_to_date().await?;
        let spec = SessionSpec {
            role: RoleArn::parse(&World::arn(ROLE))?,
            session_name: name.to_owned(),
            source_identity: None,
            external_id: None,
            tags: Vec::new(),
            duration: SESSION_DURATION,
        };
        Ok(Self { keys: world.lab.node_keys("node-a").await?, pod, key: spec.cache_key() })
    }

    /// Asks an environment that has nothing in its memory.
    async fn ask_cold(&self, world: &World) -> Result<Got> {
        world.lab.control().recycle().await?;
        let body = body_for(std::slice::from_ref(&self.pod))?;
        let answer = Request::new(&self.keys, body).send(world, "node-a").await?;
        let session = &answer.json()?["sessions"][0];
        ensure!(session["role"] == World::arn(ROLE), "{}: {}", answer.status, answer.body);
        let audit = audit(world, &answer.api_request_id)?;
        let [line] = &audit[..] else { anyhow::bail!("{audit:?}") };
        ensure!(line["access_key_id"] == session["credentials"]["access_key_id"], "{line}");
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a text");
        Ok(Got { access_key_id: text(&line["access_key_id"])?, source: text(&line["source"])? })
    }

    async fn item(&self, world: &World) -> Result<Item> {
        let table = world.lab.directory().table(&world.lab.stack().cache_table);
        table.get(&self.key.digest_hex()).await?.context("the session is not shared")
    }
}

fn number(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

/// The genuine item with these attributes over it.
fn forged<const N: usize>(genuine: &Item, attributes: [(&str, AttributeValue); N]) -> Item {
    let mut item = genuine.clone();
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    item
}

fn without<const N: usize>(mut item: Item, names: [&str; N]) -> Item {
    item.retain(|name, _| !names.contains(&name.as_str()));
    item
}

fn resealed(genuine: &Item, change: impl Fn(&mut Vec<u8>)) -> Result<Item> {
    let sealed = genuine.get("sealed").and_then(|value| value.as_b().ok()).context("a sealed text")?;
    let mut text = sealed.as_ref().to_vec();
    change(&mut text);
    Ok(forged(genuine, [("sealed", AttributeValue::B(Blob::new(text)))]))
}

fn tampered(genuine: &Item, of_another: &Item) -> Result<Vec<(&'static str, Item)>> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut swapped = of_another.clone();
    swapped.extend(genuine.get("pk").map(|pk| ("pk".to_owned(), pk.clone())));
    Ok(vec![
        ("another version", resealed(genuine, |text| text.iter_mut().take(1).for_each(|byte| *byte = 2))?),
        ("another nonce", resealed(genuine, |text| text.iter_mut().skip(1).take(1).for_each(|byte| *byte ^= 1))?),
        ("another tag", resealed(genuine, |text| text.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1))?),
        ("cut", resealed(genuine, |text| text.truncate(30))?),
        ("of another session", swapped),
        ("of a key that nobody made", forged(genuine, [("key_id", text("99999"))])),
        ("no binary", forged(genuine, [("sealed", text("x"))])),
        ("nothing sealed", without(genuine.clone(), ["sealed"])),
        ("leased for ever", forged(genuine, [("lease_until", number(FAR_FUTURE)), ("lease_owner", text("x"))])),
        ("leased until a text", forged(genuine, [("lease_until", text("x"))])),
        ("denied for ever", forged(genuine, [("denied_until", number(FAR_FUTURE))])),
        ("denied until a text", forged(genuine, [("denied_until", text("x"))])),
        ("fresh until a text", forged(genuine, [("fresh_until", text(FAR_FUTURE))])),
        ("empty", without(genuine.clone(), ["sealed", "key_id", "fresh_until", "expires_at"])),
    ])
}

/// The data key of today, as only whoever may use the KMS key gets it.
async fn data_key(world: &World, id: &str) -> Result<LessSafeKey> {
    let stack = world.lab.stack();
    let table = world.lab.directory().table(&stack.cache_table);
    let item = table.get(&format!("data-key/{id}")).await?.context("the data key's item")?;
    let wrapped = item.get("wrapped").and_then(|value| value.as_b().ok()).context("a wrapped key")?;
    let file = world.lab.registration().directory().join("wrapped-key");
    std::fs::write(&file, wrapped.as_ref())?;
    let aws = world.lab.tools().aws();
    let aws = aws.to_str().context("a path that is text")?;
    let blob = format!("fileb://{}", file.display());
    let context = json!({"rolecall:purpose": "session-cache", "rolecall:key": id}).to_string();
    let line = [aws, "kms", "decrypt", "--key-id", &stack.key_arn, "--ciphertext-blob", &blob];
    let more = ["--encryption-context", &context, "--query", "Plaintext", "--output", "text"];
    let printed = world.lab.outside().check(&[&line[..], &more].concat(), AWS).await?;
    let key = UnboundKey::new(&AES_256_GCM, &STANDARD.decode(printed.trim())?);
    key.map(LessSafeKey::new).ok().context("the data key is no AES-256 key")
}

/// A session that was never STS's, sealed as an issuer would: version, nonce, ciphertext, tag; version and cache key are
/// authenticated with it.
fn sealed_by_us(genuine: &Item, cached: &Cached, sealing: &LessSafeKey, expiration: UnixMillis) -> Result<Item> {
    const VERSION: u8 = 1;
    const NONCE: [u8; NONCE_LEN] = *b"used by us a";
    let session = SessionCredentials {
        access_key_id: "ASIAPLANTED000000000".into(),
        secret_access_key: "planted".to_owned().into(),
        session_token: "planted".to_owned().into(),
        expiration,
    };
    let mut text = serde_json::to_vec(&session)?;
    let associated = Aad::from([&[VERSION], cached.key.as_bytes()].concat());
    let nonce = Nonce::assume_unique_for_key(NONCE);
    let tag = sealing.seal_in_place_separate_tag(nonce, associated, &mut text).ok().context("it is not sealed")?;
    let text = [&[VERSION], &NONCE[..], &text, tag.as_ref()].concat();
    let sealed = ("sealed", AttributeValue::B(Blob::new(text)));
    Ok(forged(genuine, [sealed, ("fresh_until", number(FAR_FUTURE))]))
}

pub(crate) async fn items_that_no_issuer_wrote_are_not_served(world: &mut World) -> Result<()> {
    let (cached, another) = (Cached::new(world, "x-cache").await?, Cached::new(world, "x-another").await?);
    let mut seen = BTreeSet::from([cached.ask_cold(world).await?.access_key_id]);
    seen.insert(another.ask_cold(world).await?.access_key_id);
    let genuine = cached.item(world).await?;
    let id = genuine.get("key_id").and_then(|value| value.as_s().ok()).context("a key id")?;
    let sealing = data_key(world, id).await?;
    let mut items = tampered(&genuine, &another.item(world).await?)?;
    // Outside fresh for ever, inside not.
    let expired = sealed_by_us(&genuine, &cached, &sealing, now().minus(MINUTE))?;
    let short = sealed_by_us(&genuine, &cached, &sealing, now().plus(39 * MINUTE))?;
    items.extend([("expired inside", expired), ("of 39 minutes inside", short)]);
    let table = world.lab.directory().table(&world.lab.stack().cache_table);
    for (what, item) in items {
        table.put(item).await?;
        let got = with_sts_calls(world, 1, async |world| cached.ask_cold(world).await).await;
        let got = got.map_err(|error| error.context(what))?;
        ensure!(got.source == "sts" && seen.insert(got.access_key_id.clone()), "{what}: {got:?}");
        // The new session has replaced it.
        let again = with_sts_calls(world, 0, async |world| cached.ask_cold(world).await).await?;
        ensure!(again == Got { source: "sealed".into(), ..got }, "{what}: {again:?}");
    }
    // The same hand, with 50 minutes inside: what was refused above was refused for its time alone.
    table.put(sealed_by_us(&genuine, &cached, &sealing, now().plus(50 * MINUTE))?).await?;
    let planted = with_sts_calls(world, 0, async |world| cached.ask_cold(world).await).await?;
    ensure!(planted.access_key_id == "ASIAPLANTED000000000", "{planted:?}");
    table.delete(&cached.key.digest_hex()).await
}

/// An older session of the same key is as good as a newer one while it has 40 minutes: it gives what the pod may have.
pub(crate) async fn a_rolled_back_item_is_served_only_if_it_is_fresh(world: &mut World) -> Result<()> {
    let cached = Cached::new(world, "x-rollback").await?;
    let old = cached.ask_cold(world).await?;
    let item = cached.item(world).await?;
    let table = world.lab.directory().table(&world.lab.stack().cache_table);
    table.delete(&cached.key.digest_hex()).await?;
    let new = with_sts_calls(world, 1, async |world| cached.ask_cold(world).await).await?;
    ensure!(new.access_key_id != old.access_key_id, "{new:?}");
    table.put(item.clone()).await?;
    let again = with_sts_calls(world, 0, async |world| cached.ask_cold(world).await).await?;
    ensure!(again == Got { source: "sealed".into(), ..old }, "{again:?}");
    // As it will be when its twenty minutes of sharing are over.
    table.put(forged(&item, [("fresh_until", number(&now().minus(MINUTE).0.to_string()))])).await?;
    let renewed = with_sts_calls(world, 1, async |world| cached.ask_cold(world).await).await?;
    ensure!(renewed.source == "sts", "{renewed:?}");
    Ok(())
}
