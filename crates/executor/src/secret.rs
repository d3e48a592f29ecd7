//! Secrets that are handed out once and stored only as a hash: tokens, and what lets a client come back to its run.

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

/// Bytes of randomness of a secret: nobody guesses 160 bits.
const BYTES: usize = 20;

/// The kernel gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the kernel gives no random bytes: is /dev/urandom there?")]
pub struct NoRandomness;

/// A new one, as hexadecimal digits.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn new_secret() -> Result<String, NoRandomness> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(hex(&bytes))
}

/// What is stored of one. Its length makes a slow hash needless.
pub fn hash_secret(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_their_hash_is_sha_256() {
        assert_ne!(new_secret().unwrap(), new_secret().unwrap());
        assert_eq!(new_secret().unwrap().len(), 2 * BYTES);
        assert_eq!(hash_secret("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
