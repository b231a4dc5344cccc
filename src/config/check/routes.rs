//! Path patterns of activities: each well-formed, no path meant by two.

use super::Findings;
use crate::config::pattern::Pattern;
use crate::config::problem::Path;
use crate::config::schema::{Activity, PageRoute, Settings};

pub fn check(settings: &Settings, found: &mut Findings) {
    for (name, site) in &settings.site {
        let Some(activity) = &site.activity else { continue };
        let path = Path::of(&["site", name.as_str(), "activity"]);
        let patterns = parse(&path, activity, found);
        overlaps(&patterns, found);
        health(settings, &patterns, found);
        if activity.purchase.is_some() && activity.availability.is_none() {
            found.warn(
                path.join("purchase"),
                "without `availability` no client can see whether the sale is open",
                "write: availability = \"/activity/{activity}/availability\"",
            );
        }
    }
}

/// The patterns that are well-formed, each with its setting.
fn parse(path: &Path, activity: &Activity, found: &mut Findings) -> Vec<(Path, Pattern)> {
    let page = activity.page.as_ref().map(|page| page.settings().path);
    // `page` is a path, or a table with one.
    let page_path = match &activity.page {
        Some(PageRoute::Table(_)) => path.join("page").join("path"),
        _ => path.join("page"),
    };
    let routes = [
        (page_path, page.as_ref(), true),
        (path.join("availability"), activity.availability.as_ref(), false),
        (path.join("purchase"), activity.purchase.as_ref(), false),
    ];
    let mut patterns = Vec::new();
    for (path, text, is_page) in routes {
        let Some(text) = text else { continue };
        match Pattern::parse(text) {
            Err(what) => found.error(path, what),
            Ok(pattern) => {
                if is_page {
                    city(&path, activity, &pattern, found);
                } else if pattern.has_city() {
                    let what = "a city is part of the page only, never of a sale";
                    found.error_help(
                        path.clone(),
                        what,
                        "write {_} for a segment that may be anything",
                    );
                }
                patterns.push((path, pattern));
            }
        }
    }
    patterns
}

/// `{city}` in the page's path and `path` among the city's sources belong together.
fn city(path: &Path, activity: &Activity, pattern: &Pattern, found: &mut Findings) {
    let named = activity.city.iter().position(|source| source == "path");
    match (pattern.has_city(), named) {
        (true, None) => found.error_help(
            path.clone(),
            "has {city}, but `city` does not read it",
            "write: city = [\"path\"]",
        ),
        (false, Some(_)) => found.error_help(
            path.clone(),
            "has no {city}, but `city` reads \"path\"",
            "put {city} into the path, or remove \"path\" from `city`",
        ),
        _ => {}
    }
}

fn overlaps(patterns: &[(Path, Pattern)], found: &mut Findings) {
    for (at, (path, pattern)) in patterns.iter().enumerate() {
        if let Some((other, _)) = patterns[..at].iter().find(|(_, p)| p.overlaps(pattern)) {
            let name = other.0.iter().rev().find(|name| *name != "path").cloned();
            let what = format!("can match the same path as `{}`", name.unwrap_or_default());
            found.error_help(path.clone(), what, "give them different literal segments");
        }
    }
}

fn health(settings: &Settings, patterns: &[(Path, Pattern)], found: &mut Findings) {
    for (name, listen) in &settings.listen {
        let Some(health) = &listen.health else { continue };
        if let Some((other, _)) = patterns.iter().find(|(_, p)| p.matches(health).is_some()) {
            let what = format!("{health} is a path of {other} too");
            found.error(Path::of(&["listen", name.as_str(), "health"]), what);
        }
    }
}
