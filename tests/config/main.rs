//! The config, from the file to the verbs: examples load, mistakes are shown as they should be.

mod bad;
mod conf;
mod unit;
mod verbs;
