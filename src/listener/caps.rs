//! Caps on connections: in all, of one address, and how fast an address may open them.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::addresses::{Addresses, Key};
use super::files;
use crate::clock::{Clock, MonoMs};
use crate::config::schema;
use crate::config::units::Rate;
use crate::http::{Peer, Trust};
use crate::outcome::CloseReason;

/// The caps of a process. All workers share one.
#[derive(Debug)]
pub struct Caps {
    /// Open connections by worker.
    by_worker: Vec<AtomicUsize>,
    open: AtomicUsize,
    addresses: Addresses,
    bounds: ArcSwap<Bounds>,
    clock: Clock,
    /// Descriptors from this number on are for the rest of the process.
    reserved_from: RawFd,
    /// Whether memory is too short for anybody new.
    refuses: AtomicBool,
    /// When it was told last that descriptors are short; 0: never.
    told_ms: AtomicU64,
}

/// What the settings say.
#[derive(Debug)]
struct Bounds {
    open_max: usize,
    of_address_max: u32,
    rate: Rate,
    trust: Arc<Trust>,
}

impl Bounds {
    fn new(limits: &schema::Limits, trust: Arc<Trust>) -> Bounds {
        Bounds {
            open_max: usize::try_from(limits.connections_max).unwrap_or(usize::MAX),
            of_address_max: limits.connections_per_address_max,
            rate: limits.connects_per_address,
            trust,
        }
    }
}

/// One admitted connection; its places are given back when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    caps: Arc<Caps>,
    worker: usize,
    address: Option<Key>,
}

impl Caps {
    /// The caps of `limits` for so many workers. Peers that are trusted are exempt from those per
    /// address: they speak for many clients.
    pub fn new(
        limits: &schema::Limits,
        trust: Arc<Trust>,
        clock: Clock,
        workers: usize,
    ) -> Arc<Caps> {
        Arc::new(Caps {
            by_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            open: AtomicUsize::new(0),
            addresses: Addresses::new(),
            bounds: ArcSwap::from_pointee(Bounds::new(limits, trust)),
            clock,
            reserved_from: files::reserved_from(),
            refuses: AtomicBool::new(false),
            told_ms: AtomicU64::new(0),
        })
    }

    /// Other caps for those who come from now on. Those who are here stay and count.
    pub fn set(&self, limits: &schema::Limits, trust: Arc<Trust>) {
        self.bounds.store(Arc::new(Bounds::new(limits, trust)));
    }

    /// A ticket for a connection to `worker`, or why there is none. Who the client is may not be known
    /// yet: [`Ticket::charge`] follows.
    pub fn admit(
        self: &Arc<Self>,
        socket: &impl AsRawFd,
        worker: usize,
    ) -> Result<Ticket, CloseReason> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(CloseReason::Overload);
        }
        if self.lacks_descriptors(socket) {
            return Err(CloseReason::Descriptors);
        }
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.bounds.load().open_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(CloseReason::Refused);
        }
        if let Some(load) = self.by_worker.get(worker) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Ticket { caps: self.clone(), worker, address: None })
    }

    /// Whether nobody new is let in, because memory is short.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Whether `socket` has one of the last descriptors: a new one is always the lowest that is free.
    fn lacks_descriptors(&self, socket: &impl AsRawFd) -> bool {
        let lacks = socket.as_raw_fd() >= self.reserved_from;
        if lacks {
            let (now, told) = (self.clock.mono().0.max(1), self.told_ms.load(Ordering::Relaxed));
            let is_due = told == 0 || now.saturating_sub(told) >= TELL_EVERY_MS;
            let order = Ordering::Relaxed;
            if is_due && self.told_ms.compare_exchange(told, now, order, order).is_ok() {
                tracing::warn!(
                    connections = self.open(),
                    "cannot accept connections: file descriptors run out, the last are kept for the \
                     shop, the operator and the journal; raise the limit (LimitNOFILE=, ulimit -n)"
                );
            }
        }
        lacks
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The worker with the fewest connections.
    pub fn idlest(&self) -> usize {
        let loads = self.by_worker.iter().map(|load| load.load(Ordering::Relaxed));
        loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(worker, _)| worker)
    }
}

impl Ticket {
    /// Counts the connection for the client that is there, unless it has too many or they come too
    /// fast. Trusted peers speak for many clients and are not counted.
    pub fn charge(&mut self, peer: &Peer) -> Result<(), CloseReason> {
        let caps = &self.caps;
        let bounds = caps.bounds.load();
        let key = match peer {
            Peer::Tcp(address) if !bounds.trust.is_trusted(peer) => Key::of(address.ip()),
            _ => return Ok(()),
        };
        let (most, rate) = (bounds.of_address_max, bounds.rate);
        if !caps.addresses.open(key, caps.clock.mono(), most, rate) {
            return Err(CloseReason::Refused);
        }
        if let Some(before) = self.address.replace(key) {
            caps.addresses.close(before, caps.clock.mono());
        }
        Ok(())
    }

    /// The time.
    pub(super) fn now(&self) -> MonoMs {
        self.caps.clock.mono()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let caps = &self.caps;
        if let Some(key) = self.address {
            caps.addresses.close(key, caps.clock.mono());
        }
        if let Some(load) = caps.by_worker.get(self.worker) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
        caps.open.fetch_sub(1, Ordering::Relaxed);
    }
}

const TELL_EVERY_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::units::Rate;

    /// Only its number counts.
    struct Socket(RawFd);

    impl AsRawFd for Socket {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    fn admit(caps: &Arc<Caps>, peer: &Peer, worker: usize) -> Result<Ticket, CloseReason> {
        let mut ticket = caps.admit(&Socket(3), worker)?;
        ticket.charge(peer)?;
        Ok(ticket)
    }

    fn caps(open_max: u32, each_max: u32) -> Arc<Caps> {
        let limits = schema::Limits {
            connections_max: open_max,
            connections_per_address_max: each_max,
            connects_per_address: Rate { burst: 0, per_1000s: 0 },
            ..schema::Limits::default()
        };
        let trust = Trust::new(&["10.9.0.0/16".to_owned()]).unwrap();
        Caps::new(&limits, Arc::new(trust), Clock::system(), 2)
    }

    fn peer(address: &str) -> Peer {
        Peer::Tcp(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn places_come_back_with_their_tickets() {
        let caps = caps(2, 10);
        let one = admit(&caps, &peer("10.0.0.1"), 0).unwrap();
        assert_eq!(caps.idlest(), 1);
        let _two = admit(&caps, &Peer::Unix, 1).unwrap();
        assert_eq!(admit(&caps, &peer("10.0.0.2"), 0).unwrap_err(), CloseReason::Refused);
        assert_eq!(caps.open(), 2);
        drop(one);
        assert_eq!((caps.open(), caps.idlest()), (1, 0));
        assert!(admit(&caps, &peer("10.0.0.2"), 0).is_ok());
    }

    #[test]
    fn caps_change_for_those_who_come() {
        let caps = caps(2, 10);
        let (_one, _two) = (admit(&caps, &peer("10.0.0.1"), 0), admit(&caps, &peer("10.0.0.2"), 0));
        let limits = |open_max| schema::Limits { connections_max: open_max, ..Default::default() };
        caps.set(&limits(1), Arc::default());
        assert!(admit(&caps, &peer("10.0.0.3"), 0).is_err());
        assert_eq!(caps.open(), 2);
        caps.set(&limits(3), Arc::default());
        assert!(admit(&caps, &peer("10.0.0.3"), 0).is_ok());
    }

    #[test]
    fn an_address_has_its_cap_unless_it_is_trusted() {
        let caps = caps(100, 1);
        let _one = admit(&caps, &peer("10.0.0.1"), 0).unwrap();
        assert!(admit(&caps, &peer("10.0.0.1"), 0).is_err());
        assert_eq!(caps.open(), 1, "a refusal leaves nothing behind");
        let trusted: Vec<_> = (0..3).map(|_| admit(&caps, &peer("10.9.0.1"), 0)).collect();
        assert!(trusted.iter().all(Result::is_ok));
    }

    #[test]
    fn a_client_that_is_named_later_is_counted_then() {
        let caps = caps(100, 1);
        let mut tickets: Vec<_> = (0..3).map(|_| caps.admit(&Socket(3), 0).unwrap()).collect();
        assert!(tickets[0].charge(&peer("2001:db8::1")).is_ok());
        assert!(tickets[1].charge(&peer("2001:db8::2")).is_err(), "a /64 is one client");
        assert!(tickets[2].charge(&peer("10.0.0.1")).is_ok());
        tickets.clear();
        assert_eq!(caps.open(), 0);
        assert!(admit(&caps, &peer("2001:db8::3"), 0).is_ok(), "its place came back");
    }

    #[test]
    fn the_last_descriptors_are_not_for_clients() {
        let caps = caps(100, 100);
        let last = Socket(caps.reserved_from);
        let refused = caps.admit(&last, 0).unwrap_err();
        assert_eq!(refused, CloseReason::Descriptors);
        let before = Socket(caps.reserved_from - 1);
        assert!(caps.admit(&before, 0).is_ok());
    }

    #[test]
    fn nobody_comes_in_while_memory_is_short() {
        let caps = caps(100, 100);
        caps.refuse(true);
        assert_eq!(admit(&caps, &peer("10.0.0.1"), 0).unwrap_err(), CloseReason::Overload);
        caps.refuse(false);
        assert!(admit(&caps, &peer("10.0.0.1"), 0).is_ok());
    }
}
