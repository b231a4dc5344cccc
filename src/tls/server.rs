//! TLS as a listener speaks it: certificates, tickets, and what clients must show; all of it can be
//! exchanged between two handshakes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, mem};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerConfig, ServerConnection, WebPkiClientVerifier,
};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::pair::{Pair, Pairs, Place};
use super::tickets::Tickets;
use super::{Reloaded, Terms, Watched, pem};
use crate::clock::Clock;
use crate::config::schema::{ClientCertificate, ListenTls, TlsVersion};
use crate::ident::Name;

/// Why a listener's TLS cannot be used: the setting, the file, the cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

/// TLS of one listener.
#[derive(Debug)]
pub struct Server {
    config: ArcSwap<ServerConfig>,
    /// What `config` chooses from.
    pairs: ArcSwap<Pairs>,
    settings: ListenTls,
    setting: String,
    http2: bool,
    clock: Clock,
    /// What is in use. Held only while files are read.
    parts: Mutex<Parts>,
}

/// What a configuration is made of.
#[derive(Clone, Debug)]
struct Parts {
    pairs: Arc<Pairs>,
    clients: Option<Clients>,
    tickets: Arc<dyn ProducesTickets>,
    /// How the files were when they were read.
    stamps: Vec<Stamp>,
}

/// What clients are asked for.
#[derive(Clone, Debug)]
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// What their tickets are bound to.
    purpose: Vec<u8>,
}

/// How a file is, as far as its directory tells.
type Stamp = Option<(SystemTime, u64)>;

impl Server {
    /// Reads the files of listener `name`; `http2` says whether HTTP/2 is offered. A certificate that
    /// has expired is used all the same, and is warned of.
    pub fn new(
        name: &Name,
        settings: &ListenTls,
        http2: bool,
        clock: Clock,
    ) -> Result<Arc<Server>, ServerError> {
        let setting = format!("listen.{name}.tls");
        let stamps = stamps(settings);
        let provider = provider();
        let pairs: Result<Vec<_>, _> =
            places(&setting, settings).iter().map(|place| Pair::load(place, &provider)).collect();
        let pairs = pairs.map_err(ServerError)?;
        let now = clock.now().wall;
        for (pair, place) in pairs.iter().zip(places(&setting, settings)) {
            if pair.has_expired(now) {
                tracing::warn!(
                    "{}: {} has expired: clients will refuse it",
                    place.setting,
                    place.cert
                );
            }
        }
        let clients = clients(&setting, settings, &provider).map_err(ServerError)?;
        let tickets = tickets(&setting, settings, clients.as_ref(), &clock).map_err(ServerError)?;
        let pairs = Arc::new(Pairs(pairs));
        let parts = Parts { pairs: pairs.clone(), clients, tickets, stamps };
        let config = config(&parts, settings, http2).map_err(ServerError)?;
        Ok(Arc::new(Server {
            config: ArcSwap::from_pointee(config),
            pairs: ArcSwap::new(pairs),
            settings: settings.clone(),
            setting,
            http2,
            clock,
            parts: Mutex::new(parts),
        }))
    }

    /// What takes the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// The terms of a connection after its handshake, where anything is fixed by it: a client's
    /// certificate, or the choice among several of ours.
    pub fn terms(&self, connection: &ServerConnection) -> Option<Arc<Terms>> {
        let pairs = self.pairs.load_full();
        let name = connection.server_name().filter(|_| pairs.0.len() > 1);
        let named = name.map(|name| (name.to_owned(), pairs));
        let has_certificate = connection.peer_certificates().is_some();
        (named.is_some() || has_certificate).then(|| Arc::new(Terms { named, has_certificate }))
    }

    /// Whether it would be the same under `settings`, so that it may stay through a change of them.
    pub fn is_of(&self, settings: &ListenTls, http2: bool) -> bool {
        self.settings == *settings && self.http2 == http2
    }

    /// Reads everything again into `parts`, where it can be used.
    fn renew(&self, parts: &mut Parts) -> Reloaded {
        let (setting, settings) = (&self.setting, &self.settings);
        let mut said = Reloaded::default();
        let provider = provider();
        let now = self.clock.now().wall;
        let pairs = &mut Arc::make_mut(&mut parts.pairs).0;
        for (pair, place) in pairs.iter_mut().zip(places(setting, settings)) {
            let read = Pair::load(&place, &provider).and_then(|new| {
                let is_worse = new.has_expired(now) && !pair.has_expired(now);
                let why = || format!("{}: {} has expired already", place.setting, place.cert);
                if is_worse { Err(why()) } else { Ok(new) }
            });
            match read {
                Ok(new) if new.key.cert == pair.key.cert => *pair = new,
                Ok(new) => {
                    *pair = new;
                    said.changed.push(format!(
                        "{}: the certificate of {} is used",
                        place.setting, place.cert
                    ));
                }
                Err(why) => said.kept.push(format!("{why}; the old certificate stays in use")),
            }
        }
        match clients(setting, settings, &provider) {
            Ok(new) => {
                let purpose =
                    |clients: &Option<Clients>| clients.as_ref().map(|c| c.purpose.clone());
                if purpose(&new) != purpose(&parts.clients) {
                    said.changed.push(format!("{setting}.client_ca: the new authorities are used"));
                }
                parts.clients = new;
            }
            Err(why) => said.kept.push(format!("{why}; the old authorities stay in use")),
        }
        // Keys that were made here stay: new ones would forget every client.
        if settings.ticket_keys.is_some() {
            match tickets(setting, settings, parts.clients.as_ref(), &self.clock) {
                Ok(new) => parts.tickets = new,
                Err(why) => said.kept.push(format!("{why}; the old keys stay in use")),
            }
        }
        said
    }
}

impl Watched for Server {
    fn reload(&self, always: bool) -> Reloaded {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before reading: a file that changes meanwhile is read again the next time.
        let stamps = stamps(&self.settings);
        let before = mem::replace(&mut parts.stamps, stamps);
        if !always && before == parts.stamps {
            return Reloaded::default();
        }
        let mut new = parts.clone();
        let mut said = self.renew(&mut new);
        match config(&new, &self.settings, self.http2) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                self.pairs.store(new.pairs.clone());
                *parts = new;
            }
            Err(why) => {
                said = Reloaded {
                    changed: Vec::new(),
                    kept: vec![format!("{why}; everything stays as it was")],
                }
            }
        }
        said
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn places(setting: &str, settings: &ListenTls) -> Vec<Place> {
    let ListenTls { cert, key, more, .. } = settings;
    let first = Place { setting: setting.to_owned(), cert: cert.clone(), key: key.clone() };
    let more = more.iter().enumerate().map(|(at, pair)| Place {
        setting: format!("{setting}.more[{at}]"),
        cert: pair.cert.clone(),
        key: pair.key.clone(),
    });
    std::iter::once(first).chain(more).collect()
}

fn stamps(settings: &ListenTls) -> Vec<Stamp> {
    let ListenTls { cert, key, ticket_keys, client_ca, more, .. } = settings;
    let files = [cert, key].into_iter().chain(ticket_keys).chain(client_ca);
    let files = files.chain(more.iter().flat_map(|pair| [&pair.cert, &pair.key]));
    let stamp = |file: &String| {
        let meta = fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files.map(stamp).collect()
}

fn clients(
    setting: &str,
    settings: &ListenTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Clients>, String> {
    let Some(file) = &settings.client_ca else { return Ok(None) };
    let setting = format!("{setting}.client_ca");
    let roots = pem::roots(&setting, Some(file))?;
    let is_optional = settings.client_certificate == ClientCertificate::Optional;
    let mut purpose = vec![u8::from(is_optional)];
    for root in pem::certificates(&setting, file)? {
        purpose.extend_from_slice(blake3::hash(&root).as_bytes());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|error| format!("{setting} {file}: {error}"))?;
    Ok(Some(Clients { verifier, purpose }))
}

fn tickets(
    setting: &str,
    settings: &ListenTls,
    clients: Option<&Clients>,
    clock: &Clock,
) -> Result<Arc<dyn ProducesTickets>, String> {
    let Some(file) = &settings.ticket_keys else {
        let made = aws_lc_rs::Ticketer::new();
        return made.map_err(|error| format!("{setting}: no keys for session tickets: {error}"));
    };
    let named = |why: String| format!("{setting}.ticket_keys {file}: {why}");
    let text = fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    let purpose = clients.map_or(&[][..], |clients| &clients.purpose);
    Ok(Arc::new(Tickets::parse(&text, purpose, clock.clone()).map_err(named)?))
}

fn config(parts: &Parts, settings: &ListenTls, http2: bool) -> Result<ServerConfig, String> {
    let versions: &[_] = match settings.version_min {
        TlsVersion::V12 => &[&TLS13, &TLS12],
        TlsVersion::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).map_err(|error| error.to_string())?;
    let builder = match &parts.clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(parts.pairs.clone());
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.ticketer = parts.tickets.clone();
    // One: a client that speaks HTTP/2 opens one connection, and each ticket costs it an encryption.
    config.send_tls13_tickets = 1;
    // Everything that is known of a client is in its ticket.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // What comes before the handshake is over could be sent again by anybody who saw it.
    config.max_early_data_size = 0;
    Ok(config)
}
