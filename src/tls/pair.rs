//! A certificate with its key, and the choice among several by the name that a client asks for.

use std::sync::Arc;

use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{der, pem};
use crate::clock::UnixMs;

/// A usable pair.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub key: Arc<CertifiedKey>,
    /// When its certificate expires; `None` if that cannot be read.
    pub until: Option<UnixMs>,
}

/// Where a pair lies, and how its settings are called.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `listen.https.tls`, or `listen.https.tls.more[0]`.
    pub setting: String,
    pub cert: String,
    pub key: String,
}

impl Pair {
    /// Reads a pair. An error says what is wrong and in which file.
    pub(super) fn load(place: &Place, provider: &CryptoProvider) -> Result<Pair, String> {
        let Place { setting, cert, key } = place;
        let chain = pem::certificates(&format!("{setting}.cert"), cert)?;
        let first = chain.first().cloned();
        let private = pem::private_key(&format!("{setting}.key"), key)?;
        let made = CertifiedKey::from_der(chain, private, provider);
        // This finds a key of another certificate too.
        let made = made.map_err(|error| {
            format!(
                "{setting}: {cert} and {key} do not belong together, or cannot be used: {error}"
            )
        })?;
        let until = first.and_then(|first| der::validity(&first)).map(|(_, until)| until);
        Ok(Pair { key: Arc::new(made), until })
    }

    /// Whether its certificate is out of date.
    pub(super) fn has_expired(&self, now: UnixMs) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let first = self.key.cert.first();
        let parsed = first.and_then(|first| ParsedCertificate::try_from(first).ok());
        parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }
}

/// The pairs of a listener, the first of which is for everybody else.
#[derive(Clone, Debug)]
pub(super) struct Pairs(pub Vec<Pair>);

impl Pairs {
    /// The pair that is for `name`.
    fn of(&self, name: &str) -> Option<&Pair> {
        let name = ServerName::try_from(name).ok()?;
        self.0.iter().find(|pair| pair.is_for(&name))
    }

    /// Whether a connection for which `name` was asked may be asked for `host`, as far as certificates
    /// say: not where `host` has one of its own, and the one that was shown is not for it.
    pub(super) fn is_authority(&self, name: &str, host: &str) -> bool {
        let Some(own) = self.of(host) else { return true };
        let Some(shown) = self.of(name).or(self.0.first()) else { return true };
        let is_for = || ServerName::try_from(host).is_ok_and(|host| shown.is_for(&host));
        Arc::ptr_eq(&shown.key, &own.key) || is_for()
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = match self.0.as_slice() {
            // Nothing to choose, nothing to parse.
            [_] => None,
            _ => hello.server_name().and_then(|name| self.of(name)),
        };
        named.or(self.0.first()).map(|pair| pair.key.clone())
    }
}
