//! The webhook's own certificate authority and serving certificate, made at start and kept in memory.
//!
//! Nothing is stored: a new process makes new ones and writes its authority into the webhook configurations.
//! They are valid for a year, so a process that runs longer has to be restarted before.

use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use super::registration::Endpoint;

/// What the server identifies itself with.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// The certificate authority that clients have to trust, PEM.
    pub ca_pem: String,
    /// The server's side of TLS.
    pub tls: RustlsConfig,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The endpoint's address has no host to certify.
    #[error("the webhook's address {0:?} is not of the form https://host:port")]
    Address(String),
    /// A key or certificate could not be made.
    #[error("no certificate could be made")]
    Generation(#[from] rcgen::Error),
    /// The certificate cannot be used for TLS.
    #[error("the certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

impl ServerIdentity {
    /// A new identity for the names under which the API server reaches `endpoint`, valid for a year from `now`.
    pub fn generate(endpoint: &Endpoint, now: Timestamp) -> Result<Self, CertificateError> {
        let authority = CertifiedIssuer::self_signed(authority_params(now), KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names(endpoint)?)?;
        params.distinguished_name = name("pilotguard webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid_for_a_year(&mut params, now);
        let certificate = params.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| rustls::Error::General(why.to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { ca_pem: authority.as_ref().pem(), tls: RustlsConfig::from_config(Arc::new(tls)) })
    }
}

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two authorities of one name and different keys would be mistaken for each other.
    params.distinguished_name = name(&format!("pilotguard webhook authority {}", now.as_millisecond()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for_a_year(&mut params, now);
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Whole days: the day before, because clocks differ, to the same day of the next year.
fn valid_for_a_year(params: &mut CertificateParams, now: Timestamp) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let of = |days: i64| {
        let date = today.checked_add(Span::new().days(days)).unwrap_or(today);
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = of(-1);
    params.not_after = of(365);
}

/// The names that the API server verifies.
fn names(endpoint: &Endpoint) -> Result<Vec<String>, CertificateError> {
    match endpoint {
        Endpoint::Service { namespace, name, .. } => {
            Ok(["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{name}.{namespace}{suffix}")).to_vec())
        }
        Endpoint::Url(address) => {
            let refuse = || CertificateError::Address(address.clone());
            let url = reqwest::Url::parse(address).map_err(|_| refuse())?;
            let host = url.host_str().filter(|_| url.scheme() == "https").ok_or_else(refuse)?;
            Ok(vec![host.trim_matches(['[', ']']).to_owned()])
        }
    }
}
