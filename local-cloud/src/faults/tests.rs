use super::*;

fn with(rules: Vec<Rule>) -> Faults {
    let faults = Faults::default();
    faults.replace(rules);
    faults
}

#[tokio::test]
async fn a_counted_rule_strikes_so_many_times_and_goes() {
    let faults = with(vec![Rule { count: Some(2), ..Rule::new(Target::Sts, Effect::Throttle) }]);
    assert_eq!(faults.before(Target::Kms, "Decrypt").await, None);
    assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, Some(Fault::Throttle));
    assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, Some(Fault::Throttle));
    assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, None);
    assert_eq!(faults.rules(), []);
}

#[tokio::test]
async fn a_share_strikes_evenly_and_repeatably() {
    let faults = with(vec![Rule { percent: 25, ..Rule::new(Target::Gateway, Effect::Error(503)) }]);
    let mut struck = Vec::new();
    for _ in 0..8 {
        struck.push(faults.before(Target::Gateway, "/v1").await.is_some());
    }
    assert_eq!(struck, [false, false, false, true, false, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn only_what_goes_beyond_the_rate_is_struck() {
    let faults = with(vec![Rule { beyond: Some(2), ..Rule::new(Target::Sts, Effect::Throttle) }]);
    for _ in 0..2 {
        let mut struck = Vec::new();
        for _ in 0..4 {
            struck.push(faults.before(Target::Sts, "AssumeRole app").await.is_some());
        }
        assert_eq!(struck, [false, false, true, true]);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_shortened_session_is_given() {
    let rule = Rule { count: Some(1), matching: Some("app".into()), ..Rule::new(Target::Sts, Effect::Shorten(60)) };
    let faults = with(vec![rule]);
    assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, None);
    assert_eq!(faults.shortened_by("AssumeRole other"), Duration::ZERO);
    assert_eq!(faults.shortened_by("AssumeRole app"), Duration::from_secs(60));
    assert_eq!(faults.shortened_by("AssumeRole app"), Duration::ZERO);
}

#[tokio::test]
async fn only_matching_details_are_struck() {
    let rule = Rule { matching: Some("directory".into()), ..Rule::new(Target::Dynamodb, Effect::Refuse) };
    let faults = with(vec![rule]);
    assert_eq!(faults.before(Target::Dynamodb, "PutItem cache").await, None);
    assert_eq!(faults.before(Target::Dynamodb, "BatchGetItem directory").await, Some(Fault::Refuse));
}

#[tokio::test(start_paused = true)]
async fn delays_add_up_and_the_first_other_effect_wins() {
    let faults = with(vec![
        Rule::new(Target::Metadata, Effect::Delay(300)),
        Rule::new(Target::Metadata, Effect::Error(500)),
        Rule::new(Target::Metadata, Effect::Delay(200)),
        Rule { count: Some(1), ..Rule::new(Target::Metadata, Effect::Throttle) },
    ]);
    let start = Instant::now();
    assert_eq!(faults.before(Target::Metadata, "").await, Some(Fault::Error(500)));
    assert_eq!(start.elapsed(), Duration::from_millis(500));
    assert_eq!(faults.rules().len(), 4, "the rule that lost keeps its count");
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends_only_with_its_caller() {
    let faults = with(vec![Rule::new(Target::Lambda, Effect::Hang)]);
    let waited = tokio::time::timeout(Duration::from_hours(1), faults.before(Target::Lambda, "")).await;
    assert!(waited.is_err());
}

#[test]
fn an_effect_has_its_own_targets() {
    for effect in [Effect::Kill(5), Effect::OutOfMemory(5), Effect::Stall] {
        assert_eq!(Rule::new(Target::Lambda, effect).wrong(), None);
        assert!(Rule::new(Target::Gateway, effect).wrong().is_some(), "{effect:?}");
    }
    assert_eq!(Rule::new(Target::Metadata, Effect::Expired).wrong(), None);
    assert_eq!(Rule::new(Target::Gateway, Effect::Expired).wrong(), None);
    assert!(Rule::new(Target::Sts, Effect::Expired).wrong().is_some());
}

#[test]
fn the_form_that_the_control_port_takes() {
    let rule: Rule =
        serde_json::from_str(r#"{"target":"sts","effect":{"delay":900},"count":1,"matching":"app"}"#).unwrap();
    assert_eq!(
        rule,
        Rule { count: Some(1), matching: Some("app".into()), ..Rule::new(Target::Sts, Effect::Delay(900)) }
    );
    assert!(serde_json::from_str::<Rule>(r#"{"target":"sts","effect":"explode"}"#).is_err());
}
