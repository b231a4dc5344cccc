//! Caps on connections: in all, of one address, and how fast an address may open them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::addresses::{Addresses, Key};
use crate::clock::Clock;
use crate::config::schema;
use crate::config::units::Rate;
use crate::http::{Peer, Trust};

/// The caps of a process. All workers share one.
#[derive(Debug)]
pub struct Caps {
    /// Open connections by worker.
    by_worker: Vec<AtomicUsize>,
    open: AtomicUsize,
    addresses: Addresses,
    bounds: ArcSwap<Bounds>,
    clock: Clock,
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
        })
    }

    /// Other caps for those who come from now on. Those who are here stay and count.
    pub fn set(&self, limits: &schema::Limits, trust: Arc<Trust>) {
        self.bounds.store(Arc::new(Bounds::new(limits, trust)));
    }

    /// A ticket for a connection of `peer` to `worker`; `None` where a cap refuses it.
    pub fn admit(self: &Arc<Self>, peer: &Peer, worker: usize) -> Option<Ticket> {
        let bounds = self.bounds.load();
        if self.open.fetch_add(1, Ordering::Relaxed) >= bounds.open_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let address = match peer {
            Peer::Tcp(address) if !bounds.trust.is_trusted(peer) => Some(Key::of(address.ip())),
            _ => None,
        };
        let opens =
            |key| self.addresses.open(key, self.clock.mono(), bounds.of_address_max, bounds.rate);
        if address.is_some_and(|key| !opens(key)) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if let Some(load) = self.by_worker.get(worker) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Some(Ticket { caps: self.clone(), worker, address })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Rate;

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
        Peer::Tcp(format!("{address}:1").parse().unwrap())
    }

    #[test]
    fn places_come_back_with_their_tickets() {
        let caps = caps(2, 10);
        let one = caps.admit(&peer("10.0.0.1"), 0).unwrap();
        assert_eq!(caps.idlest(), 1);
        let _two = caps.admit(&Peer::Unix, 1).unwrap();
        assert!(caps.admit(&peer("10.0.0.2"), 0).is_none());
        assert_eq!(caps.open(), 2);
        drop(one);
        assert_eq!((caps.open(), caps.idlest()), (1, 0));
        assert!(caps.admit(&peer("10.0.0.2"), 0).is_some());
    }

    #[test]
    fn caps_change_for_those_who_come() {
        let caps = caps(2, 10);
        let (_one, _two) = (caps.admit(&peer("10.0.0.1"), 0), caps.admit(&peer("10.0.0.2"), 0));
        let limits = |open_max| schema::Limits { connections_max: open_max, ..Default::default() };
        caps.set(&limits(1), Arc::default());
        assert!(caps.admit(&peer("10.0.0.3"), 0).is_none());
        assert_eq!(caps.open(), 2);
        caps.set(&limits(3), Arc::default());
        assert!(caps.admit(&peer("10.0.0.3"), 0).is_some());
    }

    #[test]
    fn an_address_has_its_cap_unless_it_is_trusted() {
        let caps = caps(100, 1);
        let _one = caps.admit(&peer("10.0.0.1"), 0).unwrap();
        assert!(caps.admit(&peer("10.0.0.1"), 0).is_none());
        assert_eq!(caps.open(), 1, "a refusal leaves nothing behind");
        let trusted: Vec<_> = (0..3).map(|_| caps.admit(&peer("10.9.0.1"), 0)).collect();
        assert!(trusted.iter().all(Option::is_some));
    }
}
