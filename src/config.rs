//! Settings: one TOML file, read whole, checked whole, applied whole.
//!
//! [`schema`] is the truth: the doc comments, defaults and ranges of its structs become the reference
//! file, `check --explain` and the editors' schema. [`units`] parses values that carry units,
//! [`pattern`] the paths of activities, [`source`] where a value of a request is read. [`load`] names
//! every mistake at once.

pub mod address;
pub mod change;
mod check;
mod files;
mod load;
mod nearest;
pub mod pattern;
pub mod problem;
pub mod redis_url;
pub mod reference;
pub mod schema;
pub mod settings;
pub mod shape;
pub mod source;
pub mod stock;
pub mod units;
mod walk;

#[cfg(test)]
mod tests;

pub use load::{Loaded, default_path, load, parse};
pub use problem::Problem;
pub use schema::Settings;
