//! The Redis store on a real redis-server, which `apt-get install redis-server` brings.

mod cases;
mod cluster;
mod cost;
mod durable;
mod equivalence;
mod faults;
mod fleet;
mod hourglass;
mod load;
mod mirror;
mod rig;
mod sentinel;
mod server;
mod shop;
mod tls;
