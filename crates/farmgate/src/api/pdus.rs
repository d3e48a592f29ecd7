//! `pdu` and `pdus`.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Extension, Json,
    extract::{Path, State as Extract},
    http::StatusCode,
    response::IntoResponse,
};
use farmgate_executor::PortChange;
use farmgate_protocol::{
    PortId,
    pdu::{Pdu, Pdus, Port},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{State, audit::Details, error::ApiError};

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
pub struct Wish {
    state: Option<String>,
    reserved: Option<Value>,
    min_off_time: Option<f64>,
}

impl Wish {
    fn change(&self) -> Result<PortChange, ApiError> {
        let wrong = |text: &str| ApiError::new(StatusCode::BAD_REQUEST, text);
        let on = match self.state.as_deref() {
            Some("ON") => Some(true),
            Some("OFF") => Some(false),
            None => None,
            Some(_) => return Err(wrong("`state` is \"ON\" or \"OFF\"")),
        };
        let reserved = match &self.reserved {
            None => None,
            Some(Value::Bool(reserved)) => Some(*reserved),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Some(false),
            Some(_) => return Err(wrong("`reserved` is true or false")),
        };
        let min_off_time = match self.min_off_time.map(Duration::try_from_secs_f64) {
            None => None,
            Some(Ok(time)) => Some(time),
            Some(Err(_)) => return Err(wrong("`min_off_time` is a number of seconds, 0 or more")),
        };
        let change = PortChange { on, reserved, min_off_time };
        if change == PortChange::default() {
            return Err(wrong("nothing to change: give `state`, `reserved` or `min_off_time`"));
        }
        Ok(change)
    }
}

pub async fn switch(
    Extract(state): Extract<State>,
    Path((name, port)): Path<(String, String)>,
    wish: Result<Json<Wish>, axum::extract::rejection::JsonRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let wrong = |text: &str| ApiError::new(StatusCode::BAD_REQUEST, text);
    let Json(wish) = wish.map_err(|e| wrong(&e.body_text()))?;
    let change = wish.change()?;
    let id = PortId::new(&port).map_err(|e| wrong(&e.to_string()))?;
    let known = find(state.executor.pdus(), &name)?;
    if !known.ports.contains_key(&port) {
        let mut ids: Vec<String> = known.ports.into_keys().collect();
        ids.sort_by_key(|id| (id.parse::<u32>().unwrap_or(u32::MAX), id.clone()));
        let text = format!("PDU {name} has no port {port:?}; it has {}", ids.join(", "));
        return Err(ApiError::new(StatusCode::NOT_FOUND, text));
    }
    state.executor.change_port(&name, &id, change).await?;
    let details = json!({"change": {"on": change.on, "reserved": change.reserved,
        "min_off_time": change.min_off_time.map(|time| time.as_secs_f64())}});
    Ok((Extension(Details(details)), self::port(Extract(state), Path((name, port))).await?))
}
