//! The shop's pages: the same bytes for the same activity and city, of a fair size.

use super::dice::Dice;

/// The page of `activity` as people in `city` see it, at least `bytes_min` long.
pub fn activity(activity: &str, city: &str, bytes_min: usize) -> String {
    let mut html = String::with_capacity(bytes_min + 4_096);
    for piece in PAGE.split('\u{1}') {
        match piece {
            "activity" => escape(&mut html, activity),
            "city" => escape(&mut html, city),
            text => html.push_str(text),
        }
    }
    let mut dice = Dice::new(seed(activity), seed(city));
    let mut row = 1;
    while html.len() + 20 < bytes_min {
        let street = dice.below(900) + 1;
        let seats = dice.below(4_000) + 100;
        html.push_str(&format!("<li>Hall {row}, {street} Long Street, {seats} seats</li>\n"));
        row += 1;
    }
    html.push_str(
        "</ul></details></main>\n<script src=\"/static/shop.js\"></script></body></html>\n",
    );
    html
}

/// A static file of the shop: its bytes and type; None if there is no such file.
pub fn asset(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/static/shop.css" => Some(("text/css", include_str!("page/style.css"))),
        "/static/shop.js" => Some(("text/javascript", include_str!("page/script.js"))),
        "/static/robots.txt" | "/robots.txt" => Some(("text/plain", "User-agent: *\nDisallow:\n")),
        _ => None,
    }
}

/// Names stand between `\u{1}`. The script works without and with the gate: the flag is shown only where
/// it is answered.
const PAGE: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>\u{1}activity\u{1}</title>
<link rel=\"icon\" href=\"data:,\">
<link rel=\"stylesheet\" href=\"/static/shop.css\"></head><body>
<header><b data-t=\"shop\">The small shop</b><button id=\"language\" data-t=\"other\"></button></header>
<main>
<section class=\"poster\"><span data-t=\"kicker\"></span><h1><span data-t=\"event\">Activity</span> \u{1}activity\u{1}</h1>
<span><span data-t=\"city\"></span>: <b id=\"city\">\u{1}city\u{1}</b></span></section>
<section class=\"card\"><span id=\"state\" hidden></span><span id=\"label\" class=\"quiet\"></span><span id=\"time\"></span>
<select id=\"pool\" hidden></select><button id=\"buy\" disabled>Buy</button>
<p id=\"said\" role=\"status\"></p>
<p class=\"quiet\"><span data-t=\"you\"></span> <b id=\"user\"></b> · <button id=\"change\" data-t=\"change\"></button></p></section>
<details><summary data-t=\"halls\"></summary><ul>
";

fn escape(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
}

/// FNV-1a: any fixed spread of short names over seeds will do.
fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_same_each_time_and_differs_by_city() {
        let page = activity("8848", "paris", 8_000);
        assert_eq!(page, activity("8848", "paris", 8_000));
        assert_ne!(page, activity("8848", "rome", 8_000));
        assert!(page.len() >= 7_900 && page.contains("<b id=\"city\">paris</b>"));
    }

    #[test]
    fn names_from_the_url_are_escaped() {
        let page = activity("<script>\u{1}", "\"&", 0);
        assert!(page.contains("&lt;script&gt;\u{1}</h1>") && page.contains("&quot;&amp;</b>"));
    }
}
