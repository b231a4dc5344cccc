//! Settings: any text is a config or a list of mistakes, each with a place in it; what is a config
//! reads back the same from what `config dump` writes.

use penstock::config::parse;
use penstock::config::pattern::Pattern;

/// Reads `data` as a config, and its first line as a path pattern.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let first = text.lines().next().unwrap_or_default();
    if let Ok(pattern) = Pattern::parse(first) {
        let _ = pattern.matches(text);
        let _ = pattern.matches_loosely(text);
        assert!(pattern.overlaps(&pattern), "{first}");
    }
    match parse(text, "fuzz.toml") {
        Err(problems) => {
            assert!(problems.iter().any(|problem| !problem.is_warning));
            for problem in problems {
                let lines = problem.to_string().lines().count();
                assert!(lines <= 4, "{problem}");
                assert!(
                    problem.place.is_some_and(|place| place.line <= text.matches('\n').count() + 1)
                );
            }
        }
        Ok(loaded) => {
            let dumped = toml::to_string(&loaded.settings).expect("settings can be written");
            let again = parse(&dumped, "dump.toml").map_err(|p| p[0].to_string()).expect(&dumped);
            assert_eq!(toml::to_string(&again.settings).expect("settings can be written"), dumped);
        }
    }
}
