//! Keys that need nothing from the cluster: random bytes.

use std::fs::File;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::KeyError;
use crate::plan::Encoding;

/// As many random bytes, as text.
///
/// # Errors
/// [`KeyError::NoRandomness`].
pub fn generate(bytes: u32, encoding: Encoding) -> Result<String, KeyError> {
    let mut random = Vec::new();
    File::open("/dev/urandom")
        .and_then(|file| file.take(u64::from(bytes)).read_to_end(&mut random))
        .map_err(|source| KeyError::NoRandomness { source })?;
    Ok(encode(&random, encoding))
}

fn encode(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_the_standard() {
        let bytes = [0xfb, 0xff, 0xfe];
        assert_eq!(encode(&bytes, Encoding::Hex), "fbfffe");
        assert_eq!(encode(&bytes, Encoding::Base64), "+//+");
        assert_eq!(encode(&bytes, Encoding::Base64Url), "-__-");
    }

    #[test]
    fn two_keys_are_never_the_same() {
        let one = generate(32, Encoding::Hex).expect("random");
        assert_eq!(one.len(), 64);
        assert_ne!(one, generate(32, Encoding::Hex).expect("random"));
    }
}
