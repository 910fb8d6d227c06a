//! A whole laboratory: AWS, two nodes with their agents, and whatever pods are put on them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::agent::Agent;
use crate::clock::Clock;
use crate::cloud::{self, Control, Directory, FunctionSettings, Plan, Stack};
use crate::net::{self, InsideRuntime, Namespace, Node, Pod, PodSpec, Sandbox};
use crate::process::{Daemon, Place};
use crate::registry::Registration;
use crate::settings::{Programs, Tools};
use crate::signer::Keys;

/// Time for a release program to be ready on a busy machine of two cores.
pub const READY: Duration = Duration::from_secs(30);

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// The nodes' names; the first has the number 1.
    pub nodes: Vec<String>,
    /// How the issuer is deployed.
    pub function: FunctionSettings,
    /// More arguments for `node-agent serve`.
    pub serve_arguments: Vec<String>,
    /// How many times as fast as the real one the clock of all programs but `intercept` runs.
    pub speed: u32,
}

impl Default for Options {
    fn default() -> Self {
        let nodes = ["node-a", "node-b"].map(str::to_owned).to_vec();
        Self { nodes, function: FunctionSettings::default(), serve_arguments: Vec::new(), speed: 1 }
    }
}

/// A running laboratory; everything ends when it is dropped. The fields are dropped from top to bottom.
#[derive(Debug)]
pub struct Lab {
    agents: BTreeMap<String, Agent>,
    local_cloud: Daemon,
    ministack: Daemon,
    directory: Directory,
    control: Control,
    stack: Stack,
    inside_aws: Arc<InsideRuntime>,
    nodes: Vec<Node>,
    aws: Namespace,
    clock: Clock,
    tools: Tools,
    programs: Programs,
    options: Options,
    registration: Registration,
}

impl Lab {
    /// Starts everything and waits until the agents are ready.
    pub async fn start(options: Options) -> Result<Self> {
        let mut lab = Self::start_cloud(options).await?;
        lab.start_agents().await?;
        Ok(lab)
    }

    /// Starts AWS and the nodes, whose records it writes, but no agent.
    pub async fn start_cloud(options: Options) -> Result<Self> {
        let (tools, programs) = (Tools::find()?, Programs::find()?);
        let registration = Registration::new()?;
        let mut aws = net::aws(&registration).await?;
        let inside_aws = Arc::new(aws.runtime()?);
        let mut nodes = Vec::new();
        for (number, name) in (1..).zip(&options.nodes) {
            let node = Node::new(&registration, &aws, name, number).await?;
            node.knows_host(net::SERVICES, &cloud::api_host())?;
            nodes.push(node);
        }
        let clock = match options.speed {
            1 => Clock::real(),
            speed => Clock::fast(speed, registration.directory())?,
        };
        aws.start_through(clock.launcher());
        let ministack = cloud::start_ministack(&registration, &tools, &aws, &inside_aws).await?;
        let stack = Stack::create(&tools, &aws).await?;
        let directory = Directory::new(stack.directory_table.clone(), Arc::clone(&inside_aws), clock.clone())?;
        for node in &nodes {
            directory.put_node(node).await?;
        }
        directory.up_to_date().await?;
        let plan = Plan {
            nodes: &nodes,
            stack: &stack,
            function: bootstrap(&registration, &programs, &clock)?,
            settings: &options.function,
            ca_certificate: ca_certificate(&registration),
            log_directory: registration.subdirectory("function")?,
        };
        let local_cloud = start_local_cloud(&registration, &programs, &aws, &inside_aws, &plan).await?;
        let control = Control::new(Arc::clone(&inside_aws));
        let agents = BTreeMap::new();
        Ok(Self {
            agents,
            local_cloud,
            ministack,
            directory,
            control,
            stack,
            inside_aws,
            nodes,
            aws,
            clock,
            tools,
            programs,
            options,
            registration,
        })
    }

    /// Starts the agents and waits until they are ready.
    pub async fn start_agents(&mut self) -> Result<()> {
        let certificate = ca_certificate(&self.registration);
        for node in &self.nodes {
            let agent = Agent::start(&self.programs, node, &certificate, &self.options.serve_arguments, &self.clock)?;
            self.agents.insert(node.name().to_owned(), agent);
        }
        for (name, agent) in &mut self.agents {
            agent.ready(READY).await.with_context(|| format!("the agent of {name}"))?;
        }
        Ok(())
    }

    /// Starts a pod as Kubernetes does: its record is in the directory, with as-of after it, before its sandbox is made.
    pub async fn schedule(&self, node: &str, spec: PodSpec) -> Result<Pod> {
        let node = self.node(node)?;
        if let Some(role) = spec.annotation_of("role") {
            let record = self.directory.record_of(&spec, node, &role)?;
            self.directory.put_pod(&spec.namespace, &spec.name, &record).await?;
        }
        let pod = self.sandbox(node.name(), spec).await?;
        self.directory.up_to_date().await?;
        Ok(pod)
    }

    /// Makes a pod's sandbox on a node and touches no record.
    pub async fn sandbox(&self, node: &str, spec: PodSpec) -> Result<Pod> {
        Pod::new(&self.registration, &self.tools, self.node(node)?, spec, self.pod_environment()).await
    }

    /// Makes a pod's sandbox on a node, without a network yet, and touches no record.
    pub async fn bare_sandbox(&self, node: &str, spec: PodSpec) -> Result<Sandbox> {
        Sandbox::new(&self.registration, &self.tools, self.node(node)?, spec, self.pod_environment()).await
    }

    /// Makes roles that the issuer may assume.
    pub async fn make_pod_roles(&self, names: &[String]) -> Result<()> {
        // CloudFormation takes a template of 51,200 bytes.
        for names in names.chunks(100) {
            self.stack.make_pod_roles(&self.tools, &self.aws, self.registration.directory(), names).await?;
        }
        Ok(())
    }

    /// What a container's image and its manifest would give: the aws command line, and where this laboratory's AWS is.
    fn pod_environment(&self) -> Vec<(String, String)> {
        let aws = self.tools.aws();
        let bin = aws.parent().map(|bin| bin.display().to_string()).unwrap_or_default();
        [
            ("PATH", format!("{bin}:/usr/bin:/bin")),
            ("AWS_ENDPOINT_URL", cloud::ENDPOINT_URL.to_owned()),
            ("AWS_REGION", cloud::REGION.to_owned()),
            // The aws command line of version 1 knows only this name.
            ("AWS_DEFAULT_REGION", cloud::REGION.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// A node.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| format!("there is no node {name}"))
    }

    /// A node's agent.
    pub fn agent(&mut self, node: &str) -> Result<&mut Agent> {
        self.agents.get_mut(node).with_context(|| format!("{node} has no agent"))
    }

    /// The credentials of a node's own role, as a thief on it gets them: from the real metadata service.
    pub async fn node_keys(&self, node: &str) -> Result<Keys> {
        const BASE: &str = "http://169.254.169.254/latest";
        let place = self.node(node)?.place();
        let ask = async |more: &[&str], path: &str| {
            let url = format!("{BASE}/{path}");
            let line = [&["curl", "-sS", "--fail", "--max-time", "5"], more, &[&url]].concat();
            place.check(&line, READY).await
        };
        let token = ask(&["-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"], "api/token").await?;
        let token = ["-H", &format!("X-aws-ec2-metadata-token: {token}")].map(str::to_owned);
        let token = [&*token[0], &*token[1]];
        let role = ask(&token, "meta-data/iam/security-credentials/").await?;
        Keys::from_metadata(&ask(&token, &format!("meta-data/iam/security-credentials/{role}")).await?)
    }

    /// Writes a shell script that runs a command in `pod`, or a shell, and returns its path.
    pub fn entrance(&self, pod: &Pod) -> Result<PathBuf> {
        let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"));
        let environment = pod.environment().map(|(name, value)| format!("{name}={}", quoted(value.as_ref())));
        let line = pod.place().command_line::<&str>(&[]);
        let line: Vec<_> = line.iter().map(|word| quoted(word)).collect();
        let script = format!(
            "#!/bin/sh\n# Runs a command, or a shell, in the pod {}/{}.\n[ $# -gt 0 ] || set -- bash --norc\n\
             exec env -i TERM=\"$TERM\" {} {} \"$@\"\n",
            pod.spec().namespace,
            pod.spec().name,
            environment.collect::<Vec<_>>().join(" "),
            line.join(" "),
        );
        let path = self.registration.directory().join(format!("enter-{}-{}", pod.spec().namespace, pod.spec().name));
        fs::write(&path, script)?;
        Ok(path)
    }

    /// A program on a node, outside of its pods, with these keys in its environment.
    pub fn outside_of_pods(&self, node: &str, keys: &Keys) -> Result<Place> {
        let place = self.node(node)?.place().env("AWS_DEFAULT_REGION", cloud::REGION);
        let place = place.env("AWS_ENDPOINT_URL", format!("http://{}:4566", net::SERVICES));
        Ok(keys.variables().into_iter().fold(place, |place, (name, value)| place.env(name, value)))
    }

    /// A session of a role, made by the account's root.
    pub async fn assume_as_root(&self, role: &str, session: &str) -> Result<Keys> {
        let aws = self.tools.aws();
        let line = [&*aws.to_string_lossy(), "sts", "assume-role", "--role-arn", role, "--role-session-name", session];
        let place = self.outside();
        let place = place.env("AWS_ENDPOINT_URL", format!("http://{}:4566", net::SERVICES));
        Keys::from_assume_role(&place.check(&line.map(str::to_owned), READY).await?)
    }

    /// A program of the account's root, outside of the cluster.
    pub fn outside(&self) -> Place {
        cloud::as_root(self.aws.place())
    }

    /// Sockets in the namespace of AWS.
    pub fn inside_aws(&self) -> &InsideRuntime {
        &self.inside_aws
    }

    /// Records.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Delays, outages, and what was issued.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What the template made.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The API Gateway, Lambda and EC2 metadata of this laboratory.
    pub fn local_cloud(&mut self) -> &mut Daemon {
        &mut self.local_cloud
    }

    /// All that it has logged; its access lines are API Gateway's.
    pub fn local_cloud_log(&self) -> String {
        self.local_cloud.log()
    }

    /// Its IAM, STS, DynamoDB, KMS and SNS.
    pub fn ministack(&mut self) -> &mut Daemon {
        &mut self.ministack
    }

    /// The time that it lives by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Its name and directory.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The programs under test.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The tools.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The certificate of the authority that signed the API's.
    pub fn ca_certificate(&self) -> PathBuf {
        ca_certificate(&self.registration)
    }

    /// Lets everything, and these pods, outlive this process; [`crate::registry::stop_kept`] ends it.
    pub fn keep(mut self, pods: Vec<Pod>) -> Result<()> {
        self.registration.keep()?;
        self.agents.values_mut().for_each(Agent::leave);
        self.local_cloud.leave();
        self.ministack.leave();
        for mut pod in pods {
            pod.leave();
        }
        self.nodes.iter_mut().for_each(|node| node.namespace_mut().leave());
        self.aws.leave();
        Ok(())
    }
}

fn ca_certificate(registration: &Registration) -> PathBuf {
    registration.directory().join("api-authority.pem")
}

/// What Lambda starts as the function: the release program, on the laboratory's clock.
fn bootstrap(registration: &Registration, programs: &Programs, clock: &Clock) -> Result<PathBuf> {
    let program = programs.lambda_issuer();
    let Some(launcher) = clock.launcher() else { return Ok(program) };
    let bootstrap = registration.directory().join("bootstrap");
    fs::write(&bootstrap, format!("#!/bin/sh\nexec '{}' '{}'\n", launcher.display(), program.display()))?;
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755))?;
    Ok(bootstrap)
}

async fn start_local_cloud(
    registration: &Registration,
    programs: &Programs,
    aws: &Namespace,
    inside: &InsideRuntime,
    plan: &Plan<'_>,
) -> Result<Daemon> {
    let settings = registration.directory().join("local-cloud.json");
    fs::write(&settings, serde_json::to_vec_pretty(&plan.to_json())?)?;
    let program = programs.local_cloud();
    let line = [program.as_os_str(), "--config".as_ref(), settings.as_os_str()];
    let log = registration.directory().join("local-cloud.log");
    let mut daemon = Daemon::start("local-cloud", aws.place(), &line, log)?;
    let api = format!("{}:443", net::SERVICES);
    daemon.ready(READY, async || inside.run(TcpStream::connect(api.clone())).await.ok()?.ok()).await?;
    Ok(daemon)
}
