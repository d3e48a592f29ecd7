//! POST `jobs`: reads the submission, hands it to the executor, and joins the client with its run, on the same
//! connection or by calling it back.

use std::{net::IpAddr, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{ConnectInfo, FromRequest, Multipart, Request, State as Extract, multipart::Field},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use farmgate_executor::{Accepted, ClientLink, Submission, serve_client};
use farmgate_protocol::{
    console::{UPGRADE_TOKEN, VERSION_HEADER},
    submit::{Metadata, RESUME_HEADER, RUN_HEADER, RunTicket, SubmitReply},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    State,
    callers::{Peers, Who},
    server::Held,
};
use crate::serve::notice_dead_peers;

/// The longest job text.
const MAX_JOB: usize = 1 << 20;
/// The published client loses frames that arrive together with the 101: it reads that through a buffer, and then the
/// bare socket.
const AFTER_THE_101: Duration = Duration::from_millis(120);
/// A client that waits for a call listens that long.
const CALL_BACK: Duration = Duration::from_secs(14);

/// An answer `{version: 1, error_msg}` other than 200.
struct Refusal(u16, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // `error` too, for those who read it as everywhere else in the API.
        let body = serde_json::json!({"version": 1, "error_msg": self.1, "error": self.1});
        (status, Json(body)).into_response()
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal(400, text.into())
}

pub async fn submit(
    Extract(state): Extract<State>,
    ConnectInfo(peers): ConnectInfo<Peers>,
    Extension(who): Extension<Who>,
    mut request: Request,
) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let held = request.extensions_mut().remove::<Held>();
    let wants_upgrade = state.console_upgrade && asks_for_upgrade(request.headers());
    // Only a stream that was upgraded can be resumed: who is called back cannot call.
    let resumable = wants_upgrade && request.headers().contains_key(RESUME_HEADER);
    match accept(&state, peers, who, request, wants_upgrade, resumable).await {
        Err(refusal) => refusal.into_response(),
        Ok((Accepted { client, token, .. }, call_back)) => match (wants_upgrade, upgrade) {
            (true, Some(upgrade)) => answer_with_console(&state, client, token, resumable, (upgrade, held)),
            _ => answer_and_call_back(&state, client, token, call_back),
        },
    }
}

pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, UPGRADE_TOKEN)
}

/// Where a client waits to be called.
type CallBack = Option<(String, u16)>;

async fn accept(
    state: &State,
    peers: Peers,
    who: Who,
    request: Request,
    wants_upgrade: bool,
    resumable: bool,
) -> Result<(Accepted, CallBack), Refusal> {
    let mut parts = Parts::default();
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|e| bad(format!("the request is no multipart/form-data: {}", e.body_text())))?;
    // A wrong part is remembered and the rest still read: a client that is in the middle of sending does not see an
    // answer on a connection that closes.
    let mut wrong = None;
    loop {
        match form.next_field().await {
            Ok(Some(field)) => {
                if let Err(refusal) = parts.take(field).await {
                    wrong.get_or_insert(refusal);
                }
            }
            Ok(None) => break,
            // What was wrong before tells more: a folder that is not supported may also be too large.
            Err(error) => {
                let early = || bad(format!("the request ends early: {}", error.body_text()));
                return Err(wrong.unwrap_or_else(early));
            }
        }
    }
    if let Some(refusal) = wrong {
        return Err(refusal);
    }
    let metadata = parts.metadata.ok_or_else(|| bad("the part `metadata` is missing"))?;
    refuse_unsupported(&metadata)?;
    let call_back = if wants_upgrade { None } else { Some(call_back(state, peers, &metadata)?) };
    let (name, text) = match (parts.job, &metadata.job_desc_url) {
        (Some((name, text)), None) => (name, text),
        (None, Some(url)) => (url.clone(), fetch_job(state, url, &metadata).await?),
        (Some(_), Some(_)) => {
            return Err(bad("give either the part `job` or `metadata.job_desc_url`, not both"));
        }
        (None, None) => return Err(bad("give the job: the part `job`, or `metadata.job_desc_url`")),
    };
    let accepted = state
        .executor
        .submit(Submission { metadata, name, text, submitter: who.name, resumable })
        .await
        .map_err(|e| Refusal(e.http_status(), e.to_string()))?;
    Ok((accepted, call_back))
}

#[derive(Default)]
struct Parts {
    metadata: Option<Metadata>,
    /// Name of the file, for messages, and its text.
    job: Option<(String, String)>,
}

impl Parts {
    async fn take(&mut self, field: Field<'_>) -> Result<(), Refusal> {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "metadata" => {
                let text = text(field, "metadata").await?;
                let metadata: Metadata =
                    serde_json::from_str(&text).map_err(|e| bad(format!("the part `metadata`: {e}")))?;
                if metadata.version != 1 {
                    return Err(bad(format!(
                        "metadata.version is {}: this gateway speaks 1",
                        metadata.version
                    )));
                }
                self.metadata = Some(metadata);
            }
            "job" => {
                let file =
                    field.file_name().map(|n| n.chars().filter(|c| !c.is_control()).take(200).collect());
                self.job = Some((file.unwrap_or_else(|| "job".to_owned()), text(field, "job").await?));
            }
            "job_bucket_initial_state_tarball_file" => {
                return Err(bad("job buckets are not supported yet: submit without a shared directory (-s)"));
            }
            _ => return Err(bad(format!("attached artifacts are not supported yet: {name:?} (-f)"))),
        }
        Ok(())
    }
}

async fn text(mut field: Field<'_>, name: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(piece) =
        field.chunk().await.map_err(|e| bad(format!("the part `{name}` ends early: {}", e.body_text())))?
    {
        if bytes.len() + piece.len() > MAX_JOB {
            return Err(bad(format!("the part `{name}` is longer than {MAX_JOB} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| bad(format!("the part `{name}` is not UTF-8")))
}

fn refuse_unsupported(metadata: &Metadata) -> Result<(), Refusal> {
    let minio = metadata.minio.clone().unwrap_or_default();
    if minio.groups.is_some_and(|groups| !groups.is_empty()) {
        return Err(bad("S3 groups are not supported yet (-g)"));
    }
    Ok(())
}

fn call_back(state: &State, peers: Peers, metadata: &Metadata) -> Result<(String, u16), Refusal> {
    let wanted = metadata.callback.clone().unwrap_or_default();
    let port = wanted.port.ok_or_else(|| {
        bad("the gateway would have to call you back: ask for the console on this connection (Upgrade: ci-tron-console) or give callback.port")
    })?;
    match wanted.host {
        Some(host) => Ok((host, port)),
        None if state.forwarded && peers.remote.ip().is_loopback() => Err(bad(
            "this gateway is reached through a forwarded port, so it cannot call you back: use upgrade or -c",
        )),
        None => Ok((peers.remote.ip().to_canonical().to_string(), port)),
    }
}

async fn fetch_job(state: &State, url: &str, metadata: &Metadata) -> Result<String, Refusal> {
    let target = metadata.target.clone().unwrap_or_default();
    if target.id.is_none() && target.tags.is_none() {
        return Err(bad("a job that is named by a URL needs `metadata.target` (-t or -i)"));
    }
    if !url.starts_with("https://") {
        return Err(bad(format!("job_desc_url: {url:?} is no https:// URL")));
    }
    let fetch = async {
        let mut answer = state.http.get(url).send().await?.error_for_status()?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_JOB {
                break;
            }
        }
        Ok::<_, reqwest::Error>(bytes)
    };
    let fetched = tokio::time::timeout(Duration::from_secs(30), fetch).await;
    match fetched {
        Err(_) => Err(bad(format!("cannot fetch the job {url}: no answer within 30 s"))),
        Ok(Err(error)) => Err(bad(format!("cannot fetch the job: {}", crate::with_causes(&error)))),
        Ok(Ok(bytes)) if bytes.len() > MAX_JOB => {
            Err(bad(format!("the job {url} is longer than {MAX_JOB} bytes")))
        }
        Ok(Ok(bytes)) => String::from_utf8(bytes).map_err(|_| bad(format!("the job {url} is not UTF-8"))),
    }
}

/// The console protocol on this connection. `resumes`: the client reads the 101 and the frames through one buffer, so
/// that the first may follow at once.
pub fn answer_with_console(
    state: &State,
    client: ClientLink,
    token: Option<String>,
    resumes: bool,
    (upgrade, held): (OnUpgrade, Option<Held>),
) -> Response {
    let salad = state.executor.salad().clone();
    let run = client.run();
    state.clients.spawn(async move {
        // The console is still one of its address's connections.
        let _held = held;
        match upgrade.await {
            Ok(connection) => {
                if !resumes {
                    tokio::time::sleep(AFTER_THE_101).await;
                }
                let (reader, writer) = tokio::io::split(TokioIo::new(connection));
                serve_client(client, salad, reader, writer).await;
            }
            // Dropping the link cancels the run.
            Err(error) => tracing::info!(run, %error, "the client left before its console began"),
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, UPGRADE_TOKEN)
        .header(VERSION_HEADER, "1")
        .header(RUN_HEADER, run.to_string());
    let answer = match token {
        Some(token) => answer.header(RESUME_HEADER, token),
        None => answer,
    };
    answer.body(Body::empty()).unwrap_or_else(|error| {
        let text = format!("the answer cannot be made: {error}");
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    })
}

fn answer_and_call_back(
    state: &State,
    client: ClientLink,
    token: Option<String>,
    call_back: CallBack,
) -> Response {
    let Some((host, port)) = call_back else {
        // Only if the connection cannot be upgraded although it was asked for: then there is nobody to talk to.
        return Refusal(500, "this connection cannot be upgraded".to_owned()).into_response();
    };
    let salad = state.executor.salad().clone();
    let run = client.run();
    state.clients.spawn(async move {
        match dial(&host, port).await {
            Ok(stream) => {
                if let Err(error) = notice_dead_peers(&stream) {
                    tracing::warn!(run, %error, "a client that vanishes will be noticed late");
                }
                let (reader, writer) = stream.into_split();
                serve_client(client, salad, reader, writer).await;
            }
            // Dropping the link cancels the run.
            Err(error) => {
                tracing::warn!(run, host, port, %error, "cannot call the client back: its job ends")
            }
        }
    });
    let run_id = run.to_string();
    let ticket = RunTicket { id: run, resume_token: token.unwrap_or_default() };
    let reply = SubmitReply { version: 1, error_msg: String::new(), run: Some(ticket) };
    ([(RUN_HEADER, run_id)], Json(reply)).into_response()
}

async fn dial(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    match host.parse::<IpAddr>() {
        Ok(address) => tokio::time::timeout(CALL_BACK, TcpStream::connect((address, port))).await,
        Err(_) => tokio::time::timeout(CALL_BACK, TcpStream::connect((host, port))).await,
    }
    .map_err(timed_out)?
}
