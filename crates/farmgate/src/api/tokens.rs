//! Tokens that let people in: made once, stored as a hash, revocable at once. The gateway that runs keeps all of them
//! in memory, because nobody else may write the state while it does; so a token costs a request one hash.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use farmgate_executor::secret::{hash_secret, new_secret};
use farmgate_protocol::Timestamp;
use farmgate_store::{Change, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::roles::Role;

/// The use of a token is stored at most once in that time.
const USED_EVERY: Duration = Duration::from_secs(60);
/// Tokens that there may be.
const MOST: usize = 10_000;
/// The longest name.
const LONGEST: usize = 64;

/// Why a token is not made or not revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a name.
    #[error(
        "{0:?} is no name for a token: write up to {LONGEST} letters, digits, dashes, dots and underscores, beginning with a letter, and not `local`"
    )]
    Name(String),
    /// Each name once.
    #[error("there is a token {0:?} already: revoke it first, or take another name")]
    Exists(String),
    /// No such token.
    #[error("there is no token {name:?}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name.
        hint: String,
    },
    /// Too many.
    #[error("there are {MOST} tokens: revoke those that nobody uses (`farmgate token list`)")]
    TooMany,
    /// No secret can be made.
    #[error(transparent)]
    Randomness(#[from] farmgate_executor::secret::NoRandomness),
    /// It cannot be stored.
    #[error("the token cannot be stored")]
    Store(#[from] StoreError),
    /// It is not valid any more, but would be again after a restart of the gateway.
    #[error(
        "the token {name:?} is not valid any more, but that cannot be stored: revoke it again before the gateway is restarted"
    )]
    NotStored {
        /// Which.
        name: String,
        /// Why.
        source: StoreError,
    },
}

/// A token as the API and `farmgate token list` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its name: the submitter of its jobs.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub used: Option<Timestamp>,
}

/// GET `tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenList {
    /// By name.
    pub tokens: Vec<TokenInfo>,
}

/// POST `tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it shall allow.
    pub role: Role,
}

/// The answer to [`NewToken`]: the only place where the secret ever stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MadeToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// What its owner sends.
    pub secret: String,
}

/// All tokens, by the hash of their secret.
#[derive(Debug)]
pub struct Tokens {
    known: Mutex<HashMap<String, TokenInfo>>,
    store: Store,
}

impl Tokens {
    /// Reads those that are stored.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn read(store: Store) -> Result<Self, StoreError> {
        let mut known = HashMap::new();
        for token in store.tokens().await? {
            match token.role.parse() {
                Ok(role) => {
                    let info = TokenInfo { name: token.name, role, created: token.created, used: token.used };
                    known.insert(token.hash, info);
                }
                // Of a newer gateway. It must not become something else here.
                Err(error) => tracing::warn!(token = token.name, error, "a token that lets nobody in"),
            }
        }
        Ok(Self { known: Mutex::new(known), store })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TokenInfo>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose secret that is, and what it allows. Notes that it was used.
    pub fn check(&self, secret: &str, now: Timestamp) -> Option<(String, Role)> {
        let hash = hash_secret(secret);
        let mut known = self.lock();
        let token = known.get_mut(&hash)?;
        if token.used.is_none_or(|used| now < used || now.since(used) >= USED_EVERY) {
            token.used = Some(now);
            self.store.write_soon(vec![Change::TokenUsed { name: token.name.clone(), at: now }]);
        }
        Some((token.name.clone(), token.role))
    }

    /// All, by name.
    pub fn list(&self) -> TokenList {
        let mut tokens: Vec<TokenInfo> = self.lock().values().cloned().collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        TokenList { tokens }
    }

    /// Makes one. It is valid when this returns.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn add(&self, new: NewToken, now: Timestamp) -> Result<MadeToken, TokenError> {
        let NewToken { name, role } = new;
        if !is_name(&name) {
            return Err(TokenError::Name(name));
        }
        {
            let known = self.lock();
            if known.values().any(|token| token.name == name) {
                return Err(TokenError::Exists(name));
            }
            if known.len() >= MOST {
                return Err(TokenError::TooMany);
            }
        }
        let secret = new_secret()?;
        let hash = hash_secret(&secret);
        let change = Change::AddToken {
            name: name.clone(),
            role: role.as_str().to_owned(),
            hash: hash.clone(),
            created: now,
        };
        // Two of one name at once, or one of a newer gateway that lets nobody in here: the store knows.
        self.store.write(vec![change]).await.map_err(|error| match error {
            StoreError::TokenExists { name } => TokenError::Exists(name),
            error => error.into(),
        })?;
        self.lock().insert(hash, TokenInfo { name: name.clone(), role, created: now, used: None });
        Ok(MadeToken { name, role, secret })
    }

    /// Makes it invalid, at once.
    ///
    /// # Errors
    /// [`TokenError::Unknown`], [`TokenError::NotStored`].
    pub async fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let removed = {
            let mut known = self.lock();
            let before = known.len();
            known.retain(|_, token| token.name != name);
            known.len() < before
        };
        // One that lets nobody in (of a newer gateway) is in the state only.
        let stored = self.store.write(vec![Change::RevokeToken { name: name.to_owned() }]).await;
        match stored {
            Ok(()) => Ok(()),
            Err(StoreError::UnknownToken { .. }) => Err(self.unknown(name)),
            Err(source) if removed => Err(TokenError::NotStored { name: name.to_owned(), source }),
            Err(error) => Err(error.into()),
        }
    }

    fn unknown(&self, name: &str) -> TokenError {
        let names: Vec<String> = self.lock().values().map(|token| token.name.clone()).collect();
        let near = farmgate_protocol::spelling::nearest(name, names.iter().map(String::as_str));
        let hint = near.first().map_or_else(String::new, |n| format!(" (did you mean {n:?}?)"));
        TokenError::Unknown { name: name.to_owned(), hint }
    }
}

/// A token's name becomes the submitter of jobs and stands in the audit log: it must not look like an address, or like
/// what callers without a token are called there.
fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= LONGEST
        && name.chars().all(fine)
        && name != "local"
        && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use farmgate_store::Retention;

    use super::*;

    fn open(folder: &std::path::Path) -> Store {
        Store::open(&folder.join("state.db"), Retention::default()).unwrap()
    }

    fn new(name: &str, role: Role) -> NewToken {
        NewToken { name: name.to_owned(), role }
    }

    #[tokio::test]
    async fn a_token_is_valid_at_once_and_after_a_restart_until_it_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let tokens = Tokens::read(store.clone()).await.unwrap();
        let now = Timestamp::now();
        let made = tokens.add(new("ci", Role::User), now).await.unwrap();
        assert_eq!(tokens.check(&made.secret, now), Some(("ci".to_owned(), Role::User)));
        assert_eq!(tokens.check("guess", now), None);
        let bytes = std::fs::read(folder.path().join("state.db-wal")).unwrap();
        assert!(
            !bytes.windows(made.secret.len()).any(|w| w == made.secret.as_bytes()),
            "only its hash is stored"
        );
        drop(tokens);
        store.close().await;

        let store = open(folder.path());
        let tokens = Tokens::read(store.clone()).await.unwrap();
        assert_eq!(tokens.check(&made.secret, now), Some(("ci".to_owned(), Role::User)));
        tokens.revoke("ci").await.unwrap();
        assert_eq!(tokens.check(&made.secret, now), None);
        assert!(store.tokens().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_use_of_a_token_is_stored_once_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let tokens = Tokens::read(store.clone()).await.unwrap();
        let begun = Timestamp::now();
        let made = tokens.add(new("ci", Role::User), begun).await.unwrap();
        let mut stored = Vec::new();
        for seconds in [0, 30, 59, 60, 61] {
            tokens.check(&made.secret, begun + Duration::from_secs(seconds));
            store.write(Vec::new()).await.unwrap();
            stored.push(store.tokens().await.unwrap()[0].used.unwrap().since(begun).as_secs());
        }
        assert_eq!(stored, [0, 0, 0, 60, 60]);
    }

    #[tokio::test]
    async fn what_cannot_be_done_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::read(open(folder.path())).await.unwrap();
        let now = Timestamp::now();
        tokens.add(new("alice", Role::Admin), now).await.unwrap();
        let twice = tokens.add(new("alice", Role::User), now).await.unwrap_err();
        assert!(matches!(twice, TokenError::Exists(_)), "{twice}");
        for name in ["", "local", "10.8.0.1", "::1", "a b", "1st", "fe80::1", &"x".repeat(65), "a\n"] {
            let error = tokens.add(new(name, Role::User), now).await.unwrap_err();
            assert!(matches!(error, TokenError::Name(_)), "{name:?}: {error}");
        }
        let error = tokens.revoke("alise").await.unwrap_err();
        assert!(error.to_string().contains("did you mean \"alice\""), "{error}");
    }
}
