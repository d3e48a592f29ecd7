//! The REST API, `/api/v1`: paths, who may call them, and how errors look. What is asked is done by the executor.

mod admin;
mod admission;
mod audit;
mod browser;
mod callers;
mod credentials;
mod duts;
mod endpoints;
mod error;
mod events;
mod failures;
mod jobs;
mod openapi;
#[cfg(test)]
mod openapi_tests;
mod origin;
mod pdus;
pub mod roles;
mod runs;
mod schemas;
pub mod server;
mod state;
pub mod tokens;

use axum::Router;
use tower::Layer;

pub use audit::Audit;
pub use origin::Networks;
pub use state::State;

use crate::settings::Settings;

/// Everything below `/api/v1`.
pub fn router(state: State) -> Router {
    endpoints::router().fallback(error::not_found).with_state(state)
}

/// The OpenAPI document, as it is checked in.
pub fn openapi() -> serde_json::Value {
    openapi::document()
}

/// Where callers come from, by the settings.
pub fn networks(settings: &Settings) -> Networks {
    let private = (settings.private_address.into(), settings.private_prefix);
    Networks { private, trusted: settings.trusted.clone() }
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
