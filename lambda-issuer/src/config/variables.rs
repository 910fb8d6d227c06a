//! The environment: texts by name, and how each form of setting is read from one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::marker::PhantomData;

use secrecy::SecretString;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// The shortest stage secret: 32 characters of the 74 that a stage variable may have are beyond guessing.
const MIN_SECRET: usize = 32;
/// API Gateway's limit for the value of a stage variable.
const MAX_SECRET: usize = 512;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the environment variable {variable} {problem}")]
pub struct BadSetting {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it, and what to write.
    pub problem: String,
}

/// Where the Lambda Runtime API is, for the report of a failed start.
pub fn runtime_api() -> Option<String> {
    environment("AWS_LAMBDA_RUNTIME_API")
}

pub(super) fn environment(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    std::env::var(name).ok()
}

pub(super) fn bad(variable: &'static str, problem: impl Into<String>) -> BadSetting {
    BadSetting { variable, problem: problem.into() }
}

/// The members of a JSON object, in order, as often as they are there.
struct Pairs<K, V>(Vec<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Pairs<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Members<K, V> {
            type Value = Vec<(K, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// The environment, as a function so that tests need no process of their own.
pub(super) struct Variables<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// An empty variable is one that is not set: CloudFormation cannot leave one out.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, name: &'static str, expected: &str) -> Result<String, BadSetting> {
        self.get(name).ok_or_else(|| bad(name, format!("is not set: write {expected}")))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, name: &'static str, example: &str) -> Result<T, BadSetting> {
        let text = self.text(name, &format!("JSON such as {example}"))?;
        serde_json::from_str(&text)
            .map_err(|error| bad(name, format!("is not usable ({error}): write JSON such as {example}")))
    }

    /// A JSON object whose keys are names. A key that is there twice is an error: nobody means only the last to count.
    pub(super) fn json_map<K: DeserializeOwned + Ord + Display, V: DeserializeOwned>(
        &self,
        name: &'static str,
        example: &str,
    ) -> Result<BTreeMap<K, V>, BadSetting> {
        let Pairs(pairs) = self.json(name, example)?;
        let mut map = BTreeMap::new();
        for (key, value) in pairs {
            match map.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(value),
                Entry::Occupied(entry) => return Err(bad(name, format!("names {} twice: keep one", entry.key()))),
            }
        }
        Ok(map)
    }

    pub(super) fn json_or<T: DeserializeOwned + Default>(
        &self,
        name: &'static str,
        example: &str,
    ) -> Result<T, BadSetting> {
        if self.get(name).is_none() { Ok(T::default()) } else { self.json(name, example) }
    }

    /// One of a closed list of words, as serde knows them.
    pub(super) fn word<T: DeserializeOwned>(&self, name: &'static str, words: &str) -> Result<Option<T>, BadSetting> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let word = serde_json::from_value(serde_json::Value::String(value.clone()));
        word.map(Some).map_err(|_| bad(name, format!("is {value:?}: write {words}")))
    }

    pub(super) fn switch(&self, name: &'static str, default: bool) -> Result<bool, BadSetting> {
        match self.get(name).as_deref() {
            None => Ok(default),
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(bad(name, format!("is {other:?}: write on or off"))),
        }
    }

    pub(super) fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
        expected: &str,
        default: T,
    ) -> Result<T, BadSetting> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.parse().map_err(|_| bad(name, format!("is {value:?}: write {expected}")))
    }

    /// A whole number from 1.
    pub(super) fn number(&self, name: &'static str, default: u64) -> Result<u64, BadSetting> {
        let number = self.parsed(name, "a whole number from 1", default)?;
        if number == 0 { Err(bad(name, "is 0: write a whole number from 1")) } else { Ok(number) }
    }

    pub(super) fn vpce_ids(&self) -> Result<BTreeSet<String>, BadSetting> {
        const NAME: &str = "VPCE_IDS";
        const EXPECTED: &str = "the ids of the VPC endpoints in front of the API, such as vpce-0123456789abcdef0, \
                                with a comma between them";
        let ids = self.text(NAME, EXPECTED)?;
        let ids: BTreeSet<String> = ids.split(',').map(|id| id.trim().to_owned()).collect();
        match ids.iter().find(|id| !id.starts_with("vpce-")) {
            None => Ok(ids),
            Some(other) => Err(bad(NAME, format!("holds {other:?}: write {EXPECTED}"))),
        }
    }

    /// The secret is never quoted.
    pub(super) fn stage_secret(&self) -> Result<SecretString, BadSetting> {
        const NAME: &str = "STAGE_SECRET";
        const EXPECTED: &str = "32 to 512 random letters and digits, the same as the stage variable rolecall_secret";
        let secret = self.text(NAME, EXPECTED)?;
        let usable = (MIN_SECRET..=MAX_SECRET).contains(&secret.len())
            && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#&=,".contains(&b));
        if usable { Ok(secret.into()) } else { Err(bad(NAME, format!("is not usable: write {EXPECTED}"))) }
    }

    /// What the Lambda runtime and the SDK would otherwise miss with a panic, or by asking a metadata service.
    pub(super) fn check_runtime(&self) -> Result<(), BadSetting> {
        const BY_LAMBDA: &str = "is not set: this program is the bootstrap of an AWS Lambda function, which sets it";
        for name in [
            "AWS_LAMBDA_RUNTIME_API",
            "AWS_LAMBDA_FUNCTION_NAME",
            "AWS_LAMBDA_FUNCTION_VERSION",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            "AWS_REGION",
        ] {
            self.get(name).ok_or_else(|| bad(name, BY_LAMBDA))?;
        }
        self.parsed("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "a number of megabytes", 0_i32).map(|_| ())
    }
}
