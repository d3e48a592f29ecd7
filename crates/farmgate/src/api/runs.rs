//! `jobs` and `job/ID`: the history of runs, what one waits for, its console, coming back to its stream, ending it.

use std::collections::HashMap;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, Request, State as Extract},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use farmgate_executor::{AttachError, ConsoleRange, Since};
use farmgate_protocol::{
    DutId,
    run::{RunDetail, Runs, Why},
    submit::RESUME_HEADER,
};
use farmgate_salad::{ConsoleOffset, Salad};
use farmgate_store::{RunQuery, RunState};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};

use super::{State, callers::Who, error::ApiError, jobs, server::Held};

impl From<AttachError> for ApiError {
    fn from(error: AttachError) -> Self {
        let status = match &error {
            AttachError::Unknown(_) => StatusCode::NOT_FOUND,
            AttachError::Token(_) => StatusCode::FORBIDDEN,
            AttachError::Over { .. } => StatusCode::CONFLICT,
            AttachError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, crate::with_causes(&error))
    }
}

type Asked = Query<HashMap<String, String>>;

pub fn number(asked: &HashMap<String, String>, name: &str) -> Result<Option<u64>, ApiError> {
    let wrong = |text: &String| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("{name}={text}: write a number of 0 or more"))
    };
    asked.get(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

/// GET `jobs?dut=&state=&kind=&before=&limit=`.
pub async fn list(Extract(state): Extract<State>, Query(asked): Asked) -> Result<Json<Runs>, ApiError> {
    let dut = match asked.get("dut") {
        Some(name) => Some(state.executor.dut(name).map(|d| d.id).or_else(|error| {
            // A machine that was forgotten still has its history.
            DutId::new(name).map_err(|_| error)
        })?),
        None => None,
    };
    let word = |text: &String| {
        text.parse::<RunState>().map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))
    };
    // The gateway's own boots are many; who wants them asks for them.
    let kind = match asked.get("kind").map(String::as_str) {
        Some("all") => None,
        kind => Some(kind.unwrap_or("job").to_owned()),
    };
    let query = RunQuery {
        dut,
        kind,
        state: asked.get("state").map(word).transpose()?,
        before: number(&asked, "before")?,
        limit: number(&asked, "limit")?.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        ..RunQuery::default()
    };
    let jobs = state.executor.runs(query).await.map_err(AttachError::from)?;
    Ok(Json(Runs { jobs }))
}

/// GET `job/ID`.
pub async fn show(Extract(state): Extract<State>, Path(run): Path<u64>) -> Result<Json<RunDetail>, ApiError> {
    Ok(Json(state.executor.run(run).await?))
}

/// GET `job/ID/why`.
pub async fn why(Extract(state): Extract<State>, Path(run): Path<u64>) -> Result<Json<Why>, ApiError> {
    Ok(Json(state.executor.why(run).await?))
}

/// POST `job/ID/cancel`.
pub async fn cancel(
    Extract(state): Extract<State>,
    Extension(who): Extension<Who>,
    Path(run): Path<u64>,
) -> Result<Json<Value>, ApiError> {
    state.executor.cancel_run(run, &who.name).await?;
    Ok(Json(json!({"id": run})))
}

/// GET `job/ID/console?from=OFFSET&follow=`: raw bytes, from an offset in the run's own console; to its end, or, with
/// `follow`, until the run is over.
pub async fn console(
    Extract(state): Extract<State>,
    Path(run): Path<u64>,
    Query(asked): Asked,
) -> Result<Response, ApiError> {
    let from = number(&asked, "from")?.unwrap_or_default();
    let follow = asked.get("follow").is_some_and(|v| v != "false" && v != "0");
    let range = state.executor.run_console(run).await?;
    let (bytes, stream) = tokio::sync::mpsc::channel(4);
    let clients = state.clients.clone();
    clients.spawn(async move {
        // A reader that is gone ends this.
        let _ = copy(&state, run, range, from, follow, &bytes).await;
    });
    let stream =
        futures_util::stream::unfold(
            stream,
            |mut stream| async move { Some((stream.recv().await?, stream)) },
        );
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(stream)).into_response())
}

type Bytes = tokio::sync::mpsc::Sender<Result<axum::body::Bytes, std::io::Error>>;

/// Copies a run's console piece by piece; nothing of it is held in memory.
async fn copy(
    state: &State,
    run: u64,
    range: ConsoleRange,
    from: u64,
    follow: bool,
    out: &Bytes,
) -> Result<(), Gone> {
    let salad = state.executor.salad();
    let Some(machine) = range.machine else { return Ok(()) };
    let mut at = ConsoleOffset(range.from.0.saturating_add(from));
    let mut to = range.to;
    loop {
        let end = match to {
            Some(to) => to,
            None => salad.end(machine.as_str()).await.map_err(|_| Gone)?,
        };
        at = copy_range(salad, machine.as_str(), at, end, out).await?;
        if to.is_some() || !follow {
            return Ok(());
        }
        tokio::select! {
            () = state.executor.run_ended(run) => {
                to = state.executor.run_console(run).await.map_err(|_| Gone)?.to.or(Some(at));
            }
            () = out.closed() => return Err(Gone),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
        }
    }
}

/// The reader, or the record, is gone.
struct Gone;

async fn copy_range(
    salad: &Salad,
    machine: &str,
    mut at: ConsoleOffset,
    end: ConsoleOffset,
    out: &Bytes,
) -> Result<ConsoleOffset, Gone> {
    const PIECE: u64 = 1 << 20;
    while at < end {
        let to = ConsoleOffset(end.0.min(at.0 + PIECE));
        let chunks = match salad.read(machine, at, Some(to)).await {
            Ok(chunks) => chunks,
            Err(error) => {
                let _ = out.send(Err(std::io::Error::other(error.to_string()))).await;
                return Err(Gone);
            }
        };
        if chunks.is_empty() {
            // Retention has dropped it.
            at = to;
        }
        for chunk in chunks {
            at = ConsoleOffset(chunk.offset.0 + chunk.bytes.len() as u64);
            out.send(Ok(chunk.bytes)).await.map_err(|_| Gone)?;
        }
    }
    Ok(at)
}

/// POST `job/ID/attach?console=OFFSET&event=SEQ` with Upgrade: the stream of a run again, from where it was left. With
/// the header `Farmgate-Resume: TOKEN` it is the submitter's client that is back. `detach=1`: the run goes on by itself
/// when everybody has left.
pub async fn attach(
    Extract(state): Extract<State>,
    Path(run): Path<u64>,
    Query(asked): Asked,
    headers: HeaderMap,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let held = request.extensions_mut().remove::<Held>();
    let (true, Some(upgrade)) = (jobs::asks_for_upgrade(&headers), upgrade) else {
        let text =
            "attach needs the console protocol: send `Connection: Upgrade` and `Upgrade: ci-tron-console`";
        return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, text));
    };
    let since = Since {
        console: number(&asked, "console")?.unwrap_or_default(),
        event: number(&asked, "event")?.unwrap_or_default(),
    };
    let token = headers.get(RESUME_HEADER).and_then(|v| v.to_str().ok());
    let detach = asked.get("detach").is_some_and(|v| v != "false" && v != "0");
    let link = state.executor.attach(run, token, since, detach).await?;
    Ok(jobs::answer_with_console(&state, link, None, true, (upgrade, held)))
}
