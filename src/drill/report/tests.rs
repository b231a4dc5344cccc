use super::*;
use crate::drill::expect::Expectations;

fn counts(parts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    parts.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect()
}

/// A report in which everything that can be shown is there.
fn full() -> Report {
    let labels: Vec<String> = (0..20).map(|i| format!("reason_{i}")).collect();
    let heard: BTreeMap<String, u64> = labels.iter().map(|l| (l.clone(), 7)).collect();
    let q = Quantiles { count: 5, p50: 1.0, p90: 2.0, p99: 3.0, p999: 4.0, max: 5.0 };
    let mut report = Report {
        target: "http://127.0.0.1:8080/activity/8848".to_owned(),
        people: 10,
        bots: 2,
        page: Requests { sent: 30, answered: 28, no_answer: 1, cut: 1 },
        poll: Requests { sent: 20, answered: 20, no_answer: 0, cut: 0 },
        purchase: Requests { sent: 283, answered: 280, no_answer: 2, cut: 1 },
        statuses: BTreeMap::from([(200, 46), (500, 2)]),
        heard: heard.clone(),
        heard_by_bots: heard,
        no_answer: counts(&[("timeout", 1), ("connection_refused", 2)]),
        people_fates: counts(&[("won", 3), ("sold_out", 7)]),
        bot_fates: counts(&[("sold_out", 2)]),
        sold: 3,
        latency_ms: SPANS.iter().map(|(name, _)| ((*name).to_owned(), q)).collect(),
        shop: Some(Stats::default()),
        ..Report::default()
    };
    let expectations = Expectations {
        sold: Some(3),
        errors_max: Some(0),
        twice_max: Some(0),
        early_max: Some(0),
        loser_p99_ms_max: Some(10.0),
    };
    report.expected = expectations.check(&report);
    report
}

#[test]
fn the_text_is_short() {
    let text = full().text();
    assert!(text.lines().count() <= LINES_MAX, "{text}");
    assert!(Report::default().text().lines().count() <= LINES_MAX);
}

#[test]
fn every_sum_in_the_text_adds_up() {
    let text = full().text();
    let mut sums = 0;
    for line in text.lines().filter(|line| line.contains(" + ") && line.contains(" = ")) {
        let (left, right) = line.split_once(" = ").unwrap();
        let number = |word: &str| word.parse::<u64>().ok();
        let parts: u64 =
            left.split(" + ").map(|part| part.split(' ').find_map(number).unwrap()).sum();
        let total = right.split(' ').find_map(number).unwrap();
        assert_eq!(parts, total, "{line}");
        sums += 1;
    }
    assert!(sums >= 6, "{text}");
}

#[test]
fn errors_count_each_failed_request_once() {
    // Two pages 500, three without an answer.
    assert_eq!(full().errors(), 5);
}

#[test]
fn a_report_survives_json() {
    let report = full();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
