//! A sale through the whole program: a shop (origin), the built binary (edge) and buyers (client), on
//! real sockets. Families go from simple to complex.

mod bypass;
#[path = "../tools/client.rs"]
#[allow(dead_code)]
mod client;
mod crowd;
mod dead;
mod examples;
mod fleet;
mod follow;
mod forget;
mod kill;
mod life;
mod limbo;
mod lists;
mod nodes;
mod points;
mod pools;
mod proxy;
mod purge;
mod redis;
mod rig;
mod wire;
