//! The laboratory itself: what the other tests stand on.

use std::path::Path;
use std::time::Duration;

use e2e::net::{self, Namespace, Node, Pod, PodSpec};
use e2e::process::{Place, wait_for};
use e2e::registry::Registration;
use e2e::settings::Tools;
use tokio::process::Child;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_a_network_and_the_record_that_libcni_writes() {
    let tools = Tools::find().unwrap();
    let registration = Registration::new().unwrap();
    let aws = net::aws(&registration).await.unwrap();
    let node = Node::new(&registration, &aws, "node-a", 1).await.unwrap();
    let spec = PodSpec::new("default", "web-0").role("app");
    let pod = Pod::new(&registration, &tools, &node, spec, vec![("GREETING".into(), "hello".into())]).await.unwrap();

    assert_eq!(pod.addresses().len(), 2, "IPv4 and IPv6: {:?}", pod.addresses());
    let records = node.cni_directory().join("results");
    let files: Vec<_> = std::fs::read_dir(&records).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    assert_eq!(record["kind"], "cniCacheV1");
    assert_eq!(record["capabilityArgs"]["io.kubernetes.cri.pod-annotations"]["iam.amazonaws.com/role"], "app");
    let arguments = record["cniArgs"].to_string();
    for (key, value) in [("K8S_POD_NAMESPACE", "default"), ("K8S_POD_NAME", "web-0"), ("K8S_POD_UID", &pod.spec().uid)]
    {
        assert!(arguments.contains(&format!("[\"{key}\",\"{value}\"]")), "{arguments}");
    }

    for target in [net::SERVICES.to_owned(), "169.254.169.254".into(), "fd00:ec2::254".into()] {
        // Nobody listens: a refusal proves the way there and back, where no answer would be a time-out.
        let host = if target.contains(':') { format!("[{target}]") } else { target };
        let seen = pod.run(&["curl", "-sS", "--max-time", "5", &format!("http://{host}/")], SOON).await.unwrap();
        assert_eq!(seen.status.code(), Some(7), "{host}: {}", seen.stderr);
    }

    let inside = pod.run(&["sh", "-c", "echo $GREETING; env | wc -l; ls -A $HOME; id -u"], SOON).await.unwrap();
    assert_eq!(inside.stdout, "hello\n4\n0\n", "GREETING, HOME, PATH and the shell's PWD alone; an empty home");
    let mounts = pod.run(&["mount", "-t", "tmpfs", "none", "/mnt"], SOON).await.unwrap();
    assert!(!mounts.status.success(), "a container cannot mount");

    pod.delete().await.unwrap();
    assert_eq!(std::fs::read_dir(&records).unwrap().count(), 0);
}

/// A program that is surely inside: one that is only about to enter is not found by a removal.
async fn sleeper_in(namespace: &Namespace) -> Child {
    let child = namespace.place().command(&["sleep", "1000"]).kill_on_drop(true).spawn().expect("nsenter starts");
    let pids = ["ip", "netns", "pids", namespace.name()];
    let inside = async || Place::default().check(&pids, SOON).await.is_ok_and(|pids| !pids.is_empty()).then_some(());
    wait_for("the sleeper", SOON, inside).await.expect("nsenter enters");
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_in_a_laboratory_ends_with_it() {
    let registration = Registration::new().unwrap();
    let id = registration.id().to_owned();
    let aws = net::aws(&registration).await.unwrap();
    let mut sleeper = sleeper_in(&aws).await;
    let listed = || std::fs::read_dir("/run/netns").unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    assert!(listed().any(|name| name.starts_with(&id)));
    drop(aws);
    drop(registration);
    assert!(!listed().any(|name| name.starts_with(&id)));
    assert!(!sleeper.wait().await.unwrap().success());
    assert!(!Path::new("/run/rolecall-lab").join(&id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_removed_by_the_next() {
    // Process 1 lives and did not start at 0, so this names a process that is gone.
    let id = format!("rc-dead-{}", std::process::id());
    let directory = Path::new("/run/rolecall-lab").join(&id);
    let namespace = Namespace::new(format!("{id}-aws")).await.unwrap();
    let mut sleeper = sleeper_in(&namespace).await;
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("owner"), "1 0").unwrap();

    let own = Registration::new().unwrap();
    // Another test's laboratory may have begun to remove it, so its end is waited for.
    wait_for("the removal", SOON, async || (!directory.exists()).then_some(())).await.unwrap();
    assert!(!sleeper.wait().await.unwrap().success());
    assert!(!Path::new("/run/netns").join(namespace.name()).exists());
    assert!(own.directory().exists(), "a living owner keeps its own");
}
