"""A second reading of a job: the real Jinja2 and PyYAML, and the rules of the job format written once more.

Reads requests from standard input, one JSON object per line, and answers each with one line:

  {"job": TEXT, "submission": VARIABLES, "variables": VARIABLES}
      -> {"target": ..., "timeouts": ..., "patterns": ..., "start": ..., "continue": ...}, or {"error": STAGE, "why": TEXT}
      Stages: template, yaml, job. "early_target" is what the first rendering tells, where it can be rendered.
  {"scalar": TEXT} -> what YAML 1.1 makes of it: {"tag": ..., "text": AS_WRITTEN, "value": PYTHON_REPR}

Texts stay as they are written and numbers are read by PyYAML, as docs/job-format.md says. None of this is shared with
the crate, on purpose: what both have wrong in the same way would not be seen.
"""

import json
import sys
from fractions import Fraction

import jinja2
import yaml

UNCATEGORISED = ":uncategorised"
UNITS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": Fraction(1, 1000)}


class Refused(Exception):
    """The text is YAML, but no job."""


def environment(strict, keep_last_newline):
    undefined = jinja2.StrictUndefined if strict else jinja2.ChainableUndefined
    return jinja2.Environment(undefined=undefined, keep_trailing_newline=keep_last_newline)


ENVIRONMENTS = {(s, k): environment(s, k) for s in (True, False) for k in (True, False)}


def split_strict_line(text):
    first, _, rest = text.partition("\n")
    return (True, rest) if first.rstrip() == "#!jinja2" else (False, text)


def templates(text):
    """The template for the first rendering, where nothing that is missing is an error, and the one for the second."""
    strict, body = split_strict_line(text)
    second = ENVIRONMENTS[strict, False].from_string(body)
    return (ENVIRONMENTS[False, False].from_string(body) if strict else second), second


def render_data(text, variables, cmdline):
    strict, body = split_strict_line(text)
    variables = dict(variables, job={"deployment": {"kernel": {"cmdline": cmdline}}})
    try:
        return ENVIRONMENTS[strict, True].from_string(body).render(variables)
    except Exception:
        if strict:
            raise
        return text


# The YAML tree, by nodes: a text is what stands in the file, whatever YAML 1.1 would make of it.


class Tree:
    def __init__(self, text):
        self.loader = yaml.SafeLoader(text)
        self.root = self.loader.get_single_node()

    def fields(self, node, known=None):
        if not isinstance(node, yaml.MappingNode):
            raise Refused(f"a mapping is wanted, not {node.value!r}")
        self.loader.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Refused("a key must be a text")
            found[key.value] = value
        if known is not None and (unknown := set(found) - set(known)):
            raise Refused(f"unknown fields {sorted(unknown)}")
        return {key: value for key, value in found.items() if not self.is_null(value)} if known else found

    def is_null(self, node):
        return node.tag == "tag:yaml.org,2002:null"

    def text(self, node):
        if not isinstance(node, yaml.ScalarNode) or self.is_null(node):
            raise Refused(f"a text is wanted, not {node.value!r}")
        return node.value

    def number(self, node):
        if node.tag == "tag:yaml.org,2002:int":
            return Fraction(self.loader.construct_yaml_int(node))
        if node.tag == "tag:yaml.org,2002:float":
            return Fraction(repr(self.loader.construct_yaml_float(node)))
        raise Refused(f"a number is wanted, not {node.value!r}")

    def items(self, node):
        if self.is_null(node):
            return []
        return node.value if isinstance(node, yaml.SequenceNode) else [node]

    def complex_list(self, node, is_item=lambda names: False):
        """Categories to lists of nodes; what has none stands under UNCATEGORISED."""
        if isinstance(node, yaml.MappingNode):
            fields = self.fields(node)
            if not is_item(set(fields)):
                return {category: self.items(value) for category, value in fields.items()}
        return {UNCATEGORISED: self.items(node)}


def updated(start, later):
    if start is None or later is None:
        return start if later is None else later
    merged = {**start, **{c: items for c, items in later.items() if c != UNCATEGORISED}}
    if later.get(UNCATEGORISED):
        merged[UNCATEGORISED] = later[UNCATEGORISED]
    return merged


def flattened(categories):
    if categories is None:
        return []
    names = sorted(name for name in categories if name != UNCATEGORISED)
    return [item for name in names + [UNCATEGORISED] for item in categories.get(name, [])]


# The job.


def read_target(tree, node):
    fields = tree.fields(node, ["id", "tags"])
    if not fields:
        raise Refused("the target names nothing")
    tags = []
    if "tags" in fields:
        if not isinstance(fields["tags"], yaml.SequenceNode):
            raise Refused("tags must be a list")
        tags = [tree.text(tag) for tag in fields["tags"].value]
    return {"id": tree.text(fields["id"]) if "id" in fields else None, "tags": tags}


def read_timeout(tree, node):
    fields = tree.fields(node, [*UNITS, "retries"])
    given = [tree.number(fields[unit]) * UNITS[unit] for unit in UNITS if unit in fields]
    retries = tree.number(fields["retries"]) if "retries" in fields else Fraction(0)
    if any(number < 0 for number in given) or retries < 0 or retries.denominator != 1:
        raise Refused("a timeout with a negative number")
    return [str(round(sum(given) * 1_000_000)) if given else None, int(retries)]


TIMEOUTS = ["overall", "infra_setup", "infra_teardown", "boot_cycle", "firmware_boot", "first_console_activity",
            "console_activity"]


def read_timeouts(tree, node):
    fields = tree.fields(node, [*TIMEOUTS, "watchdogs"]) if node is not None else {}
    read = {name: read_timeout(tree, fields[name]) for name in TIMEOUTS if name in fields}
    overall = read.setdefault("overall", [str(6 * 3600 * 1_000_000), 0])
    quarter = None if overall[0] is None else str(round(Fraction(overall[0]) / 4))
    for name in TIMEOUTS[1:]:
        default = quarter if name.startswith("infra") else None
        read.setdefault(name, None if name == "firmware_boot" else [default, 0])
    watchdogs = tree.fields(fields["watchdogs"]) if "watchdogs" in fields else {}
    return {**read, "watchdogs": {name: read_timeout(tree, value) for name, value in watchdogs.items()}}


def read_patterns(tree, node):
    names = ["session_end", "session_reboot", "job_success", "job_warn", "machine_unfit_for_service"]
    fields = tree.fields(node, [*names, "watchdogs"]) if node is not None else {}

    def regex(node):
        return tree.text(tree.fields(node, ["regex"])["regex"])

    read = {name: regex(fields[name]) for name in names if name in fields}
    watchdogs = tree.fields(fields["watchdogs"]) if "watchdogs" in fields else {}
    read["watchdogs"] = {
        name: {edge: regex(value) for edge, value in tree.fields(watchdog, ["start", "reset", "stop"]).items()}
        for name, watchdog in watchdogs.items()
    }
    return read


def read_artifact(tree, node):
    fields = {name: tree.text(value) for name, value in tree.fields(node, ["url", "data"]).items()}
    if len(fields) != 1:
        raise Refused("an artifact has one source")
    return fields


def read_boot(tree, node):
    fields = tree.fields(node, ["kernel", "initramfs"]) if node is not None else {}
    kernel = tree.fields(fields["kernel"], ["url", "data", "cmdline"]) if "kernel" in fields else {}
    boot = {"cmdline": None, "initramfs": None}
    boot["kernel"] = {name: tree.text(kernel[name]) for name in ("url", "data") if name in kernel} or None
    if boot["kernel"] and len(boot["kernel"]) != 1:
        raise Refused("a kernel has at most one source")
    if "cmdline" in kernel:
        parts = tree.complex_list(kernel["cmdline"])
        boot["cmdline"] = {category: [tree.text(part) for part in items] for category, items in parts.items()}
    if "initramfs" in fields:
        parts = tree.complex_list(fields["initramfs"], lambda names: names & {"url", "data"})
        boot["initramfs"] = {category: [read_artifact(tree, part) for part in items] for category, items in parts.items()}
    return boot


def finished(boot, variables):
    parts = flattened(boot["cmdline"])
    cmdline = " ".join(parts) if parts else None

    def served(artifact):
        if artifact is None or "url" in artifact:
            return artifact
        text = artifact["data"]
        return {"data": text, "served": render_data(text, variables, cmdline or "")}

    initramfs = [served(artifact) for artifact in flattened(boot["initramfs"])]
    return {"kernel": served(boot["kernel"]), "cmdline": cmdline, "initramfs": initramfs or None}


TOP = ["version", "deadline", "target", "timeouts", "console_patterns", "deployment", "proxy"]


def read_job(tree, variables):
    fields = tree.fields(tree.root, TOP)
    if tree.number(fields["version"]) != 1:
        raise Refused("version 1 is wanted")
    deployment = tree.fields(fields["deployment"], ["start", "continue"]) if "deployment" in fields else {}
    start, later = (read_boot(tree, deployment.get(name)) for name in ("start", "continue"))
    merged = {
        "kernel": later["kernel"] or start["kernel"],
        "cmdline": updated(start["cmdline"], later["cmdline"]),
        "initramfs": updated(start["initramfs"], later["initramfs"]),
    }
    return {
        "target": read_target(tree, fields["target"]) if "target" in fields else None,
        "timeouts": read_timeouts(tree, fields.get("timeouts")),
        "patterns": read_patterns(tree, fields.get("console_patterns")),
        "start": finished(start, variables),
        "continue": finished(merged, variables),
    }


def early_target(template, variables):
    """What the first rendering tells, or why nothing can be said: Jinja2 is less lenient than the gateway."""
    try:
        tree = Tree(template.render(variables))
        fields = tree.fields(tree.root)
        if "target" not in fields or tree.is_null(fields["target"]) or not tree.fields(fields["target"], ["id", "tags"]):
            return {"target": None}
        return {"target": read_target(tree, fields["target"])}
    except Exception as error:
        return {"unknown": str(error)}


def answer_job(request):
    stage = "template"
    try:
        first, second = templates(request["job"])
        text = second.render(request["variables"])
        stage = "yaml"
        tree = Tree(text)
        stage = "job"
        job = read_job(tree, request["variables"])
        return {**job, "early_target": early_target(first, request["submission"])}
    except Exception as error:
        return {"error": stage, "why": f"{type(error).__name__}: {error}"}


def answer_scalar(request):
    try:
        loader = yaml.SafeLoader(request["scalar"])
        node = loader.get_single_node()
        if not isinstance(node, yaml.ScalarNode):
            return {"error": "this is no scalar"}
        return {"tag": node.tag.rpartition(":")[2], "text": node.value, "value": repr(loader.construct_object(node))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def answer(request):
    return answer_job(request) if "job" in request else answer_scalar(request)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
