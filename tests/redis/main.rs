//! The Redis store on a real redis-server, which `apt-get install redis-server` brings.

mod cases;
mod durable;
mod equivalence;
mod faults;
mod fleet;
mod hourglass;
mod mirror;
mod rig;
mod server;
mod shop;
