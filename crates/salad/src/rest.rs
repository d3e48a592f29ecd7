//! REST for tools that know SALAD: which machines there are and on which ports their consoles can be had.
//!
//! Whoever reaches the port may ask, so connections are bounded in number and in time ([`Door`]).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::hub::{Hub, HubError};
use crate::machine_id::MachineId;
use crate::source::pause_after_failed_accept;
use crate::wire::MachineStatus;

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;

/// How long a connection may last. Answers are small and at once; who wants more connects again.
const LIFE: Duration = Duration::from_secs(60);

/// The routes of section "machine" under `/api/v1`.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/api/v1/machine", get(list))
        .route("/api/v1/machine/", get(list))
        .route("/api/v1/machine/{id}", get(one))
        .route("/api/v1/machine/{id}/reset", post(reset))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "this path does not know that method")
        })
        .with_state(hub)
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

fn shape(status: &MachineStatus) -> Value {
    json!({
        "id": status.id,
        "tcp_port": status.tcp_port,
        "has_client": status.has_client,
        "tcp_port_logs": status.tcp_port_logs,
    })
}

async fn list(State(hub): State<Arc<Hub>>) -> Response {
    let machines: Map<String, Value> = hub.list().await.iter().map(|m| (m.id.clone(), shape(m))).collect();
    Json(json!({"machines": machines})).into_response()
}

async fn one(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Response {
    let id = match MachineId::new(&id) {
        Ok(id) => id,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason.to_string()),
    };
    match hub.machine(&id).await {
        Ok(machine) => Json(shape(&hub.status(&machine).await)).into_response(),
        Err(reason @ (HubError::TooMany | HubError::TooManyFrom(_))) => {
            error(StatusCode::TOO_MANY_REQUESTS, &reason.to_string())
        }
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

/// Consoles over TCP have no adapter whose power could be switched.
async fn reset(Path(id): Path<String>) -> Response {
    let message = format!("the console of {id} cannot be reset: it is no USB adapter with switchable power");
    error(StatusCode::NOT_IMPLEMENTED, &message)
}

/// Accepts connections, not too many and not for ever.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Door {
    /// Bounds what this listener accepts.
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let life = Box::pin(tokio::time::sleep(LIFE));
                    return (Visitor { stream, life, _place: place }, peer);
                }
                Err(error) => pause_after_failed_accept("REST", &error).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place and its time.
#[derive(Debug)]
pub(crate) struct Visitor {
    stream: TcpStream,
    life: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Visitor {
    /// Fails when the time is over; else has the task woken when it will be.
    fn check_life(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.life.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_life(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_life(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
