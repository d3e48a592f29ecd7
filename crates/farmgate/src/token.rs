//! `farmgate token`: makes, lists and revokes tokens. A gateway that runs has its state to itself, so it is asked over
//! the loopback, and a token counts at once; where none runs, the state is opened here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Subcommand;
use farmgate_protocol::Timestamp;
use farmgate_store::{Change, Retention, Store, StoreError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    BoxError,
    api::{
        roles::Role,
        tokens::{MadeToken, NewToken, TokenList, Tokens},
    },
    settings::Settings,
};

#[derive(Subcommand)]
pub enum Command {
    /// Make a token and print its secret, once: only its hash is kept.
    Add {
        /// Its name: it stands as the submitter of its jobs and in the audit log.
        name: String,
        /// What it allows. viewer: look; user: submit jobs, and attach to or cancel one's own; admin: everything.
        #[arg(long)]
        role: Role,
    },
    /// List the tokens, without their secrets.
    List,
    /// Revoke a token, at once.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Where tokens are.
enum Keeper {
    /// The gateway that runs.
    Gateway(String),
    /// The state, which nobody else has.
    State { tokens: Tokens, store: Store },
}

/// Does it.
///
/// # Errors
/// What is wrong, and what to do.
pub async fn run(command: Command, settings: &Settings) -> Result<(), BoxError> {
    let keeper = Keeper::find(settings).await?;
    let done = keeper.carry_out(command).await;
    if let Keeper::State { store, .. } = keeper {
        store.close().await;
    }
    done
}

impl Keeper {
    async fn find(settings: &Settings) -> Result<Self, BoxError> {
        let path = settings.permanent.join("state.db");
        if !settings.permanent.is_dir() {
            return Err(format!(
                "the folder {} does not exist: set PERMANENT_MOUNT (or --settings FILE) to that of the gateway",
                settings.permanent.display()
            )
            .into());
        }
        match Store::open(&path, Retention::default()) {
            Ok(store) => Ok(Self::State { tokens: Tokens::read(store.clone()).await?, store }),
            Err(StoreError::Locked { .. }) => Ok(Self::Gateway(own_url(settings.executor))),
            Err(error) => Err(error.into()),
        }
    }

    async fn carry_out(&self, command: Command) -> Result<(), BoxError> {
        match command {
            Command::Add { name, role } => {
                let made = self.add(NewToken { name, role }).await?;
                eprintln!("token {} with the role {}; its secret is not shown again:", made.name, made.role);
                println!("{}", made.secret);
            }
            Command::List => print!("{}", table(&self.list().await?)),
            Command::Revoke { name } => {
                self.revoke(&name).await?;
                eprintln!("token {name} is revoked");
            }
        }
        Ok(())
    }

    async fn add(&self, new: NewToken) -> Result<MadeToken, BoxError> {
        match self {
            Self::Gateway(url) => {
                let http = client()?;
                answer(http.post(format!("{url}/api/v1/tokens")).json(&new)).await
            }
            Self::State { tokens, store } => {
                let details = json!({"token": new.name, "role": new.role});
                let made = tokens.add(new, Timestamp::now()).await?;
                note(store, "token-add", details).await?;
                Ok(made)
            }
        }
    }

    async fn list(&self) -> Result<TokenList, BoxError> {
        match self {
            Self::Gateway(url) => answer(client()?.get(format!("{url}/api/v1/tokens"))).await,
            Self::State { tokens, .. } => Ok(tokens.list()),
        }
    }

    async fn revoke(&self, name: &str) -> Result<(), BoxError> {
        match self {
            Self::Gateway(url) => {
                let mut target = reqwest::Url::parse(&format!("{url}/api/v1/token/"))?;
                // A name with a slash in it is one that does not exist, and no other path.
                if let Ok(mut path) = target.path_segments_mut() {
                    path.pop_if_empty().push(name);
                }
                answer::<Value>(client()?.delete(target)).await.map(drop)
            }
            Self::State { tokens, store } => {
                tokens.revoke(name).await?;
                note(store, "token-revoke", json!({"token": name})).await
            }
        }
    }
}

/// In the audit log too, where no gateway runs that does it.
async fn note(store: &Store, what: &str, details: Value) -> Result<(), BoxError> {
    let entry = Change::Audit {
        at: Timestamp::now(),
        who: "local".to_owned(),
        from: "farmgate token".to_owned(),
        what: what.to_owned(),
        details,
    };
    Ok(store.write(vec![entry]).await?)
}

/// Where the gateway of this host hears this host.
fn own_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn client() -> Result<reqwest::Client, BoxError> {
    // Not by way of a proxy: it would be another caller.
    Ok(reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(30)).build()?)
}

/// What the gateway answers, or its reason.
async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, BoxError> {
    let asked = request.send().await.map_err(|error| {
        format!(
            "the gateway has the state, but does not answer: {}; is EXECUTOR_PORT (or --settings FILE) that of the \
             gateway, and this its host (in the virtual farm: `vivian connect`)?",
            crate::with_causes(&error)
        )
    })?;
    let status = asked.status();
    if status.is_success() {
        return Ok(asked.json().await?);
    }
    let body: Value = asked.json().await.unwrap_or_default();
    let text = body["error"].as_str().map_or_else(|| format!("the gateway answers {status}"), str::to_owned);
    Err(text.into())
}

fn table(list: &TokenList) -> String {
    let mut text = format!("{:<24} {:<7} {:<32} USED\n", "NAME", "ROLE", "CREATED");
    for token in &list.tokens {
        let used = token.used.map_or_else(|| "never".to_owned(), |used| used.to_string());
        text.push_str(&format!(
            "{:<24} {:<7} {:<32} {used}\n",
            token.name,
            token.role,
            token.created.to_string()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_asked_where_it_hears_its_own_host() {
        let url = |text: &str| own_url(text.parse().unwrap());
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:8000"), "http://127.0.0.1:8000");
        assert_eq!(url("10.42.0.1:80"), "http://10.42.0.1:80");
        assert_eq!(url("[::1]:80"), "http://[::1]:80");
    }
}
