//! The targets, in the order of a request's path.

mod annotations;
mod arn;
mod cni_record;
mod directory_record;
mod http;
mod metadata_path;
mod patterns;
mod proxy_event;
mod request_headers;
mod sealed_session;
mod wire;

/// A parser and what must hold of it.
pub struct Target {
    /// Its name, and that of its directory of seeds.
    pub name: &'static str,
    /// Runs it on one input; it panics where something does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target { name: "metadata_path", run: metadata_path::run },
    Target { name: "request_headers", run: request_headers::run },
    Target { name: "http", run: http::run },
    Target { name: "cni_record", run: cni_record::run },
    Target { name: "wire", run: wire::run },
    Target { name: "proxy_event", run: proxy_event::run },
    Target { name: "directory_record", run: directory_record::run },
    Target { name: "arn", run: arn::run },
    Target { name: "patterns", run: patterns::run },
    Target { name: "annotations", run: annotations::run },
    Target { name: "sealed_session", run: sealed_session::run },
];
