//! Settings: one TOML file, read whole, checked whole, applied whole.
//!
//! [`schema`] is the truth: the doc comments, defaults and ranges of its structs become the reference
//! file, `check --explain` and the editors' schema. [`units`] parses values that carry units,
//! [`pattern`] the paths of activities.

pub mod pattern;
pub mod schema;
pub mod units;

pub use schema::Settings;
