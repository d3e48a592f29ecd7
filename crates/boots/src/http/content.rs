//! Bodies of known length, made of files and bytes in memory.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::Content;

/// Bytes read from a file at a time.
const CHUNK: u64 = 256 * 1024;
/// Archives are joined at multiples of this: the kernel looks for the next one there.
const ALIGNMENT: u64 = 4;

/// Called when the last byte was handed to the connection.
pub(super) type Done = Box<dyn FnOnce() + Send>;

/// Why a file of a plan cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
}

#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    File { file: Arc<File>, range: Range<u64> },
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end - range.start,
        }
    }

    /// Keeps the bytes of `keep`, counted from the part's start and within its length.
    fn cut(&mut self, keep: Range<u64>) {
        match self {
            Self::Bytes(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                *bytes = bytes.slice(at(keep.start)..at(keep.end));
            }
            Self::File { range, .. } => *range = range.start + keep.start..range.start + keep.end,
        }
    }
}

/// Everything that one request may fetch.
#[derive(Debug)]
pub(super) struct Download {
    parts: Vec<Part>,
    length: u64,
}

impl Download {
    /// Opens the contents and joins them, each but the last padded with zeros to 4 bytes.
    pub(super) async fn of(contents: Vec<Content>) -> Result<Self, ContentError> {
        let mut download = Self { parts: Vec::new(), length: 0 };
        for content in contents {
            let gap = download.length.next_multiple_of(ALIGNMENT) - download.length;
            if gap > 0 {
                download.push(Part::Bytes(Bytes::from(vec![0; usize::try_from(gap).unwrap_or(0)])));
            }
            download.push(match content {
                Content::Bytes(bytes) => Part::Bytes(bytes),
                Content::File(path) => open(path).await?,
            });
        }
        Ok(download)
    }

    pub(super) fn of_file(file: File, length: u64) -> Self {
        Self { parts: vec![Part::File { file: Arc::new(file), range: 0..length }], length }
    }

    fn push(&mut self, part: Part) {
        self.length += part.length();
        self.parts.push(part);
    }

    fn cut(&mut self, keep: Range<u64>) {
        let mut start = 0;
        for part in &mut self.parts {
            let end = start + part.length();
            let inside = |at: u64| at.clamp(start, end) - start;
            part.cut(inside(keep.start)..inside(keep.end));
            start = end;
        }
        self.parts.retain(|part| part.length() > 0);
        self.length = keep.end - keep.start;
    }
}

async fn open(path: PathBuf) -> Result<Part, ContentError> {
    let shown = path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        // Looked at before opening: to open a FIFO would wait for its writer.
        if !std::fs::metadata(&path)?.is_file() {
            return Ok(None);
        }
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        Ok(Some((file, length)))
    });
    let opened = opened.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    match opened {
        Ok(Some((file, length))) => Ok(Part::File { file: Arc::new(file), range: 0..length }),
        Ok(None) => Err(ContentError::NotAFile { path: shown }),
        Err(source) => Err(ContentError::Open { path: shown, source }),
    }
}

/// Answers HEAD and GET. `begin` is called with the number of bytes when a body will follow.
pub(super) fn respond(
    mut download: Download,
    method: &Method,
    headers: &HeaderMap,
    begin: impl FnOnce(u64) -> Option<Done>,
) -> Response {
    let total = download.length;
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes");
    match range(headers, total) {
        Asked::All => {}
        Asked::Some(keep) => {
            let shown = format!("bytes {}-{}/{total}", keep.start, keep.end - 1);
            response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, shown);
            download.cut(keep);
        }
        Asked::Nothing => {
            let shown = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, shown).into_response();
        }
    }
    response = response.header(header::CONTENT_LENGTH, download.length);
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let done = begin(download.length);
        Body::new(Stream::new(download, done))
    };
    response.body(body).unwrap_or_else(|error| {
        tracing::error!(%error, "response could not be built");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// Which bytes a request wants.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    Some(Range<u64>),
    Nothing,
}

/// Reads one range (RFC 9110 section 14.2). Several, or what is no range of bytes, may be ignored, and are.
fn range(headers: &HeaderMap, total: u64) -> Asked {
    let spec =
        headers.get(header::RANGE).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else { return Asked::All };
    let keep = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(total),
        (Ok(first), Err(_)) if last.is_empty() => first..total,
        (Err(_), Ok(suffix)) if first.is_empty() => total.saturating_sub(suffix)..total,
        _ => return Asked::All,
    };
    if keep.start < keep.end { Asked::Some(keep) } else { Asked::Nothing }
}

/// The body: reads files piece by piece on the blocking pool.
struct Stream {
    parts: VecDeque<Part>,
    remaining: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    done: Option<Done>,
}

impl Stream {
    fn new(download: Download, done: Option<Done>) -> Self {
        let mut stream =
            Self { parts: download.parts.into(), remaining: download.length, reading: None, done };
        stream.finish_if_empty();
        stream
    }

    fn hand_over(&mut self, bytes: Bytes) -> Frame<Bytes> {
        self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        self.finish_if_empty();
        Frame::data(bytes)
    }

    fn finish_if_empty(&mut self) {
        if self.remaining == 0
            && let Some(done) = self.done.take()
        {
            done();
        }
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read =
                    ready!(Pin::new(reading).poll(context)).unwrap_or_else(|e| Err(io::Error::other(e)));
                self.reading = None;
                return Poll::Ready(Some(read.map(|bytes| self.hand_over(bytes))));
            }
            match self.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(Part::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Part::Bytes(bytes)) => return Poll::Ready(Some(Ok(self.hand_over(bytes)))),
                Some(Part::File { range, .. }) if range.is_empty() => {}
                Some(Part::File { file, range }) => {
                    let piece = range.start..range.end.min(range.start + CHUNK);
                    self.parts
                        .push_front(Part::File { file: Arc::clone(&file), range: piece.end..range.end });
                    self.reading = Some(tokio::task::spawn_blocking(move || read(&file, piece)));
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Reads exactly the range; a file that became shorter breaks the connection off rather than padding it.
fn read(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact_at(&mut buffer, range.start)?;
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_understood_and_the_rest_ignored() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            range(&headers, 100)
        };
        assert_eq!(asked("bytes=0-9"), Asked::Some(0..10));
        assert_eq!(asked("bytes=90-"), Asked::Some(90..100));
        assert_eq!(asked("bytes=90-1000"), Asked::Some(90..100));
        assert_eq!(asked("bytes=-7"), Asked::Some(93..100));
        assert_eq!(asked("bytes=0-18446744073709551615"), Asked::Some(0..100));
        assert_eq!(asked("bytes=100-"), Asked::Nothing);
        assert_eq!(asked("bytes=-0"), Asked::Nothing);
        for ignored in ["bytes=9-0", "bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b", "bytes"] {
            assert_eq!(asked(ignored), Asked::All, "{ignored}");
        }
    }
}
