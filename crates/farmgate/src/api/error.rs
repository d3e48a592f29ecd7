//! Errors of the API: a status and `{"error": "..."}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use farmgate_executor::ExecutorError;
use farmgate_mars::MarsError;
use farmgate_pdu::PowerError;
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
            ExecutorError::Farm(error) => farm_status(error),
            ExecutorError::Power(error) => power_status(error),
            ExecutorError::Console(_) | ExecutorError::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, crate::with_causes(&error))
    }
}

/// What the caller did wrong is a 4xx, what the gateway cannot do a 5xx.
fn farm_status(error: &MarsError) -> StatusCode {
    match error {
        MarsError::Refused(_) => StatusCode::BAD_REQUEST,
        MarsError::NoSuchDut(_) => StatusCode::NOT_FOUND,
        MarsError::Invalid(_) | MarsError::Unwritable { .. } | MarsError::Busy => StatusCode::CONFLICT,
        MarsError::Io { .. } | MarsError::Watch { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        MarsError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn power_status(error: &PowerError) -> StatusCode {
    match error {
        PowerError::UnknownPort { .. } => StatusCode::NOT_FOUND,
        PowerError::Reserved { .. }
        | PowerError::Manual { .. }
        | PowerError::NeverOff { .. }
        | PowerError::Observing { .. } => StatusCode::FORBIDDEN,
        PowerError::Superseded { .. } => StatusCode::CONFLICT,
        PowerError::NotConfirmed { .. } => StatusCode::BAD_GATEWAY,
        PowerError::Stopped { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Every path that is none of ours.
pub async fn not_found(uri: axum::http::Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_may_not_be_switched_is_the_callers_fault_and_no_fault_of_the_gateway() {
        let (pdu, port) = ("P".to_owned(), farmgate_protocol::PortId::from(1));
        let reserved = ExecutorError::Power(PowerError::Reserved { pdu: pdu.clone(), port });
        let error = ApiError::from(reserved);
        assert_eq!(error.status, StatusCode::FORBIDDEN);
        assert!(error.text.contains("reserved_port_ids"), "{}", error.text);
        let stopped = ExecutorError::Power(PowerError::Stopped { pdu });
        assert_eq!(ApiError::from(stopped).status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
