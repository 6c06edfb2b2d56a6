//! What must hold between the messages of the contract, by their descriptors.

use prost_types::{DescriptorProto, FieldDescriptorProto, field_descriptor_proto::Type};

fn messages() -> impl Iterator<Item = &'static DescriptorProto> {
    proto::descriptors()
        .file
        .iter()
        .filter(|file| file.package() == "acrpull.broker.v1")
        .flat_map(|file| &file.message_type)
}

fn message(name: &str) -> &'static DescriptorProto {
    messages()
        .find(|message| message.name() == name)
        .expect("the message must exist")
}

#[test]
fn access_token_request_is_a_docker_config_request() {
    type Shape<'a> = (&'a str, i32, Option<i32>, Option<i32>, &'a str, Option<i32>);
    fn shape(field: &FieldDescriptorProto) -> Shape<'_> {
        (
            field.name(),
            field.number(),
            field.label,
            field.r#type,
            field.type_name(),
            field.oneof_index,
        )
    }
    let fields = |name| message(name).field.iter().map(shape).collect::<Vec<_>>();
    assert_eq!(fields("GetAccessTokenRequest"), fields("GetDockerConfigRequest"));
}

/// The JSON writer of the broker relies on it (AIP-142).
#[test]
fn fields_that_are_times_are_those_called_time() {
    for message in messages() {
        for field in &message.field {
            let is_time = field.type_name() == ".google.protobuf.Timestamp";
            assert_eq!(
                is_time,
                field.name().ends_with("_time"),
                "{}.{}",
                message.name(),
                field.name()
            );
        }
    }
}

#[test]
fn first_value_of_every_enum_says_nothing() {
    let files = proto::descriptors().file.iter();
    for kind in files
        .filter(|file| file.package() == "acrpull.broker.v1")
        .flat_map(|file| &file.enum_type)
    {
        let zero = kind.value.first().unwrap();
        assert!(
            zero.number() == 0 && zero.name().ends_with("_UNSPECIFIED"),
            "{}",
            kind.name()
        );
    }
}

/// Numbers never change their meaning (guarantee R5).
#[test]
fn r5_fields_of_docker_config_keep_their_numbers() {
    let numbers = |name: &str| {
        message(name)
            .field
            .iter()
            .map(|field| (field.number(), field.name().to_owned(), field.r#type()))
            .collect::<Vec<_>>()
    };
    let expected = |fields: &[(i32, &str, Type)]| {
        fields
            .iter()
            .map(|(number, name, kind)| (*number, (*name).to_owned(), *kind))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        numbers("GetDockerConfigRequest"),
        expected(&[
            (1, "binding", Type::Message),
            (2, "service_accounts", Type::String),
            (3, "registry", Type::String),
            (4, "scopes", Type::String),
            (5, "cloud", Type::Message),
            (6, "federated", Type::Message),
            (7, "broker_owned", Type::Message),
            (8, "min_remaining", Type::Message),
            (9, "held", Type::Message),
            (10, "rejected_fingerprint", Type::Bytes),
            (11, "force", Type::Bool),
        ])
    );
    assert_eq!(
        numbers("GetDockerConfigResponse"),
        expected(&[
            (1, "docker_config_json", Type::Bytes),
            (2, "not_modified", Type::Bool),
            (3, "expire_time", Type::Message),
            (4, "refresh_time", Type::Message),
            (5, "granted_scopes", Type::String),
            (6, "fingerprint", Type::Bytes),
            (7, "degraded", Type::Bool),
        ])
    );
}
