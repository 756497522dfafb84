//! The digest of a JSON value: SHA-256 over its RFC 8785 (JCS) form, in lower-case hexadecimal.
//!
//! Two values have the same digest exactly when they say the same, whatever the order of their keys. Never used for
//! anything secret.

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 over the RFC 8785 form of any JSON value.
pub fn digest(value: &Value) -> String {
    // The canonical form of a value that came from JSON always exists; the plain form stands in so that
    // this function stays total.
    let canonical = serde_json_canonicalizer::to_vec(value).unwrap_or_else(|_| value.to_string().into_bytes());
    format!("{:x}", HexOf(&Sha256::digest(canonical)))
}

struct HexOf<'a>(&'a [u8]);

impl fmt::LowerHex for HexOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
