//! `pdu` and `pdus`.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State as Extract},
    http::StatusCode,
};
use farmgate_protocol::{
    PortId,
    pdu::{Pdu, Pdus, Port},
};
use serde::Deserialize;

use super::{State, error::ApiError};

pub async fn list(Extract(state): Extract<State>) -> Json<Pdus> {
    Json(Pdus { pdus: state.executor.pdus() })
}

fn find(mut pdus: BTreeMap<String, Pdu>, name: &str) -> Result<Pdu, ApiError> {
    pdus.remove(name).ok_or_else(|| {
        let known: Vec<String> = pdus.into_keys().collect();
        let text = format!("no PDU is called {name:?}; there are: {}", known.join(", "));
        ApiError::new(StatusCode::NOT_FOUND, text)
    })
}

pub async fn show(Extract(state): Extract<State>, Path(name): Path<String>) -> Result<Json<Pdu>, ApiError> {
    Ok(Json(find(state.executor.pdus(), &name)?))
}

pub async fn port(
    Extract(state): Extract<State>,
    Path((name, port)): Path<(String, String)>,
) -> Result<Json<Port>, ApiError> {
    find(state.executor.pdus(), &name)?
        .ports
        .remove(&port)
        .map(Json)
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("PDU {name} has no port {port:?}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortChange {
    state: Option<String>,
    reserved: Option<serde_json::Value>,
    min_off_time: Option<f64>,
}

pub async fn switch(
    Extract(state): Extract<State>,
    Path((name, port)): Path<(String, String)>,
    change: Result<Json<PortChange>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Port>, ApiError> {
    let wrong = |text: &str| ApiError::new(StatusCode::BAD_REQUEST, text);
    let Json(change) = change.map_err(|e| wrong(&e.body_text()))?;
    if change.reserved.is_some() || change.min_off_time.is_some() {
        let text = "reserved and min_off_time cannot be set over the API yet: set reserved_port_ids of the PDU and pdu_off_delay of the DUT in the farm file";
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, text));
    }
    let on = match change.state.as_deref() {
        Some("ON") => true,
        Some("OFF") => false,
        _ => return Err(wrong("give `state`: \"ON\" or \"OFF\"")),
    };
    let id = PortId::new(&port).map_err(|e| wrong(&e.to_string()))?;
    let known = find(state.executor.pdus(), &name)?;
    if !known.ports.contains_key(&port) {
        let ids: Vec<String> = known.ports.into_keys().collect();
        let text = format!("PDU {name} has no port {port:?}; it has {}", ids.join(", "));
        return Err(ApiError::new(StatusCode::NOT_FOUND, text));
    }
    state.executor.switch_port(&name, &id, on).await?;
    self::port(Extract(state), Path((name, port))).await
}
