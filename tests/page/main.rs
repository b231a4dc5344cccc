//! The page cache with three actors: a scripted shop on a real socket, one or two workers, and
//! clients, in memory where time is a number, on sockets where framing and slowness matter.

mod coalesce;
mod content;
mod fresh;
mod ordinary;
mod purge;
mod ranges;
mod rig;
mod shop;
mod sockets;
mod states;
