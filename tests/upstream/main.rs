//! Upstream pools and the proxy against scripted servers on real sockets.

mod bodies;
// Shared with the driver's tests, which use all of it.
#[allow(dead_code)]
#[path = "../http1/client.rs"]
mod client;
mod failures;
mod http2;
mod invalid;
mod memory;
mod origin;
mod pool;
mod proxy;
mod rig;
