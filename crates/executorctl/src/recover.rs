//! A submission whose answer was lost: the gateway may have the job or not. It is looked for among the gateway's jobs
//! by the name that it was submitted under, so that it neither runs twice nor runs for nobody.

use std::time::Instant;

use farmgate_protocol::run::{RunDetail, Runs};
use reqwest::{StatusCode, header::DATE};

use crate::gateway::{Gateway, GatewayError};

/// Jobs that are looked at; more than that are not submitted in the time that a gateway needs to come back.
const NEWEST: usize = 30;
/// How much the gateway's clocks may differ, microseconds: its `Date` has whole seconds.
const SLACK: i64 = 2_000_000;

/// Whether the gateway has the job.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// As this run.
    Run(u64),
    /// It was never taken.
    Nothing,
    /// The gateway keeps no list of jobs.
    Unknown,
}

/// Looks for the run that was submitted as `job_id` after `posted`.
///
/// # Errors
/// The gateway is not there: ask again.
pub async fn find(gateway: &Gateway, job_id: &str, posted: Instant) -> Result<Found, GatewayError> {
    let mut url = gateway.resource(&["jobs"]);
    url.query_pairs_mut().append_pair("limit", &NEWEST.to_string());
    let response = gateway.client().get(url).send().await.map_err(|e| gateway.failed(&e))?;
    let elapsed = posted.elapsed().as_micros();
    let date = response.headers().get(DATE).and_then(|v| v.to_str().ok()).and_then(gateways_time);
    match response.status() {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(Found::Unknown),
        _ => return Err(gateway.refused(response).await),
    }
    let body = gateway.body(response).await?;
    let (Ok(runs), Some(date)) = (serde_json::from_slice::<Runs>(&body), date) else {
        return Ok(Found::Unknown);
    };
    let earliest = date - i64::try_from(elapsed).unwrap_or(i64::MAX) - SLACK;
    for run in runs.jobs.iter().filter(|run| run.created.as_micros() >= earliest) {
        let body = gateway.get(&["job", &run.id.to_string()]).await?;
        let detail: RunDetail = gateway.read(&body)?;
        if detail.run.job_id.as_deref() == Some(job_id) {
            return Ok(Found::Run(run.id));
        }
    }
    Ok(Found::Nothing)
}

/// Of a `Date` header (RFC 9110, 5.6.7), microseconds since 1970.
fn gateways_time(header: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::parse(header).ok()?;
    Some(time.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(gateways_time("Thu, 01 Jan 1970 00:00:10 GMT"), Some(10_000_000));
        assert_eq!(gateways_time("yesterday"), None);
    }
}
