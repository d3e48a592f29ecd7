//! Every path of the API in one table: what it needs, what it takes, what it answers, who serves it. The router, the
//! roles, the audit log, the OpenAPI document and the manual's test all come from here, so none of them can lack a path.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Method,
    routing::{MethodRouter, delete as del, get as read, patch as change, post as send, put},
};

use super::{
    State, admin, duts, events, jobs, openapi, pdus,
    roles::{
        Need::{self, OwnRun, OwnRunOnDut, SeeRun},
        Role::{Admin, User, Viewer},
    },
    runs,
};

/// How long a request may take, in seconds: its body and its handler. Of a stream, until it begins.
pub const DEFAULT_SECONDS: u64 = 30;
/// The most that a request may carry where nothing else is said, in bytes. Machines send them too, and the event log
/// remembers them.
const DEFAULT_BODY: usize = 64 << 10;

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// JSON of that schema.
    Json(&'static str),
    /// A submission, multipart/form-data.
    Submission,
}

/// What a success answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// JSON of that schema.
    Json(&'static str),
    /// That content type.
    Bytes(&'static str),
    /// 101 and the console protocol; where the connection is not upgraded (a submission only), JSON of that schema.
    Console(Option<&'static str>),
    /// 501: it is still to come.
    NotYet,
}

/// A parameter behind the `?`: name, JSON type, meaning.
pub type Parameter = (&'static str, &'static str, &'static str);

/// A method of a path.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// In capitals.
    pub method: &'static str,
    /// As the router writes it.
    pub path: &'static str,
    /// Who may.
    pub need: Need,
    /// What the audit log calls it; none: only looking.
    pub audit: Option<&'static str>,
    /// How long it may take.
    pub seconds: u64,
    /// How much it may carry, in bytes.
    pub body: usize,
    /// In a sentence.
    pub summary: &'static str,
    /// Behind the `?`.
    pub parameters: &'static [Parameter],
    /// Its body.
    pub takes: Takes,
    /// Its answer.
    pub answers: Answers,
    /// Refusals besides those of all paths: status and when.
    pub refusals: &'static [(u16, &'static str)],
    /// Serves it. None: another part of the gateway does, `boots`.
    handler: Option<fn() -> MethodRouter<State>>,
}

type Handler = fn() -> MethodRouter<State>;

impl Endpoint {
    const fn new(method: &'static str, path: &'static str, summary: &'static str, handler: Handler) -> Self {
        Self {
            method,
            path,
            need: Need::Role(Admin),
            audit: None,
            seconds: DEFAULT_SECONDS,
            body: DEFAULT_BODY,
            summary,
            parameters: &[],
            takes: Takes::Nothing,
            answers: Answers::Json("Done"),
            refusals: &[],
            handler: Some(handler),
        }
    }

    /// For whoever may look.
    const fn get(path: &'static str, summary: &'static str, answers: Answers, handler: Handler) -> Self {
        let all = Self::new("GET", path, summary, handler);
        Self { answers, need: Need::Role(Viewer), ..all }
    }

    /// For administrators, and written down under that word.
    const fn act(
        method: &'static str,
        path: &'static str,
        audit: &'static str,
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        let all = Self::new(method, path, summary, handler);
        Self { audit: Some(audit), ..all }
    }

    /// Of `boots`.
    const fn boot(path: &'static str, need: Need, summary: &'static str) -> Self {
        let all = Self::new("GET", path, summary, MethodRouter::new);
        Self { need, answers: Answers::Bytes("application/octet-stream"), handler: None, ..all }
    }

    const fn needs(self, need: Need) -> Self {
        Self { need, ..self }
    }

    const fn with(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, ..self }
    }

    const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    const fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    const fn refuses(self, refusals: &'static [(u16, &'static str)]) -> Self {
        Self { refusals, ..self }
    }

    const fn limits(self, seconds: u64, body: usize) -> Self {
        Self { seconds, body, ..self }
    }
}

const NO_DUT: (u16, &str) = (404, "no such machine; the nearest names are in the text");
const NO_RUN: (u16, &str) = (404, "no such run");
const NO_PORT: (u16, &str) = (404, "no such PDU or port; those that there are stand in the text");
const NO_STORE: (u16, &str) = (503, "the state cannot be read or written");
const NOT_NOW: (u16, &str) = (400, "the machine's state does not allow it");
const UNWRITABLE: (u16, &str) = (409, "the farm file cannot be written, or is wrong");
const NOT_YET: (u16, &str) = (501, "not supported yet; the text says what to do instead");

const CHECK: Parameter = ("check", "boolean", "change nothing, only tell the differences");

/// All of them.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/api/v1/duts", "All machines.", Answers::Json("Duts"), || read(duts::list)),
    Endpoint::get(
        "/api/v1/machines",
        "All machines, under their old name too.",
        Answers::Json("Duts"),
        || read(duts::list_machines),
    ),
    Endpoint::act("POST", "/api/v1/dut", "dut-register", "Register a machine, or update one.", || {
        send(duts::register)
    })
    .with(&[CHECK])
    .takes(Takes::Json("Registration"))
    .answers(Answers::Json("Registered"))
    .refuses(&[(403, "a field that the caller may not set"), UNWRITABLE]),
    Endpoint::act("PUT", "/api/v1/dut", "dut-register", "Register a machine, or update one.", || {
        put(duts::register)
    })
    .with(&[CHECK])
    .takes(Takes::Json("Registration"))
    .answers(Answers::Json("Registered"))
    .refuses(&[(403, "a field that the caller may not set"), UNWRITABLE]),
    Endpoint::get(
        "/api/v1/dut/discover",
        "The discovery that runs; empty when none does.",
        Answers::Json("Discovery"),
        || read(duts::discovery),
    ),
    Endpoint::act(
        "POST",
        "/api/v1/dut/discover",
        "discover",
        "Power an unassigned port on and give it to the next machine.",
        || send(duts::discover),
    )
    .answers(Answers::NotYet)
    .refuses(&[NOT_YET]),
    Endpoint::act("DELETE", "/api/v1/dut/discover", "discover", "End the discovery.", || del(duts::discover))
        .answers(Answers::NotYet)
        .refuses(&[NOT_YET]),
    Endpoint::get("/api/v1/dut/{id}", "One machine.", Answers::Json("Dut"), || read(duts::show))
        .refuses(&[NO_DUT]),
    Endpoint::act(
        "PATCH",
        "/api/v1/dut/{id}",
        "dut-change",
        "Change what a person says of a machine.",
        || change(duts::change),
    )
    .takes(Takes::Json("DutChange"))
    .refuses(&[(400, "a field that is unknown or cannot be set"), NO_DUT, UNWRITABLE]),
    Endpoint::act("DELETE", "/api/v1/dut/{id}", "dut-forget", "Forget a machine.", || del(duts::forget))
        .refuses(&[NO_DUT, UNWRITABLE]),
    Endpoint::act("POST", "/api/v1/dut/{id}/retire", "retire", "Take a machine out of service.", || {
        send(duts::retire)
    })
    .with(&[("cancel", "boolean", "end a job that runs on it, instead of letting it end")])
    .answers(Answers::Json("Retired"))
    .refuses(&[NOT_NOW, NO_DUT, UNWRITABLE]),
    Endpoint::act(
        "POST",
        "/api/v1/dut/{id}/activate",
        "activate",
        "Put a machine back into service, or train it again.",
        || send(duts::activate),
    )
    .refuses(&[NOT_NOW, NO_DUT, UNWRITABLE]),
    Endpoint::act(
        "POST",
        "/api/v1/dut/{id}/cancel_job",
        "cancel",
        "End the job that runs on a machine.",
        || send(duts::cancel_job),
    )
    .needs(OwnRunOnDut)
    .refuses(&[NOT_NOW, NO_DUT]),
    Endpoint::get(
        "/api/v1/dut/{id}/quick_check",
        "Whether a quick check is due or runs.",
        Answers::Json("Flag"),
        || read(duts::quick_check_due),
    )
    .refuses(&[NO_DUT]),
    Endpoint::act(
        "POST",
        "/api/v1/dut/{id}/quick_check",
        "quick-check",
        "Boot a machine once, to see that it still works.",
        || send(duts::quick_check),
    )
    .refuses(&[NOT_NOW, NO_DUT]),
    Endpoint::get(
        "/api/v1/dut/{id}/training/loop/{n}",
        "Console of a boot of its training, counted from 0.",
        Answers::Bytes("text/plain"),
        || read(duts::training_log),
    )
    .refuses(&[NO_DUT]),
    Endpoint::get("/api/v1/pdus", "All PDUs with their ports.", Answers::Json("Pdus"), || read(pdus::list)),
    Endpoint::get("/api/v1/pdu/{name}", "One PDU.", Answers::Json("Pdu"), || read(pdus::show))
        .refuses(&[NO_PORT]),
    Endpoint::get("/api/v1/pdu/{name}/port/{port}", "One port.", Answers::Json("Port"), || read(pdus::port))
        .refuses(&[NO_PORT]),
    Endpoint::act(
        "PATCH",
        "/api/v1/pdu/{name}/port/{port}",
        "port",
        "Switch, reserve or slow a port.",
        || change(pdus::switch),
    )
    .takes(Takes::Json("PortChange"))
    .answers(Answers::Json("Port"))
    // A PDU takes its time, and a minimum off time is waited for.
    .limits(180, DEFAULT_BODY)
    .refuses(&[
        (403, "the port is reserved, or of a machine in service"),
        NO_PORT,
        (409, "another wish for this port came meanwhile"),
        (502, "the PDU does not confirm it"),
    ]),
    Endpoint::get(
        "/api/v1/full-state",
        "PDUs, machines, and what is wrong with the farm file.",
        Answers::Json("FullState"),
        || read(duts::full_state),
    ),
    Endpoint::get("/api/v1/jobs", "Runs, the newest first.", Answers::Json("Runs"), || read(runs::list))
        .with(&[
            ("dut", "string", "of that machine"),
            ("state", "string", "queued, active or finished"),
            ("kind", "string", "job (where nothing is said), registration, training, quick_check, or all"),
            ("before", "integer", "with a number below: the last one of the page before"),
            ("limit", "integer", "at most so many; 100 where nothing is said, at most 1000"),
        ])
        .refuses(&[(400, "a parameter is wrong"), NO_DUT, NO_STORE]),
    Endpoint::act("POST", "/api/v1/jobs", "submit", "Submit a job.", || send(jobs::submit))
        .needs(Need::Role(User))
        .takes(Takes::Submission)
        .answers(Answers::Console(Some("SubmitReply")))
        .limits(120, 8 << 20)
        .refuses(&[
            (400, "the request or the job is wrong; the place is in the text"),
            (404, "no such machine"),
            (406, "no machine has those tags"),
            (409, "all machines that match are busy or out of service"),
            (503, "the gateway cannot run anything now"),
        ]),
    Endpoint::get("/api/v1/job/{id}", "One run.", Answers::Json("RunDetail"), || read(runs::show))
        .needs(SeeRun)
        .refuses(&[NO_RUN, NO_STORE]),
    Endpoint::get("/api/v1/job/{id}/why", "What a run waits for.", Answers::Json("Why"), || read(runs::why))
        .needs(SeeRun)
        .refuses(&[NO_RUN, NO_STORE]),
    Endpoint::get(
        "/api/v1/job/{id}/console",
        "The console of a run, byte for byte.",
        Answers::Bytes("application/octet-stream"),
        || read(runs::console),
    )
    .needs(SeeRun)
    .with(&[
        ("from", "integer", "offset in the run's own console, in bytes"),
        ("follow", "boolean", "go on until the run is over"),
    ])
    .refuses(&[NO_RUN, NO_STORE]),
    Endpoint::act("POST", "/api/v1/job/{id}/cancel", "cancel", "End a run, wherever it stands.", || {
        send(runs::cancel)
    })
    .needs(OwnRun)
    .answers(Answers::Json("Cancelled"))
    .refuses(&[NO_RUN, (409, "it is over"), NO_STORE]),
    Endpoint::act(
        "POST",
        "/api/v1/job/{id}/attach",
        "attach",
        "Watch a run, type to its machine, or come back to it.",
        || send(runs::attach),
    )
    .needs(OwnRun)
    .with(&[
        ("console", "integer", "offset in the run's console from which on it is sent"),
        ("event", "integer", "number of the last control message that is known"),
        ("detach", "boolean", "the run goes on by itself when everybody has left"),
    ])
    .answers(Answers::Console(None))
    .refuses(&[
        (403, "the resume token is another run's"),
        NO_RUN,
        (426, "the connection is not to be upgraded"),
    ]),
    Endpoint::get("/api/v1/events", "What happens, live.", Answers::Bytes("text/event-stream"), || {
        read(events::stream)
    })
    .with(&[("since", "integer", "begin after that event; without it only what is new is sent")]),
    Endpoint::get("/api/v1/audit", "Who did what, the newest first.", Answers::Json("AuditPage"), || {
        read(admin::audit_log)
    })
    .needs(Need::Role(Admin))
    .with(&[
        ("before", "integer", "with an id below: the last one of the page before"),
        ("limit", "integer", "at most so many; 100 where nothing is said, at most 1000"),
    ])
    .refuses(&[(400, "a parameter is wrong"), NO_STORE]),
    Endpoint::get("/api/v1/tokens", "All tokens, without their secrets.", Answers::Json("TokenList"), || {
        read(admin::tokens)
    })
    .needs(Need::Role(Admin)),
    Endpoint::act("POST", "/api/v1/tokens", "token-add", "Make a token.", || send(admin::add_token))
        .takes(Takes::Json("NewToken"))
        .answers(Answers::Json("MadeToken"))
        .refuses(&[(400, "the name or the role is wrong"), (409, "the name is taken"), NO_STORE]),
    Endpoint::act("DELETE", "/api/v1/token/{name}", "token-revoke", "Revoke a token, at once.", || {
        del(admin::revoke_token)
    })
    .answers(Answers::Json("Revoked"))
    .refuses(&[(404, "no such token"), NO_STORE]),
    Endpoint::get(
        "/api/v1/openapi.json",
        "This API as an OpenAPI 3.1 document.",
        Answers::Json("OpenApi"),
        || read(openapi::serve),
    ),
    // What a machine boots holds its job's command line, and so perhaps secrets.
    Endpoint::boot("/boot/{mac}/boot.ipxe", Need::Role(Admin), "The iPXE script of a machine.")
        .with(&[("platform", "string", "as iPXE says it"), ("buildarch", "string", "as iPXE says it")])
        .answers(Answers::Bytes("text/plain")),
    Endpoint::boot("/boot/{mac}/kernel", Need::Role(Admin), "The kernel that a machine boots now."),
    Endpoint::boot("/boot/{mac}/initrd", Need::Role(Admin), "The initramfs that a machine boots now."),
    Endpoint::boot("/boot/ipxe/{*file}", Need::Role(Viewer), "A boot loader for UEFI HTTP boot."),
];

/// Paths that have a deprecated name too, and what it begins with.
const OLD_NAMES: (&str, &str) = ("/api/v1/dut", "/api/v1/machine");

/// The deprecated name of a path, if it has one.
fn old_name(path: &str) -> Option<String> {
    let rest = path.strip_prefix(OLD_NAMES.0)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", OLD_NAMES.1))
}

/// All that is served here, as a router.
pub fn router() -> Router<State> {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        let Some(handler) = endpoint.handler else { continue };
        let handler = || handler().layer(DefaultBodyLimit::max(endpoint.body));
        router = router.route(endpoint.path, handler());
        if let Some(old) = old_name(endpoint.path) {
            router = router.route(&old, handler());
        }
    }
    router
}

/// The endpoint of a path as the router writes it. HEAD is GET.
pub fn find(method: &Method, path: &str) -> Option<&'static Endpoint> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let is = |endpoint: &&Endpoint| {
        endpoint.method == method
            && (endpoint.path == path || old_name(endpoint.path).as_deref() == Some(path))
    };
    ENDPOINTS.iter().find(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_stands_once() {
        for (index, endpoint) in ENDPOINTS.iter().enumerate() {
            let again = ENDPOINTS[index + 1..]
                .iter()
                .find(|other| (other.method, other.path) == (endpoint.method, endpoint.path));
            assert!(again.is_none(), "{} {}", endpoint.method, endpoint.path);
        }
        // Panics where two routes are in conflict.
        let _ = router();
    }

    #[test]
    fn old_names_need_what_the_new_ones_need() {
        let need = |method, path| find(&method, path).map(|endpoint| endpoint.need);
        assert_eq!(need(Method::POST, "/api/v1/machine/{id}/retire"), Some(Need::Role(Admin)));
        assert_eq!(need(Method::POST, "/api/v1/machine"), Some(Need::Role(Admin)));
        assert_eq!(need(Method::HEAD, "/api/v1/machines"), Some(Need::Role(Viewer)));
        assert_eq!(need(Method::DELETE, "/api/v1/machines"), None);
    }

    #[test]
    fn whoever_only_looks_changes_nothing() {
        for endpoint in ENDPOINTS {
            let looks = endpoint.method == "GET";
            assert_eq!(endpoint.audit.is_none(), looks, "{} {}", endpoint.method, endpoint.path);
            if !looks {
                assert!(endpoint.need.least() >= User, "{} {}", endpoint.method, endpoint.path);
            }
        }
    }
}
