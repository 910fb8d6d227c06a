//! The environment variables that Lambda gives a program on an OS-only runtime (`provided.al2023`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::config::FunctionConfig;
use crate::ledger::IssuedKey;

/// What one environment is told.
pub(super) struct Setting<'a> {
    pub(super) function: &'a FunctionConfig,
    pub(super) region: &'a str,
    pub(super) role: &'a IssuedKey,
    pub(super) runtime_api: SocketAddr,
    pub(super) log_stream: &'a str,
}

/// Names that a function's own settings cannot have: Lambda refuses them when the function is made.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// The first of the function's settings that Lambda would refuse.
pub(super) fn reserved(settings: &BTreeMap<String, SecretString>) -> Option<&str> {
    settings.keys().map(String::as_str).find(|name| RESERVED.contains(name))
}

impl Setting<'_> {
    /// All variables; nothing else reaches the program.
    pub(super) fn variables(&self) -> BTreeMap<String, SecretString> {
        let function = self.function;
        let task_root = function.binary.parent().unwrap_or_else(|| Path::new("/")).display().to_string();
        let plain = [
            ("_HANDLER", "bootstrap".into()),
            ("AWS_ACCESS_KEY_ID", self.role.access_key_id.clone()),
            ("AWS_DEFAULT_REGION", self.region.into()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mb.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name)),
            ("AWS_LAMBDA_LOG_STREAM_NAME", self.log_stream.into()),
            ("AWS_LAMBDA_RUNTIME_API", self.runtime_api.to_string()),
            ("AWS_REGION", self.region.into()),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime".into()),
            ("LAMBDA_TASK_ROOT", task_root),
            ("LANG", "en_US.UTF-8".into()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin".into()),
            ("TZ", ":UTC".into()),
        ];
        let secret =
            [("AWS_SECRET_ACCESS_KEY", &self.role.secret_access_key), ("AWS_SESSION_TOKEN", &self.role.session_token)];
        let plain = plain.into_iter().map(|(name, value): (_, String)| (name.to_owned(), SecretString::from(value)));
        let secret = secret.into_iter().map(|(name, value)| (name.to_owned(), copy(value)));
        let own = function.env.iter().map(|(name, value)| (name.clone(), copy(value)));
        // The function's own come last: Lambda lets them replace what is not reserved, such as PATH and TZ.
        plain.chain(secret).chain(own).collect()
    }
}

fn copy(secret: &SecretString) -> SecretString {
    SecretString::from(secret.expose_secret().to_owned())
}
