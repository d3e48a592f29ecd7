//! One request of a download, and what comes of its answer.

use farmgate_protocol::Timestamp;
use reqwest::{
    Response, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, TRANSFER_ENCODING,
    },
};
use tokio::time::timeout;

use super::{
    answer::{Answer, Ask, judge},
    checksum::Expected,
    error::{Problem, causes},
    flight::{Download, Fault, Landed, blocking},
    freshness::{Lifetime, Validators, text},
    part::Beginning,
    source::{Sha, place as place_of},
    store::{Cached, Entry},
};

/// Bytes go to the disk in pieces of that size.
const PIECE: usize = 256 * 1024;

/// What an answer says before its body.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    place: Sha,
    redirected: bool,
    /// The end of the body can be told from a connection that broke.
    framed: bool,
    came: Timestamp,
}

impl Head {
    fn of(response: &Response, asked: &reqwest::Url) -> Self {
        let headers = response.headers().clone();
        let chunked =
            text(&headers, &TRANSFER_ENCODING).is_some_and(|t| t.to_ascii_lowercase().contains("chunked"));
        let framed = response.content_length().is_some() || chunked || response.version() >= Version::HTTP_2;
        let place = place_of(response.url());
        Self {
            status: response.status(),
            redirected: response.url() != asked && place != place_of(asked),
            place,
            framed,
            headers,
            came: Timestamp::now(),
        }
    }
}

impl Download {
    /// Asks once.
    pub(super) async fn attempt(&mut self) -> Result<Landed, Fault> {
        let ask = self.what_to_ask().await?;
        let response = self.send(&ask).await?;
        let head = Head::of(&response, &self.source.url);
        match judge(&ask, head.status, &head.headers, head.place, head.came) {
            Answer::Unchanged => self.unchanged(&head).await,
            Answer::Refused(status) => Err(Problem::Refused(status).into()),
            Answer::Astray => {
                Err(Problem::Redirect("the URL leads to what is neither http nor https".to_owned()).into())
            }
            Answer::Fault { reason, wait } => Err(Fault::Again { reason, wait }),
            Answer::StartOver(reason) => {
                self.unconditional = true;
                self.with_part(|part| part.clear()).await?;
                Err(Fault::StartOver(reason))
            }
            Answer::Body { from, until, total } => {
                self.begin(&head, from, total).await?;
                self.load(response, until).await?;
                self.land(&head).await
            }
        }
    }

    async fn what_to_ask(&mut self) -> Result<Ask, Problem> {
        if self.part.is_some() || self.store.has_part(self.source.key) {
            if let Some(rest) = self.with_part(|part| part.rest()).await? {
                tracing::debug!(url = self.source.shown, ?rest, "a download goes on");
                return Ok(rest);
            }
            if let Some(part) = self.part.take() {
                blocking(move || {
                    part.discard();
                    Ok(())
                })
                .await?;
            }
        }
        match &self.known {
            Some(Cached { entry, .. }) if !self.unconditional && can_ask(entry) => {
                Ok(Ask::IfChanged { place: entry.place })
            }
            _ => Ok(Ask::Whole),
        }
    }

    async fn send(&self, ask: &Ask) -> Result<Response, Fault> {
        // Ranges and checksums are of the file as it is, not of a packed form of it.
        let mut request = self.http.get(self.source.url.clone()).header(ACCEPT_ENCODING, "identity");
        match (ask, &self.known) {
            (Ask::IfChanged { .. }, Some(known)) => {
                let Validators { etag, last_modified } = &known.entry.validators;
                request = match (etag, last_modified) {
                    (Some(tag), _) => request.header(IF_NONE_MATCH, tag),
                    (None, Some(date)) => request.header(IF_MODIFIED_SINCE, date),
                    (None, None) => request,
                };
            }
            (Ask::Rest { from, validators, .. }, _) => {
                request = request.header(RANGE, format!("bytes={from}-"));
                if let Some(same) = validators.strong() {
                    request = request.header(IF_RANGE, same);
                }
            }
            _ => {}
        }
        match timeout(self.patience.stall, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            // Its text would name the URL, with its secrets.
            Ok(Err(error)) => {
                let (redirect, builder) = (error.is_redirect(), error.is_builder());
                let reason = causes(&error.without_url());
                Err(match (redirect, builder) {
                    (true, _) => Problem::Redirect(reason).into(),
                    (_, true) => Problem::Url(reason).into(),
                    _ => Fault::Again { reason, wait: None },
                })
            }
            Err(_) => Err(self.stalled()),
        }
    }

    fn stalled(&self) -> Fault {
        let reason = format!("the server sent nothing for {} s", self.patience.stall.as_secs_f32());
        Fault::Again { reason, wait: None }
    }

    /// Makes ready for the body.
    async fn begin(&mut self, head: &Head, from: u64, total: Option<u64>) -> Result<(), Fault> {
        let validators = Validators::of(&head.headers);
        let expected = Expected::of(&head.headers, from > 0);
        if let Some(Cached { entry, .. }) = &self.known {
            self.newer |=
                entry.validators.differ(&validators) || total.is_some_and(|total| total != entry.size);
        }
        if total.is_some_and(|total| total > self.patience.largest) {
            return Err(Problem::TooLarge { limit: self.patience.largest }.into());
        }
        if !head.framed && total.is_none() && expected.is_empty() {
            let reason = "the server does not say how long the file is, neither by Content-Length nor by chunks \
                          nor by a checksum, so that nobody can tell whether it is whole";
            return Err(Fault::Hopeless(reason.to_owned()));
        }
        let of = Beginning { validators, total, expected, place: head.place };
        let progress = self
            .with_part(move |part| {
                part.begin(from, of)?;
                Ok(part.length())
            })
            .await?;
        self.tell(Some(progress));
        Ok(())
    }

    /// Takes the body in, up to the byte before `until`.
    async fn load(&mut self, mut response: Response, until: Option<u64>) -> Result<(), Fault> {
        let (mut got, mut total) = self.part.as_ref().map_or((0, None), |part| part.length());
        let mut piece: Vec<u8> = Vec::with_capacity(PIECE);
        let fault = loop {
            match timeout(self.patience.stall, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    got = got.saturating_add(bytes.len() as u64);
                    if got > self.patience.largest {
                        return Err(Problem::TooLarge { limit: self.patience.largest }.into());
                    }
                    if until.or(total).is_some_and(|end| got > end) {
                        self.with_part(|part| part.clear()).await?;
                        return Err(Fault::StartOver("the server sent more than it had said"));
                    }
                    piece.extend_from_slice(&bytes);
                    if piece.len() >= PIECE {
                        total = self.write(std::mem::take(&mut piece), true).await?;
                        piece.reserve(PIECE);
                    }
                }
                Ok(Ok(None)) => break None,
                Ok(Err(error)) => {
                    break Some(Fault::Again { reason: causes(&error.without_url()), wait: None });
                }
                Err(_) => break Some(self.stalled()),
            }
        };
        let whole = fault.is_none() && total.is_none_or(|total| got == total);
        total = self.write(piece, !whole).await?;
        match fault {
            Some(fault) => Err(fault),
            None if whole => Ok(()),
            None => Err(Fault::Again {
                reason: format!("only {got} of {} bytes arrived", total.unwrap_or_default()),
                wait: None,
            }),
        }
    }

    /// Brings bytes to the file. `keep`: it is not whole yet.
    async fn write(&mut self, piece: Vec<u8>, keep: bool) -> Result<Option<u64>, Problem> {
        let progress = self
            .with_part(move |part| {
                part.append(&piece)?;
                if keep {
                    part.keep()?;
                }
                Ok(part.length())
            })
            .await?;
        self.tell(Some(progress));
        Ok(progress.1)
    }

    /// All of it is there: if it is what the server says that it is, it goes into the cache.
    async fn land(&mut self, head: &Head) -> Result<Landed, Fault> {
        let blob = match self.with_part(|part| part.check()).await? {
            Ok(blob) => blob,
            Err(checksum) => {
                self.with_part(|part| part.clear()).await?;
                let reason = format!("what arrived does not have the {checksum} that the server gives");
                return Err(Fault::Again { reason, wait: None });
            }
        };
        let Some(part) = self.part.take() else { return Err(Problem::Bug.into()) };
        let size = part.length().0;
        let validators = part.validators();
        let entry = self.entry(head, blob, size, validators, Lifetime::of(&head.headers, head.came));
        let (store, key) = (self.store.clone(), self.source.key);
        let can_ask = entry.as_ref().is_some_and(can_ask);
        let (path, pin) = blocking(move || {
            let landed = store.land(part, blob)?;
            store.remember(key, entry);
            Ok(landed)
        })
        .await?;
        tracing::info!(url = self.source.shown, size, %blob, "an artifact was downloaded");
        Ok(Landed { path, pin, warning: None, can_ask })
    }

    /// The copy in the cache is what the server has.
    async fn unchanged(&mut self, head: &Head) -> Result<Landed, Fault> {
        let Some(Cached { entry, path, pin }) = self.known.take() else { return Err(Problem::Bug.into()) };
        // What the answer does not say stays as it was (RFC 9111 section 3.2).
        let lifetime = match (Lifetime::of(&head.headers, head.came), entry.lifetime) {
            (Lifetime::Unsaid, Some(seconds)) => Lifetime::Seconds(seconds),
            (said, _) => said,
        };
        let now = self.entry(head, entry.blob, entry.size, entry.validators, lifetime);
        let can_ask = now.as_ref().is_some_and(can_ask);
        let (store, key) = (self.store.clone(), self.source.key);
        blocking(move || {
            store.remember(key, now);
            Ok(())
        })
        .await?;
        Ok(Landed { path, pin, warning: None, can_ask })
    }

    /// What is remembered of the URL; None: nothing may be.
    fn entry(&self, head: &Head, blob: Sha, size: u64, of: Validators, lifetime: Lifetime) -> Option<Entry> {
        let lifetime = match lifetime {
            Lifetime::NotKept => return None,
            Lifetime::Seconds(seconds) => Some(seconds),
            Lifetime::Unsaid => None,
        };
        let until = |seconds| head.came + std::time::Duration::from_secs(seconds);
        Some(Entry {
            url: self.source.shown.clone(),
            blob,
            size,
            validators: of,
            place: head.place,
            redirected: head.redirected,
            lifetime,
            // How long the file at the other end holds says nothing of how long the URL leads there.
            fresh_until: lifetime.filter(|_| !head.redirected).map(until),
            checked: head.came,
        })
    }
}

/// Whether the server can be asked if the copy is still what it has. A date says little where the URL may lead to
/// another file by now.
fn can_ask(entry: &Entry) -> bool {
    entry.validators.etag.is_some() || (!entry.redirected && !entry.validators.is_empty())
}
