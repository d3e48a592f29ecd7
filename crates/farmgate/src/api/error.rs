//! Errors of the API: a status and `{"error": "..."}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use farmgate_executor::ExecutorError;
use serde_json::json;

/// An answer that says what went wrong.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub text: String,
}

impl ApiError {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.text}))).into_response()
    }
}

impl From<ExecutorError> for ApiError {
    fn from(error: ExecutorError) -> Self {
        let status = match &error {
            ExecutorError::UnknownDut { .. } | ExecutorError::UnknownPort(_) => StatusCode::NOT_FOUND,
            ExecutorError::WrongState { .. } | ExecutorError::Invalid(_) => StatusCode::BAD_REQUEST,
            ExecutorError::Refused(_) => StatusCode::FORBIDDEN,
            ExecutorError::Farm(_) => StatusCode::CONFLICT,
            ExecutorError::Power(_) => StatusCode::BAD_GATEWAY,
            ExecutorError::Console(_) | ExecutorError::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, crate::with_causes(&error))
    }
}

/// Every path that is none of ours.
pub async fn not_found(uri: axum::http::Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}
