//! From a file to settings, or to the list of all its mistakes.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use toml::de::DeTable;

use super::check::{Findings, check};
use super::files;
use super::problem::{Path, Place, Problem};
use super::schema::Settings;
use super::shape;
use super::walk::{Finding, Walk};

/// A config that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings, defaults filled in, the files in them found beside the config.
    pub settings: Settings,
    /// What is probably a mistake.
    pub warnings: Vec<Problem>,
    file: String,
    /// Where each setting stands.
    places: BTreeMap<Path, Place>,
}

impl Loaded {
    /// A mistake that showed only when the setting `path` (`listen.http`) was used, at its place in the
    /// file, or at that of the nearest setting around it.
    pub fn problem(&self, path: &str, what: String) -> Problem {
        let path = Path(path.split('.').map(str::to_owned).collect());
        let place = (0..=path.0.len())
            .rev()
            .find_map(|n| self.places.get(&Path(path.0.get(..n)?.to_vec())).cloned());
        Problem { is_warning: false, path, what, help: None, place, file: self.file.clone() }
    }
}

/// Where the config is if `-c` and `PENSTOCK_CONFIG` do not say: `./penstock.toml`, else
/// `/etc/penstock/penstock.toml`.
pub fn default_path() -> PathBuf {
    let here = PathBuf::from("penstock.toml");
    if here.exists() { here } else { PathBuf::from("/etc/penstock/penstock.toml") }
}

/// Reads and checks the file at `path` and the key files it names.
pub fn load(path: &FilePath) -> Result<Loaded, Vec<Problem>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|what| vec![unreadable(&name, what)])?;
    let document = Document::new(&text, &name)?;
    document.finish(|settings, findings| {
        files::resolve(settings, path.parent().unwrap_or(FilePath::new("")));
        files::check(settings, findings);
    })
}

/// Checks the text of a config called `name`. Reads no file, no environment and no clock.
pub fn parse(text: &str, name: &str) -> Result<Loaded, Vec<Problem>> {
    Document::new(text, name)?.finish(|_, _| {})
}

/// A text that was walked.
struct Document<'t> {
    text: &'t str,
    name: &'t str,
    walk: Walk,
    settings: Settings,
}

impl<'t> Document<'t> {
    fn new(text: &'t str, name: &'t str) -> Result<Document<'t>, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut walk = Walk::default();
        let good = walk.file(table.get_ref(), shape::root());
        let mut document = Document { text, name, walk, settings: Settings::default() };
        if !errors.is_empty() {
            // What follows from a line that is no TOML is not worth saying: such lines only.
            let errors = errors.into_iter().map(|error| Finding {
                path: Path::default(),
                what: one_line(error.message()),
                help: None,
                span: error.span(),
            });
            return Err(document.problems(errors.collect(), false));
        }
        match serde_json::from_value(good) {
            Ok(settings) => document.settings = settings,
            Err(error) => {
                // Everything that the walker keeps fits; should it not, this is still said.
                let what = one_line(&error.to_string());
                let found = Finding { path: Path::default(), what, help: None, span: None };
                document.walk.findings.push(found);
                return Err(document.problems(document.walk.findings.clone(), false));
            }
        }
        Ok(document)
    }

    fn finish(
        mut self,
        more: impl FnOnce(&mut Settings, &mut Findings),
    ) -> Result<Loaded, Vec<Problem>> {
        let mut findings = Findings::default();
        check(&self.settings, &mut findings);
        more(&mut self.settings, &mut findings);
        let mut errors = self.walk.findings.clone();
        errors.extend(findings.errors.into_iter().filter(|f| !self.walk.is_broken(&f.path)));
        let warnings = findings.warnings.into_iter().filter(|f| !self.walk.is_broken(&f.path));
        let warnings = self.problems(warnings.collect(), true);
        if errors.is_empty() {
            let places = self
                .walk
                .spans()
                .map(|(path, span)| (path.clone(), Place::of(self.text, span.clone())));
            let (file, places) = (self.name.to_owned(), places.collect());
            return Ok(Loaded { settings: self.settings, warnings, file, places });
        }
        let mut problems = self.problems(errors, false);
        problems.extend(warnings);
        Err(problems)
    }

    /// Findings as they are shown, in the order of the file.
    fn problems(&self, findings: Vec<Finding>, is_warning: bool) -> Vec<Problem> {
        let mut placed: Vec<(usize, Problem)> = findings
            .into_iter()
            .map(|found| {
                let span = found.span.or_else(|| self.walk.span(&found.path)).unwrap_or(0..0);
                let at = span.start;
                let place = Some(Place::of(self.text, span));
                let Finding { path, what, help, .. } = found;
                (at, Problem { is_warning, path, what, help, place, file: self.name.to_owned() })
            })
            .collect();
        placed.sort_by_key(|(at, _)| *at);
        placed.into_iter().map(|(_, problem)| problem).collect()
    }
}

fn read(path: &FilePath) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("it is {size} bytes long; a config is at most {FILE_BYTES_MAX}"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        format!("it is not UTF-8 (line {line})")
    })
}

fn unreadable(name: &str, what: String) -> Problem {
    Problem {
        is_warning: false,
        path: Path::default(),
        what: format!("cannot read the config: {what}"),
        help: Some("name another with -c FILE, or write one with `penstock init`".to_owned()),
        place: None,
        file: name.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', "; ")
}

/// Largest config file, so that a wrong path cannot fill the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;
