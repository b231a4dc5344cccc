//! The page cache with three actors: a scripted shop on a real socket, one or two workers, and
//! clients, in memory where time is a number, on sockets where framing and slowness matter.

#[path = "../../benches/common/cache.rs"]
mod cache;
mod coalesce;
mod content;
mod exact;
mod fresh;
mod memory;
mod ordinary;
mod purge;
mod races;
mod ranges;
mod rig;
mod shop;
mod sockets;
mod states;
mod tags;
