//! Reading `proxy`.

use super::{fields, lists};
use crate::{
    Endpoint, Proxy,
    check::{self, Fields},
    error::Report,
    yaml::Node,
};

pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<Proxy> {
    let fields = Fields::open(node, "`proxy`", &fields::PROXY, report)?;
    let Some(node) = fields.get("allowed_endpoints") else { return Some(Proxy::default()) };
    let list = lists::read(node, &[], report, &mut |item, report| {
        let what = "each of `proxy.allowed_endpoints`";
        let text = check::text(item, what, report)?;
        let endpoint = text.parse::<Endpoint>().ok();
        if endpoint.is_none() {
            let message = format!("{what} must be a host and a port, not {}", item.describe());
            let help = "write host:port, for example gitlab.example.org:443 or [2001:db8::1]:443";
            report.problem_with_help(item.at, message, help);
        }
        endpoint
    });
    Some(Proxy { allowed_endpoints: list.flatten() })
}
