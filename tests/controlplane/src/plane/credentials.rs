//! The keys and certificates of one control plane, all fresh: two planes share nothing and refuse each other.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use uuid::Uuid;

/// The length of a line of PEM, in characters (RFC 7468 section 2).
const PEM_LINE_LENGTH: usize = 64;

/// The names that the API server is called by, as in a cluster.
const SERVER_NAMES: [&str; 7] = [
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    super::SERVICE_ADDRESS,
];

/// The files that the processes are started with.
pub(super) struct Credentials {
    /// The CA that signed the serving certificate.
    pub(super) ca_pem_path: PathBuf,
    /// The same as text.
    pub(super) ca_pem: String,
    pub(super) serving_cert_path: PathBuf,
    pub(super) serving_key_path: PathBuf,
    /// Signs `ServiceAccount` tokens; PKCS#8.
    pub(super) signing_key_path: PathBuf,
    /// Verifies them.
    pub(super) verifying_key_path: PathBuf,
    /// The API server's static tokens.
    pub(super) token_file_path: PathBuf,
    /// The token of the administrator (`system:masters`).
    pub(super) admin_token: String,
    /// The token of the controller manager, which has only the role that Kubernetes gives it.
    pub(super) controller_manager_token: String,
}

impl Credentials {
    /// Makes them and writes them into `directory`.
    pub(super) fn write(directory: &Path, plane: &str) -> anyhow::Result<Self> {
        let authority = certificate_authority(plane).context("failed to make the CA")?;
        let serving_key = KeyPair::generate().context("failed to make the serving key")?;
        let mut serving = CertificateParams::new(SERVER_NAMES.map(str::to_owned).to_vec())
            .context("failed to name the serving certificate")?;
        serving
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        let serving = serving
            .signed_by(&serving_key, &authority)
            .context("failed to sign the serving certificate")?;
        let (signing_key, verifying_key) = service_account_keys()?;
        let (admin_token, controller_manager_token) =
            (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let tokens = format!(
            "{admin_token},admin,admin,\"system:masters\"\n\
             {controller_manager_token},system:kube-controller-manager,kube-controller-manager\n"
        );
        let write = |name: &str, content: &str| write_private(&directory.join(name), content);
        Ok(Self {
            ca_pem_path: write("ca.pem", &authority.pem())?,
            ca_pem: authority.pem(),
            serving_cert_path: write("serving.pem", &serving.pem())?,
            serving_key_path: write("serving-key.pem", &serving_key.serialize_pem())?,
            signing_key_path: write("service-account-key.pem", &signing_key)?,
            verifying_key_path: write("service-account.pem", &verifying_key)?,
            token_file_path: write("tokens.csv", &tokens)?,
            admin_token,
            controller_manager_token,
        })
    }
}

/// Writes a file that only this user can read, and returns its path.
pub(super) fn write_private(path: &Path, content: &str) -> anyhow::Result<PathBuf> {
    let write = || -> std::io::Result<()> {
        if path.exists() {
            fs::remove_file(path)?;
        }
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)?
            .write_all(content.as_bytes())
    };
    write().with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path.to_owned())
}

fn certificate_authority(plane: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(
        DnType::CommonName,
        format!("control plane {plane} {}", Uuid::new_v4()),
    );
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// An RSA key pair as PEM: Entra accepts only RS256 from issuers that it federates with.
fn service_account_keys() -> anyhow::Result<(String, String)> {
    let failed = |_| anyhow!("failed to make the ServiceAccount key");
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(failed)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed)?;
    Ok((
        pem("PRIVATE KEY", private.as_ref()),
        pem("PUBLIC KEY", public.as_ref()),
    ))
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded: Vec<char> = STANDARD.encode(der).chars().collect();
    let lines: Vec<String> = encoded
        .chunks(PEM_LINE_LENGTH)
        .map(|line| line.iter().collect())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_private_replaces_a_file_and_hides_it_from_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "old").unwrap();
        write_private(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn credentials_of_two_planes_share_nothing() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = Credentials::write(one.path(), "one").unwrap();
        let other = Credentials::write(other.path(), "other").unwrap();
        assert_ne!(one.ca_pem, other.ca_pem);
        assert_ne!(one.admin_token, other.admin_token);
        let key = |credentials: &Credentials| fs::read_to_string(&credentials.signing_key_path).unwrap();
        assert!(key(&one).starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(key(&one).lines().all(|line| line.len() <= PEM_LINE_LENGTH));
        assert_ne!(key(&one), key(&other));
    }
}
