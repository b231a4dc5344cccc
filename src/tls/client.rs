//! TLS to the shop's servers.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, mem};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error};

use super::{Reloaded, Watched, pem};
use crate::config::schema::UpstreamTls;
use crate::ident::Name;

/// TLS to one group of servers.
#[derive(Debug)]
pub struct Client {
    config: ArcSwap<ClientConfig>,
    settings: UpstreamTls,
    setting: String,
    http2: bool,
    stamps: Mutex<Vec<Stamp>>,
}

type Stamp = Option<(SystemTime, u64)>;

impl Client {
    /// Reads the files of upstream `name`; `http2` says which protocol is wanted. An error names the
    /// setting and the file.
    pub fn new(name: &Name, settings: &UpstreamTls, http2: bool) -> Result<Arc<Client>, String> {
        let setting = format!("upstream.{name}.tls");
        let stamps = Mutex::new(stamps(settings));
        let config = ArcSwap::from_pointee(config(&setting, settings, http2)?);
        Ok(Arc::new(Client { config, settings: settings.clone(), setting, http2, stamps }))
    }

    /// The handshake with `host`, which its certificate must name unless another name is set. Where
    /// HTTP/2 is wanted, the server must agree.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<TlsStream<S>, String> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("TLS: {name} is no name that a certificate can have"))?;
        let connector = TlsConnector::from(self.config.load_full());
        let stream = connector.connect(server, stream).await;
        let stream = stream.map_err(|error| self.advice(name, &error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if self.http2 && agreed != Some(b"h2") {
            return Err(
                "TLS: the server does not speak HTTP/2, which upstream.http2 asks for".into()
            );
        }
        Ok(stream)
    }

    /// What to do about a handshake that failed.
    fn advice(&self, name: &str, error: &io::Error) -> String {
        let setting = &self.setting;
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let what_to_do = match of_tls {
            Some(Error::InvalidCertificate(why)) => match format!("{why:?}") {
                why if why.contains("UnknownIssuer") => {
                    format!("is its authority in {setting}.ca_file?")
                }
                why if why.contains("NotValidForName") => {
                    format!("its certificate is not for {name}: set {setting}.server_name")
                }
                why if why.contains("Expired") => "its certificate has expired: renew it".into(),
                _ => "its certificate is refused".into(),
            },
            Some(Error::AlertReceived(_)) => {
                format!("it refuses us: does it want {setting}.cert_file and key_file?")
            }
            Some(Error::InvalidMessage(_)) => "it does not speak TLS: is the port right?".into(),
            _ => "no handshake: is this the port for TLS?".into(),
        };
        format!("TLS: {what_to_do} ({error})")
    }
}

impl Watched for Client {
    fn reload(&self, always: bool) -> Reloaded {
        let mut held = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mem::replace(&mut *held, stamps(&self.settings));
        let mut said = Reloaded::default();
        let has_changed = before != *held;
        if !always && !has_changed {
            return said;
        }
        match config(&self.setting, &self.settings, self.http2) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                if has_changed {
                    said.changed.push(format!("{}: the new files are used", self.setting));
                }
            }
            Err(why) => said.kept.push(format!("{why}; the old files stay in use")),
        }
        said
    }
}

fn stamps(settings: &UpstreamTls) -> Vec<Stamp> {
    let UpstreamTls { ca_file, cert_file, key_file, .. } = settings;
    let stamp = |file: &String| {
        let meta = fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    [ca_file, cert_file, key_file].into_iter().flatten().map(stamp).collect()
}

fn config(setting: &str, settings: &UpstreamTls, http2: bool) -> Result<ClientConfig, String> {
    let roots = pem::roots(&format!("{setting}.ca_file"), settings.ca_file.as_deref())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => {
            let certificates = pem::certificates(&format!("{setting}.cert_file"), cert)?;
            let private = pem::private_key(&format!("{setting}.key_file"), key)?;
            let together = |error| {
                format!(
                    "{setting}: {cert} and {key} do not belong together, or cannot be used: {error}"
                )
            };
            builder.with_client_auth_cert(certificates, private).map_err(together)?
        }
        _ => builder.with_no_client_auth(),
    };
    let protocols: &[&[u8]] = if http2 { &[b"h2"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}
