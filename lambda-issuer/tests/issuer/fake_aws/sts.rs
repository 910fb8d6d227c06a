//! STS.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use lambda_issuer::clock::Clock;
use model::time::UnixMillis;

use super::{Answer, Shared, State};

/// What STS says to the next `AssumeRole`.
#[derive(Clone, Debug, Default)]
pub(crate) enum StsMood {
    /// A session.
    #[default]
    Gives,
    /// A session, after this time.
    GivesAfter(Duration),
    /// A session of another role.
    GivesAnother,
    /// A session whose expiration cannot be read.
    GivesGarbage,
    /// An error of this status, code and message.
    Refuses(u16, &'static str, &'static str),
    /// Nothing, ever.
    Hangs,
}

impl StsMood {
    pub(crate) const THROTTLES: Self = Self::Refuses(400, "Throttling", "Rate exceeded");
    pub(crate) const FAILS: Self = Self::Refuses(500, "InternalFailure", "An error of STS's own");
}

/// So many calls of `AssumeRole` a second, and no more at once either; the rest is throttled.
pub(crate) struct Quota {
    per_second: u64,
    /// Thousandths of calls that may still be made.
    left: u64,
    since: UnixMillis,
}

impl Quota {
    pub(crate) fn new(per_second: u64, now: UnixMillis) -> Self {
        Self { per_second, left: per_second * 1000, since: now }
    }

    fn take(&mut self, now: UnixMillis) -> bool {
        let since = u64::try_from(now.since(self.since).as_millis()).unwrap();
        self.since = now;
        self.left = (self.left + since * self.per_second).min(self.per_second * 1000);
        let left = self.left.checked_sub(1000);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

impl State {
    /// Notes an `AssumeRole` and says what becomes of it.
    fn next_mood(&mut self, form: &BTreeMap<String, String>, now: UnixMillis) -> StsMood {
        self.assumed.push(form.clone());
        let role = form["RoleArn"].rsplit('/').next().unwrap();
        if self.sts_quota.as_mut().is_some_and(|quota| !quota.take(now)) {
            return StsMood::THROTTLES;
        }
        if self.sts_fails_every.is_some_and(|every| self.assumed.len().is_multiple_of(every)) {
            return StsMood::FAILS;
        }
        self.moods.get(role).unwrap_or(&self.mood).clone()
    }
}

pub(super) async fn answer(shared: &Shared, body: &str) -> Answer {
    let form = form(body);
    if form["Action"] == "GetCallerIdentity" {
        let arn = "arn:aws:sts::123456789012:assumed-role/issuer/function";
        let result = format!("<Arn>{arn}</Arn><UserId>AROAISSUER:function</UserId><Account>123456789012</Account>");
        return (200, xml("GetCallerIdentity", &result));
    }
    let (mood, delay, count) = {
        let mut state = shared.state.lock().unwrap();
        (state.next_mood(&form, shared.clock.now()), state.sts_delay, state.assumed.len())
    };
    tokio::time::sleep(if let StsMood::GivesAfter(delay) = mood { delay } else { delay }).await;
    match mood {
        StsMood::Hangs => std::future::pending().await,
        StsMood::Refuses(status, code, message) => {
            let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
            (status, format!("<ErrorResponse>{error}</ErrorResponse>"))
        }
        StsMood::Gives | StsMood::GivesAfter(_) => session(shared, &form, count, None, None),
        StsMood::GivesGarbage => session(shared, &form, count, None, Some("soon")),
        StsMood::GivesAnother => session(shared, &form, count, Some("another"), None),
    }
}

fn session(
    shared: &Shared,
    form: &BTreeMap<String, String>,
    count: usize,
    name: Option<&str>,
    expires: Option<&str>,
) -> Answer {
    let name = name.unwrap_or_else(|| form["RoleArn"].rsplit('/').next().unwrap());
    let mut state = shared.state.lock().unwrap();
    let (secret, token) =
        (format!("secret-{count}-of-{name}-0123456789"), format!("token-{count}-of-{name}-0123456789"));
    state.secrets.extend([secret.clone(), token.clone()]);
    let lasts = state.session_secs.unwrap_or_else(|| form["DurationSeconds"].parse().unwrap());
    let ends = i64::try_from(shared.clock.now().as_secs() + lasts).unwrap();
    let ends = DateTime::from_secs(ends).fmt(Format::DateTime).unwrap();
    let expires = expires.unwrap_or(&ends);
    let session = &form["RoleSessionName"];
    let result = format!(
        "<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/{name}/{session}</Arn>\
         <AssumedRoleId>AROAX:{session}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>ASIA{count}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>"
    );
    (200, xml("AssumeRole", &result))
}

fn xml(operation: &str, result: &str) -> String {
    format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <{operation}Result>{result}</{operation}Result></{operation}Response>"
    )
}

fn form(body: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                bytes.push(if byte == b'+' { b' ' } else { byte });
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}
