//! Random lives of pods, and requests that overlap them, against a reference that knows only who has an address now: an answer
//! goes to whoever that is, so no interleaving of starts, ends, reuse of addresses, answers of the issuer and requests may put
//! another's role, keys or token into it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "fd00:1::1", "fd00:1::2"];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A pod gets the address; whoever had it has it no more, and its end is told later or never.
    Start { address: usize, annotated: bool },
    /// A pod gets two addresses.
    StartDual,
    /// The pod at the address ends, and its end is told.
    Stop { address: usize },
    /// The end of a pod that lost its address long ago is told now.
    TellEnd,
    /// The pod at the address asks on a connection of its own.
    Ask { address: usize, what: What },
    /// It asks on the connection that it has kept.
    AskAgain { address: usize, what: What },
    /// It asks with the latest token of whichever pod got one last.
    AskWithToken { address: usize },
    /// The issuer takes so many milliseconds from now on.
    Delay(u64),
    /// Time passes.
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum What {
    Token,
    List,
    Document,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![Just(What::Token), Just(What::List), Just(What::Document)]
}

fn step() -> impl Strategy<Value = Step> {
    let address = || 0..ADDRESSES.len();
    prop_oneof![
        5 => (address(), prop::bool::weighted(0.8)).prop_map(|(address, annotated)| Step::Start { address, annotated }),
        1 => Just(Step::StartDual),
        2 => address().prop_map(|address| Step::Stop { address }),
        2 => Just(Step::TellEnd),
        6 => (address(), what()).prop_map(|(address, what)| Step::Ask { address, what }),
        6 => (address(), what()).prop_map(|(address, what)| Step::AskAgain { address, what }),
        3 => address().prop_map(|address| Step::AskWithToken { address }),
        2 => prop_oneof![Just(0), 1..700_u64].prop_map(Step::Delay),
        6 => prop_oneof![Just(0), Just(1), 1..1000_u64, Just(2_000_000)].prop_map(Step::Pass),
    ]
}

/// A pod that runs, and what belongs to it.
#[derive(Clone)]
struct Resident {
    sandbox: Arc<Sandbox>,
    role: String,
    kept: Arc<Connection>,
}

struct Lives {
    world: World,
    residents: BTreeMap<usize, Resident>,
    /// Pods whose end nobody has told yet.
    untold: Vec<Arc<Sandbox>>,
    /// The latest token, and whose it is.
    token: Arc<Mutex<Option<(SandboxId, String)>>>,
    asking: JoinSet<()>,
    served: Arc<AtomicUsize>,
    count: usize,
}

impl Lives {
    fn new() -> Self {
        let world = World::new();
        Self {
            world,
            residents: BTreeMap::new(),
            untold: Vec::new(),
            token: Arc::default(),
            asking: JoinSet::new(),
            served: Arc::default(),
            count: 0,
        }
    }

    fn start(&mut self, addresses: &[usize], hint: RoleHint) {
        self.count += 1;
        let role = format!("role{}", self.count);
        let sandbox = self.world.node.add(&role, 0, hint);
        for address in addresses {
            self.world.move_to(&sandbox, ADDRESSES[*address]);
            let kept = Arc::new(Connection::from(ADDRESSES[*address].parse().unwrap()));
            let resident = Resident { sandbox: Arc::clone(&sandbox), role: role.clone(), kept };
            if let Some(before) = self.residents.insert(*address, resident) {
                self.untold.push(before.sandbox);
            }
        }
    }

    fn ask(&mut self, address: usize, on: Option<Arc<Connection>>, request: Request<Empty<Bytes>>) {
        if !self.residents.contains_key(&address) {
            return;
        }
        let connection = on.unwrap_or_else(|| Arc::new(Connection::from(ADDRESSES[address].parse().unwrap())));
        let (metadata, token, served) =
            (Arc::clone(&self.world.metadata), Arc::clone(&self.token), Arc::clone(&self.served));
        let (addresses, peer) = (Arc::clone(&self.world.addresses), ADDRESSES[address].parse::<IpAddr>().unwrap());
        let is_put = request.method() == "PUT";
        let presented = request.extensions().get::<(SandboxId, String)>().cloned();
        self.asking.spawn(async move {
            // A connection that another sandbox's request came over ends without an answer.
            let Ok(response) = metadata.handle(&connection, request).await else { return };
            if response.status() != StatusCode::OK {
                return;
            }
            served.fetch_add(1, Ordering::Relaxed);
            // Nothing was awaited since the answer was made.
            let owner = addresses.0.lock().unwrap().get(&peer).cloned().expect("nobody's address was answered");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            if is_put {
                *token.lock().unwrap() = Some((owner.id.clone(), body));
                return;
            }
            let role = owner.pod.name.as_str().trim_end_matches("-0");
            assert!(body == role || body.contains(&format!("\"ASIA{role}1")), "{} was served {body}", owner.pod);
            if let Some((whose, presented)) = presented {
                assert_eq!(whose, owner.id, "a token of another was accepted: {presented}");
            }
        });
    }

    fn request(&self, address: usize, what: What) -> Request<Empty<Bytes>> {
        let role = self.residents.get(&address).map_or("none", |resident| &resident.role);
        let (method, path) = match what {
            What::Token => ("PUT", "/latest/api/token".to_owned()),
            What::List => ("GET", LIST.to_owned()),
            What::Document => ("GET", format!("{LIST}{role}")),
        };
        let request = Request::builder().method(method).uri(path).header("host", "169.254.169.254");
        request.header(TTL_HEADER, "21600").body(Empty::new()).unwrap()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Start { address, annotated } => {
                self.start(&[address], if annotated { RoleHint::Annotated } else { RoleHint::Unknown });
            }
            Step::StartDual => self.start(&[0, 2], RoleHint::Annotated),
            Step::Stop { address } => {
                if let Some(resident) = self.residents.remove(&address) {
                    self.world.addresses.0.lock().unwrap().remove(&ADDRESSES[address].parse::<IpAddr>().unwrap());
                    self.end(&resident.sandbox);
                }
            }
            Step::TellEnd => {
                if let Some(sandbox) = self.untold.pop() {
                    self.end(&sandbox);
                }
            }
            Step::Ask { address, what } => self.ask(address, None, self.request(address, what)),
            Step::AskAgain { address, what } => {
                let kept = self.residents.get(&address).map(|resident| Arc::clone(&resident.kept));
                self.ask(address, kept, self.request(address, what));
            }
            Step::AskWithToken { address } => {
                let token = self.token.lock().unwrap().clone();
                if let Some(token) = token {
                    let mut request = self.request(address, What::List);
                    request.headers_mut().insert(TOKEN_HEADER, token.1.parse().unwrap());
                    request.extensions_mut().insert(token);
                    self.ask(address, None, request);
                }
            }
            Step::Delay(ms) => self.world.node.issuer.set_delay(Duration::from_millis(ms)),
            Step::Pass(ms) => sleep(Duration::from_millis(ms)).await,
        }
    }

    /// A pod ends once: one with two addresses may still have the other.
    fn end(&self, sandbox: &Arc<Sandbox>) {
        if self.residents.values().all(|resident| resident.sandbox.id != sandbox.id) {
            self.world.node.remove(sandbox);
        }
    }
}

/// How many answers the pods of all cases got: a model that never serves anybody proves nothing.
static SERVED: AtomicUsize = AtomicUsize::new(0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    fn nobody_is_served_what_is_anothers(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut lives = Lives::new();
            for step in steps {
                lives.take(step).await;
            }
            while let Some(ended) = lives.asking.join_next().await {
                ended.unwrap();
            }
            SERVED.fetch_add(lives.served.load(Ordering::Relaxed), Ordering::Relaxed);
        });
    }
}

#[test]
fn no_interleaving_serves_one_pod_what_is_anothers() {
    nobody_is_served_what_is_anothers();
    let served = SERVED.load(Ordering::Relaxed);
    assert!(served > 2_000, "{served} answers in all");
}
