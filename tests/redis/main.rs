//! The Redis store on a real redis-server, which `apt-get install redis-server` brings.

mod equivalence;
mod faults;
mod fleet;
mod mirror;
mod rig;
mod server;
mod shop;
