//! The pod, and who it is.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{Connections, PodClient};
use e2e::metadata::{self, LIST, Seen};
use e2e::net::{Pod, PodSpec};
use e2e::suite;
use e2e::world::{NAMESPACE, PERMITTED, ROLE, World, list_becomes};
use tokio::time::{Instant, sleep};

const OTHER_ROLE: &str = "example-rolecall-cluster-pod-role-other";
const SOON: Duration = Duration::from_secs(20);
/// The SDKs that try once wait so long.
const ONE_SECOND: Duration = Duration::from_secs(1);

/// Lets the issuer see a pod on node-a from now on.
async fn announce(world: &World, pod: &Pod) -> Result<()> {
    let directory = world.lab.directory();
    let role = pod.spec().annotation_of("role").context("an annotated pod")?;
    let record = directory.record_of(pod.spec(), world.lab.node("node-a")?, &role)?;
    directory.put_pod(&pod.spec().namespace, &pod.spec().name, &record).await?;
    directory.up_to_date().await
}

/// kiam #47 #203 #277 #293 #358 #395, kube2iam #46 #80 #136. Announced 300 ms late, kiam answered after 450 ms and kube2iam
/// after 735.
pub(crate) async fn pod_asks_before_the_watch_has_seen_it(world: &mut World) -> Result<()> {
    world.lab.directory().permit(NAMESPACE, PERMITTED).await?;
    // Warm function: this row is about the watch alone.
    let warm = world.pod("peers-warm", ROLE).await?;
    list_becomes(world, &warm, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let pod = world.lab.sandbox("node-a", PodSpec::new(NAMESPACE, "peers-early").role(ROLE)).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    let began = Instant::now();
    let late = async {
        sleep(Duration::from_millis(300)).await;
        announce(world, &pod).await
    };
    let (asked, announced) = tokio::join!(client.get(LIST), late);
    announced?;
    let asked = asked?;
    ensure!(asked.answer == Ok((200, ROLE.to_owned())), "{asked:?}");
    ensure!(asked.took < ONE_SECOND, "{asked:?}");
    suite::figure(format!("announced 300 ms late: first ask answered after {} ms", began.elapsed().as_millis()));
    Ok(())
}

/// Both answered an unknown pod after 3.3 to 4.6 s.
pub(crate) async fn unknown_pod_is_answered_past_the_sdks_one_second(world: &mut World) -> Result<()> {
    let pod = world.lab.sandbox("node-a", PodSpec::new(NAMESPACE, "peers-unknown").role(ROLE)).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let asked = client.get(LIST).await?;
        ensure!(asked.took < ONE_SECOND, "{asked:?}");
        statuses.push(asked.status().with_context(|| format!("{asked:?}"))?);
    }
    ensure!(statuses == [503; 4], "{statuses:?}");
    // And one that is nobody's: no record of the CNI names its address.
    let results = world.lab.node("node-a")?.cni_directory().join("results");
    let stranger = world.pod("peers-stranger", ROLE).await?;
    for file in fs::read_dir(results)? {
        let file = file?.path();
        if fs::read_to_string(&file)?.contains(&stranger.spec().uid) {
            fs::remove_file(file)?;
        }
    }
    let client = PodClient::new(&stranger, Connections::New)?;
    let asked = client.get(LIST).await?;
    ensure!(asked.answer == Ok((403, "rolecall: unknown_peer".to_owned())) && asked.took < ONE_SECOND, "{asked:?}");
    Ok(())
}

/// kiam #107 #249 #499, kube2iam #17 #178 #244 #252. The old record is still there when another pod has the address.
pub(crate) async fn ip_reuse_gives_a_pod_anothers_credentials(world: &mut World) -> Result<()> {
    let old = world.pod("peers-old", OTHER_ROLE).await?;
    list_becomes(world, &old, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await?;
    let old_token = metadata::token(&old.place(), metadata::IPV4).await?;
    let addresses = old.addresses().to_vec();
    let cni = world.lab.node("node-a")?.cni_directory();
    let kept = fs::read_dir(cni.join("results"))?
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&old.spec().uid)))
        .context("the old pod's record")?;
    let record = fs::read(&kept)?;
    old.delete().await?;
    fs::write(&kept, record)?;
    // Without its note of the last one, host-local hands out the first address that is free.
    for number in 0..2 {
        fs::remove_file(cni.join(format!("networks/aws-cni/last_reserved_ip.{number}")))?;
    }
    let mut below = Vec::new();
    let new = loop {
        let new = world.pod("peers-new", ROLE).await?;
        if new.addresses() == addresses {
            break new;
        }
        // An address below it was free too; it is taken now.
        ensure!(new.addresses()[0] < addresses[0], "{:?} was not handed out again", addresses[0]);
        below.push(new);
    };
    let client = PodClient::new(&new, Connections::New)?;
    let first = client.get(LIST).await?;
    ensure!(first.answer == Ok((200, ROLE.to_owned())), "{first:?}");
    world.keys_of(&new, ROLE).await?;
    let stolen = metadata::get_with(&new.place(), metadata::IPV4, LIST, &old_token).await?;
    ensure!(stolen == Seen::Answer(401, "rolecall: bad_token".into()), "{stolen:?}");
    fs::remove_file(&kept)?;
    let after = client.get(LIST).await?;
    ensure!(after.answer == Ok((200, ROLE.to_owned())), "{after:?}");
    Ok(())
}

/// kiam's server crashed on it, and with it every pod of the cluster.
pub(crate) async fn namespace_not_cached_yet_crashes_the_whole_server(world: &mut World) -> Result<()> {
    let neighbour = world.pod("peers-neighbour", ROLE).await?;
    let pod = world.lab.schedule("node-a", PodSpec::new("peers-fresh-namespace", "peers-first").role(ROLE)).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    let asked = client.get(LIST).await?;
    ensure!(asked.answer == Ok((503, "rolecall: namespace_unknown".to_owned())), "{asked:?}");
    list_becomes(world, &neighbour, &Seen::Answer(200, ROLE.into()), ONE_SECOND).await?;
    world.lab.directory().permit("peers-fresh-namespace", PERMITTED).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    Ok(())
}
