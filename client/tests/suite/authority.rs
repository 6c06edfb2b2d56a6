//! Certificates for replicas: the name is the product's, the address is not in them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tonic::transport::Identity;

/// The host that clients are told, and that certificates name.
pub(crate) const HOST: &str = "acrpull-broker-headless.acrpull-system.svc";

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that nobody trusts yet.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "acrpull test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// What clients are told to trust.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `host` and its key.
    pub(crate) fn issue(&self, host: &str) -> Identity {
        let (certificate, key) = self.issue_pem(host);
        Identity::from_pem(certificate, key)
    }

    /// The same as text.
    pub(crate) fn issue_pem(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
