//! What proves to a metrics source who asks, and how its server is verified, kept so that it cannot leak.
//!
//! [`Credentials`] has no `Debug`, no `Display` and no serialisation, so a log line or a status that holds
//! one does not compile. The only ways out are the request's header and [`Credentials::redact`].

use k8s_openapi::ByteString;
use reqwest::Certificate;
use reqwest::header::HeaderValue;

/// Shorter secrets are not looked for in messages: they would black out ordinary words.
const SHORTEST_REDACTED: usize = 4;

/// Why credentials cannot be used. It never tells their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// An HTTP header cannot carry it.
    #[error("holds a line break or another character that an HTTP header cannot carry")]
    NotAHeader,
    /// A user name with a colon cannot be told from the password.
    #[error("holds a user name with a colon, which HTTP basic authentication cannot carry")]
    ColonInUsername,
    /// There is no certificate in the text.
    #[error("holds no certificate in PEM format")]
    NoCertificate,
}

/// Credentials and certificate authorities of one source. The default sends none and trusts the system's.
///
/// ```compile_fail
/// println!("{:?}", pilotguard::observe::prometheus::Credentials::default());
/// ```
/// ```compile_fail
/// println!("{}", pilotguard::observe::prometheus::Credentials::default());
/// ```
/// ```compile_fail
/// let _ = serde_json::to_string(&pilotguard::observe::prometheus::Credentials::default());
/// ```
#[derive(Default)]
pub struct Credentials {
    authorization: Option<HeaderValue>,
    secrets: Vec<String>,
    authorities: Option<Vec<Certificate>>,
}

impl Credentials {
    /// Sends a bearer token. White space around it is dropped: files that become Secrets often end with a line break.
    pub fn bearer(self, token: &str) -> Result<Self, CredentialsError> {
        let token = token.trim();
        self.authorize("Bearer", token, vec![token.to_owned()])
    }

    /// Sends HTTP basic authentication. A line break at the end of either is dropped.
    pub fn basic(self, username: &str, password: &str) -> Result<Self, CredentialsError> {
        let trimmed = |text: &str| text.trim_end_matches(['\r', '\n']).to_owned();
        let (username, password) = (trimmed(username), trimmed(password));
        if username.contains(':') {
            return Err(CredentialsError::ColonInUsername);
        }
        let encoded = base64(format!("{username}:{password}"));
        self.authorize("Basic", &encoded, vec![encoded.clone(), password])
    }

    /// Trusts these certificate authorities (PEM) and no others.
    pub fn trusting(mut self, pem: &[u8]) -> Result<Self, CredentialsError> {
        let authorities = Certificate::from_pem_bundle(pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(CredentialsError::NoCertificate);
        }
        self.authorities = Some(authorities);
        Ok(self)
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub(super) fn authorities(&self) -> Option<&[Certificate]> {
        self.authorities.as_deref()
    }

    /// Takes the secrets out of a text that a server wrote: some echo the request.
    pub(super) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "<redacted>"))
    }

    fn authorize(mut self, scheme: &str, value: &str, secrets: Vec<String>) -> Result<Self, CredentialsError> {
        let mut header =
            HeaderValue::from_str(&format!("{scheme} {value}")).map_err(|_| CredentialsError::NotAHeader)?;
        header.set_sensitive(true);
        self.authorization = Some(header);
        self.secrets = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_REDACTED).collect();
        Ok(self)
    }
}

/// A Secret's own encoding on the wire is standard base64, so its type encodes for us.
fn base64(text: String) -> String {
    match serde_json::to_value(ByteString(text.into_bytes())) {
        Ok(serde_json::Value::String(encoded)) => encoded,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_encoded_as_rfc_7617_section_2_shows() {
        let credentials = Credentials::default().basic("Aladdin", "open sesame\n").ok().unwrap();
        let header = credentials.authorization().unwrap();
        assert_eq!(header.as_bytes(), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(header.is_sensitive());
    }

    #[test]
    fn what_a_server_echoes_is_redacted() {
        let bearer = Credentials::default().bearer(" s3cr3t-token\n").ok().unwrap();
        assert_eq!(bearer.redact("no: Bearer s3cr3t-token!"), "no: Bearer <redacted>!");
        let basic = Credentials::default().basic("Aladdin", "open sesame").ok().unwrap();
        assert_eq!(basic.redact("open sesame / QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "<redacted> / <redacted>");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let refusal = |result: Result<Credentials, CredentialsError>| result.err();
        assert_eq!(refusal(Credentials::default().bearer("a\nb")), Some(CredentialsError::NotAHeader));
        assert_eq!(refusal(Credentials::default().basic("a:b", "c")), Some(CredentialsError::ColonInUsername));
        assert_eq!(refusal(Credentials::default().trusting(b"no certificate")), Some(CredentialsError::NoCertificate));
    }
}
