use std::fs;

use proptest::prelude::*;

use super::super::Event;
use super::super::chain::Key;
use super::super::read::Chain;
use super::*;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, UserKey};

fn line(n: u8) -> Line {
    Line {
        t: 1_000 + u64::from(n),
        seq: 0,
        sale: "shop/drop".to_owned(),
        epoch: 1,
        pool: Name::new("default").unwrap(),
        user: UserKey([n; 16]),
        attempt: AttemptId([n; 16]),
        claim: ClaimId([n; 12]),
        node: NodeId([1; 8]),
        units: 1,
        event: Event::Admitted,
        status: n.is_multiple_of(2).then_some(200),
        code: None,
        order: n.is_multiple_of(3).then(|| "S \"1\"\n,\"chain\":\"x\"}".to_owned()),
        chain: String::new(),
    }
}

fn open(dir: &Path) -> (Writer, Vec<Line>) {
    let mut lines = Vec::new();
    let (clock, sink) = (Clock::system(), Sink::detached());
    let each = |line| lines.push(line);
    let (writer, _) = Writer::open(dir, None, JournalSync::Batch, clock, sink, each).unwrap();
    (writer, lines)
}

fn read_back(dir: &Path) -> (Found, Vec<Line>) {
    let key = Key::load(&dir.join("journal.key")).unwrap();
    let mut lines = Vec::new();
    let found = read(&dir.join("journal"), Some(&key), |line| lines.push(line)).unwrap();
    (found, lines)
}

fn ask(writer: &mut Writer, lines: Vec<Line>, keep: bool) -> Result<(), JournalError> {
    let (done, mut told) = oneshot::channel();
    writer.commit(vec![Job { lines, keep, sync: false, done }]);
    told.try_recv().unwrap()
}

fn first_file(dir: &Path) -> PathBuf {
    dir.join("journal").join(file_name(1))
}

#[test]
fn numbers_and_chain_go_on_over_files_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3_u8 {
        let (mut writer, before) = open(dir.path());
        assert_eq!(before.len(), usize::from(run) * 4);
        writer.file_bytes_max = 900;
        for n in 0..4 {
            ask(&mut writer, vec![line(run * 4 + n)], false).unwrap();
        }
        writer.finish();
    }
    let (found, lines) = read_back(dir.path());
    assert_eq!((found.lines, found.unreadable, found.chain), (12, 0, Chain::Verified));
    assert!(found.last.unwrap().number > 2, "it was never rotated");
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line.seq, i as u64 + 1);
        assert_eq!(line.t, 1_000 + i as u64);
    }
}

#[test]
fn a_journal_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (_writer, _) = open(dir.path());
    let again =
        Writer::open(dir.path(), None, JournalSync::Batch, Clock::system(), Sink::detached(), drop);
    assert!(matches!(again, Err(JournalError::InUse(_))));
}

#[test]
fn a_full_disk_admits_nobody_and_loses_no_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    ask(&mut writer, vec![line(1)], false).unwrap();
    // A handle that cannot be written stands for the disk.
    let good = std::mem::replace(&mut writer.file, File::open(first_file(dir.path())).unwrap());
    assert!(ask(&mut writer, vec![line(2)], false).is_err());
    assert!(!writer.state.writable.load(Ordering::Acquire));
    assert!(ask(&mut writer, vec![line(3)], true).is_err());
    assert!(ask(&mut writer, vec![line(4)], false).is_err());
    writer.retry_at = Some(MonoMs(0));
    writer.tick();
    assert!(!writer.state.writable.load(Ordering::Acquire));
    assert_eq!(writer.sink.get(Counter::JournalErrors), 2);

    // Room again, behind half a line that a failed write left.
    writer.file = good;
    writer.file.write_all(b"{\"t\":12").unwrap();
    writer.retry_at = Some(MonoMs(0));
    writer.tick();
    assert!(writer.state.writable.load(Ordering::Acquire));
    ask(&mut writer, vec![line(5)], false).unwrap();
    let (found, lines) = read_back(dir.path());
    assert_eq!((found.chain, found.unreadable), (Chain::Verified, 0));
    assert_eq!(lines.iter().map(|l| l.t).collect::<Vec<_>>(), [1001, 1003, 1005]);
}

#[test]
fn a_file_that_cannot_be_begun_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    ask(&mut writer, vec![line(1)], false).unwrap();
    writer.file_bytes_max = 10;
    let next = dir.path().join("journal").join(file_name(2));
    fs::create_dir(&next).unwrap();
    assert!(ask(&mut writer, vec![line(2)], true).is_err());
    fs::remove_dir(&next).unwrap();
    writer.retry_at = Some(MonoMs(0));
    writer.tick();
    let (found, lines) = read_back(dir.path());
    assert_eq!((found.chain, lines.len()), (Chain::Verified, 2));
}

#[test]
fn a_changed_line_breaks_the_chain_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    ask(&mut writer, (0..6).map(line).collect(), false).unwrap();
    let path = first_file(dir.path());
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let broken_at = |text: String| {
        fs::write(&path, text).unwrap();
        match read_back(dir.path()).0.chain {
            Chain::Broken { line, .. } => line,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(broken_at(text.replacen("\"t\":1002", "\"t\":1012", 1)), 3);
    assert_eq!(broken_at(lines[..2].concat() + &lines[3..].concat()), 3, "taken out");
    assert_eq!(broken_at(lines[..3].concat() + &lines[2..].concat()), 4, "written twice");
    assert_eq!(broken_at(lines[..2].concat() + "{}\n" + &lines[2..].concat()), 4, "not a line");
}

#[test]
fn a_missing_file_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.file_bytes_max = 10;
    for n in 0..3 {
        ask(&mut writer, vec![line(n)], false).unwrap();
    }
    fs::remove_file(dir.path().join("journal").join(file_name(2))).unwrap();
    assert!(matches!(read_back(dir.path()).0.chain, Chain::Broken { line: 1, .. }));
}

#[tokio::test]
async fn the_thread_writes_what_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, sink) = (Clock::system(), Sink::detached());
    let (journal, _) =
        Journal::open(dir.path(), JournalSync::Always, clock, sink.clone(), drop).unwrap();
    journal.admit(vec![line(1), line(2)]).await.unwrap();
    journal.keep(vec![line(3)]).await.unwrap();
    journal.sync().await.unwrap();
    assert!(journal.is_writable() && journal.trouble().is_none());
    assert_eq!(sink.get(Counter::JournalLines), 3);
    assert_eq!(read_back(dir.path()).1.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever a kill cuts the file, the whole lines before it are read, the chain holds, and a
    /// writer goes on.
    #[test]
    fn a_file_cut_anywhere_goes_on(n in 1_u8..6, cut in 0.0..1.0_f64, junk in "[\\x00a\\n]{0,8}") {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = open(dir.path());
        ask(&mut writer, (0..n).map(line).collect(), false).unwrap();
        drop(writer);
        let path = first_file(dir.path());
        let mut text = fs::read(&path).unwrap();
        let at = (text.len() as f64 * cut) as usize;
        let whole = text[..at].iter().filter(|b| **b == b'\n').count();
        text.truncate(at);
        text.extend_from_slice(junk.as_bytes());
        // Junk may by chance end a line that was cut just before its end.
        let whole = if junk.starts_with('\n') && text[..at].ends_with(b"\"}") { whole + 1 } else { whole };
        fs::write(&path, text).unwrap();

        let (found, lines) = read_back(dir.path());
        prop_assert_eq!(lines.len(), whole);
        prop_assert_eq!(found.chain, Chain::Verified);
        let (mut writer, before) = open(dir.path());
        prop_assert_eq!(before.len(), whole);
        ask(&mut writer, vec![line(9)], false).unwrap();
        let (found, lines) = read_back(dir.path());
        prop_assert_eq!((found.chain, found.unreadable), (Chain::Verified, 0));
        prop_assert_eq!(lines.len(), whole + 1);
    }
}

/// Two processes with one lock, as they are during an upgrade.
fn two(dir: &Path) -> (Writer, Writer) {
    let (one, _) = open(dir);
    one.state.is_shared.store(true, Ordering::Release);
    let lock = one.state.lock.try_clone().unwrap();
    let (clock, sink) = (Clock::system(), Sink::detached());
    let lock = Some(OwnedFd::from(lock));
    let (two, _) = Writer::open(dir, lock, JournalSync::Batch, clock, sink, drop).unwrap();
    assert!(two.state.is_shared.load(Ordering::Acquire));
    (one, two)
}

#[test]
fn two_processes_write_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut two) = two(dir.path());
    // Small files, so that each of them finds that the other one went on in the next.
    (one.file_bytes_max, two.file_bytes_max) = (1_000, 1_000);
    for n in 0..40 {
        let writer = if n % 3 == 0 { &mut one } else { &mut two };
        ask(writer, vec![line(n)], n % 2 == 0).unwrap();
    }
    drop((one, two));
    let (found, lines) = read_back(dir.path());
    assert_eq!((found.chain, found.unreadable, lines.len()), (Chain::Verified, 0, 40));
    assert!(found.last.unwrap().number > 3, "it was rotated");
}

#[test]
fn what_a_killed_process_left_of_a_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut two) = two(dir.path());
    ask(&mut one, vec![line(1)], false).unwrap();
    ask(&mut two, vec![line(2)], false).unwrap();
    one.file.write_all(b"{\"t\":17,\"se").unwrap();
    ask(&mut two, vec![line(3)], false).unwrap();
    let (found, lines) = read_back(dir.path());
    assert_eq!((found.chain, found.unreadable, lines.len()), (Chain::Verified, 0, 3));
}

#[test]
fn a_lock_of_another_journal_opens_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_mine, _) = open(dir.path());
    let (theirs, _) = open(other.path());
    let lock = Some(OwnedFd::from(theirs.state.lock.try_clone().unwrap()));
    let (clock, sink) = (Clock::system(), Sink::detached());
    let opened = Writer::open(dir.path(), lock, JournalSync::Batch, clock, sink, drop);
    assert!(matches!(opened, Err(JournalError::InUse(_))));
}
