//! GET `events`: what happens, as server-sent events. `?since=SEQ` (or the `Last-Event-ID` header) begins after that
//! event; without it, only what is new is sent.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State as Extract},
    http::HeaderMap,
    response::sse::{Event as SseEvent, KeepAlive, Sse},
};
use farmgate_protocol::event::Event;
use futures_util::Stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::State;

pub async fn stream(
    Extract(state): Extract<State>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<SseEvent, Infallible>>> {
    let asked = query.get("since").cloned();
    let resumed = headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let since = asked.or(resumed).and_then(|s| s.parse().ok()).unwrap_or(u64::MAX);
    let (old, live) = state.executor.events().since(since);
    let pending: std::collections::VecDeque<Event> = old.into();
    let stream = futures_util::stream::unfold((pending, live), |(mut pending, mut live)| async move {
        let event = match pending.pop_front() {
            Some(event) => event,
            None => next(&mut live).await?,
        };
        Some((Ok(as_sse(&event)), (pending, live)))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

async fn next(live: &mut Receiver<Event>) -> Option<Event> {
    loop {
        match live.recv().await {
            Ok(event) => return Some(event),
            // A slow reader sees the gap in the sequence numbers.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

fn as_sse(event: &Event) -> SseEvent {
    let data = serde_json::to_string(event).unwrap_or_default();
    SseEvent::default().id(event.seq.to_string()).event(event.kind.clone()).data(data)
}
