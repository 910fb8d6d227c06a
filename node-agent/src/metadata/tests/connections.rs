//! Real connections: limits, timeouts, hanging up, draining.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::metadata::{Limits, serve};

struct Server {
    world: World,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let world = World::new();
        world.pod("app", "127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(serve(listener, Arc::clone(&world.metadata), limits, shutdown, Duration::from_secs(5)));
        Self { world, address, stop: Some(stop), task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_from(&self, source: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(source.parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }
}

const GET: &str = "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";

/// One answer, read to the end of its body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "ended within {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            let mut body = vec![0_u8; length];
            stream.read_exact(&mut body).await.unwrap();
            text.extend(body);
            return String::from_utf8(text).unwrap();
        }
    }
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

/// Closed long before an idle connection would be.
async fn is_refused(stream: &mut TcpStream) -> bool {
    timeout(Duration::from_secs(5), is_closed(stream)).await == Ok(true)
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(GET.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\napp"), "{answer}");
    }
    // As an SDK sends it: no body, no length, no user agent.
    let put =
        "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token-ttl-seconds: 300\r\n\r\n";
    stream.write_all(put.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.contains("x-aws-ec2-metadata-token-ttl-seconds: 300\r\n"));
}

#[tokio::test]
async fn what_is_no_request_of_ours_is_refused_on_the_wire() {
    let server = Server::start(Limits::default()).await;
    let host = "Host: 169.254.169.254\r\n";
    let long = format!("GET /latest/ HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /latest/ HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(80));
    let body = format!("PUT /latest/api/token HTTP/1.1\r\n{host}Content-Length: 100000\r\n\r\n");
    for (request, status) in [
        (long.as_str(), "431"),
        (many.as_str(), "431"),
        (body.as_str(), "413"),
        ("GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: attacker.example\r\n\r\n", "403"),
        ("GET /latest/meta-data/instance-id HTTP/1.1\r\n\r\n", "403"),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", "405"),
        ("GET http://169.254.169.254/latest/user-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", "404"),
        ("GET /latest/\u{e9} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", "404"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = vec![0; 512];
        let read = stream.read(&mut text).await.unwrap();
        let line = String::from_utf8_lossy(&text[..read]).lines().next().unwrap_or_default().to_owned();
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{line:?} for {:?}", request.get(..40));
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_gets_them_back() {
    let server = Server::start(Limits { per_peer: 3, total: 100 }).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        answer(&mut stream).await;
        streams.push(stream);
    }
    assert!(is_refused(&mut server.connect().await).await, "a fourth");
    drop(streams.pop());
    // The server sees the end of the third a moment later.
    let again = timeout(Duration::from_secs(5), async {
        loop {
            let mut stream = server.connect().await;
            let _ = stream.write_all(GET.as_bytes()).await;
            let mut byte = [0];
            if matches!(stream.read(&mut byte).await, Ok(1)) {
                return;
            }
        }
    });
    again.await.expect("its place is free again");
}

#[tokio::test]
async fn all_addresses_together_have_so_many_connections() {
    let server = Server::start(Limits { per_peer: 10, total: 2 }).await;
    let mut streams = Vec::new();
    for pod in ["127.0.0.1:0", "127.0.0.2:0"] {
        let mut stream = server.connect_from(pod).await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        answer(&mut stream).await;
        streams.push(stream);
        assert!(is_refused(&mut server.connect_from(pod).await).await, "its second would be another's first");
    }
    assert!(is_refused(&mut server.connect_from("127.0.0.3:0").await).await, "a third");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_or_idles_loses_its_place_after_15_s() {
    let server = Server::start(Limits::default()).await;
    let mut idle = server.connect().await;
    let mut dripping = server.connect().await;
    dripping.write_all(b"GET /latest/").await.unwrap();
    let began = Instant::now();
    assert!(is_closed(&mut idle).await);
    // hyper may say why before it closes.
    let _ = timeout(Duration::from_secs(1), dripping.read(&mut [0; 512])).await;
    assert!(is_closed(&mut dripping).await);
    assert!(
        began.elapsed() >= Duration::from_secs(15) && began.elapsed() < Duration::from_secs(17),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_ends_its_request_and_nothing_else() {
    let server = Server::start(Limits::default()).await;
    server.world.node.issuer.set_delay(Duration::from_millis(300));
    server.world.pod("slow", "127.0.0.1");
    let mut impatient = server.connect().await;
    impatient.write_all(GET.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    drop(impatient);
    let mut patient = server.connect().await;
    patient.write_all(GET.as_bytes()).await.unwrap();
    assert!(answer(&mut patient).await.ends_with("slow"));
    let asked: Vec<_> = server.world.node.issuer.log().into_iter().flat_map(|(_, request)| request.pods).collect();
    assert_eq!(asked.iter().filter(|ask| ask.pod.name.as_str() == "slow-0").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut server = Server::start(Limits::default()).await;
    server.world.node.issuer.set_delay(Duration::from_millis(300));
    server.world.pod("slow", "127.0.0.1");
    let mut held = server.connect().await;
    held.write_all(GET.as_bytes()).await.unwrap();
    let mut idle = server.connect().await;
    sleep(Duration::from_millis(50)).await;
    server.stop.take().unwrap().send(()).unwrap();
    let answer = answer(&mut held).await;
    assert!(answer.ends_with("slow"), "{answer}");
    // Long before the deadline of 5 s cuts them.
    let closed = async { is_closed(&mut held).await && is_closed(&mut idle).await };
    assert_eq!(timeout(Duration::from_secs(2), closed).await, Ok(true));
    timeout(Duration::from_secs(1), &mut server.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_as_draining_begins_is_answered_and_told_to_be_the_last() {
    let mut server = Server::start(Limits::default()).await;
    let mut kept = server.connect().await;
    kept.write_all(GET.as_bytes()).await.unwrap();
    assert!(!answer(&mut kept).await.contains("connection: close"));
    server.stop.take().unwrap().send(()).unwrap();
    sleep(Duration::from_millis(500)).await;
    kept.write_all(GET.as_bytes()).await.unwrap();
    let last = answer(&mut kept).await;
    assert!(last.starts_with("HTTP/1.1 200 OK\r\n") && last.contains("connection: close\r\n"), "{last}");
    assert!(is_closed(&mut kept).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lives_for_five_minutes() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let began = Instant::now();
    while stream.write_all(GET.as_bytes()).await.is_ok() {
        let mut text = [0; 512];
        if matches!(stream.read(&mut text).await, Ok(0) | Err(_)) {
            break;
        }
        sleep(Duration::from_secs(10)).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(300) && began.elapsed() <= Duration::from_secs(310));
}
