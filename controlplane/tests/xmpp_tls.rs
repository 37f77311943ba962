//! STARTTLS against a real Prosody, with certificates that are trusted, foreign, or for another name.

mod prosody;

use std::path::PathBuf;

use prosody::Prosody;
use rcgen::{CertificateParams, KeyPair};
use ringbridge_controlplane::xmpp::{Security, XmppSettings, probe};

/// A server with a certificate for this name, and the file of that certificate.
fn start(name: &str) -> Option<(Prosody, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder under target/");
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new([name.to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
    let (key_file, file) = (folder.join("key.pem"), folder.join("certificate.pem"));
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    std::fs::write(&file, certificate.pem()).expect("written");
    let server = Prosody::start_with(&format!(
        "ssl = {{ key = \"{}\"; certificate = \"{}\" }}",
        key_file.display(),
        file.display()
    ))?;
    Some((server, file))
}

fn account(server: &Prosody, ca_file: Option<PathBuf>) -> XmppSettings {
    XmppSettings { security: Security::Required, ca_file, ..server.account("jvb", None) }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_unless_nobody_asks() {
    let Some((server, file)) = start("auth.meet.test") else { return };
    probe(&account(&server, Some(file.clone()))).await.expect("its own certificate is the authority");
    let error = probe(&account(&server, None)).await.expect_err("nobody vouches for it");
    assert!(error.contains("not trusted for auth.meet.test") && error.contains("xmpp.ca-file"), "{error}");
    let unverified = XmppSettings { verify_certificate: false, ..account(&server, None) };
    probe(&unverified).await.expect("not looked at");
    let password = XmppSettings { password: "wrong".to_owned(), ..unverified };
    let error = probe(&password).await.expect_err("refused");
    assert!(error.contains("refuses the password of jvb@auth.meet.test"), "{error}");
    let missing = account(&server, Some("/no/such/file".into()));
    let error = probe(&missing).await.expect_err("refused");
    assert!(error.contains("/no/such/file") && error.contains("PEM"), "{error}");
}

#[tokio::test]
async fn a_certificate_must_be_for_the_domain() {
    let Some((server, file)) = start("elsewhere.test") else { return };
    let error = probe(&account(&server, Some(file))).await.expect_err("another name");
    assert!(error.contains("not trusted for auth.meet.test"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls() {
    let Some(server) = Prosody::start() else { return };
    let error = probe(&account(&server, None)).await.expect_err("no TLS");
    assert!(error.contains("offers no STARTTLS"), "{error}");
    probe(&XmppSettings { security: Security::IfPossible, ..account(&server, None) }).await.expect("plain will do");
    let nobody = XmppSettings { port: prosody::free_port(), ..account(&server, None) };
    let error = probe(&nobody).await.expect_err("nobody there");
    assert!(error.contains("does not answer") && error.contains("check that the XMPP server runs"), "{error}");
}
