//! The whole node as a process, on real sockets: what it answers, how it starts and ends, and what an
//! operator can ask of it.

mod admin;
mod boot;
mod browser;
mod caps;
mod client;
mod dashboard;
mod disk;
mod drain;
mod greeting;
mod guide;
mod log;
mod node;
mod origin;
mod overload;
mod packaging;
mod reload;
mod routes;
mod shop_page;
mod sockets;
mod tls;
mod upgrade;
mod verbs;
mod warm;
mod websocket;
