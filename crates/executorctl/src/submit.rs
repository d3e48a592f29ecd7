//! A submission: made from the command line and checked before anything is sent, then posted as multipart until the
//! gateway takes or refuses it. What runs afterwards on the connection is left to the session.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use farmgate_protocol::{
    console::{UPGRADE_TOKEN, VERSION_HEADER},
    submit::{
        Callback, Metadata, Minio, MinioCredentials, RESUME_HEADER, RUN_HEADER, RunTicket, SubmitReply,
        TargetSpec,
    },
};
use reqwest::{
    Body, Response, StatusCode, Upgraded,
    header::{CONNECTION, UPGRADE},
    multipart::{Form, Part},
};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::{
    args::{self, RunArgs},
    gateway::{Gateway, GatewayError, root_cause},
};

/// The longest job text that is sent; longer ones are something else given by mistake.
const MAX_JOB: u64 = 16 << 20;
/// Parts whose names mean something to the gateway.
const RESERVED_PARTS: [&str; 3] = ["metadata", "job", "job_bucket_initial_state_tarball_file"];

/// Why a job was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The words of the command line do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file of the submission cannot be read.
    #[error("cannot read {what} {path}: {source}", path = path.display())]
    File {
        /// `the job`, `the artifact`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The gateway was not reached, or refused.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// A file that goes along.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    name: String,
    path: PathBuf,
}

/// Everything that is sent, but the port of the listener.
#[derive(Debug)]
pub struct Submission {
    metadata: Metadata,
    job: Option<JobFile>,
    artifacts: Vec<Artifact>,
}

/// A job that is sent along.
#[derive(Debug)]
struct JobFile {
    /// Its file name, under which the gateway's errors speak of it.
    name: String,
    text: Vec<u8>,
}

/// What the gateway said.
pub enum Admission {
    /// The console protocol runs on this connection.
    Upgraded {
        /// The connection.
        stream: Upgraded,
        /// What finds the run again; an empty token where the gateway cannot give the stream again.
        ticket: Option<RunTicket>,
    },
    /// Accepted: the gateway dials us.
    CallsBack {
        /// The number of the run.
        run: Option<u64>,
    },
    /// Every machine that fits is busy or out of service.
    Busy(GatewayError),
}

impl Submission {
    /// From the command line. `environ` are the variables that may be forwarded, `ticket` names the job when the
    /// person gave no name and waits: a gateway knows a waiting submission by its name and keeps its place.
    ///
    /// # Errors
    /// [`SubmitError::Usage`] and [`SubmitError::File`], before anything is sent.
    pub fn new(
        args: &RunArgs,
        environ: impl IntoIterator<Item = (OsString, OsString)>,
        ticket: impl FnOnce() -> String,
    ) -> Result<Self, SubmitError> {
        if let Some(folder) = &args.share_directory {
            return Err(SubmitError::Usage(format!(
                "--share-directory {} is not supported yet: job buckets are still to come",
                folder.display()
            )));
        }
        let target = (args.machine_id.is_some() || !args.machine_tags.is_empty()).then(|| TargetSpec {
            id: args.machine_id.clone(),
            tags: (!args.machine_tags.is_empty()).then(|| args.machine_tags.clone()),
        });
        let (job, job_desc_url) = job_source(&args.job, target.is_some())?;
        let nameless = args.job_id.is_none() && args.job_cookie.is_none();
        let metadata = Metadata {
            job_id: args.job_id.clone().or_else(|| (args.wait && nameless).then(ticket)),
            job_cookie: args.job_cookie.clone(),
            job_desc_url,
            target,
            callback: Some(Callback { host: args.callback.clone(), port: None }),
            minio: Some(Minio {
                credentials: Some(credentials(args.minio_auth.as_deref())?),
                groups: Some(args.minio_groups.clone()),
            }),
            environ: Some(forwarded(args, environ)),
            // Only what was asked for: a gateway of the other kind does not know these.
            wait: args.wait.then_some(true),
            priority: args.priority.as_deref().map(args::priority),
            detach: args.detach.then_some(true),
            ignore_deadline: args.ignore_deadline.then_some(true),
            ..Metadata::default()
        };
        Ok(Self { metadata, job, artifacts: artifacts(&args.artifacts)? })
    }

    /// The name under which the gateway knows it.
    pub fn job_id(&self) -> Option<&str> {
        self.metadata.job_id.as_deref()
    }

    /// Sends it. `port` is where we listen for a call-back.
    ///
    /// # Errors
    /// Files that vanished, a gateway that is not reached or refuses.
    pub async fn post(&self, gateway: &Gateway, port: u16) -> Result<Admission, SubmitError> {
        let form = self.form(port).await?;
        let response = gateway
            .client()
            .post(gateway.resource(&["jobs"]))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, UPGRADE_TOKEN)
            .header(RESUME_HEADER, "yes")
            .multipart(form)
            .send()
            .await
            .map_err(|e| gateway.failed(&e))?;
        admission(gateway, response).await
    }

    async fn form(&self, port: u16) -> Result<Form, SubmitError> {
        let metadata = metadata_text(&self.metadata, port);
        let mut form =
            Form::new().part("metadata", part("metadata", "application/json", Part::text(metadata))?);
        if let Some(job) = &self.job {
            form = form.part("job", part(&job.name, "application/x-yaml", Part::bytes(job.text.clone()))?);
        }
        for artifact in &self.artifacts {
            let failed =
                |source| SubmitError::File { what: "the artifact", path: artifact.path.clone(), source };
            let file = tokio::fs::File::open(&artifact.path).await.map_err(failed)?;
            let length = file.metadata().await.map_err(failed)?.len();
            // A file that grows meanwhile must not overrun the length that was announced.
            let body = Body::wrap_stream(ReaderStream::with_capacity(file.take(length), 64 << 10));
            let content = Part::stream_with_length(body, length);
            let content = part(&artifact.name, "application/octet-stream", content)?;
            form = form.part(artifact.name.clone(), content);
        }
        Ok(form)
    }
}

/// Every part has a file name: the original's server looks at parts with one only.
fn part(name: &str, mime: &str, content: Part) -> Result<Part, SubmitError> {
    let content = content.file_name(name.to_owned()).mime_str(mime);
    content.map_err(|e| SubmitError::Usage(format!("cannot send the part {name}: {}", root_cause(&e))))
}

async fn admission(gateway: &Gateway, response: Response) -> Result<Admission, SubmitError> {
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let strange = |reason: &str| GatewayError::Strange { url: gateway.shown(), reason: reason.to_owned() };
    if header(VERSION_HEADER).is_some_and(|version| version.trim() == "0") {
        return Err(
            strange("it speaks version 0 of the console protocol, and this client only version 1").into()
        );
    }
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            if !header(UPGRADE.as_str()).is_some_and(|token| token.eq_ignore_ascii_case(UPGRADE_TOKEN)) {
                return Err(strange("it switches to another protocol than the console's").into());
            }
            let id = header(RUN_HEADER).and_then(|run| run.trim().parse().ok());
            let resume_token = header(RESUME_HEADER).unwrap_or_default();
            let ticket = id.map(|id| RunTicket { id, resume_token });
            let stream = response.upgrade().await.map_err(|e| gateway.failed(&e))?;
            Ok(Admission::Upgraded { stream, ticket })
        }
        StatusCode::OK => {
            let body = gateway.body(response).await?;
            // Old gateways answer less, and nothing that matters here.
            let reply: Option<SubmitReply> = serde_json::from_slice(&body).ok();
            Ok(Admission::CallsBack { run: reply.and_then(|reply| reply.run).map(|run| run.id) })
        }
        StatusCode::CONFLICT => Ok(Admission::Busy(gateway.refused(response).await)),
        _ => Err(gateway.refused(response).await.into()),
    }
}

/// The text of the job, or its URL.
fn job_source(job: &str, has_target: bool) -> Result<(Option<JobFile>, Option<String>), SubmitError> {
    if job.starts_with("https://") {
        if !has_target {
            let text = "a job that is given by its URL needs a target: add -t TAG (repeatable) or -i ID";
            return Err(SubmitError::Usage(text.to_owned()));
        }
        return Ok((None, Some(job.to_owned())));
    }
    if job.starts_with("http://") {
        return Err(SubmitError::Usage(format!(
            "{job}: a job is fetched over https:// only, or read from a file"
        )));
    }
    let path = Path::new(job);
    let failed = |source| SubmitError::File { what: "the job", path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_JOB {
        return Err(SubmitError::Usage(format!("{job}: {length} bytes is no job; the most is {MAX_JOB}")));
    }
    let name = path.file_name().map_or_else(|| job.to_owned(), |name| name.to_string_lossy().into_owned());
    Ok((Some(JobFile { name, text: fs::read(path).map_err(failed)? }), None))
}

fn credentials(text: Option<&str>) -> Result<MinioCredentials, SubmitError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(MinioCredentials::default()) };
    match text.split_once(':') {
        Some((access, secret)) if !secret.contains(':') => {
            Ok(MinioCredentials { access_key: Some(access.to_owned()), secret_key: Some(secret.to_owned()) })
        }
        // Without the text: it is a secret.
        _ => Err(SubmitError::Usage(
            "--minio-auth (or VALVE_MINIO_AUTH_CREDENTIALS) must be ACCESS:SECRET with one colon".to_owned(),
        )),
    }
}

fn forwarded(
    args: &RunArgs,
    environ: impl IntoIterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, String> {
    // A variable that is no text cannot be a template variable either.
    let texts = environ.into_iter().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    texts.filter(|(name, _)| args.forward_env_regex.is_match(name)).collect()
}

fn artifacts(texts: &[String]) -> Result<Vec<Artifact>, SubmitError> {
    let mut names = BTreeSet::new();
    let mut list = Vec::new();
    for text in texts {
        let refuse = |why: &str| SubmitError::Usage(format!("--attach-artifact {text}: {why}"));
        let Some((name, path)) =
            text.split_once(':').filter(|(name, path)| !name.is_empty() && !path.is_empty())
        else {
            return Err(refuse("write it as NAME:PATH"));
        };
        if name.starts_with('_') || RESERVED_PARTS.contains(&name) {
            return Err(refuse("this name is reserved, choose another"));
        }
        if !names.insert(name) {
            return Err(refuse("two artifacts have this name"));
        }
        let path = PathBuf::from(path);
        let failed = |source| SubmitError::File { what: "the artifact", path: path.clone(), source };
        let is_file = fs::metadata(&path).map_err(failed)?.is_file();
        if !is_file {
            return Err(refuse("this is not a file"));
        }
        list.push(Artifact { name: name.to_owned(), path });
    }
    Ok(list)
}

/// The JSON of the metadata as the published client writes it: fields that it leaves out are left out, because the
/// original takes a missing field and a null one for different things in places.
fn metadata_text(metadata: &Metadata, port: u16) -> String {
    let mut metadata = metadata.clone();
    if let Some(callback) = &mut metadata.callback {
        callback.port = Some(port);
    }
    let mut json = serde_json::to_value(&metadata).unwrap_or_default();
    for path in ["/callback", "/minio/credentials"] {
        if let Some(Value::Object(fields)) = json.pointer_mut(path) {
            fields.retain(|_, value| !value.is_null());
        }
    }
    if let Value::Object(fields) = &mut json {
        fields.retain(|name, value| name != "target" || !value.is_null());
    }
    json.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use serde_json::json;

    fn submission(arguments: &[&str]) -> Result<Submission, SubmitError> {
        let cli = Cli::try_parse_from([&["executorctl", "run"], arguments].concat()).unwrap();
        let Some(Command::Run(mut args)) = cli.command else { panic!("not run") };
        // The tests may run where this is set.
        if !arguments.contains(&"-a") {
            args.minio_auth = None;
        }
        let environ = [("CI_TRON_A", "1"), ("HOME", "/root")].map(|(k, v)| (k.into(), v.into()));
        Submission::new(&args, environ, || "ticket".to_owned())
    }

    fn metadata(arguments: &[&str]) -> Value {
        serde_json::from_str(&metadata_text(&submission(arguments).unwrap().metadata, 99)).unwrap()
    }

    #[test]
    fn the_metadata_is_what_the_published_client_sends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(
            metadata(&[path]),
            json!({"version": 1, "job_id": null, "job_cookie": null, "job_desc_url": null, "callback": {"port": 99},
                   "minio": {"credentials": {}, "groups": []}, "environ": {"CI_TRON_A": "1"}})
        );
        let full = metadata(&[
            "-t",
            "a",
            "-i",
            "d",
            "-j",
            "j",
            "-a",
            "k:s",
            "-g",
            "g",
            "-c",
            "me",
            "https://h/job.yml",
        ]);
        assert_eq!(full["target"], json!({"id": "d", "tags": ["a"]}));
        assert_eq!(full["callback"], json!({"host": "me", "port": 99}));
        assert_eq!(
            full["minio"],
            json!({"credentials": {"access_key": "k", "secret_key": "s"}, "groups": ["g"]})
        );
        assert_eq!(full["job_desc_url"], "https://h/job.yml");
    }

    #[test]
    fn a_waiting_submission_has_a_name_to_keep_its_place_by() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(metadata(&["-w", path])["job_id"], "ticket");
        assert_eq!(metadata(&["-w", "-j", "mine", path])["job_id"], "mine");
        assert_eq!(metadata(&["-w", "--job-cookie", "c", path])["job_id"], Value::Null);
    }

    #[test]
    fn what_only_our_gateways_know_is_sent_only_when_it_was_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let all = metadata(&["-w", "--detach", "--priority", "high", "--ignore-deadline", path]);
        for (key, value) in [
            ("wait", json!(true)),
            ("detach", json!(true)),
            ("priority", json!("high")),
            ("ignore_deadline", json!(true)),
        ] {
            assert_eq!(all[key], value, "{key}");
            assert!(metadata(&[path]).get(key).is_none(), "{key}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_before_it_is_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let named = |name: &str| format!("{name}:{path}");
        for (arguments, words) in [
            (vec!["https://h/job.yml"], "needs a target"),
            (vec!["http://h/job.yml"], "https:// only"),
            (vec!["/nonexistent/job.yml"], "cannot read the job"),
            (vec!["-s", "dir", path], "not supported yet"),
            (vec!["-a", "nocolon", path], "ACCESS:SECRET"),
            (vec!["-f", "nocolon", path], "NAME:PATH"),
            (vec!["-f", &named("_x"), path], "reserved"),
            (vec!["-f", &named("job"), path], "reserved"),
            (vec!["-f", &named("metadata"), path], "reserved"),
            (vec!["-f", &named("a"), "-f", &named("a"), path], "two artifacts"),
            (vec!["-f", "a:/nonexistent", path], "cannot read the artifact"),
            (vec!["-f", "a:/tmp", path], "not a file"),
        ] {
            let error = submission(&arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
    }
}
