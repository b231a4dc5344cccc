//! Penstock: a reverse proxy and edge cache with an exact admission gate for flash sales.
//!
//! ```text
//! main → cli → app → admin
//!              app → listener → http {h1, guard, feed, write} → edge → router
//!                        edge → page | availability | gate | proxy → claims, upstream
//! claims {batch, journal, reap} → store {embedded, redis, sim} → ledger (pure)
//! page | availability | gate | store → sale {snapshot, book, declare}
//! foundation, used by all: config fault ident sync clock limits bloom answer outcome metrics log journal orders
//! tools, which use only public HTTP, the admin API and files: demo drill audit shop
//! ```
//!
//! An arrow is the only allowed direction; `tests/tidy.rs` enforces it. `ARCHITECTURE.md` says where
//! to find what.

// foundation
pub mod answer;
pub mod bloom;
pub mod clock;
pub mod config;
pub mod fault;
pub mod ident;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod orders;
pub mod outcome;
mod sync;

// the sale and its ledger
pub mod claims;
pub mod ledger;
pub mod sale;
pub mod store;

// the door
pub mod answers;
pub mod http;
pub mod listener;
pub mod tls;
pub mod upstream;

// what a request can be
pub mod availability;
pub mod edge;
pub mod follow;
pub mod gate;
pub mod page;
pub mod proxy;

// tools, which use only public HTTP, the admin API and files
pub mod audit;
pub mod demo;
pub mod drill;
pub mod shop;

// the command
pub mod admin;
pub mod admin_client;
pub mod app;
pub mod cli;
