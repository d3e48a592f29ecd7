//! Who may call what: tells each request's caller by its way in and its token, looks up what the request needs, and
//! refuses or lets through. What was done, and what was refused, goes to the audit log.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams, Request, State as Extract},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use farmgate_executor::{Caller, secret::hash_secret};
use farmgate_protocol::{
    MacAddress, Timestamp,
    submit::{RESUME_HEADER, RUN_HEADER},
};
use farmgate_store::{RunQuery, RunState};
use serde_json::{Value, json};

pub use super::origin::Peers;
use super::{
    State,
    audit::{self, Details},
    browser,
    credentials::{Credentials, credentials},
    endpoints::{self, Endpoint},
    error::ApiError,
    failures::Verdict,
    origin::{Networks, Origin},
    roles::{Need, Role},
};
use crate::settings::Settings;

/// Who asks, for the history and the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// A token's name, `local`, or an address.
    pub name: String,
    /// What they may do; none: nothing but what a resume token allows.
    pub role: Option<Role>,
    /// Where the request came from.
    pub from: IpAddr,
}

/// What decides.
#[derive(Clone)]
pub struct Rules {
    networks: Networks,
    /// Host names that a browser may call us by.
    names: Vec<String>,
    state: State,
}

/// Why a request is not let through: 401, where a token would help, or 403.
struct Refused {
    status: StatusCode,
    why: String,
}

impl Refused {
    fn forbidden(why: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, why: why.into() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, why: why.into() }
    }
}

const HOW_TO_GET_IN: &str = "send a token (`Authorization: Bearer TOKEN`, or http://x:TOKEN@HOST as the gateway's URL); \
     an administrator makes one on the gateway with `farmgate token add NAME --role user`, or names your network in \
     TRUSTED_NETWORKS";

impl Rules {
    /// From the settings.
    pub fn new(settings: &Settings, state: State) -> Self {
        Self { networks: super::networks(settings), names: settings.host_names(), state }
    }

    /// Who somebody is that is no machine.
    fn who(&self, origin: Origin, parts: &Parts, from: IpAddr) -> Result<Who, Refused> {
        let name = if origin == Origin::Local { "local".to_owned() } else { from.to_string() };
        match credentials(&parts.headers) {
            // Who shows a token is what the token says, wherever they are.
            Credentials::Secret(secret) => match self.state.tokens.check(&secret, Timestamp::now()) {
                Some((name, role)) => Ok(Who { name, role: Some(role), from }),
                None => Err(Refused::unknown("this token is not valid (any more)")),
            },
            Credentials::Unreadable => Err(Refused::unknown("the header Authorization cannot be read")),
            Credentials::None if origin == Origin::Stranger => Ok(Who { name, role: None, from }),
            Credentials::None => {
                browser::intended(&parts.headers, &self.names).map_err(Refused::forbidden)?;
                Ok(Who { name, role: Some(Role::Admin), from })
            }
        }
    }

    /// Whether they may do it.
    async fn may(&self, who: &Who, need: Need, parts: &mut Parts) -> Result<(), Refused> {
        let met = who.role.map(|role| need.met_by(role));
        if met == Some(Some(true)) {
            return Ok(());
        }
        let id = path_parameter(parts, "id").await.unwrap_or_default();
        let own = match need {
            Need::OwnRun | Need::SeeRun => self.run_is_of(who, &id, parts).await,
            Need::OwnRunOnDut => met == Some(None) && self.run_on_dut_is_of(who, &id).await,
            Need::Role(_) => false,
        };
        match (own, who.role) {
            (true, _) => Ok(()),
            (false, None) => Err(Refused::unknown("this needs a token")),
            (false, Some(role)) => Err(Refused::forbidden(format!(
                "{} has the role {role}; this needs: {}",
                who.name,
                need.in_words()
            ))),
        }
    }

    /// Whether a run was submitted by them, or they hold its resume token.
    async fn run_is_of(&self, who: &Who, id: &str, parts: &Parts) -> bool {
        let Ok(number) = id.parse() else { return false };
        let Ok(Some(run)) = self.state.store.run(number).await else { return false };
        let theirs = who.role >= Some(Role::User) && run.row.submitter == who.name;
        let token = parts.headers.get(RESUME_HEADER).and_then(|v| v.to_str().ok());
        theirs || token.is_some_and(|t| run.resume_token_hash.as_deref() == Some(hash_secret(t).as_str()))
    }

    async fn run_on_dut_is_of(&self, who: &Who, name: &str) -> bool {
        let Ok(dut) = self.state.executor.dut(name) else { return false };
        let query =
            RunQuery { dut: Some(dut.id), state: Some(RunState::Active), limit: 1, ..RunQuery::default() };
        let runs = self.state.store.runs(query).await.unwrap_or_default();
        runs.first().is_some_and(|run| run.submitter == who.name)
    }

    /// Whose address that is: by its lease, by the farm file, or, for a lease that a gateway before this one gave, by
    /// the kernel's neighbour table. None too if another machine took the address: it must not speak for this one.
    fn mac_at(&self, address: Ipv4Addr) -> Option<MacAddress> {
        let leased = self.state.leases.as_ref().and_then(|leases| leases.mac_at(address));
        let meant = leased.or_else(|| self.state.boot_table.mac_at(address));
        let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
        let seen = neighbour(&table, address);
        if let (Some(meant), Some(seen)) = (meant, seen)
            && meant != seen
        {
            tracing::warn!(%address, %meant, %seen, "a machine uses the address of another");
            return None;
        }
        meant.or(seen)
    }

    /// The answer to who is refused.
    fn answer(&self, who: &Who, parts: &Parts, refused: Refused) -> Response {
        let anonymous = refused.status == StatusCode::UNAUTHORIZED
            && credentials(&parts.headers) == Credentials::None
            && !parts.headers.contains_key(RESUME_HEADER);
        // Programs and browsers ask without a token first: that is no attempt at anything.
        let verdict = if anonymous {
            Verdict::Noted
        } else {
            let request = format!("{} {}", parts.method, parts.uri.path());
            self.state.audit.refused(who, &request, &refused.why)
        };
        if let Verdict::TooMany(wait) = verdict {
            let seconds = wait.as_secs().max(1);
            let text =
                format!("too many refused requests from {}: wait {seconds} s ({})", who.from, refused.why);
            let answer = ApiError::new(StatusCode::TOO_MANY_REQUESTS, text);
            return ([(header::RETRY_AFTER, seconds.to_string())], answer).into_response();
        }
        let text = match refused.status {
            StatusCode::UNAUTHORIZED => format!("{}: {HOW_TO_GET_IN}", refused.why),
            _ => refused.why,
        };
        let mut answer = ApiError::new(refused.status, text).into_response();
        if refused.status == StatusCode::UNAUTHORIZED {
            for scheme in ["Bearer realm=\"farmgate\"", "Basic realm=\"farmgate\""] {
                answer.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        answer
    }
}

/// The middleware.
pub async fn allow(
    Extract(rules): Extract<Rules>,
    ConnectInfo(peers): ConnectInfo<Peers>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let from = peers.remote.ip().to_canonical();
    let origin = rules.networks.origin(peers);
    if let Origin::Machine(address) = origin {
        let mac = rules.mac_at(address);
        let who = Who { name: from.to_string(), role: None, from };
        if !machine_may(&parts.method, parts.uri.path(), mac) {
            let text = format!(
                "a machine on the private network may not {} {}",
                parts.method,
                audit::shortened(parts.uri.path())
            );
            return rules.answer(&who, &parts, Refused::forbidden(text));
        }
        parts.extensions.insert(who);
        parts.extensions.insert(Caller::Dut { mac, address });
        return in_time(endpoints::DEFAULT_SECONDS, next.run(Request::from_parts(parts, body))).await;
    }
    let who = match rules.who(origin, &parts, from) {
        Ok(who) => who,
        Err(refused) => {
            let who = Who { name: from.to_string(), role: None, from };
            return rules.answer(&who, &parts, refused);
        }
    };
    let matched = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let endpoint = matched.as_deref().and_then(|path| endpoints::find(&parts.method, path));
    let need = match (&endpoint, &matched) {
        (Some(endpoint), _) => endpoint.need,
        // There is nothing, or not by this method: whoever may look is told so.
        (None, None) => Need::Role(Role::Viewer),
        // A path of a part of the gateway that the table does not name.
        (None, Some(_)) => Need::Role(Role::Admin),
    };
    if let Err(refused) = rules.may(&who, need, &mut parts).await {
        return rules.answer(&who, &parts, refused);
    }
    let line = audit::shortened(&parts.uri.path_and_query().map_or_else(String::new, ToString::to_string));
    parts.extensions.insert(who.clone());
    parts.extensions.insert(Caller::Operator);
    let seconds = endpoint.map_or(endpoints::DEFAULT_SECONDS, |endpoint| endpoint.seconds);
    let answer = in_time(seconds, next.run(Request::from_parts(parts, body))).await;
    if let Some(endpoint) = endpoint {
        note(&rules, &who, endpoint, &line, &answer);
    }
    answer
}

/// The answer within that time. A stream's answer is its beginning.
async fn in_time(seconds: u64, answer: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(Duration::from_secs(seconds), answer).await.unwrap_or_else(|_| {
        let text = format!("the request was not sent, or not done, within {seconds} s");
        ApiError::new(StatusCode::REQUEST_TIMEOUT, text).into_response()
    })
}

/// Writes down what was done.
fn note(rules: &Rules, who: &Who, endpoint: &Endpoint, line: &str, answer: &Response) {
    let Some(what) = endpoint.audit else { return };
    let mut details =
        json!({"request": format!("{} {line}", endpoint.method), "status": answer.status().as_u16()});
    if let Some(Details(Value::Object(more))) = answer.extensions().get::<Details>() {
        for (name, value) in more {
            details[name] = value.clone();
        }
    }
    if let Some(run) = answer.headers().get(RUN_HEADER).and_then(|v| v.to_str().ok()) {
        details["run"] = run.into();
    }
    rules.state.audit.note(who, what, details);
}

async fn path_parameter(parts: &mut Parts, name: &str) -> Option<String> {
    let given = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    given.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_owned())
}

/// Whose address it is by the kernel's neighbour table. An entry without an answer is all zeros.
fn neighbour(table: &str, address: Ipv4Addr) -> Option<MacAddress> {
    let wanted = address.to_string();
    let mac = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(&wanted)).then(|| words.nth(2)?.parse().ok()).flatten()
    };
    table.lines().find_map(mac).filter(|mac: &MacAddress| mac.0 != [0; 6])
}

/// What a machine may do: fetch its own boot files and the firmware's iPXE, and register itself. A token changes
/// nothing: what runs there is other people's code.
fn machine_may(method: &Method, path: &str, mac: Option<MacAddress>) -> bool {
    if let Some(rest) = path.strip_prefix("/boot/") {
        let whose = rest.split('/').next().unwrap_or("");
        // iPXE writes the colons of an address as %3A.
        let own = mac.is_some() && whose.replace("%3A", ":").replace("%3a", ":").parse().ok() == mac;
        return (method == Method::GET || method == Method::HEAD) && (whose == "ipxe" || own);
    }
    let registers = path == "/api/v1/dut" || path == "/api/v1/machine";
    registers && (method == Method::POST || method == Method::PUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbour_table_tells_who_uses_an_address() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.42.0.2        0x1         0x2         52:54:00:11:22:02     *        private\n\
                     10.42.0.20       0x1         0x2         52:54:00:11:22:20     *        private\n\
                     10.42.0.3        0x1         0x0         00:00:00:00:00:00     *        private\n";
        let at = |text: &str| neighbour(table, text.parse().unwrap()).map(|mac| mac.to_string());
        assert_eq!(at("10.42.0.2").as_deref(), Some("52:54:00:11:22:02"));
        assert_eq!(at("10.42.0.20").as_deref(), Some("52:54:00:11:22:20"));
        assert_eq!(at("10.42.0.3"), None);
        assert_eq!(at("10.42.0.4"), None);
    }

    #[test]
    fn a_machine_boots_its_own_and_registers_and_nothing_else() {
        let mac: MacAddress = "52:54:00:11:22:01".parse().unwrap();
        let may = |method: Method, path: &str| machine_may(&method, path, Some(mac));
        assert!(may(Method::GET, "/boot/52:54:00:11:22:01/boot.ipxe"));
        assert!(may(Method::GET, "/boot/52%3A54%3A00%3A11%3A22%3A01/kernel"));
        assert!(may(Method::HEAD, "/boot/ipxe/snponly.efi"));
        assert!(may(Method::POST, "/api/v1/dut"));
        assert!(!may(Method::GET, "/boot/52:54:00:11:22:02/boot.ipxe"));
        assert!(!may(Method::POST, "/api/v1/jobs"));
        assert!(!may(Method::GET, "/api/v1/duts"));
        assert!(!may(Method::GET, "/api/v1/tokens"));
        assert!(!may(Method::DELETE, "/api/v1/dut"));
        assert!(!machine_may(&Method::GET, "/boot/52:54:00:11:22:01/boot.ipxe", None));
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_answered_for() {
        let answer = in_time(0, std::future::pending()).await;
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
