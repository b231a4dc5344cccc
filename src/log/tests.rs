use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

fn line(path: &str) -> Line {
    Line {
        t: UnixMs(1_796_126_400_871),
        request: RequestId([1, 2, 3, 4, 5, 6, 7, 8]),
        client: Text::new("10.0.0.1"),
        method: Text::new("GET"),
        host: Text::new("shop.example"),
        path: Text::new(path),
        route: "proxy",
        status: 200,
        bytes: 12,
        took_ms: 3,
        cut: false,
        reason: None,
        cache: None,
        sale: None,
        outcome: None,
        claim: None,
        user_agent: None,
        referer: None,
    }
}

fn log(path: &Path, queue_max: u32) -> (AccessLog, Sink) {
    let sink = Sink::detached();
    let access = Some(path.display().to_string());
    let settings = schema::Log { access, queue_max, ..schema::Log::default() };
    (AccessLog::start(&settings, sink.clone()).expect("a log"), sink)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The thread takes its time; the test does not take longer than it.
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never happens");
        std::thread::yield_now();
    }
}

#[test]
fn lines_are_whole_and_what_users_send_is_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("access.log");
    let (log, sink) = log(&path, 100);
    let nasty = "/a\"b\\c\r\n{\"t\":1}\u{1b}[31m\u{9b}31m\u{202e}\u{7f}\u{2028}";
    log.write(line(nasty));
    log.write(Line { reason: Some("sold_out"), cut: true, ..line("/b") });
    log.finish();
    let text = fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.chars().all(|c| !c.is_control())), "{text:?}");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{2028}'), "{text:?}");
    let lines = lines(&path);
    assert!(lines[0]["path"].as_str().is_some_and(|p| p.starts_with("/a\"b\\c\r\n{")));
    assert_eq!(lines[0]["request"], "0102030405060708");
    assert_eq!(lines[0].get("reason"), None);
    assert_eq!(lines[0].get("cut"), None);
    assert_eq!((&lines[1]["reason"], &lines[1]["cut"]), (&"sold_out".into(), &true.into()));
    assert_eq!(sink.get(Counter::LogDropped), 0);
    // Nobody writes it any more.
    log.write(line("/late"));
    assert_eq!(sink.get(Counter::LogDropped), 1);
}

#[test]
fn text_is_cut_between_characters() {
    assert_eq!(Text::new("abc").as_str(), "abc");
    for character in ["a", "é", "店", "🛒"] {
        let full = "a".repeat(256 % character.len()) + &character.repeat(256 / character.len());
        assert_eq!(Text::new(&full).as_str(), full);
        let cut = Text::new(full + "b");
        assert!(cut.as_str().len() <= 256 && cut.as_str().ends_with('…'), "{cut:?}");
    }
    // Replacements are longer than what they replace.
    assert!(Text::new([0xff; 256]).as_str().len() <= 256);
    assert!(Text::new([0xff; 300]).as_str().len() <= 256);
}

#[test]
fn a_rotated_file_is_opened_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let (log, _) = log(&path, 100);
    log.write(line("/before"));
    until(|| lines(&path).len() == 1);
    fs::rename(&path, &old).expect("renamed");
    // Without a line to push it.
    log.reopen();
    until(|| path.exists());
    log.write(line("/after"));
    log.finish();
    assert_eq!((lines(&old).len(), lines(&path).len()), (1, 1));
    assert_eq!(lines(&path)[0]["path"], "/after");
}

#[test]
fn a_file_that_cannot_be_opened_anew_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let (log, _) = log(&path, 100);
    fs::rename(&path, &old).expect("renamed");
    fs::create_dir(&path).expect("something in the way");
    log.reopen();
    log.write(line("/a"));
    log.finish();
    assert_eq!(lines(&old).len(), 1);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    // Nobody reads the pipe until the queue has overflowed; its buffer and ours are finite.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&path).expect("both ends");
    let (log, sink) = log(&path, 16);
    let mut sent = 0;
    until(|| {
        // A line is about 200 bytes; a pipe holds 64 KiB.
        (0..1_000).for_each(|_| log.write(line("/x")));
        sink.get(Counter::LogDropped) > 1_000
    });
    sent += sink.get(Counter::LogDropped);
    assert!(sent > 1_000);
    drop(reader);
    // With nobody at the other end the thread gets an error, counts, and ends.
    log.finish();
}

#[test]
fn a_disk_that_is_full_drops_and_counts() {
    let (log, sink) = log(Path::new("/dev/full"), 100);
    (0..10).for_each(|_| log.write(line("/x")));
    log.finish();
    assert_eq!(sink.get(Counter::LogDropped), 10);
}

#[test]
fn a_write_that_breaks_off_within_a_line_spoils_no_other_line() {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    let (mut reader, writes) = io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writes, true).expect("not blocking");
    let target = Target::File("pipe".into(), fs::File::from(OwnedFd::from(writes)));
    let (queue, entries) = sync_channel(10_000);
    let sink = Sink::detached();
    let writer = Writer::new(target, entries, 10_000, Arc::default(), sink.clone());
    let mut sent = 0;
    let mut send = |path: &str| {
        sent += 1;
        queue.send(Entry::Line(Box::new(line(path)))).expect("it is read");
    };
    // More than a pipe holds, and nobody reads: the first write gets only part of its bytes out.
    (0..1_000).for_each(|_| send(&"x".repeat(200)));
    let thread = std::thread::spawn(move || writer.run());
    until(|| sink.get(Counter::LogDropped) > 0);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    });
    // All that can be written from now on comes out whole.
    (0..1_000).for_each(|_| send("/after"));
    drop(queue);
    thread.join().expect("no panic");
    let text = reading.join().expect("no panic");
    let whole = |text: &&str| serde_json::from_str::<Value>(text).is_ok();
    let lines = text.lines().filter(whole).count() as u64;
    assert_eq!(lines + sink.get(Counter::LogDropped), sent);
    assert!(text.lines().count() as u64 > lines, "no write broke off");
}

#[test]
fn a_log_that_is_off_takes_everything() {
    let log = AccessLog::start(&schema::Log::default(), Sink::detached()).expect("no log");
    assert!(!log.is_on());
    log.write(line("/x"));
    log.reopen();
    log.finish();
    let access = Some("/no/such/directory/access.log".to_owned());
    let settings = schema::Log { access, ..schema::Log::default() };
    assert!(AccessLog::start(&settings, Sink::detached()).is_err());
}

#[test]
fn samplers_take_one_in_so_many() {
    let taken = |every: u32, of: usize| {
        let sampler = Sampler::new(every);
        (0..of).filter(|_| sampler.is_due()).count()
    };
    assert_eq!(taken(0, 100), 0);
    assert_eq!(taken(1, 100), 100);
    assert_eq!(taken(10, 100), 10);
    assert_eq!(taken(100, 1), 1);
}

#[test]
fn events_have_four_levels() {
    assert!(init_events("loud").is_err_and(|error| error.contains("`loud`")));
}
