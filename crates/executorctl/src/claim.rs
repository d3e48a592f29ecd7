//! A run as its client holds it: what finds it again at the gateway, coming back to its stream, ending it, letting it
//! go on alone. One request each, bounded in time; when to ask again is decided elsewhere.

use std::time::Duration;

use farmgate_protocol::{console::UPGRADE_TOKEN, run::RunDetail, submit::RESUME_HEADER};
use reqwest::{
    Method, StatusCode, Upgraded, Url,
    header::{CONNECTION, UPGRADE},
};

use crate::{
    gateway::{Gateway, GatewayError},
    session::Position,
};

/// How long the gateway may take to give a stream back.
const ATTACH_TIME: Duration = Duration::from_secs(15);
/// How long it may take to take a cancellation.
const CANCEL_TIME: Duration = Duration::from_secs(5);

/// Whose stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Submitted it: the job ends when it leaves deliberately.
    Submitter,
    /// Came to it later: the job goes on without it.
    Visitor,
}

/// A run at a gateway.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Where it is.
    pub gateway: Gateway,
    /// Its number; none where the gateway does not number runs.
    pub run: Option<u64>,
    /// The secret that takes the submitter's place again.
    pub token: Option<String>,
    /// Whose stream it is.
    pub role: Role,
    /// The gateway gives the stream again from where it broke.
    pub resumable: bool,
}

impl Claim {
    /// Of somebody who comes to a run.
    pub const fn visitor(gateway: Gateway, run: u64) -> Self {
        Self { gateway, run: Some(run), token: None, role: Role::Visitor, resumable: true }
    }

    /// The run's number, if its stream can be had again.
    pub fn can_resume(&self) -> Option<u64> {
        self.run.filter(|_| self.resumable)
    }

    /// The stream of run `run` from `since` on. `detach`: from now on the run needs nobody.
    ///
    /// # Errors
    /// The gateway does not give it; [`is_final`] tells whether asking again can help.
    pub async fn attach(&self, run: u64, since: Position, detach: bool) -> Result<Upgraded, GatewayError> {
        let mut url = self.url(run, "attach");
        url.query_pairs_mut()
            .append_pair("console", &since.console.to_string())
            .append_pair("event", &since.event.to_string());
        if detach {
            url.query_pairs_mut().append_pair("detach", "1");
        }
        let mut request = self
            .gateway
            .client()
            .request(Method::POST, url)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, UPGRADE_TOKEN);
        if let Some(token) = &self.token {
            request = request.header(RESUME_HEADER, token);
        }
        let asked = async {
            let response = request.send().await.map_err(|e| self.gateway.failed(&e))?;
            match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => {
                    response.upgrade().await.map_err(|e| self.gateway.failed(&e))
                }
                status if status.is_success() => Err(GatewayError::Strange {
                    url: self.gateway.shown(),
                    reason: "it does not switch to the console protocol".to_owned(),
                }),
                _ => Err(self.gateway.refused(response).await),
            }
        };
        self.bounded(ATTACH_TIME, asked).await
    }

    /// Ends the run.
    ///
    /// # Errors
    /// The gateway refuses (409: it is over) or is not there.
    pub async fn cancel(&self, run: u64) -> Result<(), GatewayError> {
        let cancelled = self.gateway.post(self.url(run, "cancel"));
        self.bounded(CANCEL_TIME, cancelled).await.map(|_| ())
    }

    /// Everything about the run.
    ///
    /// # Errors
    /// There is none of that number, or the gateway is not there.
    pub async fn detail(&self, run: u64) -> Result<RunDetail, GatewayError> {
        let body = self.gateway.get(&["job", &run.to_string()]).await?;
        self.gateway.read(&body)
    }

    fn url(&self, run: u64, verb: &str) -> Url {
        self.gateway.resource(&["job", &run.to_string(), verb])
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, GatewayError>>,
    ) -> Result<T, GatewayError> {
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            let cause = format!("no answer within {} s", limit.as_secs());
            Err(GatewayError::Broken { url: self.gateway.shown(), cause })
        })
    }
}

/// Whether asking the same again cannot help: the gateway is there and means what it says.
pub fn is_final(error: &GatewayError) -> bool {
    match error {
        GatewayError::Unreachable { .. } | GatewayError::Broken { .. } => false,
        // A proxy says so while the gateway behind it restarts, and the gateway while it starts.
        GatewayError::Refused { status, .. } => !status.is_server_error(),
        GatewayError::BadUrl { .. }
        | GatewayError::BadToken
        | GatewayError::Client(_)
        | GatewayError::Untrusted { .. }
        | GatewayError::Strange { .. } => true,
    }
}
