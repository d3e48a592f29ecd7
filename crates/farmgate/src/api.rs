//! The REST API, `/api/v1`: paths, who may call them, and how errors look. What is asked is done by the executor.

mod callers;
mod duts;
mod error;
mod events;
mod jobs;
mod pdus;
mod runs;
mod state;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, patch, post},
};
use tower::Layer;

pub use callers::Peers;
pub use state::State;

use crate::settings::Settings;

/// The most that a request may carry: a job and its metadata.
const MAX_BODY: usize = 8 << 20;
/// The most that a registration may carry. Machines send them, and the event log remembers them.
const MAX_REGISTRATION: usize = 64 << 10;

/// Everything below `/api/v1`. `machine(s)` are the deprecated names of `dut(s)`.
pub fn router(state: State) -> Router {
    let mut router = Router::new()
        .route("/api/v1/duts", get(duts::list))
        .route("/api/v1/machines", get(duts::list_machines))
        .route("/api/v1/full-state", get(duts::full_state))
        .route("/api/v1/pdus", get(pdus::list))
        .route("/api/v1/pdu/{name}", get(pdus::show))
        .route("/api/v1/pdu/{name}/port/{port}", get(pdus::port).patch(pdus::switch))
        .route("/api/v1/jobs", get(runs::list).post(jobs::submit))
        .route("/api/v1/job/{id}", get(runs::show))
        .route("/api/v1/job/{id}/why", get(runs::why))
        .route("/api/v1/job/{id}/console", get(runs::console))
        .route("/api/v1/job/{id}/cancel", post(runs::cancel))
        .route("/api/v1/job/{id}/attach", post(runs::attach))
        .route("/api/v1/events", get(events::stream));
    for word in ["dut", "machine"] {
        let path = |rest: &str| format!("/api/v1/{word}{rest}");
        router = router
            .route(
                &path(""),
                post(duts::register).put(duts::register).layer(DefaultBodyLimit::max(MAX_REGISTRATION)),
            )
            .route(&path("/discover"), get(duts::discovery).post(duts::discover).delete(duts::discover))
            .route(&path("/{id}"), get(duts::show).merge(patch(duts::change)).delete(duts::forget))
            .route(&path("/{id}/retire"), post(duts::retire))
            .route(&path("/{id}/activate"), post(duts::activate))
            .route(&path("/{id}/cancel_job"), post(duts::cancel_job))
            .route(&path("/{id}/quick_check"), get(duts::quick_check_due).post(duts::quick_check))
            .route(&path("/{id}/training/loop/{n}"), get(duts::training_log));
    }
    router.layer(DefaultBodyLimit::max(MAX_BODY)).fallback(error::not_found).with_state(state)
}

/// What stands before every path: one form of it, and whether this caller may use it.
pub fn guard(router: Router, settings: &Settings, state: State) -> Guarded {
    let guarded = router
        .layer(axum::middleware::from_fn_with_state(callers::Rules::new(settings, state), callers::allow));
    // Outside of the router, because it decides by the path.
    tower::util::MapRequestLayer::new(tidy_path as fn(_) -> _).layer(guarded)
}

/// The whole service.
pub type Guarded = tower::util::MapRequest<Router, fn(axum::extract::Request) -> axum::extract::Request>;

/// Repeated slashes are one (the published client posts to `//api/v1/jobs`), and a last one is none.
fn tidy_path(mut request: axum::extract::Request) -> axum::extract::Request {
    let uri = request.uri();
    let path = tidied(uri.path());
    if path != uri.path() {
        let with_query = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        if let Ok(tidy) = with_query.parse::<axum::http::uri::PathAndQuery>() {
            let mut parts = uri.clone().into_parts();
            parts.path_and_query = Some(tidy);
            if let Ok(uri) = axum::http::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

fn tidied(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_merged_and_the_last_is_dropped() {
        for (given, tidy) in [
            ("//api/v1/jobs", "/api/v1/jobs"),
            ("/api/v1/dut/", "/api/v1/dut"),
            ("///", "/"),
            ("/", "/"),
            ("/api//v1///duts", "/api/v1/duts"),
        ] {
            assert_eq!(tidied(given), tidy);
        }
    }

    #[test]
    fn the_query_stays() {
        let request =
            axum::http::Request::get("//boot//a/boot.ipxe?platform=efi").body(axum::body::Body::empty());
        assert_eq!(tidy_path(request.unwrap()).uri(), "/boot/a/boot.ipxe?platform=efi");
    }
}
