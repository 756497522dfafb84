//! Values stored in the API server so that they come back byte for byte: compressed JSON as one base64 string.
//!
//! The API server re-encodes JSON on its way in and out (`&` becomes `\u0026`) and compares immutable data as bytes. No
//! encoder has a reason to touch base64, and compression keeps large values within the API server's request limit.
//! Nothing here knows what is stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest value in bytes of JSON, packed or unpacked: several times what the API server stores as one object. A larger
/// one is an attack on our memory.
const MOST_BYTES: usize = 8 << 20;

/// zlib's usual compromise between time and size.
const LEVEL: u8 = 6;

/// Why a value cannot be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// It is larger than 8 MiB.
    #[error("it is larger than {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    /// It is not base64.
    #[error("it is not base64")]
    NotBase64,
    /// It is base64 of something else than compressed data.
    #[error("it is not compressed by zlib, or it is damaged")]
    NotCompressed,
    /// It is compressed data of something else.
    #[error("it is not JSON of the expected kind")]
    NotExpected(#[from] serde_json::Error),
}

/// Packs a value.
pub fn pack(value: &impl Serialize) -> Result<String, PackedError> {
    let json = serde_json::to_vec(value)?;
    if json.len() > MOST_BYTES {
        return Err(PackedError::TooLarge);
    }
    Ok(STANDARD.encode(compress_to_vec_zlib(&json, LEVEL)))
}

/// Unpacks a value.
pub fn unpack<T: DeserializeOwned>(packed: &str) -> Result<T, PackedError> {
    use miniz_oxide::inflate::TINFLStatus::HasMoreOutput;
    let compressed = STANDARD.decode(packed).map_err(|_| PackedError::NotBase64)?;
    let json = decompress_to_vec_zlib_with_limit(&compressed, MOST_BYTES).map_err(|error| {
        if error.status == HasMoreOutput { PackedError::TooLarge } else { PackedError::NotCompressed }
    })?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>(), key in any::<String>()) {
            let value = serde_json::json!({ key: text });
            let packed = pack(&value).unwrap();
            prop_assert_eq!(unpack::<Value>(&packed).unwrap(), value);
            prop_assert!(packed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
        }
    }

    #[test]
    fn no_value_unpacks_to_more_than_the_limit() {
        let at_limit = "a".repeat(MOST_BYTES - 2);
        assert_eq!(unpack::<String>(&pack(&at_limit).unwrap()).unwrap(), at_limit);
        let too_large = "a".repeat(MOST_BYTES - 1);
        assert!(matches!(pack(&too_large), Err(PackedError::TooLarge)));
        let bomb = STANDARD.encode(compress_to_vec_zlib(&vec![b' '; MOST_BYTES + 1], LEVEL));
        assert!(bomb.len() < 20_000, "a small text");
        assert!(matches!(unpack::<Value>(&bomb), Err(PackedError::TooLarge)));
    }

    #[test]
    fn anything_else_is_an_error() {
        let packed = pack(&"web").unwrap();
        let cut = packed.get(..packed.len() - 4).unwrap();
        assert!(matches!(unpack::<Value>(cut), Err(PackedError::NotCompressed)));
        assert!(matches!(unpack::<Value>("?"), Err(PackedError::NotBase64)));
        assert!(matches!(unpack::<Value>(&STANDARD.encode("web")), Err(PackedError::NotCompressed)));
        assert!(matches!(unpack::<u8>(&packed), Err(PackedError::NotExpected(_))));
    }
}
