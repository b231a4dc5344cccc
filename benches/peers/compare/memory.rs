//! What an idle connection keeps: the resident memory of a freshly started server before and after many
//! connections have each had one answer.

use std::time::Duration;

use super::Outcome;
use super::load::next_number;
use super::request::Ask;
use super::row::Entrant;
use super::server::Place;
use super::wire;

/// What was done on each connection before it fell idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// A cached page.
    Hot,
    /// A request that went to the origin; for hyper, to its handler.
    Cold,
}

/// Whose memory is looked at.
pub const ASKED: &[(Entrant, After)] = &[
    (Entrant::Nginx, After::Hot),
    (Entrant::Nginx, After::Cold),
    (Entrant::Haproxy, After::Hot),
    (Entrant::Haproxy, After::Cold),
    (Entrant::Varnish, After::Hot),
    (Entrant::Varnish, After::Cold),
    (Entrant::Hyper, After::Cold),
    (Entrant::Penstock, After::Hot),
    (Entrant::Penstock, After::Cold),
];

/// KiB for each of so many connections.
pub fn idle_kib(entrant: Entrant, after: After, place: &Place) -> Outcome<f64> {
    let server = place.start(entrant.kind())?;
    let mut ask = match after {
        After::Hot => Ask::page("page1"),
        After::Cold => Ask::personal(),
    };
    // Whatever is made once is made now; at start, things settle.
    for _ in 0..100 {
        ask.probe(server.address, next_number())?;
    }
    std::thread::sleep(Duration::from_secs(1));
    let before = server.running.resident_bytes();
    let mut idle = Vec::with_capacity(place.connections);
    for _ in 0..place.connections {
        let mut stream = wire::connect(server.address)?;
        let reply = wire::exchange(&mut stream, ask.numbered(next_number()))?;
        if reply.status != 200 {
            return Err(format!("{entrant:?}: status {} on the way to idle", reply.status).into());
        }
        idle.push(stream);
    }
    std::thread::sleep(Duration::from_secs(2));
    let grown = server.running.resident_bytes().saturating_sub(before);
    Ok(grown as f64 / 1024.0 / idle.len() as f64)
}
