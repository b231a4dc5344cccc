//! TLS: what listeners show to clients, and what is asked of the shop's servers.
//!
//! Everything that is read from files is read again while the process runs ([`Watched::reload`]): what
//! can be used is used from the next handshake on, what cannot leaves the old in place.

mod client;
mod der;
mod pair;
pub mod pem;
mod server;
mod terms;
mod tickets;

use std::sync::Arc;

pub use client::Client;
pub use server::{Server, ServerError};
pub use terms::Terms;

use crate::metrics::{Counter, Sink};

/// How a listener is reached.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// TLS; `None` is plain text.
    pub tls: Option<Arc<Server>>,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
}

/// What came of reading files again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is used from now on, in words.
    pub changed: Vec<String>,
    /// What could not be used, and is as it was before.
    pub kept: Vec<String>,
}

/// Something that was made of files and can be made anew while it is in use.
pub trait Watched: Send + Sync {
    /// Reads its files again if they are not as they were, or in any case where `always`.
    fn reload(&self, always: bool) -> Reloaded;
}

/// Reloads everything, says what came of it, and counts it.
pub fn reload(all: &[Arc<dyn Watched>], always: bool, sink: &Sink) {
    for watched in all {
        let Reloaded { changed, kept } = watched.reload(always);
        for what in changed {
            sink.inc(Counter::TlsReloads);
            tracing::info!("{what}");
        }
        for what in kept {
            sink.inc(Counter::TlsReloadErrors);
            tracing::error!("{what}");
        }
    }
}
