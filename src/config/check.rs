//! What one setting demands of another. The walker has made sure that each is well-formed by itself.

mod answers;
mod cache;
mod door;
mod routes;
mod sale;
mod shop;
mod site;
mod store;
mod upgrade;
mod upstream;

use super::problem::Path;
use super::schema::Settings;
use super::walk::Finding;

/// What the checks found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Mistakes.
    pub errors: Vec<Finding>,
    /// Probable ones.
    pub warnings: Vec<Finding>,
}

impl Findings {
    /// Notes a mistake: what is wrong.
    pub fn error(&mut self, path: Path, what: impl Into<String>) {
        self.errors.push(Finding { path, what: what.into(), help: None, span: None });
    }

    /// Notes a mistake: what is wrong, what to do.
    pub fn error_help(&mut self, path: Path, what: impl Into<String>, help: impl Into<String>) {
        let help = Some(help.into());
        self.errors.push(Finding { path, what: what.into(), help, span: None });
    }

    /// Notes what is probably a mistake: what is odd, what to do.
    pub fn warn(&mut self, path: Path, what: impl Into<String>, help: impl Into<String>) {
        let help = Some(help.into());
        self.warnings.push(Finding { path, what: what.into(), help, span: None });
    }
}

/// Runs every check that needs no file, no clock and no network.
pub fn check(settings: &Settings, found: &mut Findings) {
    door::check(settings, found);
    upstream::check(settings, found);
    store::check(settings, found);
    site::check(settings, found);
    routes::check(settings, found);
    upgrade::check(settings, found);
    cache::check(settings, found);
    sale::check(settings, found);
    shop::check(settings, found);
    answers::check(settings, found);
}
