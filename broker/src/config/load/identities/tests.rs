//! Each source in the form in which people write it, and each combination that could never work.

use std::path::{Path, PathBuf};

use runtime::file_watch::ReadFiles;

use super::*;

const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const CLIENT: &str = "33333333-3333-3333-3333-000000000001";

fn load(rest: &str) -> Result<Arc<Identity>, ConfigError> {
    let text = format!("name: web\ntenant: {TENANT}\n{rest}");
    let folder = Folder {
        path: PathBuf::from("/etc/acrpull-broker"),
        files: ReadFiles::default(),
    };
    let declared = serde_saphyr::from_str(&text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    identity(&folder, "identities[0]", declared, &Clouds::new(Vec::new()))
}

fn refusal(rest: &str) -> String {
    load(rest).unwrap_err().to_string()
}

#[test]
fn identity_source_has_a_word_or_a_file() {
    let by_imds = load(&format!("clientId: {CLIENT}\nsource: imds")).unwrap();
    assert_eq!(by_imds.source, IdentitySource::Imds);
    assert_eq!(by_imds.own_audience(), "https://containerregistry.azure.net");
    for (file, expected) in [
        ("/var/run/secrets/azure/token", "/var/run/secrets/azure/token"),
        ("azure/token", "/etc/acrpull-broker/azure/token"),
    ] {
        let text = format!("clientId: {CLIENT}\nsource: {{projectedToken: {{file: {file}}}}}");
        let expected = IdentitySource::ProjectedToken {
            file: Path::new(expected).to_owned(),
            client: CLIENT.parse().unwrap(),
        };
        assert_eq!(load(&text).unwrap().source, expected);
    }
}

#[test]
fn identity_application_is_become_with_the_audience_of_its_cloud() {
    for (cloud, audience) in [
        ("PublicCloud", "api://AzureADTokenExchange"),
        ("USGovernmentCloud", "api://AzureADTokenExchangeUSGov"),
        ("ChinaCloud", "api://AzureADTokenExchangeChina"),
    ] {
        let text = format!(
            "clientId: {CLIENT}\ncloud: {cloud}\nsource: imds\napplication: {{tenant: fabrikam.example, clientId: {CLIENT}}}"
        );
        let identity = load(&text).unwrap();
        assert_eq!(identity.own_audience(), audience);
        assert_eq!(
            identity.application.as_ref().unwrap().tenant.as_str(),
            "fabrikam.example"
        );
    }
}

#[test]
fn identity_that_could_never_work_is_refused_by_its_field() {
    let application = format!("application: {{tenant: {TENANT}, clientId: {CLIENT}}}");
    let projected = "source: {projectedToken: {file: token}}";
    for (rest, named) in [
        (
            format!(
                "resourceId: /subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web\n{projected}"
            ),
            "identities[0].clientId: set it",
        ),
        (
            format!("clientId: {CLIENT}\nsource: {{projectedToken: {{file: ''}}}}"),
            "identities[0].source.projectedToken.file",
        ),
        (
            format!("clientId: {CLIENT}\nsource: {{projectedToken: {{}}}}"),
            "file",
        ),
        (
            format!("clientId: {CLIENT}\nsource: {{projectedToken: {{file: a, audience: b}}}}"),
            "audience",
        ),
        (
            format!("clientId: {CLIENT}\nsource: projectedToken"),
            "projectedToken",
        ),
        (
            format!("clientId: {CLIENT}\n{projected}\n{application}"),
            "identities[0].application: goes with source imds only",
        ),
        (
            format!("clientId: {CLIENT}\nsource: imds\napplication: {{tenant: common, clientId: {CLIENT}}}"),
            "identities[0].application.tenant",
        ),
        (
            format!("clientId: {CLIENT}\nsource: imds\napplication: {{tenant: {TENANT}, clientId: web}}"),
            "identities[0].application.clientId",
        ),
        (
            format!("clientId: {CLIENT}\nsource: imds\napplication: {{tenant: {TENANT}}}"),
            "clientId",
        ),
    ] {
        let text = refusal(&rest);
        assert!(text.contains(named), "{rest}: {text}");
    }
}

#[test]
fn identity_application_in_a_cloud_without_an_audience_for_it_is_refused() {
    let cloud = Cloud {
        name: "airgap-1".into(),
        authority: "https://login.airgap.example".parse().unwrap(),
        registry_suffixes: vec!["azurecr.airgap.example".to_owned()],
        registry_audience: "https://containerregistry.azure.net".to_owned(),
        federation_audience: None,
    };
    let application = file::Application {
        tenant: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
    };
    let error = application_of("identities[0]", application, &IdentitySource::Imds, &cloud).unwrap_err();
    assert_eq!(
        error.to_string(),
        "identities[0].application: set federationAudience of cloud airgap-1: it has none built in"
    );
}
