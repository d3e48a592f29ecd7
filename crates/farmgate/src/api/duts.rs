//! `dut`, `duts` and their deprecated names.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Extension, Json,
    extract::{Path, Query, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use farmgate_executor::Caller;
use farmgate_protocol::{DutId, Timestamp, dut::Dut};
use serde_json::{Map, Value, json};

use super::{State, audit::Details, callers::Who, error::ApiError};

type Body = Result<Json<Map<String, Value>>, axum::extract::rejection::JsonRejection>;

fn body(body: Body) -> Result<Map<String, Value>, ApiError> {
    let Json(body) = body.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    Ok(body)
}

/// DUTs with the TCP port of their raw console log, which the console service knows.
async fn with_logs(state: &State, mut duts: Vec<Dut>) -> Vec<Dut> {
    match state.executor.salad().machines().await {
        Ok(machines) => {
            let ports: HashMap<String, u16> = machines.into_iter().map(|m| (m.id, m.tcp_port_logs)).collect();
            for dut in &mut duts {
                dut.logs_endpoint.port = ports.get(dut.id.as_str()).copied().unwrap_or(0);
            }
        }
        Err(error) => tracing::warn!(%error, "the console service does not answer"),
    }
    duts
}

async fn by_id(state: &State) -> BTreeMap<DutId, Dut> {
    with_logs(state, state.executor.duts()).await.into_iter().map(|d| (d.id.clone(), d)).collect()
}

pub async fn list(Extract(state): Extract<State>) -> Json<Value> {
    Json(json!({"duts": by_id(&state).await}))
}

pub async fn list_machines(Extract(state): Extract<State>) -> Json<Value> {
    let duts = by_id(&state).await;
    Json(json!({"duts": &duts, "machines": &duts}))
}

pub async fn full_state(Extract(state): Extract<State>) -> Json<Value> {
    let problem = state.mars.problem().borrow().clone();
    Json(json!({
        "pdus": state.executor.pdus(),
        "duts": by_id(&state).await,
        "discover": {},
        "now": Timestamp::now(),
        "farm_file_problem": problem,
    }))
}

pub async fn show(Extract(state): Extract<State>, Path(id): Path<String>) -> Result<Json<Dut>, ApiError> {
    let dut = state.executor.dut(&id)?;
    let mut with_logs = with_logs(&state, vec![dut]).await;
    with_logs
        .pop()
        .map(Json)
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("no DUT is called {id:?}")))
}

/// POST and PUT `dut/`. `?check=true`: only tell how the machine differs from what is known.
pub async fn register(
    Extract(state): Extract<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<HashMap<String, String>>,
    given: Body,
) -> Result<Json<Value>, ApiError> {
    let given = body(given)?;
    let check = query.get("check").is_some_and(|v| v == "true" || v == "1");
    let reply = state.executor.register(&given, caller, check).await?;
    let mut answer = json!({"id": reply.id, "created": reply.created, "differences": reply.differences});
    if let Ok(dut) = state.executor.dut(reply.id.as_str()) {
        answer["full_name"] = dut.full_name.as_str().into();
        // A machine gets no more than its name: the entry may hold what it must not see.
        if caller == Caller::Operator {
            answer["dut"] = serde_json::to_value(dut).unwrap_or_default();
        }
    }
    Ok(Json(answer))
}

pub async fn change(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
    given: Body,
) -> Result<impl IntoResponse, ApiError> {
    let given = body(given)?;
    state.executor.patch_dut(&id, &given).await?;
    Ok((Extension(Details(json!({"change": given}))), Json(json!({"id": id}))))
}

pub async fn forget(Extract(state): Extract<State>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    state.executor.forget_dut(&id).await?;
    Ok(Json(json!({"id": id})))
}

/// A job that runs on it runs to its end, or, with `?cancel=true`, is ended.
pub async fn retire(
    Extract(state): Extract<State>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
    state.executor.retire(&id).await?;
    let cancel = query.get("cancel").is_some_and(|v| v == "true" || v == "1");
    // No job runs on it: then there is nothing to cancel.
    let cancelled = cancel && state.executor.cancel_job(&id, &who.name).await.is_ok();
    Ok(Json(json!({"id": id, "cancelled": cancelled})))
}

pub async fn activate(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    state.executor.activate(&id).await?;
    Ok(Json(json!({"id": id})))
}

pub async fn cancel_job(
    Extract(state): Extract<State>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    state.executor.cancel_job(&id, &who.name).await?;
    Ok(Json(json!({"id": id})))
}

pub async fn quick_check(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    state.executor.quick_check(&id).await?;
    Ok(Json(json!({"id": id})))
}

pub async fn quick_check_due(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
) -> Result<Json<bool>, ApiError> {
    Ok(Json(state.executor.quick_check_due(&id).await?))
}

pub async fn training_log(
    Extract(state): Extract<State>,
    Path((id, index)): Path<(String, usize)>,
) -> Result<Response, ApiError> {
    let Some((machine, range)) = state.executor.training_log(&id, index).await? else {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("{id} has no training loop {index} with a log"),
        ));
    };
    let chunks =
        state.executor.salad().read(machine.as_str(), range.start, Some(range.end)).await.map_err(|e| {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the console log cannot be read: {e}"))
        })?;
    let bytes: Vec<u8> = chunks.iter().flat_map(|c| c.bytes.iter().copied()).collect();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response())
}

/// No discovery runs, because none can be started yet.
pub async fn discovery() -> Json<Value> {
    Json(json!({}))
}

pub async fn discover() -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "discovery is not supported yet: power the machine on, let it register, and set its pdu and pdu_port_id in the farm file",
    )
}
