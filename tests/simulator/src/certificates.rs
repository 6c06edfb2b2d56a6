//! The simulator's own certificate authority: a certificate for whatever host a client asks for by SNI, so
//! that any registry, authority or custom suffix works without being listed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer, version};

use crate::TlsDefect;

/// Certificates are remembered for this many hosts. More would be a client that makes names up.
const REMEMBERED_HOSTS: usize = 4_096;

/// Names of the certificate for clients without SNI, which connect by address.
const WITHOUT_SNI: [&str; 2] = ["localhost", "127.0.0.1"];

/// Name in a certificate that is for another host, whichever was asked for.
const WRONG_NAME: &str = "elsewhere.example";

/// First and last year of a certificate that has expired.
const LONG_AGO: [i32; 2] = [2019, 2020];

/// Host, lower case, and what is to be wrong with its certificate.
type Wanted = (String, Option<TlsDefect>);

/// The authority and what it has issued.
pub(crate) struct Certificates {
    authority_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// Signs what no client trusts.
    stranger: Issuer<'static, KeyPair>,
    /// One key serves every host: what is tested is names and trust, not key hygiene.
    host_key: KeyPair,
    issued: Mutex<HashMap<Wanted, Arc<ServerConfig>>>,
}

impl Certificates {
    /// Makes a new authority.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let (authority_pem, issuer) = authority("Azure simulator")?;
        Ok(Self {
            authority_pem,
            issuer,
            stranger: authority("Nobody in particular")?.1,
            host_key: KeyPair::generate().context("failed to generate the key of the hosts")?,
            issued: Mutex::default(),
        })
    }

    /// The authority's certificate, to be trusted by clients.
    pub(crate) fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// How to serve a client that asks for `host`, with what is to be wrong with the certificate.
    pub(crate) fn server_config(
        &self,
        host: Option<&str>,
        defect: Option<TlsDefect>,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let wanted = (host.unwrap_or_default().to_ascii_lowercase(), defect);
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = issued.get(&wanted) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.issue(host, defect)?);
        if issued.len() < REMEMBERED_HOSTS {
            issued.insert(wanted, Arc::clone(&config));
        }
        Ok(config)
    }

    fn issue(&self, host: Option<&str>, defect: Option<TlsDefect>) -> anyhow::Result<ServerConfig> {
        let host = match defect {
            Some(TlsDefect::WrongName) => Some(WRONG_NAME),
            _ => host,
        };
        let names = host.map_or_else(
            || WITHOUT_SNI.map(str::to_owned).to_vec(),
            |host| vec![host.to_owned()],
        );
        let mut params =
            CertificateParams::new(names).with_context(|| format!("{host:?} cannot be in a certificate"))?;
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        if defect == Some(TlsDefect::Expired) {
            (params.not_before, params.not_after) = LONG_AGO.map(|year| date_time_ymd(year, 1, 1)).into();
        }
        let issuer = match defect {
            Some(TlsDefect::Untrusted) => &self.stranger,
            _ => &self.issuer,
        };
        let certificate = params
            .signed_by(&self.host_key, issuer)
            .context("failed to sign a host's certificate")?;
        let key = PrivateKeyDer::Pkcs8(self.host_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .context("TLS 1.2 and 1.3 are not available")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("a host's certificate does not fit its key")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A new authority: its certificate, and what it signs with.
fn authority(name: &str) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate().context("failed to generate the key of the certificate authority")?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params
        .self_signed(&key)
        .context("failed to sign the certificate authority")?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}
