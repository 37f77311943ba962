//! STARTTLS (RFC 6120 section 5) with a certificate that is checked against the system's authorities, against a file,
//! or not at all.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sasl::common::ChannelBinding;
use tokio::io::BufStream;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, ProtocolVersion, RootCertStore, SignatureScheme,
};
use tokio_xmpp::connect::AsyncReadAndWrite;
use tokio_xmpp::xmlstream::{PendingFeaturesRecv, ReadError, StreamHeader, XmppStreamElement, initiate_stream};
use xmpp_parsers::{ns, starttls};

use super::open_error::{OpenError, TIMEOUTS, describe};
use super::settings::{Security, XmppSettings};

/// A stream whose header is exchanged, and what ties a login to it.
pub(super) type Connected = (PendingFeaturesRecv<Box<dyn AsyncReadAndWrite + Send>>, ChannelBinding);

/// Connects to one address of the server.
pub(super) async fn connect(settings: &XmppSettings, address: SocketAddr) -> Result<Connected, OpenError> {
    if settings.security == Security::Disabled {
        return plain(settings, tcp(settings, address).await?).await;
    }
    let stream = BufStream::new(tcp(settings, address).await?);
    let pending =
        initiate_stream(stream, ns::JABBER_CLIENT, header(settings), TIMEOUTS).await.map_err(|e| ended(&e))?;
    let (features, mut stream) = pending.recv_features::<XmppStreamElement>().await.map_err(|e| ended(&e))?;
    if !features.can_starttls() {
        if settings.security == Security::IfPossible {
            drop(stream);
            return plain(settings, tcp(settings, address).await?).await;
        }
        return Err(OpenError::NoTls { host: settings.host.clone() });
    }
    let request = XmppStreamElement::Starttls(starttls::Nonza::Request(starttls::Request));
    stream.send(&request).await.map_err(|e| ended(&e))?;
    loop {
        match stream.next().await {
            Some(Ok(XmppStreamElement::Starttls(starttls::Nonza::Proceed(_)))) => break,
            Some(Ok(XmppStreamElement::StreamError(error))) => return Err(OpenError::Ended(error.to_string())),
            Some(Ok(_)) => {}
            Some(Err(ReadError::SoftTimeout)) => {}
            Some(Err(error)) => return Err(OpenError::Ended(describe(&error))),
            None => return Err(OpenError::Ended("connection closed instead of STARTTLS".to_owned())),
        }
    }
    encrypted(settings, stream.into_inner().into_inner()).await
}

async fn tcp(settings: &XmppSettings, address: SocketAddr) -> Result<TcpStream, OpenError> {
    TcpStream::connect(address).await.map_err(|error| OpenError::Connect {
        host: settings.host.clone(),
        port: settings.port,
        error: error.to_string(),
    })
}

fn header(settings: &XmppSettings) -> StreamHeader<'_> {
    StreamHeader { to: Some(Cow::Borrowed(settings.jid.domain().as_str())), from: None, id: None }
}

fn ended(error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Ended(error.to_string())
}

async fn plain(settings: &XmppSettings, stream: TcpStream) -> Result<Connected, OpenError> {
    let stream: Box<dyn AsyncReadAndWrite + Send> = Box::new(BufStream::new(stream));
    let pending = initiate_stream(stream, ns::JABBER_CLIENT, header(settings), TIMEOUTS).await;
    Ok((pending.map_err(|e| ended(&e))?, ChannelBinding::None))
}

async fn encrypted(settings: &XmppSettings, stream: TcpStream) -> Result<Connected, OpenError> {
    let domain = settings.jid.domain().as_str().to_owned();
    let name = ServerName::try_from(domain.clone()).map_err(|error| OpenError::Tls {
        host: settings.host.clone(),
        error: format!("the domain {domain} cannot be in a certificate: {error}"),
    })?;
    let connector = TlsConnector::from(Arc::new(configuration(settings)?));
    let stream = connector.connect(name, stream).await.map_err(|error| {
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        match reason {
            Some(TlsError::InvalidCertificate(reason)) => {
                OpenError::Certificate { host: settings.host.clone(), domain, reason: format!("{reason:?}") }
            }
            _ => OpenError::Tls { host: settings.host.clone(), error: error.to_string() },
        }
    })?;
    let (_, session) = stream.get_ref();
    let binding = match session.protocol_version() {
        // RFC 9266; before TLS 1.3 there is no such export.
        Some(ProtocolVersion::TLSv1_3) => session
            .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", None)
            .map_or(ChannelBinding::None, ChannelBinding::TlsExporter),
        _ => ChannelBinding::None,
    };
    let stream: Box<dyn AsyncReadAndWrite + Send> = Box::new(BufStream::new(stream));
    let pending = initiate_stream(stream, ns::JABBER_CLIENT, header(settings), TIMEOUTS).await;
    Ok((pending.map_err(|e| ended(&e))?, binding))
}

fn configuration(settings: &XmppSettings) -> Result<ClientConfig, OpenError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let tls = |error: TlsError| OpenError::Tls { host: settings.host.clone(), error: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(tls)?;
    Ok(if settings.verify_certificate {
        builder.with_root_certificates(roots(settings.ca_file.as_deref())?).with_no_client_auth()
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
    })
}

/// The system's authorities, and those of the file.
fn roots(file: Option<&Path>) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = file {
        let broken = |reason: String| OpenError::Authorities { path: path.to_owned(), reason };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| broken(error.to_string()))?;
        let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| broken(error.to_string()))?;
        if certificates.is_empty() {
            return Err(broken("it has no certificate in PEM form".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| broken(error.to_string()))?;
        }
    }
    Ok(roots)
}

/// Takes any certificate; signatures are still checked, so that its key is the peer's.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
