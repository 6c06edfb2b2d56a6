//! The peer's hash over what the peer looks at, byte for byte, so that both can work on a Secret in turn without either
//! taking the other's for outdated: going back costs no token.

use aws_lc_rs::digest;

use crate::{
    binding::{ApiVersion, Binding},
    crd::AcrPullBindingSpec,
};

/// The peer's hash of a binding: base 36 of SHA-224 over a plain concatenation, another one for each API.
pub fn peer(binding: &Binding) -> String {
    let text = match binding.api {
        ApiVersion::V1Beta2 => current(&binding.spec),
        ApiVersion::V1Beta1 => older(&binding.spec),
    };
    base36_sha224(text.as_bytes())
}

fn current(spec: &AcrPullBindingSpec) -> String {
    let mut text = spec.service_account_name.clone();
    if let Some(identity) = &spec.auth.managed_identity {
        text.push_str("managedIdentity");
        text.push_str(identity.resource_id.as_deref().unwrap_or_default());
        text.push_str(identity.client_id.as_deref().unwrap_or_default());
    }
    if let Some(identity) = &spec.auth.workload_identity {
        text.push_str("workloadIdentity");
        text.push_str(&identity.service_account_ref);
    }
    text.push_str(spec.acr.environment.as_str());
    text.push_str(&spec.acr.server);
    text.push_str(&spec.acr.scope);
    text
}

/// Each field after its default, and the identity that is not used as well.
fn older(spec: &AcrPullBindingSpec) -> String {
    let mut text = String::new();
    if let Some(identity) = &spec.auth.managed_identity {
        text.push_str(identity.client_id.as_deref().unwrap_or_default());
        text.push_str(identity.resource_id.as_deref().unwrap_or_default());
    }
    text.push_str(&spec.acr.server);
    text.push_str(&spec.acr.scope);
    text
}

/// SHA-224 as one big-endian integer in base 36, without leading zeros.
pub fn base36_sha224(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number: Vec<u8> = digest::digest(&digest::SHA224, bytes).as_ref().to_vec();
    let mut text: Vec<u8> = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u16;
        for byte in &mut number {
            let value = remainder * 256 + u16::from(*byte);
            // value < 36 * 256, so the quotient fits.
            *byte = u8::try_from(value / 36).unwrap_or(u8::MAX);
            remainder = value % 36;
        }
        text.extend(DIGITS.get(usize::from(remainder)));
    }
    text.iter().rev().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        binding::Defaults,
        crd::{ManagedIdentityAuth, v1beta1},
        samples::{binding, managed_identity_spec, workload_identity_spec},
    };

    const PULLER: &str = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";

    /// The hashes are those in Secrets that the peer wrote.
    #[test]
    fn peer_hash_is_the_one_in_secrets_that_the_peer_wrote() {
        let mut spec = workload_identity_spec();
        spec.acr.server = "reg0.azurecr.io".to_owned();
        spec.acr.scope = "repository:team/web:pull".to_owned();
        spec.service_account_name = "web".to_owned();
        spec.auth.workload_identity.as_mut().unwrap().service_account_ref = "web".to_owned();
        // What the peer does not know does not count.
        spec.service_account_names = vec!["batch".to_owned()];
        assert_eq!(
            peer(&binding("web", spec)),
            "2oogt63eqz2p23eyuyjwthlid5iw0vnthnvtom3zn9ax"
        );

        let mut spec = managed_identity_spec();
        spec.acr.server = "reg1.azurecr.io".to_owned();
        spec.acr.scope = "repository:team/batch:pull".to_owned();
        spec.service_account_name = "batch".to_owned();
        spec.auth.managed_identity = Some(ManagedIdentityAuth {
            client_id: Some("33333333-3333-3333-3333-000000000002".to_owned()),
            resource_id: None,
        });
        assert_eq!(
            peer(&binding("batch", spec)),
            "2qwxrlqgrwss3u2y4z7fdgjmw49xbgwfamhsb50wgl3z"
        );
    }

    fn older_peer(defaults: &Defaults, server: &str, client_id: &str, resource_id: &str) -> String {
        let spec = v1beta1::AcrPullBindingSpec {
            acr_server: server.to_owned(),
            scope: Some(String::new()),
            managed_identity_client_id: Some(client_id.to_owned()),
            managed_identity_resource_id: Some(resource_id.to_owned()),
            service_account_name: None,
        };
        peer(&defaults.complete(v1beta1::AcrPullBinding::new("legacy", spec)))
    }

    #[test]
    fn peer_hash_of_the_older_api_is_the_one_in_secrets_that_the_peer_wrote() {
        const CLIENT: &str = "33333333-3333-3333-3333-000000000003";
        const BY_CLIENT: &str = "193ezgqrkoagit5zvfy5880d7gbno8f2kwxfcskv4b2d";
        const BY_RESOURCE: &str = "1kxn1vg45ploi9g35sb120dlb0y22gx33hhdqek8ywt5";
        let none = Defaults::default();
        assert_eq!(older_peer(&none, "reg2.azurecr.io", CLIENT, ""), BY_CLIENT);
        assert_eq!(older_peer(&none, "reg2.azurecr.io", "", PULLER), BY_RESOURCE);
        let slashes = format!("{PULLER}//");
        assert_eq!(older_peer(&none, "reg2.azurecr.io", "", &slashes), BY_RESOURCE);
        let defaults = Defaults {
            acr_server: "reg2.azurecr.io".to_owned(),
            managed_identity_client_id: CLIENT.to_owned(),
            managed_identity_resource_id: String::new(),
        };
        assert_eq!(
            older_peer(&defaults, "", "", ""),
            BY_CLIENT,
            "what is left out counts as its default"
        );
    }
}
