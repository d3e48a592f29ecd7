//! Short words for JSON Schema.

use serde_json::{Map, Value, json};

/// An object. A field whose name begins with `?` may be absent.
pub fn object(meaning: &str, fields: &[(&str, Value)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema) in fields {
        let bare = name.trim_start_matches('?');
        if bare == *name {
            required.push(bare);
        }
        properties.insert(bare.to_owned(), schema.clone());
    }
    json!({"type": "object", "description": meaning, "required": required, "properties": properties})
}

/// A request: what it does not name is refused.
pub fn request(meaning: &str, fields: &[(&str, Value)]) -> Value {
    let mut schema = object(meaning, fields);
    schema["additionalProperties"] = false.into();
    schema
}

/// That JSON type.
pub fn is(kind: &str, meaning: &str) -> Value {
    json!({"type": kind, "description": meaning})
}

/// A string.
pub fn text(meaning: &str) -> Value {
    is("string", meaning)
}

/// A number.
pub fn number(meaning: &str) -> Value {
    is("number", meaning)
}

/// A whole number.
pub fn integer(meaning: &str) -> Value {
    is("integer", meaning)
}

/// true or false.
pub fn flag(meaning: &str) -> Value {
    is("boolean", meaning)
}

/// Or null.
pub fn maybe(mut schema: Value) -> Value {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    match schema["type"].take() {
        Value::String(kind) => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        _ => {
            if let Some(fields) = schema.as_object_mut() {
                fields.remove("type");
            }
            json!({"anyOf": [schema, {"type": "null"}]})
        }
    }
}

/// One of some words.
pub fn one_of(meaning: &str, words: &[&str]) -> Value {
    json!({"type": "string", "description": meaning, "enum": words})
}

/// An array.
pub fn list(meaning: &str, of: Value) -> Value {
    json!({"type": "array", "description": meaning, "items": of})
}

/// An object with names that are not known before.
pub fn map(meaning: &str, of: Value) -> Value {
    json!({"type": "object", "description": meaning, "additionalProperties": of})
}

/// A schema of the document.
pub fn named(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// A point in time, ISO 8601.
pub fn time(meaning: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": meaning})
}

/// Any JSON.
pub fn anything(meaning: &str) -> Value {
    json!({"description": meaning})
}
