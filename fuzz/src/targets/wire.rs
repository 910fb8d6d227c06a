//! What agent and issuer say to each other: a request as the issuer reads it, an answer as the agent reads it.

use std::time::Duration;

use model::wire::{Ask, ErrorBody, IssueRequest, IssueResponse, MAX_PATIENCE, MAX_PODS, Outcome};

/// Longer than any sentence about a message, far shorter than a message can be.
const MAX_SENTENCE: usize = 400;

pub(super) fn run(input: &[u8]) {
    request(input);
    answer(input);
    if let Ok(error) = serde_json::from_slice::<ErrorBody>(input) {
        let again: ErrorBody = read_back(&error);
        assert_eq!((again.version, again.code, again.message), (error.version, error.code, error.message));
    }
}

fn request(input: &[u8]) {
    match IssueRequest::parse(input) {
        Ok(request) => {
            assert!((1..=MAX_PODS).contains(&request.pods.len()) && request.patience() <= MAX_PATIENCE);
            let text = serde_json::to_vec(&request).expect("a request is JSON");
            assert_eq!(IssueRequest::parse(&text), Ok(request));
        }
        Err(error) => assert!(error.to_string().len() < MAX_SENTENCE, "{error}"),
    }
}

fn answer(input: &[u8]) {
    for pods in [1, 2] {
        let request = asking(pods);
        match IssueResponse::parse(input, &request) {
            Ok(response) => {
                assert_eq!(response.outcomes.len(), pods);
                for outcome in &response.outcomes {
                    assert!(!matches!(outcome, Outcome::Session(place) if *place >= response.sessions.len()));
                }
                let text = serde_json::to_vec(&response).expect("an answer is JSON");
                let again = IssueResponse::parse(&text, &request).expect("what was read can be read again");
                assert_eq!(serde_json::to_vec(&again).expect("an answer is JSON"), text);
            }
            Err(error) => assert!(error.to_string().len() < MAX_SENTENCE, "{error}"),
        }
    }
}

fn asking(pods: usize) -> IssueRequest {
    let ask = |number: usize| Ask {
        pod: model::name::PodRef {
            namespace: "default".parse().expect("a namespace"),
            name: format!("web-{number}").parse().expect("a pod's name"),
            uid: "uid-1".parse().expect("a UID"),
        },
        sandbox_age_ms: 0,
    };
    IssueRequest::new(Duration::from_millis(800), (0..pods).map(ask).collect())
}

fn read_back<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).expect("it is JSON")).expect("what was read can be read again")
}
