//! The rig's own certificate authority: who the API server is, and who its callers are.
//!
//! Every certificate is X.509 version 3 (the Kubernetes client refuses older ones) and lives as long as the rig.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The attribute type of an organisation (2.5.4.10) spelled as an OID: the certificate builder holds one value per
/// spelling, so a second group needs the second spelling.
const SECOND_ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate could not be made or signed.
    #[error("cannot make a certificate for {subject}: {source}")]
    Certificate {
        /// Whom it was for.
        subject: String,
        /// What the builder said.
        source: rcgen::Error,
    },
    /// A certificate, key or credentials file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A client certificate can name two groups at most.
    #[error("{name} cannot be in {count} groups: a certificate made here names two at most")]
    TooManyGroups {
        /// The user's name.
        name: String,
        /// How many groups were asked for.
        count: usize,
    },
}

/// The files of one certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM (PKCS #8).
    pub key: PathBuf,
}

/// A certificate authority of one rig.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// Makes an authority and writes its certificate to `directory/ca.crt`.
    pub fn create(directory: &Path) -> Result<Self, PkiError> {
        let subject = "pilotguard rig CA";
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, subject);
        let issuer = KeyPair::generate()
            .and_then(|key| CertifiedIssuer::self_signed(params, key))
            .map_err(|source| PkiError::Certificate { subject: subject.to_owned(), source })?;
        let file = directory.join("ca.crt");
        write(&file, &issuer.pem())?;
        Ok(Self { issuer, file })
    }

    /// The authority's certificate, PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A server certificate for these host names and addresses, written to `directory/NAME.{crt,key}`.
    pub fn server(&self, directory: &Path, name: &str, hosts: &[&str]) -> Result<Certificate, PkiError> {
        let certificate = |source| PkiError::Certificate { subject: name.to_owned(), source };
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).map_err(certificate)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.issue(&params, directory, name)
    }

    /// A client certificate that Kubernetes reads as this user in these groups (two at most), written to
    /// `directory/client.{crt,key}`.
    pub fn client(&self, directory: &Path, name: &str, groups: &[&str]) -> Result<Certificate, PkiError> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let spellings = [DnType::OrganizationName, DnType::CustomDnType(SECOND_ORGANIZATION.to_vec())];
        if groups.len() > spellings.len() {
            return Err(PkiError::TooManyGroups { name: name.to_owned(), count: groups.len() });
        }
        for (spelling, group) in spellings.into_iter().zip(groups) {
            params.distinguished_name.push(spelling, *group);
        }
        self.issue(&params, directory, "client")
    }

    fn issue(&self, params: &CertificateParams, directory: &Path, stem: &str) -> Result<Certificate, PkiError> {
        let failed = |source| PkiError::Certificate { subject: stem.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let files = Certificate {
            certificate: directory.join(format!("{stem}.crt")),
            key: directory.join(format!("{stem}.key")),
        };
        write(&files.certificate, &signed.pem())?;
        write(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

/// The key pair with which the API server signs service-account tokens: `directory/service-accounts.{pub,key}`.
pub fn token_keys(directory: &Path) -> Result<(PathBuf, PathBuf), PkiError> {
    let key = KeyPair::generate()
        .map_err(|source| PkiError::Certificate { subject: "service-account tokens".to_owned(), source })?;
    let (public, private) = (directory.join("service-accounts.pub"), directory.join("service-accounts.key"));
    write(&public, &key.public_key_pem())?;
    write(&private, &key.serialize_pem())?;
    Ok((public, private))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    fs::write(path, text).map_err(|source| PkiError::Write { path: path.to_owned(), source })
}
