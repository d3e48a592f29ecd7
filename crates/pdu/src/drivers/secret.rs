//! A password or a token of a PDU: it can be used, but neither logged nor shown in an error.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A secret text. A person may write a number (`password: 1234`).
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Secret(String);

impl Secret {
    /// The secret itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Secret, E> {
                Ok(Secret(v.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Secret, E> {
                Ok(Secret(v.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Secret, E> {
                Ok(Secret(v.to_string()))
            }
        }
        d.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_be_a_number_and_is_never_shown() {
        for value in [serde_json::json!("1234"), serde_json::json!(1234)] {
            let secret: Secret = serde_json::from_value(value).unwrap();
            assert_eq!(secret.expose(), "1234");
            assert!(!format!("{secret:?}").contains("1234"));
        }
    }
}
