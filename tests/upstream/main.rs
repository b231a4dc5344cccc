//! Upstream pools and the proxy against scripted servers on real sockets.

mod bodies;
mod failures;
mod invalid;
mod memory;
mod origin;
mod pool;
mod proxy;
mod rig;
