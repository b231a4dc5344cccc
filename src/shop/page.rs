//! The shop's pages: the same bytes for the same activity and city, of a fair size.

use super::dice::Dice;

/// The page of `activity` as people in `city` see it, at least `bytes_min` long.
pub fn activity(activity: &str, city: &str, bytes_min: usize) -> String {
    let mut html = String::with_capacity(bytes_min + 2_048);
    html.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>");
    escape(&mut html, activity);
    html.push_str(
        "</title>\n<link rel=\"stylesheet\" href=\"/static/shop.css\"></head><body>\n<h1>Activity ",
    );
    escape(&mut html, activity);
    html.push_str("</h1>\n<p>City: <b id=\"city\">");
    escape(&mut html, city);
    html.push_str("</b></p>\n");
    html.push_str(BUTTON);
    html.push_str("<ul>\n");
    let mut dice = Dice::new(seed(activity), seed(city));
    let mut row = 1;
    while html.len() + 20 < bytes_min {
        let street = dice.below(900) + 1;
        let seats = dice.below(4_000) + 100;
        html.push_str(&format!("<li>Hall {row}, {street} Long Street, {seats} seats</li>\n"));
        row += 1;
    }
    html.push_str("</ul></body></html>\n");
    html
}

/// A static file of the shop: its bytes and type; None if there is no such file.
pub fn asset(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/static/shop.css" => Some(("text/css", "body{font:16px sans-serif;margin:2em}\n")),
        "/static/robots.txt" | "/robots.txt" => Some(("text/plain", "User-agent: *\nDisallow:\n")),
        _ => None,
    }
}

/// The button works without and with the gate: the flag is shown only where it is answered.
const BUTTON: &str = r#"<p><button id="buy">Buy</button> <output id="said"></output></p>
<script>
const said = document.getElementById("said"), base = location.pathname;
async function look() {
  const answer = await fetch(base + "/availability").catch(() => null);
  if (!answer || !answer.ok) return;
  const flag = await answer.json();
  said.textContent = flag.state;
  if (flag.poll_ms) setTimeout(look, flag.poll_ms + Math.random() * flag.jitter_ms);
}
document.getElementById("buy").onclick = async () => {
  const key = self.crypto && crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
  const answer = await fetch(base + "/orders", {method: "POST", body: "{}",
    headers: {"content-type": "application/json", "idempotency-key": key}});
  said.textContent = answer.status + " " + (await answer.text());
};
if (!document.cookie.includes("uid=")) document.cookie = "uid=web" + Date.now() + ";path=/";
look();
</script>
"#;

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
        assert!(activity("<script>", "\"&", 0).contains("&lt;script&gt;"));
    }
}
