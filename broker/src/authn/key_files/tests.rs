//! Real files, good and bad.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
};

use tempfile::TempDir;

use super::*;
use crate::authn::test_keys::Signer;

const URL: &str = "https://weu-7.example/keys";
const ISSUER: &str = "https://issuer.example";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A folder with the file of cluster weu-7, confirmed at [`confirmed_at`].
struct Scene {
    folder: TempDir,
    files: KeyFiles,
    file: KeyFile,
    signer: Signer,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::open(folder.path()).unwrap();
        let file = file_of(&files, "weu-7", ISSUER, URL, None);
        let signer = Signer::new("a");
        file.write(&signer.jwks(), &Ages::new(), confirmed_at()).await;
        Self {
            folder,
            files,
            file,
            signer,
        }
    }

    fn of(&self, cluster: &str, url: &str) -> KeyFile {
        file_of(&self.files, cluster, ISSUER, url, None)
    }

    async fn holds_keys(&self, now: SystemTime) -> bool {
        let read = self.file.read(now).await;
        read.is_some_and(|kept| kept.keys.same_keys(&self.signer.jwks()) && kept.at == confirmed_at())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn file_of(files: &KeyFiles, cluster: &str, issuer: &str, url: &str, bundle: Option<u8>) -> KeyFile {
    let source = JwksUrl {
        url: url.parse().unwrap(),
        ca_bundle: bundle.map(|byte| CaBundle {
            path: "/etc/acrpull/ca.pem".into(),
            digest: [byte; 32],
        }),
        token_file: None,
    };
    files.of(&Arc::from(cluster), &Arc::from(issuer), &source)
}

fn confirmed_at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

#[tokio::test]
async fn a7_kept_keys_are_read_until_24_h_after_their_confirmation() {
    let scene = Scene::new().await;
    let second = Duration::from_secs(1);
    for (now, is_good) in [
        (confirmed_at(), true),
        (confirmed_at() + DAY - second, true),
        (confirmed_at() + DAY, false),
        // The clock was ahead when they were confirmed, or is behind now: how old they are is not known.
        (confirmed_at() - CLOCK_SKEW, true),
        (confirmed_at() - CLOCK_SKEW - second, false),
    ] {
        assert_eq!(scene.holds_keys(now).await, is_good, "{now:?}");
    }
}

#[tokio::test]
async fn a7_kept_file_is_complete_and_of_this_user_alone() {
    let scene = Scene::new().await;
    let keys = scene.signer.jwks();
    scene.file.write(&keys, &Ages::new(), confirmed_at()).await;
    assert_eq!(scene.names(), [scene.file.name()], "nothing incomplete is left");
    let mode = fs::metadata(scene.file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let content: Value = serde_json::from_slice(&fs::read(scene.file.path()).unwrap()).unwrap();
    assert_eq!(
        (&content["cluster"], &content["url"], &content["confirmedAt"]),
        (&"weu-7".into(), &URL.into(), &1_795_000_000_u64.into())
    );
}

#[tokio::test]
async fn a7_keys_of_another_source_are_not_read() {
    let scene = Scene::new().await;
    for other in [
        scene.of("weu-8", URL),
        scene.of("weu-7", "https://weu-7.example/other"),
        // Joined the two would be the same text.
        scene.of("weu-7https://weu-7.example", "https://keys"),
        file_of(&scene.files, "weu-7", "https://other.example", URL, None),
        // What was fetched under the roots of the system is not vouched for by those of a bundle.
        file_of(&scene.files, "weu-7", ISSUER, URL, Some(7)),
    ] {
        assert_ne!(other.name(), scene.file.name());
        assert!(other.read(confirmed_at()).await.is_none());
        // Not even where the file is given another one's name.
        fs::copy(scene.file.path(), other.path()).unwrap();
        assert!(other.read(confirmed_at()).await.is_none());
    }
    assert!(scene.holds_keys(confirmed_at()).await);
}

#[tokio::test]
async fn a7_file_that_is_torn_or_of_another_make_is_ignored() {
    let scene = Scene::new().await;
    let path = scene.file.path();
    let good = fs::read(&path).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    for bad in [
        Vec::new(),
        good[..good.len() / 2].to_vec(),
        b"null".to_vec(),
        text.replace("\"version\":2", "\"version\":1").into_bytes(),
        text.replace("RSA", "oct").into_bytes(),
        text.replace("1795000000", "18446744073709551615").into_bytes(),
        vec![b' '; 600 * 1024],
    ] {
        fs::write(&path, bad).unwrap();
        assert!(!scene.holds_keys(confirmed_at()).await);
    }
    fs::write(&path, good).unwrap();
    assert!(scene.holds_keys(confirmed_at()).await);
}

#[tokio::test]
async fn a7_file_that_somebody_else_could_have_written_is_ignored() {
    let scene = Scene::new().await;
    let path = scene.file.path();
    let elsewhere = scene.folder.path().join("elsewhere");
    fs::set_permissions(&path, Permissions::from_mode(0o602)).unwrap();
    assert!(!scene.holds_keys(confirmed_at()).await, "for anybody to write");
    // As the kubelet leaves files of a volume for the group of the Pod.
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    assert!(scene.holds_keys(confirmed_at()).await);
    // Only root can give a file away.
    if chown(&path, Some(65534), None).is_ok() {
        assert!(!scene.holds_keys(confirmed_at()).await, "of another user");
    }
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(!scene.holds_keys(confirmed_at()).await, "a link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(!scene.holds_keys(confirmed_at()).await, "a folder");
}

#[tokio::test]
async fn a7_files_of_sources_that_are_not_configured_are_removed() {
    let scene = Scene::new().await;
    let gone = scene.of("gone", URL);
    gone.write(&scene.signer.jwks(), &Ages::new(), confirmed_at())
        .await;
    fs::write(scene.folder.path().join("foreign.json"), "{}").unwrap();
    fs::write(scene.folder.path().join("signing-keys-x.json-1.new"), "{").unwrap();
    assert_eq!(scene.names().len(), 4);
    scene.files.clone().keep_only(vec![scene.file.clone()]).await;
    drop(KeyFiles::open(scene.folder.path()).unwrap());
    assert_eq!(scene.names(), ["foreign.json".to_owned(), scene.file.name()]);
}

#[test]
fn state_folder_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = KeyFiles::open(&folder.path().join("missing")).unwrap_err();
    assert!(refused.to_string().starts_with("cannot write "), "{refused}");
}

#[tokio::test]
async fn a2_kept_file_tells_for_how_long_its_keys_have_counted() {
    let scene = Scene::new().await;
    let ages = |age| -> Ages { scene.signer.jwks().thumbprints().map(|key| (key, age)).collect() };
    let hour = Duration::from_secs(3600);
    let bundle = |byte| file_of(&scene.files, "weu-7", ISSUER, URL, Some(byte));
    assert_ne!(bundle(1).name(), bundle(2).name(), "a bundle is what it says");
    let read = async || scene.file.read(confirmed_at() + hour).await.unwrap().ages;
    assert_eq!(read().await, ages(Duration::ZERO), "absent");
    scene
        .file
        .write(&scene.signer.jwks(), &ages(3 * DAY), confirmed_at())
        .await;
    assert_eq!(read().await, ages(3 * DAY + hour));
    // Somebody's clock was ahead.
    let text = fs::read_to_string(scene.file.path()).unwrap();
    let since = (1_795_000_000 - 3 * DAY.as_secs()).to_string();
    for ahead in ["1795003601", "18446744073709551615"] {
        fs::write(scene.file.path(), text.replace(&since, ahead)).unwrap();
        assert_eq!(read().await, ages(Duration::ZERO), "{ahead}");
    }
}
