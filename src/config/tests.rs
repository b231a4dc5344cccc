//! The loader against texts that nobody wrote with care, and the schema against itself.

use proptest::prelude::*;

use super::problem::{Path, Place};
use super::shape::{Shape, Table, root};
use super::{parse, reference};

/// A config with most settings in it, to be damaged.
const RICH: &str = include_str!("../../conf/cn-shop.toml");

fn mistakes(text: &str) -> Vec<String> {
    match parse(text, "p.toml") {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().filter(|p| !p.is_warning).map(|p| p.to_string()).collect(),
    }
}

#[test]
fn every_example_of_the_schema_fits_its_own_setting() {
    fn visit(table: &Table, path: &str) {
        for field in &table.fields {
            for value in field.example.iter().chain(&field.default) {
                if matches!(field.shape, Shape::Table(_)) || value.as_object().is_some() {
                    continue;
                }
                let text = format!("x = {}", field.shape.written(value));
                let file = toml::de::DeTable::parse(&text).unwrap();
                let mut field = field.clone();
                field.name = "x".to_owned();
                let one = Table { fields: vec![field], entries: None };
                let mut walk = super::walk::Walk::default();
                walk.file(file.get_ref(), &one);
                assert!(walk.findings.is_empty(), "{path}: {text}: {:?}", walk.findings);
            }
            if let Some(below) = field.table() {
                visit(below, &format!("{path}.{}", field.name));
            }
        }
        if let Some(below) = table.entries.as_ref().and_then(|entries| entries.shape.table()) {
            visit(below, &format!("{path}.NAME"));
        }
    }
    visit(root(), "");
}

#[test]
fn every_setting_is_documented_and_bounded() {
    fn visit(table: &Table, path: &str) {
        for field in &table.fields {
            let path = format!("{path}.{}", field.name);
            assert!(field.doc.len() > 3, "{path} has no doc");
            let amount = matches!(field.shape, Shape::Text(form) if form.amount("0").is_some() || form.amount("1B").is_some());
            assert!(!amount || field.most.is_some(), "{path} has no upper bound");
            assert!(
                field.default.is_some()
                    || field.example.is_some()
                    || field.table().is_some()
                    || matches!(field.shape, Shape::List(_)),
                "{path} has neither a default nor an example"
            );
            if let Some(below) = field.table() {
                visit(below, &path);
            }
        }
        if let Some(below) = table.entries.as_ref().and_then(|entries| entries.shape.table()) {
            visit(below, &format!("{path}.NAME"));
        }
    }
    visit(root(), "");
}

#[test]
fn the_reference_is_a_config_itself() {
    assert_eq!(mistakes(&reference::text()), Vec::<String>::new());
}

#[test]
fn a_mistake_is_said_once_and_hides_no_other() {
    let text = "[listen.http]\naddress = 8080\n[upstream.shop]\nservers = [\"127.0.0.1:9000\"]\noutcom = \"status\"\n[site.shop]\nupstream = \"other\"\n[site.shop.activity]\npurchase = \"/a/{activity}\"\navailability = \"/b/{activity}\"\nuser = [\"address\"]\n";
    let said = mistakes(text);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].contains("listen.http.address"));
    assert!(said[1].contains("did you mean `outcome`?"));
    assert!(said[2].contains("there is no [upstream.other]"));
}

#[test]
fn carets_stand_under_what_is_wrong() {
    let place = Place::of("a = 1\r\nb\t= 'é' # x\n", 7..8);
    assert_eq!((place.line, place.column, &*place.text, place.width), (2, 1, "b\t= 'é' # x", 1));
    let place = Place::of("ab\n", 50..60);
    assert_eq!((place.line, place.column), (2, 1));
    let place = Place::of("url = \"redis://u:pé/@wd@db:1/0\" # http://a:b/c", 6..32);
    assert_eq!(place.text, "url = \"redis://u:******@db:1/0\" # http://a:b/c", "no password");
    assert_eq!(Path::of(&["sale", "a.b", "pool"]).item(3).to_string(), "sale.\"a.b\".pool[3]");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text, "p.toml");
    }

    #[test]
    fn no_damage_panics(
        cuts in proptest::collection::vec((0usize..RICH.len(), 0usize..40, "[\\PC\n\t\"=\\[\\]{}.0-9]{0,6}"), 1..6),
    ) {
        let mut text = RICH.to_owned();
        for (at, len, new) in cuts {
            let mut start = at.min(text.len());
            while !text.is_char_boundary(start) { start -= 1; }
            let mut end = (start + len).min(text.len());
            while !text.is_char_boundary(end) { end -= 1; }
            text.replace_range(start..end, &new);
        }
        if let Err(problems) = parse(&text, "p.toml") {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let shown = problem.to_string();
                prop_assert!(shown.lines().count() <= 4, "{}", shown);
                let place = problem.place.as_ref();
                prop_assert!(place.is_some_and(|p| p.line <= text.matches('\n').count() + 1));
            }
        }
    }

    #[test]
    fn any_value_in_any_place_is_answered(
        line in 0usize..80,
        value in prop_oneof![
            Just("1"), Just("-1"), Just("1.5"), Just("nan"), Just("inf"), Just("true"), Just("\"\""),
            Just("\"x\""), Just("[]"), Just("[1]"), Just("{}"), Just("{ a = 1 }"), Just("2026-01-01"),
            Just("2026-01-01T00:00:00Z"), Just("99999999999999999999"), Just("0x10"), Just("[[]]"),
        ],
    ) {
        let text: Vec<String> = RICH
            .lines()
            .enumerate()
            .map(|(at, text)| match text.split_once('=') {
                Some((key, _)) if at == line && !key.starts_with('#') => format!("{key}= {value}"),
                _ => text.to_owned(),
            })
            .collect();
        let _ = parse(&text.join("\n"), "p.toml");
    }
}
