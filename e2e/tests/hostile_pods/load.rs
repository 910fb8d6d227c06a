//! What an attacker sends, as data, and how it is sent: at a bounded rate, since the attacker's own work takes processors here
//! that a pod's quota would not give it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use e2e::net::InsideRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use crate::raw::{SERVICE, get};

pub(crate) const TOKEN: &str = "X-aws-ec2-metadata-token";
/// The longest that the answer to a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// One kind of load.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// New connections a second.
    per_second: u32,
    first: Vec<u8>,
    /// What follows, and after what pause each time.
    again: Option<(Vec<u8>, Duration)>,
    /// Whether it sees what comes back, a close included.
    pub(crate) reads: bool,
}

/// What became of its connections.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) made: AtomicUsize,
    /// Got something back.
    pub(crate) answered: AtomicUsize,
    /// Were closed or reset without.
    pub(crate) closed: AtomicUsize,
    /// Were not even accepted: silence where TCP is up.
    pub(crate) silent: AtomicUsize,
}

impl Outcome {
    /// Those that were still open when the load ended.
    pub(crate) fn open(&self) -> usize {
        let ended = self.answered.load(Relaxed) + self.closed.load(Relaxed) + self.silent.load(Relaxed);
        self.made.load(Relaxed).saturating_sub(ended)
    }
}

/// All kinds.
pub(crate) fn kinds() -> Vec<Load> {
    let head = b"GET /latest/meta-data/placement/region HTTP/1.1\r\nHost: 169.254.169.254\r\n".to_vec();
    let field = |bytes: usize| format!("X-A: {}\r\n", "a".repeat(bytes)).into_bytes();
    let put = b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
                X-aws-ec2-metadata-token-ttl-seconds: 60\r\nTransfer-Encoding: chunked\r\n\r\n";
    let token = b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
                  X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
    let guess = format!(
        "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nHost: 169.254.169.254\r\n{TOKEN}: {}\r\n\r\n",
        "A".repeat(55)
    );
    let load = |name, per_second, first: Vec<u8>| Load { name, per_second, first, again: None, reads: true };
    let region = get("/latest/meta-data/placement/region");
    let ten_ms = Duration::from_millis(10);
    vec![
        // 1,667 a second for six seconds are 10,000.
        load("10,000 idle connections", 1_667, Vec::new()),
        Load { again: Some((b"a".to_vec(), Duration::from_secs(1))), ..load("a byte a second", 50, head.clone()) },
        Load { reads: false, ..load("slow readers", 50, region.repeat(200)) },
        load("headers of 64 KiB", 100, [head.clone(), field(64 << 10)].concat()),
        Load { again: Some((field(4096), ten_ms)), ..load("endless headers", 50, head) },
        Load {
            again: Some((b"400\r\n".iter().copied().chain([b'a'; 1024]).chain(*b"\r\n").collect(), ten_ms)),
            ..load("endless bodies", 50, put.to_vec())
        },
        load("100 requests in one write", 10, region.repeat(100)),
        load("malformed requests", 200, b"GET\t/ HTTP/1.1\r\n\r\n".to_vec()),
        Load { again: Some((token.to_vec(), ten_ms)), ..load("a flood of tokens", 20, token.to_vec()) },
        Load { again: Some((guess.clone().into_bytes(), ten_ms)), ..load("guessed tokens", 20, guess.into_bytes()) },
    ]
}

impl Load {
    /// Runs from inside a pod until `end`.
    pub(crate) async fn run(&self, inside: &InsideRuntime, end: Instant, outcome: Arc<Outcome>) -> Result<()> {
        let load = self.clone();
        let work = async move {
            let mut pace = interval(Duration::from_secs(1) / load.per_second);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (load, mut connections) = (Arc::new(load), JoinSet::new());
            while timeout_at(end, pace.tick()).await.is_ok() {
                let (load, outcome) = (Arc::clone(&load), Arc::clone(&outcome));
                connections.spawn(async move { load.connection(end, &outcome).await });
                while connections.try_join_next().is_some() {}
            }
            while connections.join_next().await.is_some() {}
        };
        inside.run(work).await
    }

    async fn connection(&self, end: Instant, outcome: &Outcome) {
        outcome.made.fetch_add(1, Relaxed);
        let mut stream = match timeout(CONNECT, TcpStream::connect(SERVICE)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => {
                outcome.closed.fetch_add(1, Relaxed);
                return;
            }
            Err(_) => {
                outcome.silent.fetch_add(1, Relaxed);
                return;
            }
        };
        let mut received = 0;
        let talk = self.talk(&mut stream, &mut received);
        let is_ended = timeout_at(end, talk).await.is_ok();
        if received > 0 {
            outcome.answered.fetch_add(1, Relaxed);
        } else if is_ended {
            outcome.closed.fetch_add(1, Relaxed);
        }
    }

    /// Until the server closes.
    async fn talk(&self, stream: &mut TcpStream, received: &mut usize) {
        let (mut read, mut write) = stream.split();
        let sending = async {
            if write.write_all(&self.first).await.is_err() {
                return;
            }
            while let Some((more, pause)) = &self.again {
                sleep(*pause).await;
                if write.write_all(more).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut buffer = [0; 4096];
            if !self.reads {
                std::future::pending::<()>().await;
            }
            while let Ok(1..) = read.read(&mut buffer).await {
                *received += 1;
            }
        };
        tokio::select! { () = reading => {}, () = sending => {} }
    }
}
