//! JSON Schemas (2020-12) of messages as the proto3 JSON mapping writes them, from their descriptors.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};

use super::comments::Comments;

/// Schemas of the messages that the routes use; those that a request can hold admit no other fields.
pub(super) struct Schemas<'a> {
    messages: BTreeMap<String, (&'a DescriptorProto, Vec<String>, String)>,
    enums: BTreeMap<String, (&'a EnumDescriptorProto, Vec<String>, String)>,
    asked: BTreeSet<String>,
    answered: BTreeSet<String>,
}

impl<'a> Schemas<'a> {
    pub(super) fn of(set: &'a FileDescriptorSet) -> Self {
        let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
        for file in &set.file {
            let comments = Comments::of(file);
            let full = |name: &str| format!(".{}.{name}", file.package());
            for (at, message) in file.message_type.iter().enumerate() {
                let fields = (0..message.field.len())
                    .map(|nth| comments.field(at, nth))
                    .collect();
                messages.insert(full(message.name()), (message, fields, comments.message(at)));
            }
            for (at, kind) in file.enum_type.iter().enumerate() {
                let values = (0..kind.value.len()).map(|nth| comments.value(at, nth)).collect();
                enums.insert(full(kind.name()), (kind, values, comments.enumeration(at)));
            }
        }
        Self {
            messages,
            enums,
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    /// A reference to a message of a request.
    pub(super) fn question(&mut self, name: &str) -> Value {
        let mut reached = std::mem::take(&mut self.asked);
        self.reach(name, &mut reached);
        self.asked = reached;
        reference(name)
    }

    /// A reference to a message of an answer.
    pub(super) fn answer(&mut self, name: &str) -> Value {
        let mut reached = std::mem::take(&mut self.answered);
        self.reach(name, &mut reached);
        self.answered = reached;
        reference(name)
    }

    /// The fields of a message as parameters of a query.
    pub(super) fn parameters(&self, name: &str) -> Value {
        let Some((message, texts, _text)) = self.messages.get(name) else {
            return json!([]);
        };
        let parameters = message.field.iter().zip(texts).map(|(field, text)| {
            json!({"name": field.json_name(), "in": "query", "description": text, "schema": field_schema(field, "")})
        });
        parameters.collect()
    }

    /// All schemas that were referred to.
    pub(super) fn into_components(self, problem: Value) -> Map<String, Value> {
        let mut components = Map::new();
        components.insert("Problem".to_owned(), problem);
        for name in self.asked.union(&self.answered) {
            let schema = if let Some((message, fields, text)) = self.messages.get(name) {
                message_schema(message, fields, text, self.asked.contains(name))
            } else if let Some((kind, values, text)) = self.enums.get(name) {
                enum_schema(kind, values, text)
            } else {
                continue;
            };
            components.insert(short(name).to_owned(), schema);
        }
        components
    }

    fn reach(&self, name: &str, reached: &mut BTreeSet<String>) {
        if well_known(name, "").is_some() || !reached.insert(name.to_owned()) {
            return;
        }
        if let Some((message, _fields, _text)) = self.messages.get(name) {
            for field in message.field.iter().filter(|field| !field.type_name().is_empty()) {
                self.reach(field.type_name(), reached);
            }
        }
    }
}

fn message_schema(message: &DescriptorProto, texts: &[String], text: &str, is_closed: bool) -> Value {
    let properties: Map<String, Value> = message
        .field
        .iter()
        .zip(texts)
        .map(|(field, text)| (field.json_name().to_owned(), field_schema(field, text)))
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(text));
    schema.insert("properties".to_owned(), properties.into());
    if is_closed {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    let exclusions = exclusions(message);
    if !exclusions.is_empty() {
        schema.insert("allOf".to_owned(), exclusions.into());
    }
    schema.into()
}

/// Of the fields of a `oneof`, no two.
fn exclusions(message: &DescriptorProto) -> Vec<Value> {
    let mut exclusions = Vec::new();
    for (position, field) in message.field.iter().enumerate() {
        let others = message.field.iter().skip(position + 1);
        for other in
            others.filter(|other| field.oneof_index.is_some() && other.oneof_index == field.oneof_index)
        {
            exclusions.push(json!({"not": {"required": [field.json_name(), other.json_name()]}}));
        }
    }
    exclusions
}

fn field_schema(field: &FieldDescriptorProto, text: &str) -> Value {
    if field.label() == Label::Repeated {
        return json!({"type": "array", "description": text, "items": single(field, "")});
    }
    single(field, text)
}

fn single(field: &FieldDescriptorProto, text: &str) -> Value {
    let schema = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => {
            well_known(field.type_name(), text).unwrap_or_else(|| reference(field.type_name()))
        }
        Type::Bool => json!({"type": "boolean"}),
        Type::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Type::String => json!({"type": "string"}),
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => json!({"type": "integer"}),
        Type::Uint32 | Type::Fixed32 => json!({"type": "integer", "minimum": 0}),
        // The mapping writes them as strings: a JSON number has 53 bits.
        Type::Int64 | Type::Sint64 | Type::Sfixed64 | Type::Uint64 | Type::Fixed64 => {
            json!({"type": "string", "pattern": "^-?[0-9]+$"})
        }
        Type::Float | Type::Double => json!({"type": "number"}),
    };
    described(schema, text)
}

fn described(mut schema: Value, text: &str) -> Value {
    if let (Value::Object(fields), false) = (&mut schema, text.is_empty()) {
        fields.insert("description".to_owned(), text.into());
    }
    schema
}

fn well_known(name: &str, text: &str) -> Option<Value> {
    let schema = match name {
        ".google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        ".google.protobuf.Duration" => json!({"type": "string", "pattern": "^-?[0-9]+([.][0-9]{1,9})?s$"}),
        _ => return None,
    };
    Some(described(schema, text))
}

fn enum_schema(kind: &EnumDescriptorProto, texts: &[String], text: &str) -> Value {
    let values = kind.value.iter().zip(texts);
    let meanings: Vec<String> = values
        .map(|(value, text)| format!("- `{}`: {text}", value.name()))
        .collect();
    let names: Vec<&str> = kind
        .value
        .iter()
        .map(prost_types::EnumValueDescriptorProto::name)
        .collect();
    json!({
        "type": "string",
        "description": format!("{text}\n\n{}", meanings.join("\n")),
        "enum": names,
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", short(name))})
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
