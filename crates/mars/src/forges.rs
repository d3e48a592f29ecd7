//! Reads the parts of a farm file that concern forges and jobs.

use std::collections::BTreeMap;

use crate::{
    farm::{
        Acl, AclSubjects, DutGithub, DutGitlab, Github, GithubQueue, Gitlab, Jobs, Runner, RunnerType, Secret,
    },
    reader::{Fields, Reader},
    tree::Node,
};

/// GitLab's own default bound of a job, seconds.
const DEFAULT_TIMEOUT: u64 = 21_600;

/// Reads a mapping from names to things.
pub fn named<T>(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    what: &str,
    mut read: impl FnMut(&mut Reader<'_>, &Node, &str) -> Option<T>,
) -> BTreeMap<String, T> {
    let Some(node) = node else { return BTreeMap::new() };
    let mut things = BTreeMap::new();
    for (name, entry) in reader.fields(node, what).rest() {
        // An entry without a value would point at nothing: point at its key.
        let mut value = entry.value.clone();
        if value.place.bytes.is_empty() {
            value.place = entry.key.place.clone();
        }
        if let Some(thing) = read(reader, &value, &format!("{what}.{name}")) {
            things.insert(name.to_owned(), thing);
        }
    }
    things
}

fn secret(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<Secret> {
    fields.take(name).and_then(|node| reader.text(node, name)).map(Secret::new)
}

fn truth(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<bool> {
    fields.take(name).and_then(|node| reader.bool(node, name))
}

fn count(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<u64> {
    fields.take(name).and_then(|node| reader.count(node, name))
}

fn texts(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &'static str) -> Vec<String> {
    fields.take(name).map(|node| reader.texts(node, name)).unwrap_or_default()
}

fn subjects(reader: &mut Reader<'_>, node: Option<&Node>, what: &str) -> AclSubjects {
    let Some(node) = node else { return AclSubjects::default() };
    let mut fields = reader.fields(node, what);
    let subjects = AclSubjects {
        users: texts(reader, &mut fields, "users"),
        projects: texts(reader, &mut fields, "projects"),
        projects_in_groups: texts(reader, &mut fields, "projects_in_groups"),
    };
    fields.finish(reader);
    subjects
}

fn acl(reader: &mut Reader<'_>, node: Option<&Node>, what: &str) -> Acl {
    let Some(node) = node else { return Acl::default() };
    let mut fields = reader.fields(node, what);
    let acl = Acl {
        deny: subjects(reader, fields.take("deny"), "deny"),
        allow: subjects(reader, fields.take("allow"), "allow"),
    };
    fields.finish(reader);
    acl
}

fn runner_fields(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Runner {
    Runner {
        token: secret(reader, fields, "token"),
        runner_id: count(reader, fields, "runner_id"),
        exposed: truth(reader, fields, "exposed"),
        acl: acl(reader, fields.take("acl"), "acl"),
    }
}

fn runner(reader: &mut Reader<'_>, node: &Node, what: &str) -> Runner {
    let mut fields = reader.fields(node, what);
    let runner = runner_fields(reader, &mut fields);
    fields.finish(reader);
    runner
}

/// `duts.ID.gitlab.NAME`.
pub fn dut_gitlab(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<DutGitlab> {
    let mut fields = reader.fields(node, what);
    let queues = fields.take("priority_queues");
    let entry = DutGitlab {
        runner: runner_fields(reader, &mut fields),
        priority_queues: named(reader, queues, "priority_queues", |r, n, w| Some(runner(r, n, w))),
    };
    fields.finish(reader);
    Some(entry)
}

/// `duts.ID.github.NAME`.
pub fn dut_github(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<DutGithub> {
    let mut fields = reader.fields(node, what);
    let queues = fields.take("priority_queues");
    let entry = DutGithub {
        exposed: truth(reader, &mut fields, "exposed"),
        priority_queues: named(reader, queues, "priority_queues", |reader, node, what| {
            let mut fields = reader.fields(node, what);
            let queue = GithubQueue {
                runner_group_id: count(reader, &mut fields, "runner_group_id"),
                exposed: truth(reader, &mut fields, "exposed"),
            };
            fields.finish(reader);
            Some(queue)
        }),
    };
    fields.finish(reader);
    Some(entry)
}

fn url(reader: &mut Reader<'_>, fields: &mut Fields<'_>, node: &Node, what: &str) -> String {
    match fields.take("url") {
        Some(url) => {
            let text = reader.text(url, "url").unwrap_or_default();
            if !text.starts_with("http://") && !text.starts_with("https://") {
                reader.error(&url.place, "url must start with https:// or http://", "");
            }
            text
        }
        None => {
            reader.error(&node.place, format!("{what} has no `url`"), "add `url: https://...`");
            String::new()
        }
    }
}

/// `gitlab.NAME`.
pub fn gitlab(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Gitlab> {
    let mut fields = reader.fields(node, what);
    let gitlab = Gitlab {
        url: url(reader, &mut fields, node, what),
        registration_token: secret(reader, &mut fields, "registration_token"),
        access_token: secret(reader, &mut fields, "access_token"),
        runner_type: runner_type(reader, &mut fields),
        group_id: count(reader, &mut fields, "group_id"),
        project_id: count(reader, &mut fields, "project_id"),
        expose_runners: truth(reader, &mut fields, "expose_runners").unwrap_or(true),
        expose_all_runners_by_default: truth(reader, &mut fields, "expose_all_runners_by_default"),
        maximum_timeout: count(reader, &mut fields, "maximum_timeout").unwrap_or(DEFAULT_TIMEOUT),
        gateway_runner: fields.take("gateway_runner").map(|node| runner(reader, node, "gateway_runner")),
        exposed_priorities: named(
            reader,
            fields.take("exposed_priorities"),
            "exposed_priorities",
            |r, n, w| {
                let mut fields = r.fields(n, w);
                let rules = acl(r, fields.take("acl"), "acl");
                fields.finish(r);
                Some(rules)
            },
        ),
        acl: acl(reader, fields.take("acl"), "acl"),
    };
    fields.finish(reader);
    Some(gitlab)
}

fn runner_type(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> RunnerType {
    let Some(node) = fields.take("runner_type") else { return RunnerType::default() };
    match node.text() {
        Some("instance_type") => RunnerType::Instance,
        Some("group_type") => RunnerType::Group,
        Some("project_type") => RunnerType::Project,
        _ => {
            let remedy = "write instance_type, group_type or project_type";
            reader.error(&node.place, "this runner_type does not exist", remedy);
            RunnerType::default()
        }
    }
}

/// `github.NAME`.
pub fn github(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Github> {
    let mut fields = reader.fields(node, what);
    let priorities = fields.take("exposed_priorities");
    let github = Github {
        url: url(reader, &mut fields, node, what),
        authorization_token: secret(reader, &mut fields, "authorization_token"),
        runner_group_id: count(reader, &mut fields, "runner_group_id"),
        expose_runners: truth(reader, &mut fields, "expose_runners").unwrap_or(true),
        exposed_priorities: priorities.map(|node| priority_names(reader, node)).unwrap_or_default(),
    };
    fields.finish(reader);
    Some(github)
}

/// A list of names, or a mapping whose keys are names.
fn priority_names(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    match node.kind {
        crate::tree::Kind::Mapping { .. } => {
            let names = named(reader, Some(node), "exposed_priorities", |reader, node, what| {
                reader.fields(node, what).finish(reader);
                Some(())
            });
            names.into_keys().collect()
        }
        _ => reader.texts(node, "exposed_priorities"),
    }
}

/// `jobs`.
pub fn jobs(reader: &mut Reader<'_>, node: Option<&Node>) -> Jobs {
    let Some(node) = node else { return Jobs::default() };
    let mut fields = reader.fields(node, "jobs");
    let allowed_endpoints = match fields.take("proxy") {
        Some(proxy) => {
            let mut proxy = reader.fields(proxy, "jobs.proxy");
            let endpoints =
                proxy.take("allowed_endpoints").map(|node| endpoints(reader, node)).unwrap_or_default();
            proxy.finish(reader);
            endpoints
        }
        None => Vec::new(),
    };
    let jobs = Jobs { allowed_endpoints, priorities: texts(reader, &mut fields, "priorities") };
    fields.finish(reader);
    jobs
}

fn endpoints(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    for item in reader.items(node, "allowed_endpoints") {
        let port = item.text().and_then(|text| text.rsplit_once(':')).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            reader.error(
                &item.place,
                "this endpoint is not host:port",
                "write it like gitlab.example.org:443",
            );
        }
    }
    reader.texts(node, "allowed_endpoints")
}
