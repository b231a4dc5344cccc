//! The rules of the house, checked: direction of dependencies, lengths, banned calls, stale pages.

mod source;
mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, collect, read_all};
use tables::{
    BANS, FILE_LINES_MAX, FOUNDATION, FUNCTION_LINES_MAX, LONG_FILES, LONG_FUNCTIONS, MAY_USE,
    STD_INSTANT,
};

/// Fails with every breach, not with the first.
fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| match place.strip_suffix('/') {
        // A directory's own file belongs to it: src/log.rs to src/log/.
        Some(dir) => path.starts_with(place) || path == format!("{dir}.rs"),
        None => path == *place,
    })
}

/// The top-level module of a file in `src`.
fn module(path: &str) -> &str {
    let rest = path.trim_start_matches("src/");
    rest.split(['/', '.']).next().unwrap_or_default()
}

/// Modules that a line names: `crate::x`, `crate::{x, y::z}`, and `penstock::x` in `main.rs`.
fn named(code: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "penstock::"] {
        for (at, _) in code.match_indices(prefix) {
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => {
                    let list = group(list);
                    found.extend(list.into_iter().map(|name| (line, name)));
                }
                None => drop(found.insert((line, word(rest)))),
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// The first word of each item of a group, up to its closing brace.
fn group(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(word(list[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(word(list[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn dependencies_point_down() {
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let mut breaches = Vec::new();
    for source in read_all(&["src"]) {
        let own = module(&source.path);
        if own == "lib" {
            continue;
        }
        let Some((_, may)) = MAY_USE.iter().find(|(name, _)| *name == own) else {
            breaches.push(format!("{}: `{own}` has no row in MAY_USE", source.path));
            continue;
        };
        for (line, used) in named(&source.shipped) {
            // Constants and macros at the crate's root are no modules.
            let is_module = known.contains(&*used);
            let free = used == own || may.contains(&"*") || may.contains(&&*used);
            if is_module && !free && !FOUNDATION.contains(&&*used) {
                breaches.push(format!("{}:{line}: `{own}` must not use `{used}`", source.path));
            }
        }
    }
    none(breaches);
}

#[test]
fn the_table_of_directions_has_no_circle() {
    // Each row names only rows above it, the foundation being on top.
    let mut above: BTreeSet<&str> = BTreeSet::new();
    let mut breaches = Vec::new();
    for (name, may) in MAY_USE {
        for used in may.iter().filter(|used| **used != "*" && !above.contains(**used)) {
            breaches.push(format!("`{name}` names `{used}`, which does not stand above it"));
        }
        above.insert(name);
    }
    none(breaches);
}

#[test]
fn files_are_short() {
    let sources = read_all(&["src", "tests"]);
    let mut breaches = Vec::new();
    for source in &sources {
        let table = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if source.lines > FILE_LINES_MAX && !table {
            breaches.push(format!("{}: {} lines", source.path, source.lines));
        }
    }
    let mut lengths: Vec<usize> = sources.iter().map(|source| source.lines).collect();
    lengths.sort_unstable();
    println!("{} files, median {} lines", lengths.len(), lengths[lengths.len() / 2]);
    none(breaches);
}

#[test]
fn functions_are_short() {
    let mut breaches = Vec::new();
    for source in read_all(&["src", "tests"]) {
        for function in source.functions() {
            let granted = LONG_FUNCTIONS
                .iter()
                .any(|(path, name, _)| *path == source.path && *name == function.name);
            if function.lines > FUNCTION_LINES_MAX && !granted {
                let (path, line, name) = (&source.path, function.line, &function.name);
                breaches.push(format!("{path}:{line}: {name} has {} lines", function.lines));
            }
        }
    }
    none(breaches);
}

#[test]
fn calls_are_made_in_their_seams() {
    let mut breaches = Vec::new();
    for source in read_all(&["src"]) {
        for ban in BANS.iter().filter(|ban| !is_in(&source.path, ban.seams)) {
            for line in source.uses(ban.call) {
                let path = &source.path;
                breaches.push(format!("{path}:{line}: {} ({} instead)", ban.call, ban.instead));
            }
        }
        if !is_in(&source.path, STD_INSTANT) {
            for line in std_instants(&source) {
                let path = &source.path;
                breaches.push(format!("{path}:{line}: std's Instant::now (read Clock instead)"));
            }
        }
    }
    none(breaches);
}

/// Lines that read the standard library's monotonic clock; tokio's is fine for timeouts.
fn std_instants(source: &Source) -> Vec<usize> {
    let imported = source.shipped.split("use std::time::").skip(1).any(|rest| {
        let import = rest.split(';').next().unwrap_or_default();
        import.split(|c: char| !c.is_alphanumeric()).any(|name| name == "Instant")
    });
    match imported {
        true => source.uses("Instant::now"),
        false => source.uses("std::time::Instant::now"),
    }
}

#[test]
fn a_module_is_a_file_with_its_name() {
    let sources = read_all(&["src", "tests"]);
    none(
        sources
            .iter()
            .filter(|source| source.path.ends_with("/mod.rs"))
            .map(|source| format!("{}: write foo.rs and foo/", source.path))
            .collect(),
    );
}

/// Every exception is still one: a row that grants nothing is removed.
#[test]
fn exceptions_are_needed() {
    let sources = read_all(&["src", "tests"]);
    let mut breaches = Vec::new();
    for (path, name, reason) in LONG_FUNCTIONS {
        assert!(!reason.is_empty());
        let functions = sources.iter().filter(|s| s.path == *path).flat_map(Source::functions);
        let long = functions.filter(|f| f.name == *name).any(|f| f.lines > FUNCTION_LINES_MAX);
        if !long {
            breaches.push(format!("{path}: {name} is short; remove its row"));
        }
    }
    for (path, reason) in LONG_FILES {
        assert!(!reason.is_empty());
        if !sources.iter().any(|s| s.path == *path && s.lines > FILE_LINES_MAX) {
            breaches.push(format!("{path} is short; remove its row"));
        }
    }
    none(breaches);
}

/// Pages name files that exist. (`conf/reference.toml` is compared in `tests/config/conf.rs`.)
#[test]
fn pages_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut breaches = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "conf/", "benches/", "fuzz/", "packaging/", "docs/"];
            let is_path = ours.iter().any(|dir| quoted.starts_with(dir))
                && !quoted.contains([' ', '{', '*', '…']);
            if is_path && !root.join(quoted).exists() {
                breaches.push(format!("{page}: {quoted} does not exist"));
            }
        }
    }
    none(breaches);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> =
        ["Makefile", "README.md", "ARCHITECTURE.md", "Cargo.toml", ".ci/run"]
            .iter()
            .map(|name| root.join(name))
            .collect();
    for (dir, extension) in [
        ("src", "rs"),
        ("tests", "rs"),
        ("benches", "rs"),
        ("fuzz/checks", "rs"),
        ("fuzz/targets", "rs"),
        ("conf", "toml"),
        ("src", "lua"),
        ("docs", "md"),
        ("packaging", "service"),
    ] {
        collect(&root.join(dir), extension, &mut files);
    }
    // In pieces, so that this file does not name them.
    let words = ["work/", "home/", "root/", "Users/"].map(|word| format!("/{word}"));
    let mut breaches = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (at, line) in text.lines().enumerate() {
            let at_start = |word: &String| {
                line.match_indices(&**word).any(|(start, _)| {
                    !line[..start].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '}')
                })
            };
            if words.iter().any(at_start) {
                breaches.push(format!("{}:{}: {}", file.display(), at + 1, line.trim()));
            }
        }
    }
    none(breaches);
}

/// What the README says of a hit is what the comparison printed: `× best peer` of every row of hits.
#[test]
fn the_first_page_quotes_the_comparison() {
    let table = fs::read_to_string("docs/performance.md").expect("docs/performance.md");
    let mut is_hit = false;
    let mut ratios = Vec::new();
    for line in table.lines() {
        if !line.starts_with(' ') {
            is_hit = line.starts_with("hit ");
        }
        let ratio = line.trim_start().strip_prefix("× best peer");
        if let Some(ratio) = ratio.filter(|_| is_hit) {
            let first = ratio.split_whitespace().next().expect("a ratio");
            ratios.push(first.parse::<f64>().expect("a number"));
        }
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let said = format!("{least:.2} to {most:.2} times");
    for page in ["README.md", "README.zh.md"] {
        let text = fs::read_to_string(page).expect(page);
        let said = if page.ends_with(".zh.md") {
            said.replace(" to ", "–").replace(" times", "")
        } else {
            said.clone()
        };
        assert!(text.contains(&said), "{page} does not say {said}");
    }
}
