//! Talking to the gateway about what this machine is: registering, and checking an earlier registration.
//!
//! Owns the two requests, their retries and the reading of their answers.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use farmgate_protocol::dut::Registration;
use serde_json::Value;

use crate::http::{Answer, Gateway, HttpError};

/// How long a gateway may take to come back: it may just be restarting.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
const PATH: &str = "/api/v1/dut/";

/// Why the gateway did not take it.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer with another status than success.
    #[error("the gateway refused it ({status}): {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The gateway's words.
        text: String,
    },
    /// The answer to a check is not `{"differences": [...]}`.
    #[error("the gateway's answer has no list of differences; it may be older than this image: {0}")]
    NoDifferences(String),
    /// Our own report has no JSON form.
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Registers; returns the name that the gateway gave this machine, if it tells.
///
/// # Errors
/// The gateway cannot be reached or refuses.
pub fn register(
    gateway: &Gateway,
    report: &Registration,
    say: impl FnMut(&str),
) -> Result<Option<String>, RegistrationError> {
    let answer = patiently(say, || gateway.post(PATH, &json(report)?).map_err(Into::into))?;
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Ok(json["full_name"].as_str().map(str::to_owned))
}

/// Asks the gateway how this machine differs from what it registered as, a sentence each.
///
/// # Errors
/// The gateway cannot be reached, refuses, or its answer makes no sense.
pub fn check(
    gateway: &Gateway,
    report: &Registration,
    say: impl FnMut(&str),
) -> Result<Vec<String>, RegistrationError> {
    let path = format!("{PATH}?check=true");
    let answer = patiently(say, || gateway.post(&path, &json(report)?).map_err(Into::into))?;
    differences(&answer)
}

fn json(report: &Registration) -> Result<String, RegistrationError> {
    Ok(serde_json::to_string(report)?)
}

fn differences(answer: &Answer) -> Result<Vec<String>, RegistrationError> {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let Some(list) = json["differences"].as_array() else {
        return Err(RegistrationError::NoDifferences(answer.error_text()));
    };
    Ok(list.iter().map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned)).collect())
}

/// Repeats a request while the gateway is away or in trouble (5xx), with growing pauses.
fn patiently(
    mut say: impl FnMut(&str),
    mut request: impl FnMut() -> Result<Answer, RegistrationError>,
) -> Result<Answer, RegistrationError> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(250);
    loop {
        let error = match request().and_then(accepted) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !may_pass(&error) || start.elapsed() + pause > PATIENCE {
            return Err(error);
        }
        say(&format!("{error}; trying again in {} ms", pause.as_millis()));
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn accepted(answer: Answer) -> Result<Answer, RegistrationError> {
    match answer.status {
        200..=299 => Ok(answer),
        status => Err(RegistrationError::Refused { status, text: answer.error_text() }),
    }
}

/// Whether the same request may succeed later.
fn may_pass(error: &RegistrationError) -> bool {
    match error {
        RegistrationError::Http(HttpError::Connection { .. } | HttpError::Answer(..)) => true,
        RegistrationError::Refused { status, .. } => *status >= 500,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    /// Answers one connection after another with these bytes; gives back the requests.
    fn gateway(answers: Vec<&'static str>) -> (Gateway, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Gateway::from_url(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = thread::spawn(move || {
            let serve = |answer: &str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                let mut piece = [0; 4096];
                while !request.ends_with('}') {
                    let count = stream.read(&mut piece).unwrap();
                    request.push_str(std::str::from_utf8(&piece[..count]).unwrap());
                }
                stream.write_all(answer.as_bytes()).unwrap();
                request
            };
            answers.into_iter().map(serve).collect()
        });
        (gateway, server)
    }

    fn report() -> Registration {
        Registration { base_name: "virtio".to_owned(), ..Registration::default() }
    }

    #[test]
    fn a_registration_survives_a_gateway_in_trouble() {
        let (gateway, server) = gateway(vec![
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"full_name\": \"farm-virtio-1\"}",
        ]);
        let mut said = Vec::new();
        let name = register(&gateway, &report(), |text| said.push(text.to_owned()));
        // The announced length is two bytes short of the JSON: no name, but no failure either.
        assert_eq!(name.unwrap(), None);
        let requests = server.join().unwrap();
        assert_eq!(requests.len(), 3);
        assert!(requests[0].starts_with("POST /api/v1/dut/ HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("\"base_name\":\"virtio\""));
        assert!(said.len() == 2 && said[0].contains("503") && said[1].contains("ends too early"), "{said:?}");
    }

    #[test]
    fn a_refusal_is_final_and_in_the_gateways_words() {
        let (gateway, server) = gateway(vec![
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 28\r\n\r\n{\"error\": \"not this field\"}  ",
        ]);
        let error = register(&gateway, &report(), |_| panic!("no retry")).unwrap_err();
        assert_eq!(error.to_string(), "the gateway refused it (403): not this field");
        server.join().unwrap();
    }

    #[test]
    fn a_check_lists_the_differences() {
        let (gateway, server) = gateway(vec![
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"differences\": [\"memory: 8 GiB, was 16 GiB\", 7]}",
        ]);
        assert_eq!(check(&gateway, &report(), |_| ()).unwrap(), ["memory: 8 GiB, was 16 GiB", "7"]);
        assert!(server.join().unwrap()[0].starts_with("POST /api/v1/dut/?check=true HTTP/1.1\r\n"));
        let old = Answer { status: 200, body: b"{\"id\": \"x\"}".to_vec() };
        assert!(matches!(differences(&old), Err(RegistrationError::NoDifferences(_))));
    }
}
