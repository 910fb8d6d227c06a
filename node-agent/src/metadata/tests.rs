//! The service as pods see it: requests handed to it one by one, and over real connections.

mod connections;
mod credentials;
mod interleavings;
mod passing_on;
mod rules;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use prometheus_client::registry::Registry;

use super::service::Connection;
use super::token::{TOKEN_HEADER, TTL_HEADER};
use super::{KEY_BYTES, Metadata, MetadataMetrics, Pods, Settings, Tokens, Upstream};
use crate::credentials::tests::Node;
use crate::identity::{RoleHint, RouteError, Sandbox, SandboxId, WhoError};
use crate::node::{MetadataAnswer, NodeError};

const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// Which sandbox has which address.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, Arc<Sandbox>>>);

impl Pods for Addresses {
    fn who(&self, peer: IpAddr) -> Result<Arc<Sandbox>, WhoError> {
        let interface = "eni1".to_owned();
        match peer.to_string().as_str() {
            "192.0.2.1" => Err(WhoError::NotRouted { address: peer }),
            "192.0.2.2" => Err(WhoError::NotARoutedPod { address: peer, interface }),
            "192.0.2.3" => Err(WhoError::Ambiguous { address: peer, interface }),
            "192.0.2.4" => Err(WhoError::SharedInterface { address: peer, interface }),
            "192.0.2.5" => Err(WhoError::Unreadable { directory: PathBuf::from("/results"), reason: "denied".into() }),
            "192.0.2.6" => Err(WhoError::Route(RouteError::Answer(peer))),
            _ => self.0.lock().unwrap().get(&peer).cloned().ok_or(WhoError::Unknown { address: peer, interface }),
        }
    }
}

/// A metadata service that echoes what it is asked for.
#[derive(Default)]
struct Echo {
    asked: Mutex<Vec<String>>,
}

impl Upstream for Echo {
    async fn get(&self, path: &str) -> Result<MetadataAnswer, NodeError> {
        self.asked.lock().unwrap().push(path.to_owned());
        let answer = |status, content_type: &str, body: &str| MetadataAnswer {
            status,
            content_type: Some(content_type.to_owned()),
            body: Bytes::from(body.to_owned()),
        };
        match path.rsplit('/').next() {
            Some("instance-id") => Ok(answer(StatusCode::OK, "text/plain", "i-0123456789abcdef0")),
            Some("instance-type") => Ok(answer(StatusCode::NOT_FOUND, "text/html", "<html>no</html>")),
            Some("region") => Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, "text/html", "<html>down</html>")),
            Some("availability-zone") => std::future::pending().await,
            _ => Err(NodeError::Unreachable("http://169.254.169.254".into())),
        }
    }
}

/// A node, its metadata service, and one pod per address.
struct World {
    node: Node,
    addresses: Arc<Addresses>,
    upstream: Arc<Echo>,
    metadata: Arc<Metadata<Echo>>,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body));
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl World {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let node = Node::new();
        let addresses = Arc::new(Addresses::default());
        let upstream = Arc::new(Echo::default());
        let metadata = Metadata::new(
            Arc::clone(&addresses) as Arc<dyn Pods>,
            node.credentials.clone(),
            Arc::clone(&upstream),
            Tokens::new(&[7; KEY_BYTES]),
            settings,
            node.clock.clone(),
            MetadataMetrics::register(&mut Registry::default()),
        );
        Self { node, addresses, upstream, metadata: Arc::new(metadata) }
    }

    /// A pod whose role is named `role`, at `address`.
    fn pod(&self, role: &str, address: &str) -> Arc<Sandbox> {
        self.hinted(role, address, RoleHint::Annotated)
    }

    fn hinted(&self, role: &str, address: &str, hint: RoleHint) -> Arc<Sandbox> {
        let sandbox = self.node.add(role, 0, hint);
        self.move_to(&sandbox, address);
        sandbox
    }

    fn move_to(&self, sandbox: &Arc<Sandbox>, address: &str) {
        self.addresses.0.lock().unwrap().insert(address.parse().unwrap(), Arc::clone(sandbox));
    }

    async fn get(&self, address: &str, path: &str) -> Reply {
        self.send(address, "GET", path, &[]).await
    }

    async fn token(&self, address: &str) -> String {
        let reply = self.send(address, "PUT", "/latest/api/token", &[(TTL_HEADER, "60")]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    }

    async fn get_with_token(&self, address: &str, path: &str, token: &str) -> Reply {
        self.send(address, "GET", path, &[(TOKEN_HEADER, token)]).await
    }

    async fn send(&self, address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("host", "169.254.169.254");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let connection = Connection::from(address.parse().unwrap());
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let (head, body) = self.metadata.handle(&connection, request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}
