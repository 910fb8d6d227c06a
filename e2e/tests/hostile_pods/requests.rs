//! Forms of requests, one connection each.

use anyhow::{Context, Result, ensure};
use e2e::metadata::LIST;
use e2e::world::{ROLE, World};

use crate::cases;
use crate::paths::{OTHER_ROLES, TRICKS};
use crate::raw::{Answer, Then, exchange, get};

/// As many requests as are sent in one write.
const PIPELINED: usize = 100;

pub(crate) async fn every_form_has_its_exact_answer(world: &mut World) -> Result<()> {
    let pod = world.pod("forms", ROLE).await?;
    let inside = pod.namespace().runtime()?;
    let mut wrong = Vec::new();
    for case in cases::all() {
        let mut expected: Vec<Answer> = case.answers.iter().map(|(status, body)| (*status, (*body).into())).collect();
        if case.then == Then::InStep {
            expected.push((200, e2e::cloud::REGION.into()));
        }
        let seen = exchange(&inside, case.bytes, case.answers.len(), case.then).await;
        if !seen.as_ref().is_ok_and(|seen| *seen == expected) {
            wrong.push(format!("{}: expected {expected:?}, saw {seen:?}", case.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

pub(crate) async fn a_hundred_pipelined_requests_are_each_answered_right(world: &mut World) -> Result<()> {
    let pod = world.pod("pipeline", ROLE).await?;
    let inside = pod.namespace().runtime()?;
    let instance = world.lab.node("node-a")?.instance().to_owned();
    let kinds = [
        ("/latest/meta-data/placement/region", (200, e2e::cloud::REGION.to_owned())),
        (LIST, (200, ROLE.to_owned())),
        ("/latest/user-data", (404, "rolecall: not_found".to_owned())),
        ("/latest/meta-data/instance-id", (200, instance)),
        ("/latest/api/token", (405, "rolecall: method_not_allowed".to_owned())),
    ];
    let order = || (0..PIPELINED).map(|n| &kinds[n * 7 % kinds.len()]);
    let bytes = order().flat_map(|(path, _)| get(path)).collect();
    let mut expected: Vec<Answer> = order().map(|(_, answer)| answer.clone()).collect();
    expected.push((200, e2e::cloud::REGION.to_owned()));
    let seen = exchange(&inside, bytes, PIPELINED, Then::InStep).await?;
    ensure!(seen.len() == expected.len(), "{} answers", seen.len());
    for (place, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
        ensure!(seen == expected, "answer {place}: {seen:?}, expected {expected:?}");
    }
    Ok(())
}

pub(crate) async fn tricks_with_paths_lead_nowhere(world: &mut World) -> Result<()> {
    let pod = world.pod("paths", ROLE).await?;
    let inside = pod.namespace().runtime()?;
    let region = (200, e2e::cloud::REGION.to_owned());
    for path in TRICKS {
        let seen = exchange(&inside, get(path), 1, Then::InStep).await.context(path)?;
        ensure!(seen == [(404, "rolecall: not_found".into()), region.clone()], "{path}: {seen:?}");
    }
    for role in OTHER_ROLES {
        let seen = exchange(&inside, get(&format!("{LIST}{role}")), 1, Then::InStep).await.context(role)?;
        ensure!(seen == [(404, "rolecall: another_role".into()), region.clone()], "{role}: {seen:?}");
    }
    Ok(())
}
