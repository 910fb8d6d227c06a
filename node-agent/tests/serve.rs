//! The program itself: what it refuses to start with, what it waits for, and how it ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where nobody listens: the discard port.
const NOBODY: &str = "127.0.0.1:9";
const DEADLINE: Duration = Duration::from_secs(20);

/// A running agent with directories of its own, killed when dropped.
struct Agent {
    child: Child,
    log: BufReader<ChildStderr>,
    _directory: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts it beside an issuer and a metadata service that are not there; `more` adds flags or repeats them.
    fn start(more: &[&str]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_node-agent")), more)
    }

    /// As a container without any capability starts it.
    fn start_without_capabilities(more: &[&str]) -> Self {
        let mut setpriv = Command::new("setpriv");
        setpriv.args([
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--ambient-caps=-all",
            env!("CARGO_BIN_EXE_node-agent"),
        ]);
        Self::launch(setpriv, more)
    }

    fn launch(mut command: Command, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let defaults = [
            ("--issuer-url", format!("https://{NOBODY}/v1/credentials")),
            ("--metadata-endpoint", format!("http://{NOBODY}")),
            ("--region", "eu-west-1".to_owned()),
            ("--cni-dir", path("results")),
            ("--state-dir", path("state")),
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--health-listen", "127.0.0.1:0".to_owned()),
        ];
        command.arg("serve").args(more);
        for (flag, value) in defaults.iter().filter(|(flag, _)| !more.contains(flag)) {
            command.arg(flag).arg(value);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, _directory: directory }
    }

    /// The log up to the line that has `message`, whose field `name` is returned.
    fn field(&mut self, message: &str, name: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "it ended before it said {message:?}");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["fields"]["message"] == message {
                return line["fields"][name].as_str().unwrap().to_owned();
            }
        }
    }

    fn end(mut self) -> (ExitStatus, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < DEADLINE, "it does not end");
            std::thread::yield_now();
        };
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (status, log)
    }

    fn terminate(self) -> (ExitStatus, String) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.end()
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// It must end by itself, not with success, and its log must hold `sentence`.
fn refuses(more: &[&str], sentence: &str) {
    let (status, log) = Agent::start(more).end();
    assert!(!status.success());
    assert!(log.contains(sentence), "{sentence:?} is not in {log}");
}

#[test]
fn bad_arguments_are_named() {
    refuses(&["--issuer-ulr", "x"], "--issuer-ulr");
    refuses(&["--issuer-url", "http://issuer.example.com/v1/credentials"], "--issuer-url");
    refuses(&["--allow-metadata", "("], "--allow-metadata");
    refuses(&["--issuer-ca-file", "/nonexistent.pem"], "/nonexistent.pem");
}

#[test]
fn a_port_that_another_program_holds_stops_the_start() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    refuses(
        &["--listen", &address],
        &format!("{address} is in use by another program: stop it, or give another address or port with --listen"),
    );
    refuses(&["--health-listen", &address], "give another address or port with --health-listen");
}

#[test]
fn directories_that_cannot_be_used_stop_the_start() {
    refuses(&["--cni-dir", "/nonexistent/cni/results"], "/nonexistent/cni cannot be watched");
    refuses(&["--state-dir", "/nonexistent/rolecall"], "give serve a directory that it may write (--state-dir)");
    let file = tempfile::NamedTempFile::new().unwrap();
    refuses(&["--cni-dir", file.path().to_str().unwrap()], "--cni-dir");
}

/// A log on a full disk costs lines: complaining of it in the same place would be a panic, whose exit code is 101.
#[test]
fn a_log_that_cannot_be_written_does_not_end_it() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_node-agent"));
    agent.args([
        "serve",
        "--issuer-url",
        &format!("https://{NOBODY}/v1/credentials"),
        "--cni-dir",
        "/nonexistent/cni/results",
    ]);
    let directory = tempfile::tempdir().unwrap();
    let agent = agent.arg("--state-dir").arg(directory.path()).stderr(full).status().unwrap();
    assert_eq!(agent.code(), Some(1));
}

/// libcni's directory is its owner's alone; UID 0 without capabilities is as strange to another owner's as anybody.
#[test]
fn a_cni_directory_of_another_user_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    chown(path, Some(65_534), None).unwrap();
    let (status, log) = Agent::start_without_capabilities(&["--cni-dir", path]).end();
    assert!(!status.success());
    let sentence = format!("the CNI records in {path} cannot be read: run as UID 0, which needs no capability for it");
    assert!(log.contains(&sentence), "{log}");
}

#[test]
fn an_issuer_that_is_away_is_waited_for_and_named() {
    let mut agent = Agent::start(&["--require-intercept", "false"]);
    let health = agent.field("health port open", "listen");
    let error = agent.field("no answer from the issuer", "error");
    assert!(error.contains("no node credentials") || error.contains("no connection"), "{error}");
    let ready = get(&health, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("\nnode_credentials: no answer from the EC2 metadata service"), "{ready}");
    assert!(ready.contains("\nissuer: "), "{ready}");
    assert!(!ready.contains("\nrecords: ") && !ready.contains("\ninterception: "), "{ready}");
    assert!(get(&health, "/livez").starts_with("HTTP/1.1 200"));
    let metrics = get(&health, "/metrics");
    assert!(metrics.contains("rolecall_issuer_reached 0\n"), "{metrics}");
    assert!(
        metrics.contains("rolecall_issuer_calls_total{lane=\"Probe\",result=\"no_node_credentials\"}"),
        "{metrics}"
    );
    let (status, _) = agent.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn interception_that_is_not_seen_is_named() {
    let mut agent = Agent::start(&[]);
    let health = agent.field("health port open", "listen");
    let ready = get(&health, "/readyz");
    assert!(
        ready.contains("intercept.ok: No such file or directory (os error 2): is node-agent intercept running?"),
        "{ready}"
    );
}

#[test]
fn a_second_agent_shares_port_and_key_and_the_first_leaves_in_peace() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().to_str().unwrap();
    let mut first = Agent::start(&["--state-dir", state_dir]);
    let address = first.field("answering pods", "listen");
    let key = fs::read(Path::new(state_dir).join("token.key")).unwrap();
    let mut second = Agent::start(&["--state-dir", state_dir, "--listen", &address]);
    assert_eq!(second.field("answering pods", "listen"), address);
    assert_eq!(fs::read(Path::new(state_dir).join("token.key")).unwrap(), key);
    let (status, log) = first.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("\"drained\""), "{log}");
    for _ in 0..20 {
        let answer = get(&address, "/latest/meta-data/iam/security-credentials/");
        assert!(answer.starts_with("HTTP/1.1 403"), "the second answers: {answer}");
    }
}

#[test]
fn a_probe_asks_the_agent_of_its_own_container() {
    let own = tempfile::tempdir().unwrap();
    let socket = own.path().join("health").to_str().unwrap().to_owned();
    let check = |page: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-agent"));
        let output = command.args(["check", "--health-socket", &socket, page]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(check("/livez").1.contains("health: is serve running?"));
    // What an earlier run has left is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut agent = Agent::start(&["--health-socket", &socket]);
    agent.field("answering pods", "listen");
    assert!(check("/livez").0);
    let (ready, log) = check("/readyz");
    assert!(!ready && log.contains("interception: "), "{log}");
}
