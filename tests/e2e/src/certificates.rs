//! The broker's certificate, and the CA that clients are told to trust: fresh for every stack.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate with its key, and the CA that signed it. All PEM.
#[derive(Clone)]
pub struct ServerCertificate {
    /// To be trusted by clients.
    pub ca_pem: String,
    /// To be served.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}

impl ServerCertificate {
    /// Issues a certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// A name cannot be in a certificate.
    pub fn issue(names: &[&str]) -> anyhow::Result<Self> {
        let mut authority = CertificateParams::default();
        authority
            .distinguished_name
            .push(DnType::CommonName, "acrpull test CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().context("failed to make the CA's key")?;
        let authority =
            CertifiedIssuer::self_signed(authority, authority_key).context("failed to make the CA")?;

        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut server = CertificateParams::new(names).context("failed to name the server's certificate")?;
        server
            .distinguished_name
            .push(DnType::CommonName, "acrpull-broker");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("failed to make the server's key")?;
        let certificate = server
            .signed_by(&key, &authority)
            .context("failed to sign the server's certificate")?;
        Ok(Self {
            ca_pem: authority.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}
