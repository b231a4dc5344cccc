//! A sale as every part of the edge sees it: one snapshot, one function that computes its state.
//!
//! [`declare`] is what an operator or the shop says; [`state`] is what the ledger holds;
//! [`follow`] is a pool whose stock is the shop's number; [`rosters`] are lists of users;
//! [`snapshot`] is that as one request uses it, and [`Heard`] how old it is; [`book`] is where requests find it; [`memo`] keeps the
//! answers that are made once for a version.

pub mod book;
pub mod declare;
pub mod follow;
mod heard;
pub mod memo;
mod news;
pub mod rosters;
pub mod snapshot;
pub mod state;

pub use book::SaleBook;
pub use declare::Declaration;
pub use follow::Follow;
pub use heard::Heard;
pub use memo::Memo;
pub use rosters::Rosters;
pub use snapshot::{Availability, Hint, STALE_AFTER_MS, SaleSnapshot, View};
pub use state::{Mark, PoolState, SaleState};

#[cfg(test)]
mod tests;
