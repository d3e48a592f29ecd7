//! The shapes of the API's JSON, for the OpenAPI document (JSON Schema 2020-12). They describe the types of `protocol`
//! and of this module; a test holds each of them against a value of its type, field by field.

mod build;

use build::{
    anything, flag, integer, is, list, map, maybe, named, number, object, one_of, request, text, time,
};
use serde_json::{Map, Value, json};

/// All, by name.
pub fn all() -> Value {
    let mut all = Map::new();
    for (name, schema) in
        general().into_iter().chain(machines()).chain(power()).chain(runs()).chain(administration())
    {
        all.insert(name.to_owned(), schema);
    }
    Value::Object(all)
}

type Named = Vec<(&'static str, Value)>;

fn general() -> Named {
    let error = || text("what is wrong, and what to do");
    vec![
        ("Error", object("Every answer of 4xx and 5xx.", &[("error", error())])),
        ("Done", object("It is done.", &[("id", text("which machine"))])),
        ("Flag", flag("yes or no")),
        ("OpenApi", is("object", "this document")),
        (
            "Event",
            object(
                "The `data` of a server-sent event.",
                &[
                    ("seq", integer("counts from 1 since the gateway started")),
                    ("time", time("when")),
                    ("dut", maybe(text("which machine"))),
                    ("kind", text("a word for programs")),
                    ("text", text("a sentence for people")),
                    ("details", is("object", "more, for programs")),
                ],
            ),
        ),
    ]
}

const DUT_STATES: &[&str] = &[
    "WAIT_FOR_CONFIG",
    "IDLE",
    "TRAINING",
    "QUEUED",
    "RUNNING",
    "RETIRED",
    "UNKNOWN",
    "QUICK_CHECK",
    "BORKED",
];

fn verdict() -> Value {
    one_of("the verdict", &["PASS", "WARN", "COMPLETE", "FAIL", "INCOMPLETE", "UNKNOWN", "SETUP_FAIL"])
}

fn machines() -> Named {
    let strings = |meaning| list(meaning, json!({"type": "string"}));
    vec![
        ("Dut", object("A machine under test.", &dut_fields())),
        (
            "Duts",
            object(
                "All machines.",
                &[
                    ("duts", map("by id", named("Dut"))),
                    ("?machines", map("the same, at the old name", named("Dut"))),
                ],
            ),
        ),
        ("Training", object("What Sergent Hartman says of a machine.", &training_fields())),
        (
            "Registration",
            request(
                "A machine, as it registers itself or is registered. From a machine itself: base_name, tags, mac_address, ip_address, local_tty_device, hardware.",
                &[
                    ("?id", text("default: the MAC address")),
                    ("?base_name", text("its kind; a new machine needs it")),
                    ("?tags", strings("what its hardware is")),
                    ("?manual_tags", strings("what a person adds")),
                    ("?mac_address", maybe(text("of the interface that it boots from"))),
                    ("?ip_address", maybe(text("its address on the private network"))),
                    (
                        "?local_tty_device",
                        maybe(text("its own name of the serial port that reaches the gateway")),
                    ),
                    ("?ready_for_service", flag("it qualified")),
                    ("?is_retired", flag("out of service by a person's wish")),
                    (
                        "?firmware_boot_time",
                        maybe(number("seconds from power on to its first network boot request")),
                    ),
                    ("?boot_sequence_power", anything("power profile of its boot")),
                    ("?hardware", maybe(is("object", "everything that it found"))),
                ],
            ),
        ),
        (
            "Registered",
            object(
                "How a registration went.",
                &[
                    ("id", text("the machine")),
                    ("created", flag("it was not known before")),
                    ("differences", strings("how it differs from what was known")),
                    ("?full_name", text("FARM-BASENAME-N")),
                    ("?dut", named("Dut")),
                ],
            ),
        ),
        (
            "DutChange",
            request(
                "What a person changes of a machine.",
                &[
                    ("?pdu_off_delay", maybe(number("seconds that it must be off"))),
                    ("?comment", maybe(text("a note"))),
                    ("?ready_for_service", flag("false: train it again")),
                    ("?is_retired", flag("out of service")),
                    ("?manual_tags", strings("tags that a person adds")),
                    ("?firmware_boot_time", maybe(number("seconds"))),
                    ("?boot_sequence_power", anything("power profile of its boot")),
                ],
            ),
        ),
        (
            "Retired",
            object(
                "It is out of service.",
                &[("id", text("which")), ("cancelled", flag("a job of it was ended"))],
            ),
        ),
        ("Discovery", is("object", "the discovery that runs; empty when none does")),
        (
            "FullState",
            object(
                "Everything at once.",
                &[
                    ("pdus", map("by name", named("Pdu"))),
                    ("duts", map("by id", named("Dut"))),
                    ("discover", named("Discovery")),
                    ("now", time("the gateway's clock")),
                    ("farm_file_problem", maybe(text("what is wrong with the farm file, with the place"))),
                ],
            ),
        ),
    ]
}

fn dut_fields() -> Vec<(&'static str, Value)> {
    let strings = |meaning| list(meaning, json!({"type": "string"}));
    let pdu = object("", &[("name", text("the PDU")), ("port_id", text("its port"))]);
    let logs = object("", &[("host", text("name or address")), ("port", integer("TCP port; 0: not known"))]);
    vec![
        ("id", text("its key in the farm file")),
        ("state", one_of("where it stands", DUT_STATES)),
        ("state_reason", text("why, and what it waits for")),
        ("state_since", time("since when")),
        ("ready_for_service", flag("it qualified")),
        ("has_pdu_assigned", flag("a PDU and port are set")),
        ("local_tty_device", maybe(text("its own name of the serial port that reaches the gateway"))),
        ("tags", strings("what its hardware is")),
        ("manual_tags", strings("what a person added")),
        ("base_name", text("its kind")),
        ("full_name", text("FARM-BASENAME-N")),
        ("mac_address", maybe(text("of the interface that it boots from"))),
        ("ip_address", maybe(text("its address on the private network"))),
        ("is_retired", flag("out of service by a person's wish")),
        ("training", named("Training")),
        ("pdu", maybe(pdu)),
        ("pdu_off_delay", number("seconds that it must be off before it is switched on again")),
        ("firmware_boot_time", maybe(number("seconds from power on to its first network boot request"))),
        ("boot_sequence_power", anything("power profile of its boot")),
        ("comment", maybe(text("a person's note"))),
        ("logs_endpoint", logs),
    ]
}

fn training_fields() -> Vec<(&'static str, Value)> {
    let boot = object(
        "A boot.",
        &[
            ("status", maybe(verdict())),
            ("seconds_elapsed", number("its length")),
            ("has_log", flag("its console can be read")),
            ("cause", text("why the verdict is what it is")),
        ],
    );
    vec![
        ("state", one_of("what goes on", &["IDLE", "ENROLLING", "QUICK_CHECK", "REGISTRATION_FAILED"])),
        ("is_active", flag("a boot of it runs or is due")),
        ("is_registered", flag("the registration at its start was done")),
        ("boot_loop_counts", integer("how many boots it takes")),
        ("qualifying_rate", integer("how many of them must pass")),
        ("current_loop_count", integer("how many are done")),
        ("statuses", map("number of boots by verdict", json!({"type": "integer"}))),
        ("loops", list("each boot, the first first", boot)),
    ]
}

fn power() -> Named {
    vec![
        ("Pdus", object("All PDUs.", &[("pdus", map("by name", named("Pdu")))])),
        (
            "Pdu",
            object(
                "A PDU.",
                &[
                    ("ports", map("by id", named("Port"))),
                    (
                        "state",
                        one_of(
                            "how the gateway stands with it",
                            &["CREATED", "INITIALIZING", "ERROR", "STOPPED", "OK"],
                        ),
                    ),
                    ("error", maybe(text("what is wrong"))),
                ],
            ),
        ),
        (
            "Port",
            object(
                "A port.",
                &[
                    ("label", text("the PDU's own name of it")),
                    ("min_off_time", number("seconds that it must stay off")),
                    ("state", one_of("as last seen", &["UNKNOWN", "OFF", "ON", "REBOOT"])),
                    ("last_shutdown", maybe(time("when it was last switched off"))),
                    ("last_polled", maybe(time("when its state was last read"))),
                    ("reserved", flag("not to be touched by the gateway")),
                    ("instant_power", maybe(number("watts, where it is measured"))),
                    (
                        "energy",
                        maybe(number("joules since the PDU was first contacted, where it is measured")),
                    ),
                    ("cycles", integer("how often it was seen to go from OFF to ON: relays wear")),
                    ("alarm", maybe(text("what is dangerously wrong with it: an OFF that is not confirmed"))),
                ],
            ),
        ),
        (
            "PortChange",
            request(
                "What an operator changes of a port: at least one of them.",
                &[
                    ("?state", one_of("switch it", &["ON", "OFF"])),
                    (
                        "?reserved",
                        json!({"description": "the gateway may not switch it", "enum": [true, false, "true", "false"]}),
                    ),
                    ("?min_off_time", number("seconds that it must stay off")),
                ],
            ),
        ),
    ]
}

fn runs() -> Named {
    let mut detail = run_fields();
    detail.extend([
        ("attempts", list("the boots that it took, the first first", is("object", "a boot"))),
        ("phases", list("where its time went", phase())),
        ("console_bytes", integer("bytes of console so far")),
        ("clients", integer("clients that are connected to it")),
        ("why", json!({"anyOf": [named("Why"), {"type": "null"}]})),
    ]);
    let ticket = object(
        "",
        &[("id", integer("number of the run")), ("resume_token", text("with it the client can come back"))],
    );
    let machine = object(
        "A machine that could run it.",
        &[
            ("dut", text("its id")),
            ("full_name", text("FARM-BASENAME-N")),
            ("state", one_of("where it stands", DUT_STATES)),
            ("reason", text("why")),
            ("run", maybe(integer("the run that it is busy with"))),
        ],
    );
    vec![
        ("Run", object("A run.", &run_fields())),
        ("Runs", object("Runs.", &[("jobs", list("the newest first", named("Run")))])),
        ("RunDetail", object("All of a run.", &detail)),
        (
            "Why",
            object(
                "What a run waits for.",
                &[
                    ("reason", text("in a sentence")),
                    ("place", maybe(integer("its place in the queue, from 1"))),
                    ("estimate_seconds", maybe(number("how long it may still wait"))),
                    ("machines", list("those that could run it", machine)),
                ],
            ),
        ),
        ("Cancelled", object("It is told to end.", &[("id", integer("number of the run"))])),
        ("Metadata", object("What goes with a job.", &metadata_fields())),
        (
            "SubmitReply",
            object(
                "The job is accepted.",
                &[("version", json!({"const": 1})), ("error_msg", text("empty")), ("?run", ticket)],
            ),
        ),
        (
            "SubmitRefused",
            object(
                "The job is not accepted.",
                &[("version", json!({"const": 1})), ("error_msg", text("why")), ("error", text("why"))],
            ),
        ),
    ]
}

fn run_fields() -> Vec<(&'static str, Value)> {
    let causes =
        "test_passed, test_failed, job_error, infrastructure, configuration, cancelled, timeout or bug";
    vec![
        ("id", integer("its number")),
        ("kind", text("job, registration, training or quick_check")),
        ("state", one_of("where it stands", &["queued", "active", "finished"])),
        ("phase", maybe(text("what goes on: setup, powering_on, firmware, booting, session or teardown"))),
        ("name", text("name of the job's file")),
        ("job_id", maybe(text("the submitter's own name for it"))),
        ("dut", maybe(text("its machine"))),
        ("priority", one_of("how much it matters in the queue", &["low", "default", "high"])),
        ("submitter", text("a token's name, `local`, or an address")),
        ("created", time("when it was accepted")),
        ("started", maybe(time("when it got its machine"))),
        ("ended", maybe(time("when it got its verdict"))),
        ("status", maybe(verdict())),
        ("cause", maybe(text(causes))),
        ("summary", maybe(text("why, in a sentence"))),
    ]
}

fn phase() -> Value {
    object(
        "A part of a run.",
        &[
            ("boot", maybe(integer("which boot, from 1"))),
            ("phase", text("its name")),
            ("begun", time("when it began")),
            ("seconds", maybe(number("its length"))),
        ],
    )
}

fn metadata_fields() -> Vec<(&'static str, Value)> {
    let strings = || json!({"type": "string"});
    let target = object(
        "",
        &[("?id", maybe(text("id or full name"))), ("?tags", maybe(list("all of these", strings())))],
    );
    let callback = object(
        "",
        &[
            ("?host", maybe(text("default: where the request came from"))),
            ("?port", maybe(integer("where the client listens"))),
        ],
    );
    let credentials =
        object("", &[("?access_key", maybe(text("user"))), ("?secret_key", maybe(text("password")))]);
    let minio = object(
        "",
        &[("?credentials", maybe(credentials)), ("?groups", maybe(list("not supported yet", strings())))],
    );
    vec![
        ("version", json!({"const": 1})),
        ("?job_id", maybe(text("your own name for the job"))),
        ("?job_cookie", maybe(text("credential of a forge's runner"))),
        ("?job_desc_url", maybe(text("https:// URL of the job, instead of the part `job`"))),
        ("?target", maybe(target)),
        ("?callback", maybe(callback)),
        ("?minio", maybe(minio)),
        ("?environ", maybe(map("the template variable `environ`", strings()))),
        ("?wait", maybe(flag("wait in the queue for a machine"))),
        ("?priority", maybe(one_of("how much it matters in the queue", &["low", "default", "high"]))),
        ("?detach", maybe(flag("the run goes on when its client leaves"))),
        ("?ignore_deadline", maybe(flag("run it although its deadline has passed"))),
    ]
}

fn administration() -> Named {
    let role = || one_of("what it allows", &["viewer", "user", "admin"]);
    let name = || text("its name: up to 64 letters, digits, dashes, dots, underscores; a letter first");
    let entry = object(
        "Somebody did something.",
        &[
            ("id", integer("counts up")),
            ("at", time("when")),
            ("who", text("a token's name, `local`, or an address")),
            ("from", text("the address it came from")),
            (
                "what",
                text(
                    "submit, attach, cancel, retire, activate, quick-check, port, discover, dut-register, dut-change, dut-forget, token-add, token-revoke, or refused",
                ),
            ),
            ("details", is("object", "the request and the status of its answer, and more")),
        ],
    );
    let token = object(
        "A token.",
        &[
            ("name", text("its name")),
            ("role", role()),
            ("created", time("when it was made")),
            ("used", maybe(time("when it was last used, to the minute"))),
        ],
    );
    vec![
        ("AuditPage", object("A page of the audit log.", &[("entries", list("the newest first", entry))])),
        ("TokenList", object("All tokens.", &[("tokens", list("by name", token))])),
        ("NewToken", request("A token that shall be.", &[("name", name()), ("role", role())])),
        (
            "MadeToken",
            object(
                "A new token.",
                &[
                    ("name", text("its name")),
                    ("role", role()),
                    ("secret", text("what its owner sends; shown this once")),
                ],
            ),
        ),
        ("Revoked", object("It lets nobody in any more.", &[("name", text("the token"))])),
    ]
}
