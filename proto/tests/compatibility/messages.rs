//! Messages and errors of earlier versions keep their meaning, and those of later ones are understood as far as possible.

use std::{collections::HashMap, fmt::Debug, time::Duration};

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use proto::{ERROR_DOMAIN, Reason, v1::GetDockerConfigRequest};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    fixtures::{VERSIONS, fixture, record},
    samples,
};

/// No message will ever have a field of this number.
const FAR_FIELD: u32 = 4000;
const STATUS: &str = "status.registry_unauthorized.binpb";
const REQUEST_ID: &str = "1b461305-28be-5271-beda-bd9fd2e24251";
const WAIT: Duration = Duration::from_secs(15);

fn keeps_its_meaning<M>(samples: &[(&str, M)])
where
    M: Message + Debug + Default + PartialEq + Serialize + DeserializeOwned,
{
    for version in VERSIONS {
        for (name, meaning) in samples {
            let binary = fixture(version, &format!("{name}.binpb"));
            assert_eq!(
                &M::decode(binary.as_slice()).unwrap(),
                meaning,
                "{version} {name}"
            );
            let json = fixture(version, &format!("{name}.json"));
            assert_eq!(
                &serde_json::from_slice::<M>(&json).unwrap(),
                meaning,
                "{version} {name}"
            );
            // The other way round: what today's version sends says nothing that the earlier one would miss.
            assert_eq!(meaning.encode_to_vec(), binary, "{version} {name}");
        }
    }
}

#[test]
fn r5_messages_of_earlier_versions_keep_their_meaning() {
    keeps_its_meaning(&samples::requests());
    keeps_its_meaning(&samples::responses());
}

#[test]
fn r5_fields_of_a_newer_peer_are_ignored_in_binary() {
    for (name, meaning) in samples::requests() {
        let mut bytes = Vec::new();
        encode_key(FAR_FIELD, WireType::LengthDelimited, &mut bytes);
        encode_varint(3, &mut bytes);
        bytes.extend(b"new");
        bytes.extend(meaning.encode_to_vec());
        encode_key(FAR_FIELD + 1, WireType::Varint, &mut bytes);
        encode_varint(u64::MAX, &mut bytes);
        assert_eq!(
            GetDockerConfigRequest::decode(bytes.as_slice()).unwrap(),
            meaning,
            "{name}"
        );
    }
}

/// People write JSON: `scope` for `scopes` would ask for all that an identity may do. So a field that this version does
/// not know is an error there; programs that must meet an older broker speak gRPC.
#[test]
fn r5_json_with_an_unknown_field_is_refused_and_not_half_understood() {
    for (name, meaning) in samples::requests() {
        let mut json = serde_json::to_value(&meaning).unwrap();
        json["scope"] = "repository:team/web:pull".into();
        let error = serde_json::from_value::<GetDockerConfigRequest>(json).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `scope`"),
            "{name}: {error}"
        );
    }
}

fn status() -> Status {
    let reason = Reason::RegistryUnauthorized;
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("azure.request_id".to_owned(), REQUEST_ID.to_owned())]);
    details.set_error_info(reason.as_wire(), ERROR_DOMAIN, metadata);
    details.set_retry_info(Some(WAIT));
    details.add_help_link(reason.title(), reason.help_url());
    Status::with_error_details(
        reason.grpc_code(),
        "the identity has no role on the registry",
        details,
    )
}

#[test]
fn r5_error_details_of_earlier_versions_keep_their_meaning() {
    for version in VERSIONS {
        let bytes = fixture(version, STATUS);
        let status = Status::with_details(Code::FailedPrecondition, "", bytes.into());
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.domain.as_str(), Reason::from_wire(&info.reason)),
            (ERROR_DOMAIN, Some(Reason::RegistryUnauthorized))
        );
        assert_eq!(info.metadata["azure.request_id"], REQUEST_ID);
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(WAIT));
        assert_eq!(
            details.help().unwrap().links[0].url,
            Reason::RegistryUnauthorized.help_url()
        );
    }
}

/// A reason has the same names, code and status in every version that knows it.
#[test]
fn r5_reasons_of_earlier_versions_are_known_and_unchanged() {
    for version in VERSIONS {
        let recorded = String::from_utf8(fixture(version, "reasons.txt")).unwrap();
        let today = reasons();
        for line in recorded.lines() {
            assert!(
                today.lines().any(|other| other == line),
                "{version} had the reason {line}"
            );
        }
    }
}

fn reasons() -> String {
    let line = |reason: &Reason| {
        let (wire, name) = (reason.as_wire(), reason.as_str());
        format!(
            "{wire} {name} {:?} {}\n",
            reason.grpc_code(),
            reason.http_status()
        )
    };
    Reason::ALL.iter().map(line).collect()
}

#[test]
#[ignore = "records the fixtures of this version, at its release"]
fn record_messages() {
    fn both<M: Message + Serialize>(samples: Vec<(&'static str, M)>) {
        for (name, message) in samples {
            record(&format!("{name}.binpb"), &message.encode_to_vec());
            let json = serde_json::to_string_pretty(&message).unwrap();
            // As the broker writes times over HTTP, and the mapping demands.
            let json = json.replace("+00:00\"", "Z\"");
            record(&format!("{name}.json"), format!("{json}\n").as_bytes());
        }
    }
    both(samples::requests());
    both(samples::responses());
    record(STATUS, status().details());
    record("reasons.txt", reasons().as_bytes());
}
