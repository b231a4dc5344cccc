//! The HTTP/1.1 driver over real sockets and in-memory pipes: a raw client, a scripted service, and
//! the driver between them.

mod bodies;
mod cases;
mod client;
mod closing;
mod completion;
mod differential;
mod fairness;
mod feed;
mod memory;
mod panics;
mod rig;
mod rows;
mod script;
mod timers;
