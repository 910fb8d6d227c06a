//! `node-agent serve`: what is made, in which order, and what ends it. Reads as the path of a request, backwards: the node's
//! own credentials, the issuer, the pods' credentials, then the port that pods reach.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::TryFutureExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::{ANY, ServeArgs};
use crate::credentials::{Chance, Contact, Credentials, Keeper};
use crate::error_chain::Chain;
use crate::health::{self, Guard, Interception, Readiness};
use crate::identity::{Identity, IdentityConfig, KernelRoutes, Sandbox, SandboxChange, SandboxId};
use crate::issuer::{IssuerClient, http_client};
use crate::metadata::{self, AllowList, Hosts, Limits, Metadata, Settings, Tokens};
use crate::metrics::Metrics;
use crate::node::{self, NodeCredentials, NodeMetadata};

/// The file that `node-agent intercept` renews in the state directory.
const INTERCEPT_OK: &str = "intercept.ok";
/// Open files: the most connections of pods, and plenty for everything else.
const DESCRIPTORS: u64 = 8192;
/// How long the port stays closed for pods whose credentials are not there yet. With an issuer that answers, 250 pods take a
/// few seconds; without one, running pods lose nothing by an agent that says 503 instead of refusing connections.
const PREFETCH_PATIENCE: Duration = Duration::from_secs(10);
/// How often the real metadata service is asked for the region and for the node's credentials until they are first had.
const METADATA_PAUSE: Duration = Duration::from_secs(2);
/// Connections that the kernel completes before they are accepted: every pod of a node at once.
const BACKLOG: i32 = 1024;

/// Serves until `shutdown` ends. An error is one that the process cannot live with.
pub async fn serve(args: ServeArgs, clock: Clock, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut shutdown = pin!(shutdown);
    raise_descriptor_limit();
    let metrics = Arc::new(Metrics::register());
    let readiness = Arc::new(Readiness::new(interception(&args), clock.clone()));
    let mut tasks = Tasks::default();
    // Bound at once, so that a port in use ends the start and not what follows it; opened only when pods can be answered.
    let port = bind(args.listen, "--listen")?;
    let health = open(bind(args.health_listen, "--health-listen")?)?;
    info!(listen = %health.local_addr()?, "health port open");
    tasks.spawn("health", health::serve(health, Arc::clone(&readiness), Arc::clone(&metrics)).err_into());
    if let Some(path) = &args.health_socket {
        let socket = health::listen_at(path).with_context(|| format!("--health-socket {}", path.display()))?;
        tasks.spawn("health", health::serve(socket, Arc::clone(&readiness), Arc::clone(&metrics)).err_into());
    }

    let tokens = Tokens::new(&*metadata::load_or_create(&args.state_dir)?);
    let (identity, changes) = start_identity(&args, &metrics)?;
    readiness.holds(Guard::Records);
    tasks.spawn("identity", watch_records(Arc::clone(&identity), Arc::clone(&readiness)));

    let http = node::http_client().context("the HTTP client for the metadata service")?;
    let upstream = Arc::new(NodeMetadata::new(args.metadata_endpoint.clone(), http));
    let node = Arc::new(NodeCredentials::new(Arc::clone(&upstream), clock.clone()));
    tasks.spawn("node credentials", keep_node_credentials(Arc::clone(&node), Arc::clone(&readiness)));

    let region = tokio::select! {
        () = &mut shutdown => return Ok(()),
        region = region(&args, &upstream) => region,
    };
    let http = http_client(args.issuer_ca_file.as_deref()).context("--issuer-ca-file")?;
    let issuer = IssuerClient::new(args.issuer_url.clone(), region, http, node, clock.clone());
    let residents = Arc::clone(&identity);
    let is_current = move |id: &SandboxId| residents.is_current(id);
    let chance = Chance::new(seed()?);
    let (keeper, credentials) =
        Keeper::new(Arc::new(issuer), changes, is_current, clock.clone(), chance, metrics.credentials.clone());
    tasks.spawn("credentials", keeper.run().err_into());
    tasks.spawn("issuer contact", watch_contact(credentials.contact(), Arc::clone(&readiness)));

    let pods = Arc::clone(&identity);
    let service =
        Metadata::new(pods, credentials.clone(), upstream, tokens, settings(&args), clock, metrics.metadata.clone());
    let front = Front { port, drain: args.drain_deadline, service: Arc::new(service), readiness };
    let sandboxes = identity.sandboxes();
    tokio::select! {
        served = front.serve(&sandboxes, &credentials, shutdown) => served,
        error = tasks.first_end() => Err(error),
    }
}

/// The port that pods reach.
struct Front {
    port: Socket,
    drain: Duration,
    service: Arc<Metadata<NodeMetadata>>,
    readiness: Arc<Readiness>,
}

impl Front {
    /// Opens the port when the pods that are there have their credentials: during a roll the old agent answers until then.
    async fn serve(
        self,
        sandboxes: &[Arc<Sandbox>],
        credentials: &Credentials,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut shutdown = pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            () = prefetch(sandboxes, credentials, &self.readiness) => {}
        }
        let listener = open(self.port)?;
        self.readiness.holds(Guard::Listening);
        info!(listen = %listener.local_addr()?, "answering pods");
        let ending = async {
            shutdown.await;
            self.readiness.waits(Guard::Listening, "draining");
        };
        metadata::serve(listener, self.service, Limits::default(), ending, self.drain).await?;
        info!("drained");
        Ok(())
    }
}

/// The tasks that must live as long as the process: the first that ends, ends it.
#[derive(Default)]
struct Tasks(JoinSet<(&'static str, anyhow::Result<()>)>);

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.spawn(async move { (name, task.await) });
    }

    async fn first_end(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("the {name} task has ended"),
            Some(Ok((name, Err(error)))) => error.context(format!("the {name} task has ended")),
            Some(Err(error)) => anyhow!(error).context("a task has ended"),
            None => anyhow!("no task runs"),
        }
    }
}

fn start_identity(
    args: &ServeArgs,
    metrics: &Metrics,
) -> anyhow::Result<(Arc<Identity>, mpsc::UnboundedReceiver<SandboxChange>)> {
    let config = IdentityConfig {
        cni_dir: args.cni_dir.clone(),
        role_annotation: args.annotation_role_key.clone(),
        allow_shared_interface: args.allow_shared_interface,
    };
    let routes = KernelRoutes::open().context("the kernel gives no netlink socket")?;
    Identity::start(config, routes, metrics.identity.clone()).context("--cni-dir")
}

/// The region that was set, that of the API's host name, or the one that this instance runs in.
async fn region(args: &ServeArgs, upstream: &NodeMetadata) -> String {
    if let Some(region) = args.region.as_deref().or(args.issuer_url.region()) {
        return region.to_owned();
    }
    loop {
        match upstream.region().await {
            Ok(region) => return region,
            Err(error) => warn!(error = %Chain(&error), "the region is not known yet; --region would set it"),
        }
        sleep(METADATA_PAUSE).await;
    }
}

/// Says when the node has credentials to sign with, and keeps them fresh.
async fn keep_node_credentials(node: Arc<NodeCredentials>, readiness: Arc<Readiness>) -> anyhow::Result<()> {
    let first = async {
        while let Err(error) = node.current().await {
            warn!(error = %Chain(&error), "no node credentials yet");
            readiness.waits(Guard::NodeCredentials, Chain(&error).to_string());
            sleep(METADATA_PAUSE).await;
        }
        readiness.holds(Guard::NodeCredentials);
        std::future::pending::<Infallible>().await
    };
    match tokio::select! { never = node.run() => never, never = first => never } {}
}

/// Keeps the records read, and says whether they can be.
async fn watch_records(identity: Arc<Identity>, readiness: Arc<Readiness>) -> anyhow::Result<()> {
    let told = |outcome| match outcome {
        Ok(()) => readiness.holds(Guard::Records),
        Err(reason) => readiness.waits(Guard::Records, reason),
    };
    match identity.run(told).await {}
}

/// Says whether the issuer has been reached.
async fn watch_contact(mut contact: watch::Receiver<Contact>, readiness: Arc<Readiness>) -> anyhow::Result<()> {
    loop {
        match &*contact.borrow_and_update() {
            Contact::NotTried => {}
            Contact::Failed(reason) => readiness.waits(Guard::Issuer, reason.as_str()),
            Contact::Reached => readiness.holds(Guard::Issuer),
        }
        contact.changed().await?;
    }
}

/// Waits, for a bounded time, until the issuer's outcome for each of `sandboxes` is known.
async fn prefetch(sandboxes: &[Arc<Sandbox>], credentials: &Credentials, readiness: &Readiness) {
    let all = async {
        for sandbox in sandboxes {
            credentials.settled(sandbox).await;
        }
    };
    if timeout(PREFETCH_PATIENCE, all).await.is_err() {
        warn!(sandboxes = sandboxes.len(), "some pods that are here wait for the issuer still");
    }
    readiness.holds(Guard::Prefetch);
}

fn interception(args: &ServeArgs) -> Interception {
    if args.require_intercept {
        Interception::File(args.state_dir.join(INTERCEPT_OK))
    } else {
        warn!(
            "ready without interception (--require-intercept=false): pods that are not sent here reach the node's own metadata"
        );
        Interception::NotRequired
    }
}

fn settings(args: &ServeArgs) -> Settings {
    Settings {
        hosts: Hosts::new(args.accept_host.clone()),
        allow: AllowList::new(args.allow_metadata.clone()),
        require_token: args.require_imdsv2,
        requests_per_second: args.requests_per_second_per_pod,
    }
}

fn seed() -> anyhow::Result<u64> {
    let mut seed = [0; 8];
    SystemRandom::new().fill(&mut seed).map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(u64::from_be_bytes(seed))
}

/// Each connection takes a descriptor, and the usual soft limit of 1,024 is less than pods may have open.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, soft.max(DESCRIPTORS.min(hard)), hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files cannot be raised");
    }
}

/// A port that a second agent can share during a roll. The kernel gives it no connection before it is opened.
fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<Socket> {
    let bound = match bind_to(address) {
        // A host without IPv6.
        Err(error) if address.ip() == ANY && error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            bind_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        other => other,
    };
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!("{address} is in use by another program: stop it, or give another address or port with {flag}")
        }
        other => other.with_context(|| format!("{flag} {address} cannot be listened on")),
    }
}

fn bind_to(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn open(port: Socket) -> io::Result<TcpListener> {
    port.listen(BACKLOG)?;
    TcpListener::from_std(port.into())
}
