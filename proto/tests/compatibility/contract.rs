//! The contract as text, one line per thing that a peer relies on: a line that was recorded is never missing again.
//!
//! So no field is renumbered, renamed (JSON), retyped, or removed, and no call either. New lines are fine.

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::fixtures::{VERSIONS, fixture, record};

const FILE: &str = "contract.txt";
const PACKAGE: &str = "acrpull.broker.v1";

#[test]
fn r5_contract_of_earlier_versions_still_holds() {
    let today = lines();
    for version in VERSIONS {
        let recorded = String::from_utf8(fixture(version, FILE)).unwrap();
        for line in recorded.lines() {
            assert!(
                today.iter().any(|other| other == line),
                "version {version} promised `{line}`; peers of that version rely on it: leave it, and add beside it"
            );
        }
    }
}

#[test]
#[ignore = "records the fixtures of this version, at its release"]
fn record_contract() {
    record(FILE, format!("{}\n", lines().join("\n")).as_bytes());
}

fn lines() -> Vec<String> {
    let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut lines = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == PACKAGE) {
        file.service.iter().for_each(|service| calls(service, &mut lines));
        file.message_type
            .iter()
            .for_each(|message| fields(PACKAGE, message, &mut lines));
        file.enum_type
            .iter()
            .for_each(|enumeration| values(PACKAGE, enumeration, &mut lines));
    }
    lines.sort();
    lines
}

fn calls(service: &ServiceDescriptorProto, lines: &mut Vec<String>) {
    for method in &service.method {
        let streams = |streaming| if streaming { "stream " } else { "" };
        lines.push(format!(
            "rpc {PACKAGE}.{}/{}: {}{} -> {}{}",
            service.name(),
            method.name(),
            streams(method.client_streaming()),
            method.input_type(),
            streams(method.server_streaming()),
            method.output_type(),
        ));
    }
}

fn fields(scope: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        lines.push(format!("field {name}.{} {}", field.name(), shape(field, message)));
    }
    message
        .nested_type
        .iter()
        .for_each(|nested| fields(&name, nested, lines));
    message
        .enum_type
        .iter()
        .for_each(|nested| values(&name, nested, lines));
}

/// Number, type, whether there are several, the choice that it is part of, its name in JSON.
fn shape(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let kind = if matches!(field.r#type(), Type::Message | Type::Enum) {
        field.type_name().to_owned()
    } else {
        field
            .r#type()
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase()
    };
    let several = if field.label() == Label::Repeated {
        " repeated"
    } else {
        ""
    };
    let index = field.oneof_index.and_then(|index| usize::try_from(index).ok());
    let choice = index.and_then(|index| message.oneof_decl.get(index));
    let choice = choice
        .map(|choice| format!(" oneof={}", choice.name()))
        .unwrap_or_default();
    format!(
        "= {}: {kind}{several}{choice} json={}",
        field.number(),
        field.json_name()
    )
}

fn values(scope: &str, enumeration: &EnumDescriptorProto, lines: &mut Vec<String>) {
    for value in &enumeration.value {
        lines.push(format!(
            "value {scope}.{}.{} = {}",
            enumeration.name(),
            value.name(),
            value.number()
        ));
    }
}
