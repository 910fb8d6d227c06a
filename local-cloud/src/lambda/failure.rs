//! How an invocation fails: the one place that gives a failure Lambda's status and document.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use thiserror::Error;

use super::RoleError;

/// An invocation without an answer of the function.
#[derive(Debug, Error)]
pub enum InvokeError {
    /// Every environment that the function may have is busy.
    #[error("Rate Exceeded.")]
    Throttled,
    /// The event is larger than Lambda takes.
    #[error("the event of {0} bytes is larger than Lambda takes")]
    EventTooLarge(usize),
    /// The function did not answer in time; its environment is gone.
    #[error("{time} {request_id} Task timed out after {:.2} seconds", after.as_secs_f64())]
    TimedOut {
        /// When, as Lambda writes it.
        time: String,
        /// The invocation.
        request_id: String,
        /// The function's time-out.
        after: Duration,
    },
    /// The program ended before it answered; its environment is gone.
    #[error("RequestId: {request_id} Error: Runtime exited with error: {status}")]
    Exited {
        /// The invocation.
        request_id: String,
        /// `exit status 1`, `signal: killed`.
        status: String,
    },
    /// The program was killed for using more memory than the function has; its environment is gone.
    #[error("RequestId: {request_id} Error: Runtime exited with error: signal: killed")]
    OutOfMemory {
        /// The invocation.
        request_id: String,
    },
    /// The program did not ask for its first event in time.
    #[error("RequestId: {request_id} Error: INIT did not end within {} ms", within.as_millis())]
    InitTimedOut {
        /// The invocation.
        request_id: String,
        /// The limit.
        within: Duration,
    },
    /// The program reported that it cannot start, or that it could not handle the event.
    #[error("the function reported an error of type {error_type}")]
    Reported {
        /// The value of its `Lambda-Runtime-Function-Error-Type` header.
        error_type: String,
        /// Its document, unchanged.
        document: Bytes,
    },
    /// The answer is larger than Lambda passes on.
    #[error("Response payload size exceeded maximum allowed payload size ({0} bytes).")]
    AnswerTooLarge(usize),
    /// The program cannot be run at all.
    #[error("RequestId: {request_id} Error: fork/exec {program}: {source}")]
    NotRunnable {
        /// The invocation.
        request_id: String,
        /// Its path.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The role gave no session.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The service itself fails, as the faults in force ask.
    #[error("the Lambda service fails with {0}")]
    Service(u16),
    /// The service breaks the connection, as the faults in force ask.
    #[error("the Lambda service cannot be reached")]
    Unreachable,
    /// The function was stopped.
    #[error("the function was stopped")]
    Stopped,
}

impl InvokeError {
    /// The status of Lambda's `Invoke`. A failure of the function itself is a 200 with `X-Amz-Function-Error: Unhandled`.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Throttled => 429,
            Self::EventTooLarge(_) => 413,
            Self::Service(status) => *status,
            Self::Role(_) | Self::Unreachable | Self::Stopped => 500,
            Self::TimedOut { .. }
            | Self::Exited { .. }
            | Self::OutOfMemory { .. }
            | Self::InitTimedOut { .. }
            | Self::Reported { .. }
            | Self::AnswerTooLarge(_)
            | Self::NotRunnable { .. } => 200,
        }
    }

    /// Whether the function failed, and not the service in front of it.
    pub const fn is_function_error(&self) -> bool {
        self.status() == 200
    }

    /// The document that `Invoke` answers with.
    pub fn document(&self) -> Bytes {
        let error_type = match self {
            Self::Reported { document, .. } => return document.clone(),
            // Lambda gives a time-out no type on runtimes of the function's own.
            Self::TimedOut { .. } => return document(&json!({ "errorMessage": self.to_string() })),
            Self::Throttled | Self::EventTooLarge(_) | Self::Service(_) | Self::Unreachable | Self::Stopped => {
                return document(&json!({ "Type": "User", "message": self.to_string() }));
            }
            Self::Role(_) => "Runtime.AccessDenied",
            Self::Exited { .. } => "Runtime.ExitError",
            Self::OutOfMemory { .. } => "Runtime.OutOfMemory",
            Self::InitTimedOut { .. } => "Sandbox.Timedout",
            Self::AnswerTooLarge(_) => "Function.ResponseSizeTooLarge",
            Self::NotRunnable { .. } => "Runtime.InvalidEntrypoint",
        };
        document(&json!({ "errorType": error_type, "errorMessage": self.to_string() }))
    }
}

fn document(value: &serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "8476a536-e9f4-11e8-9739-2dfe598c3fcd".into()
    }

    #[test]
    fn documents_are_lambdas() {
        let cases = [
            (
                InvokeError::TimedOut {
                    time: "2026-11-23T23:00:03.000Z".into(),
                    request_id: id(),
                    after: Duration::from_secs(3),
                },
                200,
                r#"{"errorMessage":"2026-11-23T23:00:03.000Z 8476a536-e9f4-11e8-9739-2dfe598c3fcd Task timed out after 3.00 seconds"}"#,
            ),
            (
                InvokeError::Exited { request_id: id(), status: "exit status 1".into() },
                200,
                r#"{"errorMessage":"RequestId: 8476a536-e9f4-11e8-9739-2dfe598c3fcd Error: Runtime exited with error: exit status 1","errorType":"Runtime.ExitError"}"#,
            ),
            (
                InvokeError::OutOfMemory { request_id: id() },
                200,
                r#"{"errorMessage":"RequestId: 8476a536-e9f4-11e8-9739-2dfe598c3fcd Error: Runtime exited with error: signal: killed","errorType":"Runtime.OutOfMemory"}"#,
            ),
            (
                InvokeError::Reported { error_type: "Oops".into(), document: Bytes::from_static(b"{\"as\":\"sent\"}") },
                200,
                r#"{"as":"sent"}"#,
            ),
            (InvokeError::Throttled, 429, r#"{"Type":"User","message":"Rate Exceeded."}"#),
        ];
        for (error, status, text) in cases {
            assert_eq!((error.status(), error.document()), (status, Bytes::from(text)), "{error:?}");
            assert_eq!(error.is_function_error(), status == 200);
        }
    }
}
