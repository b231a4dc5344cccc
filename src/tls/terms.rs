//! What a handshake fixes for its connection: which hosts may be asked for on it, and by whom.

use std::sync::Arc;

use super::pair::Pairs;

/// The terms of one connection.
#[derive(Debug)]
pub struct Terms {
    /// The name that the client asked for, where there were several certificates to choose from.
    pub(super) named: Option<(String, Arc<Pairs>)>,
    pub(super) has_certificate: bool,
}

impl Terms {
    /// Whether the client showed a certificate, which was found valid.
    pub fn has_certificate(&self) -> bool {
        self.has_certificate
    }

    /// Whether the certificate that was shown speaks for `host`, which may have a port. It does not
    /// where another one of the listener does: a client that looks at certificates would not have come
    /// by this connection (RFC 9110 15.5.20).
    pub fn speaks_for(&self, host: &str) -> bool {
        let Some((name, pairs)) = &self.named else { return true };
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        bare.eq_ignore_ascii_case(name) || pairs.is_authority(name, bare)
    }
}
