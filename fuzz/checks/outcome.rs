//! Outcome rules: any answer of a shop has a verdict, what nothing classifies is unknown, and a body
//! of JSON that breaks off is never read as if it were whole.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use penstock::config::schema::Upstream;
use penstock::gate::outcome::{By, Rules, classify};
use penstock::outcome::Verdict;

static RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    let lists = "confirmed = [0, 'OK'], failed = [1002], sold_out = [1001], already = ['E5'], \
        pending = [202], order_id = '/data/orderNo', redirect_confirmed = ['/orders/']";
    [
        "'status'".to_owned(),
        format!("{{ read = 'json', at = '/code', {lists} }}"),
        format!("{{ read = 'json', at = '/code', otherwise = 'status', {lists} }}"),
        format!("{{ read = 'header', at = 'x-code', {lists} }}"),
        format!("{{ read = 'status', {lists} }}"),
    ]
    .iter()
    .map(|outcome| {
        let upstream: Upstream = toml::from_str(&format!("outcome = {outcome}")).expect("settings");
        Rules::new(&upstream.outcome.expect("an outcome")).expect("valid rules")
    })
    .collect()
});

/// Reads `data` as status, fields and, after an empty line, a body.
pub fn check(data: &[u8]) {
    let end = data.windows(2).position(|w| w == b"\n\n");
    let (head, body) = end.map_or((data, &b""[..]), |end| (&data[..end], &data[end + 2..]));
    let mut lines = head.split(|b| *b == b'\n');
    let first = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let status: u16 = first.and_then(|line| line.trim().parse().ok()).unwrap_or(200);
    let mut headers = HeaderMap::new();
    for line in lines.take(32) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    for (i, rules) in RULES.iter().enumerate() {
        let reading = classify(rules, status, &headers, body);
        assert_eq!(reading, classify(rules, status, &headers, body));
        if reading.unread().is_some() {
            assert_eq!(reading.verdict, Verdict::Unknown);
            assert!(!reading.is_sold_out(status));
        }
        if let (1 | 2, By::Listed(_)) = (i, reading.by) {
            let whole = body.trim_ascii_end();
            for cut in [whole.len() / 2, whole.len() - 1] {
                let part = classify(rules, status, &headers, &whole[..cut]);
                assert!(!matches!(part.by, By::Listed(_)), "cut at {cut}");
            }
        }
    }
}
