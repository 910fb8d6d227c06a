//! local-cloud's control port: delays and outages, and what was issued.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use local_cloud::faults::Rule;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::CONTROL;
use crate::http;
use crate::net::InsideRuntime;

/// A client of the control port.
#[derive(Clone, Debug)]
pub struct Control {
    inside: Arc<InsideRuntime>,
}

impl Control {
    pub(crate) fn new(inside: Arc<InsideRuntime>) -> Self {
        Self { inside }
    }

    /// Puts `rules` in the place of all others; none ends all misbehaviour.
    pub async fn misbehave(&self, rules: &[Rule]) -> Result<()> {
        self.ask(Method::PUT, "/faults", serde_json::to_string(rules)?).await.map(drop)
    }

    /// What there is and what happened: keys without their secrets, questions to STS, answers, environments.
    pub async fn state(&self) -> Result<Value> {
        let text = self.ask(Method::GET, "/state", String::new()).await?;
        serde_json::from_str(&text).context("local-cloud's state")
    }

    /// Every secret that was ever issued, and those of the settings.
    pub async fn secrets(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Secrets {
            secrets: Vec<String>,
        }
        let text = self.ask(Method::GET, "/secrets", String::new()).await?;
        Ok(serde_json::from_str::<Secrets>(&text).context("local-cloud's secrets")?.secrets)
    }

    /// Ends all environments of the function: the next event finds a cold one.
    pub async fn recycle(&self) -> Result<()> {
        self.ask(Method::DELETE, "/environments", String::new()).await.map(drop)
    }

    /// Gives the function an event past the API, as whoever may call `lambda:InvokeFunction` can, and returns its answer.
    pub async fn invoke(&self, event: &Value) -> Result<Value> {
        let text = self.ask(Method::POST, "/invocations", event.to_string()).await?;
        serde_json::from_str(&text).context("the function's answer")
    }

    async fn ask(&self, method: Method, path: &'static str, body: String) -> Result<String> {
        let ask = async move {
            let request = http::client().build()?.request(method, format!("http://{CONTROL}{path}")).body(body);
            let response = request.send().await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        let (status, text) = self.inside.run(ask).await?.with_context(|| format!("local-cloud's {path}"))?;
        ensure!(status.is_success(), "local-cloud's {path}: {status}: {text}");
        Ok(text)
    }
}
