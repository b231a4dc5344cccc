//! The gate on real sockets: clients, one edge with a real journal on a simulated ledger, and a shop
//! whose every answer is scripted.

mod classify;
mod forms;
mod orders;
mod outcomes;
mod repeats;
mod rig;
mod shop;
mod states;
mod way;
