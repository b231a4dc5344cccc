//! What systemd hears of this process (`sd_notify(3)`): one datagram for each word. Where nobody listens
//! nothing is sent.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to systemd.
#[derive(Debug, Default)]
pub(super) struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// By `$NOTIFY_SOCKET`.
    pub(super) fn from_env() -> Notifier {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Notifier::default() };
        let name = name.as_encoded_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(std::path::Path::new(
                std::str::from_utf8(name).unwrap_or_default(),
            )),
        };
        let open = address.and_then(|address| Ok((UnixDatagram::unbound()?, address)));
        open.inspect_err(|cause| tracing::warn!("NOTIFY_SOCKET cannot be used: {cause}"))
            .map_or_else(|_| Notifier::default(), |open| Notifier(Some(open)))
    }

    /// It serves; and this process is the one to watch, which is news after an upgrade.
    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// It reads its config again; [`Notifier::ready`] follows.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// It ends.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// It lives.
    pub(super) fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(cause) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::warn!("systemd does not hear {words:?}: {cause}");
        }
    }
}

/// How long systemd waits for a sign of life of this process, if it does.
pub(super) fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|us| is_ours && *us > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_datagrams() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_pathname(&path).unwrap();
        let notifier = Notifier(Some((UnixDatagram::unbound().unwrap(), address)));
        notifier.ready("serving");
        let mut said = [0; 200];
        let n = systemd.recv(&mut said).unwrap();
        let said = std::str::from_utf8(&said[..n]).unwrap();
        let pid = std::process::id();
        assert_eq!(said, format!("READY=1\nMAINPID={pid}\nSTATUS=serving"));
    }
}
