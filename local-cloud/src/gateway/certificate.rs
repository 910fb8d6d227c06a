//! The API's certificate, as young as the process, and its authority, which outlives restarts: AWS renews the certificate of
//! an API without a word, and clients must not notice.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::StartError;

/// A certificate for `names`, signed by the authority whose certificate is at `authority` for clients to trust.
pub(super) fn make(names: Vec<String>, authority: &Path) -> Result<TlsAcceptor, StartError> {
    let authority = Issuer::new(authority_parameters()?, authority_key(authority)?);
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "local-cloud API Gateway");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;

    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn authority_parameters() -> Result<CertificateParams, StartError> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "local-cloud development authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(authority)
}

/// The authority's key, which lies beside its certificate (`.key`). Without both, both are made anew.
fn authority_key(certificate: &Path) -> Result<KeyPair, StartError> {
    let beside = certificate.with_extension("key");
    if let (true, Ok(key)) = (certificate.is_file(), fs::read_to_string(&beside)) {
        return Ok(KeyPair::from_pem(&key)?);
    }
    let key = KeyPair::generate()?;
    let made = authority_parameters()?.self_signed(&key)?;
    write(&beside, &key.serialize_pem())?;
    write(certificate, &made.pem())?;
    Ok(key)
}

fn write(path: &Path, text: &str) -> Result<(), StartError> {
    let mut file = OpenOptions::new();
    let written = file.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| StartError::Unwritable { path: path.to_owned(), source })
}
