//! The broker's certificate, the syncer's, and the authorities that are told to be trusted: fresh for every stack.

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

/// Signs the certificates that callers prove themselves with.
pub struct ClientAuthority(Authority);

/// A caller's certificate. PEM.
pub struct ClientCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl ServerCertificate {
    /// Issues a certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// A name cannot be in a certificate.
    pub fn issue(names: &[&str]) -> anyhow::Result<Self> {
        let authority = authority("acrpull test CA")?;
        let (certificate_pem, key_pem) = issue(
            &authority,
            names,
            "acrpull-broker",
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        Ok(Self {
            ca_pem: authority.pem(),
            certificate_pem,
            key_pem,
        })
    }
}

impl ClientAuthority {
    /// A new one.
    ///
    /// # Errors
    /// There are no keys to be had.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(authority("acrpull test client CA")?))
    }

    /// To be trusted by the broker.
    pub fn ca_pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for a caller with this DNS name.
    ///
    /// # Errors
    /// The name cannot be in a certificate.
    pub fn issue(&self, name: &str) -> anyhow::Result<ClientCertificate> {
        let (certificate_pem, key_pem) = issue(&self.0, &[name], name, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(ClientCertificate {
            certificate_pem,
            key_pem,
        })
    }
}

fn authority(name: &str) -> anyhow::Result<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("failed to make the CA's key")?;
    CertifiedIssuer::self_signed(params, key).context("failed to make the CA")
}

/// Certificate and key, PEM.
fn issue(
    authority: &Authority,
    names: &[&str],
    common_name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<(String, String)> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).context("failed to name the certificate")?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("failed to make the certificate's key")?;
    let certificate = params
        .signed_by(&key, authority)
        .context("failed to sign the certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}
