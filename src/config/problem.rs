//! Mistakes in a config and how they are shown: file, line, column, the line itself with a caret, what
//! is wrong and what to do.

use std::fmt;
use std::ops::Range;

/// Where a setting stands: the names from the root down to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<String>);

/// A mistake (or, as a warning, what is probably one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the config can be used nevertheless.
    pub is_warning: bool,
    /// The setting; the root where it is the file.
    pub path: Path,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: Option<String>,
    /// Where it stands; `None` where the file could not be read.
    pub place: Option<Place>,
    /// The file's name.
    pub file: String,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line, as far as it is worth showing.
    pub text: String,
    /// Columns that are underlined, from `column`; at least 1.
    pub width: usize,
}

impl Path {
    /// A path of these names.
    pub fn of(names: &[&str]) -> Path {
        Path(names.iter().map(ToString::to_string).collect())
    }

    /// This path and one more name.
    pub fn join(&self, name: &str) -> Path {
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Path(names)
    }

    /// This path and a place in its list.
    pub fn item(&self, at: usize) -> Path {
        self.join(&format!("[{at}]"))
    }

    /// Whether `other` is this path or below it.
    pub fn covers(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            let dot = if at == 0 { "" } else { "." };
            match name.as_bytes() {
                [b'[', .., b']'] => f.write_str(name)?,
                bytes if !bytes.is_empty() && bytes.iter().copied().all(bare) => {
                    write!(f, "{dot}{name}")?;
                }
                _ => write!(f, "{dot}{name:?}")?,
            }
        }
        Ok(())
    }
}

impl Place {
    /// The place of `span` in `source`. A span that covers several lines is cut at the first one's end.
    pub fn of(source: &str, span: Range<usize>) -> Place {
        let start = floor(source, span.start);
        let end = floor(source, span.end.max(start));
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let rest = &source[line_start..];
        let line = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let line_end = line_start + line.len();
        let width = source[start..end.min(line_end).max(start)].chars().count().max(1);
        Place {
            line: source[..line_start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text: hidden(line),
            width,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_warning { "warning" } else { "error" };
        write!(f, "{kind}: {}", self.file)?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        if !self.path.0.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(place) = &self.place {
            place.draw(f)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n      = {help}")?;
        }
        Ok(())
    }
}

impl Place {
    /// The line and the carets under it. Long lines are shown around the place.
    fn draw(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.column.saturating_sub(SHOWN_CHARS_MAX / 2);
        let skipped = if self.text.chars().count() > SHOWN_CHARS_MAX { skipped } else { 0 };
        // A tab or another control character would move the caret, a carriage return the whole line.
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String =
            self.text.chars().skip(skipped).take(SHOWN_CHARS_MAX).map(clean).collect();
        let before: String = shown.chars().take(self.column - 1 - skipped).map(blank).collect();
        let marked = shown.chars().skip(self.column - 1 - skipped).take(self.width);
        let carets: usize = marked.map(columns).sum::<usize>().max(1);
        write!(
            f,
            "\n{:>5} | {}\n      | {before}{}",
            self.line,
            shown.trim_end(),
            "^".repeat(carets)
        )
    }
}

/// The line without the passwords of its URLs, each character a star, so that the caret stays true.
fn hidden(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (head, url) = rest.split_at(at + 3);
        shown.push_str(head);
        let end = url.find(['"', '\'', ' ', '\t']).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        match url.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?, host))) {
            Some(((user, password), host)) => {
                let stars = "*".repeat(password.chars().count());
                shown.extend([user, ":", &stars, "@", host]);
            }
            None => shown.push_str(url),
        }
        rest = after;
    }
    shown + rest
}

/// Spaces as wide as `c` on a terminal.
fn blank(c: char) -> &'static str {
    if columns(c) == 2 { "  " } else { " " }
}

/// Columns of a character: two for the wide letters of East Asia.
fn columns(c: char) -> usize {
    let wide = matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}');
    if wide { 2 } else { 1 }
}

/// The nearest character boundary at or before `at`.
fn floor(source: &str, at: usize) -> usize {
    let at = at.min(source.len());
    (0..=at).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0)
}

/// Characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 120;
