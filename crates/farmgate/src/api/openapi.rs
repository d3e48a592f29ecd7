//! The API as an OpenAPI 3.1 document, made of the table of endpoints and of the schemas.

use axum::Json;
use serde_json::{Map, Value, json};

use super::{
    endpoints::{Answers, ENDPOINTS, Endpoint, Takes},
    roles::Need,
    schemas,
};

/// GET `openapi.json`.
pub async fn serve() -> Json<Value> {
    Json(document())
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        // OpenAPI has no parameter that spans slashes.
        let path = endpoint.path.replace("{*", "{");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[endpoint.method.to_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "farmgate",
            "version": "1",
            "summary": "A bare-metal CI gateway: powers, boots, watches and shares test machines.",
            "description": "Repeated slashes are one, and a last one is none. `machine` and `machines` are deprecated names of `dut` and `duts` in every path. Callers on the gateway's own host, and on networks that its settings trust, need no token.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://10.42.0.1", "description": "The default address of a gateway on its private network."}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `farmgate token add`."},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the password is the token."},
                "resume": {"type": "apiKey", "in": "header", "name": "Farmgate-Resume", "description": "The token that came with the submission: for its run alone."},
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut text = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "description": format!("Needs the role: {}.", endpoint.need.in_words()),
        "parameters": parameters(endpoint),
        "responses": responses(endpoint),
    });
    if endpoint.path == "/api/v1/machines" {
        text["deprecated"] = true.into();
    }
    if matches!(endpoint.need, Need::OwnRun | Need::SeeRun) {
        text["security"] = json!([{"bearer": []}, {"basic": []}, {"resume": []}]);
    }
    match endpoint.takes {
        Takes::Nothing => {}
        Takes::Json(schema) => {
            text["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}});
        }
        Takes::Submission => text["requestBody"] = submission(),
    }
    text
}

/// `get_dut_id_quick_check`.
fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.trim_start_matches("/api/v1/").replace(['{', '}', '*'], "");
    let words: Vec<&str> = path.split(['/', '.']).filter(|word| !word.is_empty()).collect();
    format!("{}_{}", endpoint.method.to_lowercase(), words.join("_"))
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        let name = name.trim_start_matches('*');
        let (kind, meaning) = path_parameter(endpoint.path, name);
        json!({"name": name, "in": "path", "required": true, "schema": {"type": kind}, "description": meaning})
    });
    let behind = endpoint.parameters.iter().map(|(name, kind, meaning)| {
        json!({"name": name, "in": "query", "schema": {"type": kind}, "description": meaning})
    });
    in_path.chain(behind).collect()
}

fn path_parameter(path: &str, name: &str) -> (&'static str, &'static str) {
    match name {
        "id" if path.starts_with("/api/v1/job/") => ("integer", "number of the run"),
        "id" => ("string", "id or full name of the machine"),
        "n" => ("integer", "which boot of the training, from 0"),
        "port" => ("string", "id of the port"),
        "name" if path.starts_with("/api/v1/token/") => ("string", "name of the token"),
        "name" => ("string", "name of the PDU"),
        "mac" => ("string", "MAC address of the machine"),
        _ => ("string", "path of the file below BOOTS_TFTP_ROOT"),
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn json_body(description: &str, schema: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": reference(schema)}}})
}

fn responses(endpoint: &Endpoint) -> Value {
    let mut all = json!({});
    match endpoint.answers {
        Answers::Json(schema) => all["200"] = json_body("Done.", schema),
        Answers::Bytes(kind) => {
            let schema = if kind.starts_with("text/") { json!({"type": "string"}) } else { json!({}) };
            all["200"] = json!({"description": "Here it is.", "content": {kind: {"schema": schema}}});
        }
        Answers::Console(schema) => {
            all["101"] = json!({"description": "The console protocol, version 1, runs on this connection from now on.",
            "headers": {
                "Ci_tron_version": {"schema": {"type": "string", "const": "1"}},
                "Farmgate-Run": {"description": "Number of the run.", "schema": {"type": "string"}},
                "Farmgate-Resume": {"description": "With this the client can come back.", "schema": {"type": "string"}},
            }});
            if let Some(schema) = schema {
                all["200"] = json_body("Accepted; the gateway calls the client back.", schema);
            }
        }
        Answers::NotYet => {}
    }
    let refused = if endpoint.takes == Takes::Submission { "SubmitRefused" } else { "Error" };
    let general = [
        (401, "a token is needed, or the one that was sent is not valid"),
        (403, "the caller's role is not enough; the text names the one that is needed"),
        (408, "the request was not sent, or not done, in time"),
        (429, "too many refused requests from this address; Retry-After says how long to wait"),
    ];
    for (status, when) in general.iter().chain(endpoint.refusals) {
        let schema = if general.iter().any(|(s, _)| s == status) { "Error" } else { refused };
        let text = match all[status.to_string()]["description"].as_str() {
            Some(before) => format!("{before}; or {when}"),
            None => (*when).to_owned(),
        };
        all[status.to_string()] = json_body(&text, schema);
    }
    all
}

fn submission() -> Value {
    json!({
        "required": true,
        "content": {"multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["metadata"],
                "properties": {
                    "metadata": reference("Metadata"),
                    "job": {"type": "string", "description": "The job description. Either this or metadata.job_desc_url."},
                },
                "additionalProperties": {"description": "Every other part is an attached artifact, which is refused today."},
            },
            "encoding": {
                "metadata": {"contentType": "application/json"},
                "job": {"contentType": "application/x-yaml"},
            },
        }},
    })
}
