//! A node, a pod and the cloud beside them, as network namespaces.
//!
//! ```text
//! aws  (metadata service, another host) --- eth0  node  vpod0 --- eth0  pod
//!      10.0.1.1  fd00:0:0:1::1        10.0.1.10  fd00:0:0:1::10        10.1.1.2  fd00:1::2
//! ```

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

pub(crate) const METADATA_V4: &str = "169.254.169.254";
pub(crate) const METADATA_V6: &str = "fd00:ec2::254";
pub(crate) const NODE_V4: &str = "10.0.1.10";
pub(crate) const POD_V4: &str = "10.1.1.2";
pub(crate) const AGENT_PORT: u16 = 8181;

/// Longer than anything here takes on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a client of the tests waits: longer than a retransmitted SYN takes.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(1500);

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// The namespaces of one test, and its directory; all gone when it is dropped.
pub(crate) struct Net {
    prefix: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in ["aws", "node", "pod"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(name)]).stderr(Stdio::null()).status();
        }
    }
}

impl Net {
    /// # Panics
    /// Without root, and wherever a step fails: a test that cannot build its network fails.
    pub(crate) fn new() -> Self {
        assert!(geteuid().is_root(), "these tests make network namespaces: run them as root");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let net = Self {
            prefix: format!("t-icpt-{}-{number}", std::process::id()),
            dir: tempfile::tempdir().expect("a temporary directory"),
        };
        for name in ["aws", "node", "pod"] {
            run("ip", &["netns", "add", &net.name(name)]);
            net.at(name, "sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0"]);
            net.ip(name, "link set lo up");
        }
        net.cable("aws", "node0", "node", "eth0");
        net.cable("pod", "eth0", "node", "vpod0");
        net.address("aws", "lo", METADATA_V4, METADATA_V6);
        net.address("aws", "node0", "10.0.1.1/24", "fd00:0:0:1::1/64");
        net.address("node", "eth0", "10.0.1.10/24", "fd00:0:0:1::10/64");
        net.address("node", "vpod0", "10.1.1.1/32", "fd00:1::1/128");
        net.address("pod", "eth0", "10.1.1.2/32", "fd00:1::2/128");
        net.at("node", "sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        net.route("node", "default via 10.0.1.1", "default via fd00:0:0:1::1");
        net.route("node", "10.1.1.2/32 dev vpod0", "fd00:1::2/128 dev vpod0");
        net.route("pod", "10.1.1.1/32 dev eth0", "fd00:1::1/128 dev eth0");
        net.route("pod", "default via 10.1.1.1", "default via fd00:1::1");
        net.route("aws", "10.1.1.0/24 via 10.0.1.10", "fd00:1::/64 via fd00:0:0:1::10");
        net
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn cable(&self, one: &str, one_end: &str, other: &str, other_end: &str) {
        let (one, other) = (self.name(one), self.name(other));
        let pair = ["link", "add", one_end, "netns", &one, "type", "veth", "peer", "name", other_end, "netns", &other];
        run("ip", &pair);
        run("ip", &["-n", &one, "link", "set", one_end, "up"]);
        run("ip", &["-n", &other, "link", "set", other_end, "up"]);
    }

    fn address(&self, name: &str, interface: &str, v4: &str, v6: &str) {
        self.ip(name, &format!("addr add {v4} dev {interface}"));
        self.ip(name, &format!("-6 addr add {v6} dev {interface} nodad"));
    }

    fn route(&self, name: &str, v4: &str, v6: &str) {
        self.ip(name, &format!("route add {v4}"));
        self.ip(name, &format!("-6 route add {v6}"));
    }

    /// `ip` in a namespace; its output.
    pub(crate) fn ip(&self, name: &str, args: &str) -> String {
        let name = self.name(name);
        let args: Vec<_> = ["-n", &name].into_iter().chain(args.split(' ')).collect();
        run("ip", &args)
    }

    /// A program in a namespace; its output.
    pub(crate) fn at(&self, name: &str, program: &str, args: &[&str]) -> String {
        let net = format!("--net=/run/netns/{}", self.name(name));
        let args: Vec<_> = [net.as_str(), program].into_iter().chain(args.iter().copied()).collect();
        run("nsenter", &args)
    }

    /// `nft` on the node; its output.
    pub(crate) fn nft(&self, command: &str) -> String {
        self.at("node", "nft", &[command])
    }

    /// The listing of a table of the node, or none.
    pub(crate) fn table(&self, table: &str) -> Option<Value> {
        let all: Value =
            serde_json::from_str(&self.at("node", "nft", &["-j", "list", "ruleset"])).expect("JSON of nft");
        let of_table = |object: &&Value| {
            ["rule", "chain"].iter().any(|kind| object[kind]["table"] == table) || object["table"]["name"] == table
        };
        let objects: Vec<_> = all["nftables"].as_array()?.iter().filter(of_table).cloned().collect();
        (!objects.is_empty()).then_some(Value::Array(objects))
    }

    /// The kernel's number of the table: another one after each replacement.
    pub(crate) fn table_handle(&self) -> Option<u64> {
        self.table("rolecall")?.as_array()?.iter().find_map(|object| object["table"]["handle"].as_u64())
    }

    /// Handle and packets of the rule of our table with this comment.
    pub(crate) fn rule(&self, comment: &str) -> Option<(u64, u64)> {
        let table = self.table("rolecall")?;
        let rule = table.as_array()?.iter().map(|object| &object["rule"]).find(|rule| rule["comment"] == comment)?;
        let counter = rule["expr"].as_array()?.iter().find_map(|s| s["counter"]["packets"].as_u64());
        Some((rule["handle"].as_u64()?, counter.unwrap_or(0)))
    }

    /// Runs `work` on a thread that is in a namespace. Sockets made there stay there.
    pub(crate) fn inside<T: Send + 'static>(&self, name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name(name))).expect("the namespace exists");
        let thread = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            work()
        });
        thread.join().expect("the work in the namespace")
    }

    /// What a GET from `name` brings: the body, or how it failed.
    pub(crate) fn get(&self, name: &str, address: &str, port: u16) -> Result<String, io::ErrorKind> {
        let to = SocketAddr::new(address.parse().expect("an address"), port);
        self.inside(name, move || Connection::open(to).and_then(|mut c| c.get())).map_err(|error| error.kind())
    }

    /// The metadata service of the cloud.
    pub(crate) fn metadata_service(&self, options: Metadata) {
        for address in [METADATA_V4, METADATA_V6] {
            for port in [80, 8080] {
                let at = SocketAddr::new(address.parse().expect("an address"), port);
                let listener =
                    self.inside("aws", move || TcpListener::bind(at)).expect("listening as metadata service");
                thread::spawn(move || serve(&listener, "real", Some(options)));
            }
        }
    }

    /// What listens on the agent's port of the node, on both families.
    pub(crate) fn agent(&self) {
        let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, AGENT_PORT));
        let listener = self.inside("node", move || {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.set_only_v6(false)?;
            socket.bind(&at.into())?;
            socket.listen(64)?;
            io::Result::Ok(TcpListener::from(socket))
        });
        let listener = listener.expect("listening as agent");
        thread::spawn(move || serve(&listener, "agent", None));
    }

    /// A UDP service at the metadata addresses that sends back what it gets.
    pub(crate) fn udp_echo(&self, address: &str) {
        let at = SocketAddr::new(address.parse().expect("an address"), 53);
        let socket = self.inside("aws", move || UdpSocket::bind(at)).expect("listening for UDP");
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
    }

    /// Whether UDP from the pod is answered.
    pub(crate) fn udp_is_answered(&self, address: &str) -> bool {
        let to = SocketAddr::new(address.parse().expect("an address"), 53);
        self.inside("pod", move || {
            let from: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((from, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.connect(to)?;
            socket.send(b"hello")?;
            socket.recv(&mut [0; 64])
        })
        .is_ok()
    }

    /// Starts `node-agent intercept` on the node, as UID 0 with its two capabilities and no other.
    pub(crate) fn intercept(&self, args: &[&str]) -> Intercept {
        self.intercept_as("main", "+net_admin,+net_raw", args)
    }

    /// The same with a state directory and capabilities of choice.
    pub(crate) fn intercept_as(&self, state: &str, capabilities: &str, args: &[&str]) -> Intercept {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = self.dir.path().join(format!("{state}-{number}.log"));
        let state = self.dir.path().join(state);
        let mut command = self.command(capabilities);
        command.arg("--state-dir").arg(&state).args(args).stdin(Stdio::null());
        let child = command.stderr(File::create(&log).expect("a log file")).spawn().expect("starting the program");
        Intercept { child, state, log }
    }

    /// `node-agent intercept` on the node, ready for further arguments.
    pub(crate) fn command(&self, capabilities: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name("node")));
        command.args(["setpriv", "--inh-caps=-all", &format!("--bounding-set=-all,{capabilities}")]);
        command.args([env!("CARGO_BIN_EXE_node-agent"), "intercept"]);
        command
    }

    /// `node-agent intercept --remove` on the node.
    pub(crate) fn remove(&self) {
        let mut command = self.command("+net_admin,+net_raw");
        let output = command.arg("--state-dir").arg(self.dir.path().join("main")).arg("--remove").output();
        let output = output.expect("starting the program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// How the metadata service answers.
#[derive(Clone, Copy)]
pub(crate) struct Metadata {
    pub(crate) hop_limit: u32,
    pub(crate) tokens_required: bool,
}

impl Metadata {
    /// As a node should have it.
    pub(crate) const LOCKED: Self = Self { hop_limit: 1, tokens_required: true };
    /// As no node should have it: whoever reaches it, gets what it has.
    pub(crate) const OPEN: Self = Self { hop_limit: 64, tokens_required: false };
}

/// Answers on every connection until its client goes.
fn serve(listener: &TcpListener, name: &'static str, metadata: Option<Metadata>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        thread::spawn(move || answer(stream, name, metadata));
    }
}

fn answer(mut stream: TcpStream, name: &str, metadata: Option<Metadata>) -> io::Result<()> {
    loop {
        let head = read_head(&mut stream)?;
        let mut status = "200 OK";
        if let Some(metadata) = metadata {
            let is_put = head.starts_with("PUT ");
            let hops = if is_put { metadata.hop_limit } else { 64 };
            let socket = socket2::SockRef::from(&stream);
            if stream.local_addr()?.is_ipv4() {
                socket.set_ttl_v4(hops)?;
            } else {
                socket.set_unicast_hops_v6(hops)?;
            }
            if metadata.tokens_required && !is_put && !head.to_ascii_lowercase().contains("x-aws-ec2-metadata-token:") {
                status = "401 Unauthorized";
            }
        }
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len())?;
    }
}

/// Up to the empty line; an error at the end of the connection.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A client's connection that is kept.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, CLIENT_TIMEOUT)?;
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        Ok(Self(stream))
    }

    /// The body of the answer to one GET.
    pub(crate) fn get(&mut self) -> io::Result<String> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let head = read_head(&mut self.0)?;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// A running `node-agent intercept`, killed when it is dropped.
pub(crate) struct Intercept {
    child: Child,
    state: PathBuf,
    log: PathBuf,
}

impl Drop for Intercept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let text = self.log();
            eprintln!("--- log of intercept ---\n{text}");
        }
    }
}

impl Intercept {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the program runs");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().expect("the end of the program")
    }

    /// Waits for the end; its status.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the program to end", || {
            status = self.child.try_wait().expect("the program's state");
            status.is_some()
        });
        status.expect("just waited for")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn ok_file(&self) -> PathBuf {
        self.state.join("intercept.ok")
    }

    /// The content of `intercept.status`; null where there is none of this very program.
    pub(crate) fn status(&self) -> Value {
        let text = fs::read_to_string(self.state.join("intercept.status")).unwrap_or_default();
        let status: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status["pid"] == self.child.id() { status } else { Value::Null }
    }

    /// Waits until the status says so for both families.
    pub(crate) fn wait_for_states(&self, v4: &str, v6: &str) {
        wait_for(&format!("states {v4} and {v6}"), || {
            let status = self.status();
            status["ipv4"] == v4 && status["ipv6"] == v6
        });
    }

    /// Waits for `rounds` further renewals of the status.
    pub(crate) fn wait_for_renewals(&self, rounds: usize) {
        for _ in 0..rounds {
            let before = self.status()["time_ms"].clone();
            wait_for("a renewal of intercept.status", || self.status()["time_ms"] != before);
        }
    }
}

/// Polls until it holds.
///
/// # Panics
/// When it has not held for a time that is long for everything here.
pub(crate) fn wait_for(what: &str, holds: impl FnMut() -> bool) -> Duration {
    wait_at_most(DEADLINE, what, holds)
}

/// Polls until it holds, at most so long. Returns how long it took.
pub(crate) fn wait_at_most(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// A program's output.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
