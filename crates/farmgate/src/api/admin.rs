//! `tokens` and `audit`: for administrators.

use std::collections::HashMap;

use axum::{
    Extension, Json,
    extract::{Path, Query, State as Extract},
    http::StatusCode,
    response::IntoResponse,
};
use farmgate_protocol::Timestamp;
use farmgate_store::StoreError;
use serde_json::{Value, json};

use super::{
    State,
    audit::{AuditPage, Details},
    error::ApiError,
    runs::number,
    tokens::{NewToken, TokenError, TokenList},
};

/// Entries of a page where nothing is said.
const PAGE: u64 = 100;

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let status = match &error {
            TokenError::Name(_) => StatusCode::BAD_REQUEST,
            TokenError::Exists(_) | TokenError::TooMany => StatusCode::CONFLICT,
            TokenError::Unknown { .. } => StatusCode::NOT_FOUND,
            TokenError::Randomness(_) | TokenError::Store(_) | TokenError::NotStored { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, crate::with_causes(&error))
    }
}

/// GET `audit?before=&limit=`.
pub async fn audit_log(
    Extract(state): Extract<State>,
    Query(asked): Query<HashMap<String, String>>,
) -> Result<Json<AuditPage>, ApiError> {
    let before = number(&asked, "before")?;
    let limit = number(&asked, "limit")?.unwrap_or(PAGE);
    let unreadable = |e: StoreError| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, crate::with_causes(&e));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Json(state.audit.page(before, limit).await.map_err(unreadable)?))
}

/// GET `tokens`.
pub async fn tokens(Extract(state): Extract<State>) -> Json<TokenList> {
    Json(state.tokens.list())
}

/// POST `tokens`.
pub async fn add_token(
    Extract(state): Extract<State>,
    new: Result<Json<NewToken>, axum::extract::rejection::JsonRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Json(new) = new.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    let made = state.tokens.add(new, Timestamp::now()).await?;
    let details = Details(json!({"token": made.name, "role": made.role}));
    Ok((Extension(details), Json(made)))
}

/// DELETE `token/NAME`.
pub async fn revoke_token(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    state.tokens.revoke(&name).await?;
    Ok(Json(json!({"name": name})))
}
