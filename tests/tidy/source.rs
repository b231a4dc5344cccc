//! Rust source as the checks read it: comments, texts and test code blanked, every line kept.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// Its path from the root of the package.
    pub path: String,
    /// Its lines, as they are.
    pub lines: usize,
    /// Its code: comments and texts are blanks.
    pub code: String,
    /// The same without test modules; empty for a file of tests.
    pub shipped: String,
}

/// A function.
pub struct Function {
    pub name: String,
    /// Its first line, from 1.
    pub line: usize,
    /// Its lines, from its name to its closing brace.
    pub lines: usize,
}

/// Every Rust file below `dirs` of the package, by path.
pub fn read_all(dirs: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in dirs {
        collect(&root.join(dir), "rs", &mut paths);
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            Source::new(path, &text)
        })
        .collect()
}

/// Files with an extension below `dir`.
pub fn collect(dir: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, into);
        } else if path.extension().is_some_and(|e| e == extension) {
            into.push(path);
        }
    }
}

impl Source {
    fn new(path: String, text: &str) -> Source {
        let code = blank(text);
        let of_tests = path.split('/').any(|part| part == "tests" || part == "tests.rs");
        let shipped = if of_tests { String::new() } else { without_tests(&code) };
        Source { path, lines: text.lines().count(), code, shipped }
    }

    /// Lines of the shipped code that contain `word` as a word of its own, from 1.
    pub fn uses(&self, word: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        for (at, line) in self.shipped.lines().enumerate() {
            let own = line.match_indices(word).any(|(start, _)| {
                let before = line[..start].chars().next_back();
                !word.starts_with(is_ident) || !before.is_some_and(is_ident)
            });
            if own {
                lines.push(at + 1);
            }
        }
        lines
    }

    /// The functions with a body, those of tests too.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (start, _) in self.code.match_indices("fn ") {
            let before = self.code[..start].chars().next_back();
            let name: String =
                self.code[start + 3..].chars().take_while(|c| is_ident(*c)).collect();
            if name.is_empty() || before.is_some_and(is_ident) {
                continue;
            }
            let rest = &self.code[start..];
            // A declaration without a body ends with a semicolon outside any bracket.
            let Some(open) = body(rest) else { continue };
            let Some(close) = matching(&rest[open..]) else { continue };
            functions.push(Function {
                name,
                line: self.code[..start].matches('\n').count() + 1,
                lines: rest[..=open + close].matches('\n').count() + 1,
            });
        }
        functions
    }
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the body of a function begins, if it has one.
fn body(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the brace that `text` begins with is closed.
fn matching(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let end = match body(rest) {
            Some(open) => open + matching(&rest[open..]).unwrap_or(rest.len() - open - 1) + 1,
            None => rest.find(';').map_or(rest.len(), |at| at + 1),
        };
        let blanks: String =
            rest[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..start + end, &blanks);
    }
    out
}

/// Blanks comments and what stands in quotes.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => find(&chars, at, |c| c == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if !prefixed(&chars, at) => raw_string(&chars, at).unwrap_or(at),
            '\'' => char_literal(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn find(chars: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| is(chars[*at])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// Whether the `r` at `at` belongs to a longer word (`b` may stand before it).
fn prefixed(chars: &[char], at: usize) -> bool {
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b') => at > 1 && is_ident(chars[at - 2]),
        Some(c) => is_ident(c),
        None => false,
    }
}

fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let open = find(chars, from + 1, |c| c != '#');
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - from - 1;
    let closes = |at: &usize| {
        chars[*at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let close = (open + 1..chars.len()).find(closes)?;
    Some(close + 1 + hashes)
}

/// The end of a character in quotes; `None` for a lifetime.
fn char_literal(chars: &[char], from: usize) -> Option<usize> {
    match (chars.get(from + 1)?, chars.get(from + 2)) {
        ('\\', _) => Some(find(chars, from + 3, |c| c == '\'') + 1),
        (_, Some('\'')) => Some(from + 3),
        _ => None,
    }
}

#[test]
fn texts_and_comments_are_no_code() {
    let text = "fn a() { // }\n let b = \"}\\\"\"; /* } /* */ } */ let c = r#\"}\"\"#; let d = '}'; let e: &'a str = b'{'; }\nfn f();";
    let code = blank(text);
    assert_eq!(code.matches('}').count(), 1, "{code}");
    assert_eq!(code.matches('{').count(), 1, "{code}");
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
    let source = Source::new(
        "src/a.rs".to_owned(),
        "fn a(x: [u8; 3]) {\n\n}\n#[cfg(test)]\nmod tests {\n fn b() { x.unwrap() }\n}\n#[cfg(test)]\nmod more;\nfn c() {}\n",
    );
    let names: Vec<_> =
        source.functions().iter().map(|f| (f.name.clone(), f.line, f.lines)).collect();
    assert_eq!(names, [("a".to_owned(), 1, 3), ("b".to_owned(), 6, 1), ("c".to_owned(), 10, 1)]);
    assert!(source.uses(".unwrap()").is_empty());
    assert_eq!(source.uses("fn"), [1, 10]);
}
