//! Every flag, variable and code that a user can meet is in the guides.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use e2e::settings::Programs;
use model::refusal::{RefusalCode, RequestRefusalCode};

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(file).expect(path)
}

/// Words of `text` that `belongs` takes, cut at whatever is neither letter, digit, hyphen nor underscore.
fn words(text: &str, belongs: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).filter(|word| belongs(word)).collect()
}

fn missing<'a>(names: impl IntoIterator<Item = &'a str>, guide: &str) -> Vec<&'a str> {
    names.into_iter().filter(|name| !guide.contains(&format!("`{name}"))).collect()
}

#[test]
fn every_flag_of_the_agent_is_in_the_settings() {
    let (program, guide) = (Programs::find().unwrap().node_agent(), read("docs/settings.md"));
    for verb in ["serve", "intercept", "check"] {
        let output = Command::new(&program).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let flags = words(&help, |word| word.len() > 2 && word.starts_with("--") && word != "--help");
        assert!(flags.len() >= 2, "{verb} --help names too few flags: {help}");
        assert_eq!(missing(flags, &guide), [""; 0], "of {verb}");
    }
}

#[test]
fn every_variable_of_the_issuer_is_in_the_settings() {
    let source = read("lambda-issuer/src/config.rs") + &read("lambda-issuer/src/config/variables.rs");
    let quoted: Vec<_> = source.split('"').skip(1).step_by(2).collect();
    let is_variable = |text: &&str| {
        text.contains('_') && !text.starts_with("AWS_") && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let variables: BTreeSet<&str> = quoted.into_iter().filter(is_variable).collect();
    assert!(variables.contains("STAGE_SECRET") && variables.len() >= 18, "{variables:?}");
    assert_eq!(missing(variables, &read("docs/settings.md")), [""; 0]);
}

#[test]
fn every_code_is_in_the_troubleshooting_guide() {
    let guide = read("docs/troubleshooting.md");
    assert_eq!(missing(RefusalCode::ALL.iter().map(|code| code.as_str()), &guide), [""; 0]);
    assert_eq!(missing(RequestRefusalCode::ALL.iter().map(|code| code.as_str()), &guide), [""; 0]);
    let answers = read("node-agent/src/metadata/answer.rs");
    let codes: BTreeSet<&str> = answers
        .split("refuse(StatusCode::")
        .skip(1)
        .filter_map(|rest| rest.split('"').nth(1))
        .filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    assert!(codes.contains("foreign_host") && codes.len() >= 20, "{codes:?}");
    assert_eq!(missing(codes, &guide), [""; 0]);
    let reasons = read("node-agent/src/issuer/error.rs");
    let reasons = reasons.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    assert_eq!(missing(reasons, &guide), [""; 0]);
}
