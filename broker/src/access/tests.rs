//! The table against what is served, and roles against the configuration.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;

fn methods(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                paths.insert(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    paths
}

#[test]
fn a5_table_lists_every_grpc_method_and_no_other() {
    let health = FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
    let mut served = methods(proto::descriptors());
    served.extend(methods(&health));
    let listed: Vec<&str> = TABLE.iter().filter_map(|rule| rule.grpc).collect();
    assert_eq!(listed.len(), served.len());
    assert_eq!(served, listed.iter().map(|path| (*path).to_owned()).collect());
}

#[test]
fn a5_table_has_one_row_per_call_and_route() {
    for (position, rule) in TABLE.iter().enumerate() {
        assert!(rule.grpc.is_some() || rule.http.is_some());
        assert!(rule.max_message_bytes <= MAX_MESSAGE_BYTES);
        for other in TABLE.iter().skip(position + 1) {
            assert_ne!(rule.call, other.call);
            assert!(rule.http.is_none() || rule.http != other.http);
        }
    }
}

#[test]
fn a5_only_health_and_the_description_are_for_anybody() {
    for rule in &TABLE {
        let is_public = matches!(rule.call, Call::HealthCheck | Call::HealthWatch | Call::OpenApi);
        assert_eq!(rule.admits == Admits::Anybody, is_public, "{:?}", rule.call);
    }
}

#[test]
fn a5_request_that_is_not_listed_is_told_why() {
    use WireFormat::{Grpc, Http};
    let unlisted = |wire, method: Method, path: &str| find(wire, &method, path).unwrap_err();
    let allows = |methods: &str| Unlisted::Method(methods.to_owned());
    let grpc_path = "/acrpull.broker.v1.CredentialService/Explain";
    assert_eq!(unlisted(Http, Method::POST, "/v1/nothing"), Unlisted::Path);
    assert_eq!(unlisted(Http, Method::POST, "/v1/docker-config/"), Unlisted::Path);
    assert_eq!(unlisted(Http, Method::GET, "/v1/docker-config"), allows("POST"));
    assert_eq!(
        unlisted(Http, Method::OPTIONS, "/v1/clusters"),
        allows("GET, HEAD")
    );
    assert_eq!(unlisted(Http, Method::POST, grpc_path), Unlisted::NotGrpc);
    assert_eq!(unlisted(Http, Method::GET, grpc_path), allows("POST"));
    assert_eq!(unlisted(Grpc, Method::GET, grpc_path), Unlisted::Path);
    assert_eq!(unlisted(Grpc, Method::POST, "/v1/docker-config"), Unlisted::Path);
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(unlisted(Grpc, Method::POST, reflection), Unlisted::Path);
    assert_eq!(
        find(Http, &Method::HEAD, "/v1/clusters").unwrap().call,
        Call::ListClusters
    );
}
