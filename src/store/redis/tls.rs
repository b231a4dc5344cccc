//! TLS to Redis and its Sentinels.

use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, crypto};

use crate::config::schema::StoreTls;

/// The settings of TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    settings: StoreTls,
}

impl Tls {
    pub(super) fn of(settings: &StoreTls) -> Tls {
        Tls { settings: settings.clone() }
    }

    /// The handshake with `host`. The files are read for every connection, so that certificates may be
    /// renewed while we run.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<TlsStream<S>, String> {
        let config = self.config()?;
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name} is no name that a certificate can have"))?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(server, stream).await.map_err(|error| advice(name, &error))
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots()?);
        let (Some(cert), Some(key)) = (&self.settings.cert_file, &self.settings.key_file) else {
            return Ok(builder.with_no_client_auth());
        };
        let certificates = certificates("store.tls.cert_file", cert)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| format!("store.tls.key_file {key}: {error}"))?;
        builder.with_client_auth_cert(certificates, key).map_err(|error| {
            format!("store.tls.cert_file and key_file cannot be used together: {error}")
        })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let Some(file) = &self.settings.ca_file else { return machine() };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("store.tls.ca_file", file)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("store.tls.ca_file {file}: {error}"))?;
        }
        Ok(Arc::new(roots))
    }
}

fn certificates(setting: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(read) if read.is_empty() => Err(format!("{setting} {file} has no certificate in PEM")),
        Ok(read) => Ok(read),
        Err(error) => Err(format!("{setting} {file}: {error}")),
    }
}

/// The certificate authorities of this machine, read once.
fn machine() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some that cannot be read are normal; none at all is said below.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err("this machine has no certificate authorities: set store.tls.ca_file".into()),
        false => Ok(roots.clone()),
    }
}

/// What to do about a login that failed: a server says that it wants our certificate only after the
/// handshake.
pub(super) fn after(why: String) -> String {
    if why.contains("fatal alert") { format!("TLS: {REFUSED} ({why})") } else { why }
}

/// What to do about a handshake that failed.
fn advice(name: &str, error: &std::io::Error) -> String {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let what_to_do = match of_tls {
        Some(Error::InvalidCertificate(why)) => match format!("{why:?}") {
            why if why.contains("UnknownIssuer") => "is its authority in store.tls.ca_file?",
            why if why.contains("NotValidForName") => {
                return format!(
                    "TLS: its certificate is not for {name}: set store.tls.server_name ({error})"
                );
            }
            why if why.contains("Expired") => "its certificate has expired: renew it",
            _ => "its certificate is refused",
        },
        Some(Error::AlertReceived(_)) => REFUSED,
        Some(Error::InvalidMessage(_)) => "it does not speak TLS here: is the port right?",
        _ => "no handshake: is this the port for TLS?",
    };
    format!("TLS: {what_to_do} ({error})")
}

const REFUSED: &str = "it refuses us: does it want store.tls.cert_file and key_file?";
