//! The policy: pure functions from what is known to what is done, and why. No IO, no clock. A
//! response is read once, when it comes; what is kept of it are a few integers, so that the decision
//! about a hit is a few comparisons.
//!
//! ```text
//! response → directives, dates → judge::keep (sale pages) | store::keep (ordinary routes) → Windows
//! request  → request::Demand ─┐
//!             judge::Stored ──┴→ judge::judge → (Decision, Why)
//! ```
//!
//! Sale pages keep the safe rules of [`judge`]; ordinary routes follow RFC 9111 by [`store`].

pub mod clip;
pub mod directives;
pub mod head;
pub mod invalidate;
pub mod judge;
pub mod range;
pub mod request;
pub mod store;
pub mod tags;
pub mod targeted;
pub mod update;
pub mod vary;
