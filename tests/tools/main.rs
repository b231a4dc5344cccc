//! The tools on real sockets: the mock shop, the drill against it, and both as commands.

mod client;
mod command;
mod drill;
mod shop;
