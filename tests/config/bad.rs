//! Bad configs and exactly what is said about them: `bad/NAME.toml` and `bad/NAME.txt`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// All that is said about a text.
fn said(text: &str, name: &str) -> String {
    let problems = match penstock::config::parse(text, name) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "{problem}");
    }
    out
}

/// With `PENSTOCK_UPDATE=1` the expectations are written anew, to be read in the diff.
#[test]
fn every_mistake_is_said_with_its_place() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad");
    let mut seen = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "toml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = said(&text, name);
        let expected = path.with_extension("txt");
        if std::env::var_os("PENSTOCK_UPDATE").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "{name}");
        assert!(said.contains("error: "), "{name} is not bad");
    }
    assert!(seen >= 12, "{seen} files in {}", dir.display());
}
