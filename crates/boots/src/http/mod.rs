//! What firmware and boot loaders fetch over HTTP: scripts, kernels, initrds and boot loaders.
//!
//! The routes speak plain HTTP/1.1 as firmware wants it: a length in front, HEAD, single ranges, nothing compressed,
//! nothing chunked. Who may call them is decided by the server that they are merged into.

mod content;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use farmgate_protocol::{MacAddress, Timestamp};
use serde::Deserialize;

use crate::{BootDirectory, BootPlan, Content, ScriptRequest, Sighting, Stage, script::ipxe, tftp};
use content::{Download, respond};

type Directory = Arc<dyn BootDirectory>;

/// The routes of a client's boot: `/boot/{mac}/boot.ipxe`, `/boot/{mac}/kernel` and `/boot/{mac}/initrd`.
pub fn router(directory: Arc<dyn BootDirectory>) -> Router {
    Router::new()
        .route("/boot/{mac}/boot.ipxe", get(script))
        .route("/boot/{mac}/kernel", get(kernel))
        .route("/boot/{mac}/initrd", get(initrd))
        .with_state(directory)
}

/// The route of boot loaders for UEFI HTTP boot: `/boot/ipxe/FILE` serves `FILE` below the TFTP root. Merge it
/// with [`router`].
pub fn firmware_router(tftp_root: PathBuf) -> Router {
    Router::new().route("/boot/ipxe/{*file}", get(firmware)).with_state(Arc::new(tftp_root))
}

#[derive(Debug, Deserialize)]
struct BootQuery {
    platform: Option<String>,
    buildarch: Option<String>,
}

impl BootQuery {
    fn request(self) -> ScriptRequest {
        let word = |text: Option<String>| {
            text.filter(|t| {
                (1..=32).contains(&t.len())
                    && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            })
        };
        ScriptRequest { platform: word(self.platform), buildarch: word(self.buildarch) }
    }
}

/// 404 with the reason as text, which `curl` and some boot loaders show.
#[derive(Debug)]
struct NotFound(String);

impl IntoResponse for NotFound {
    fn into_response(self) -> Response {
        (StatusCode::NOT_FOUND, format!("{}\n", self.0)).into_response()
    }
}

/// A MAC address in a path, with colons or dashes. Anything else is no client.
fn client(text: &str) -> Result<MacAddress, NotFound> {
    text.parse().map_err(|_| NotFound("no such client".to_owned()))
}

async fn script(
    State(directory): State<Directory>,
    Path(mac): Path<String>,
    Query(query): Query<BootQuery>,
    method: Method,
) -> Result<Response, NotFound> {
    let mac = client(&mac)?;
    let request = query.request();
    let plan = directory.plan(mac, &request);
    let script = plan
        .and_then(|plan| ipxe::boot_script(&plan, &request).map_err(|error| error.to_string()))
        .unwrap_or_else(|reason| {
            tracing::warn!(%mac, reason, "nothing to boot");
            ipxe::refusal_script(&reason)
        });
    if method != Method::HEAD {
        directory.saw(Sighting { mac, time: Timestamp::now(), stage: Stage::Script });
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], script).into_response())
}

async fn kernel(
    State(directory): State<Directory>,
    Path(mac): Path<String>,
    Query(query): Query<BootQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, NotFound> {
    let asked = Asked { mac: client(&mac)?, what: "kernel", method, headers };
    asked.serve(&directory, &query.request(), |plan| vec![plan.kernel]).await
}

async fn initrd(
    State(directory): State<Directory>,
    Path(mac): Path<String>,
    Query(query): Query<BootQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, NotFound> {
    let asked = Asked { mac: client(&mac)?, what: "initrd", method, headers };
    asked.serve(&directory, &query.request(), |plan| plan.initrds).await
}

async fn firmware(
    State(root): State<Arc<PathBuf>>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let name = file.clone();
    let opened = tokio::task::spawn_blocking(move || tftp::open_below(&root, &name)).await;
    match opened {
        Ok(Ok(opened)) => respond(Download::of_file(opened.file, opened.length), &method, &headers, |_| None),
        Ok(Err(error)) => {
            tracing::info!(file, %error, "boot loader refused");
            NotFound("no such file here".to_owned()).into_response()
        }
        Err(error) => {
            tracing::error!(file, %error, "opening a boot loader panicked");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A request for a file of a plan.
struct Asked {
    mac: MacAddress,
    what: &'static str,
    method: Method,
    headers: HeaderMap,
}

impl Asked {
    async fn serve(
        self,
        directory: &Directory,
        request: &ScriptRequest,
        contents: impl FnOnce(BootPlan) -> Vec<Content>,
    ) -> Result<Response, NotFound> {
        let Self { mac, what, method, headers } = self;
        let not_found = |reason: String| {
            tracing::warn!(%mac, what, reason, "nothing to serve");
            NotFound(reason)
        };
        let contents = directory.plan(mac, request).map(contents).map_err(not_found)?;
        if contents.is_empty() {
            return Err(not_found(format!("this client boots without {what}")));
        }
        let download = Download::of(contents).await.map_err(|error| not_found(error.to_string()))?;
        let directory = Arc::clone(directory);
        Ok(respond(download, &method, &headers, |bytes| {
            let saw = move |stage| directory.saw(Sighting { mac, time: Timestamp::now(), stage });
            let file = || what.to_owned();
            saw(Stage::FileStart { file: file(), bytes });
            let done = Stage::FileDone { file: file(), bytes };
            Some(Box::new(move || saw(done)))
        }))
    }
}

#[cfg(test)]
mod tests;
