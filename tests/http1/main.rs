//! The HTTP/1.1 driver over real sockets and in-memory pipes: a raw client, a scripted service, and
//! the driver between them.

mod cases;
mod client;
mod completion;
mod bodies;
mod closing;
mod feed;
mod panics;
mod rig;
mod rows;
mod script;
mod timers;
