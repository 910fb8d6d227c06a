//! What the log says of a failed AWS call.
//!
//! The SDK's own full form prints raw bodies, and the body of an answer that could not be read may hold credentials. So only
//! codes, AWS's messages and the layers below a connection are named here.

use std::error::Error;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// One line on why a call failed, without the bodies of requests and answers.
pub(crate) fn describe<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(refusal) => {
            let refusal = refusal.err();
            format!("{}: {}", refusal.code().unwrap_or("no code"), refusal.message().unwrap_or("no message"))
        }
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().map_or_else(|| "not sent".to_owned(), |error| chain(error))
        }
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::ResponseError(_) => "the answer could not be read".to_owned(),
        _ => "the request could not be built".to_owned(),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
