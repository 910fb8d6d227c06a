//! The one way to an HTTP client.

/// A client that is not finished; its TLS is rustls with ring, as everywhere in this workspace.
pub(crate) fn client() -> reqwest::ClientBuilder {
    // A second call finds the provider set, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
