//! Reading a journal: every file in order, the chain verified, a cut last line tolerated.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Line;
use super::chain::{Key, Link, split};

/// Whether the lines are those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Every line follows from the one before it.
    Verified,
    /// The key is not there: only the numbers of the lines were checked, and they are without a gap.
    Unchecked,
    /// This is the first line that does not follow: it, or one before it, was changed, added or taken
    /// out.
    Broken {
        /// File.
        file: PathBuf,
        /// Line in the file, from 1.
        line: u64,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Lines that were read.
    pub lines: u64,
    /// Whole lines that are no journal lines.
    pub unreadable: u64,
    /// The chain.
    pub chain: Chain,
    /// Number of the last line, 0 if there is none.
    pub(super) seq: u64,
    /// The chain after the last line.
    pub(super) link: Link,
    /// The last file, if there is one.
    pub(super) last: Option<LastFile>,
}

/// The file that a writer goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastFile {
    pub(super) number: u64,
    /// Up to the end of its last readable line.
    pub(super) good_bytes: u64,
    /// What follows that: a line that was being written when the machine or the process stopped.
    pub(super) torn_bytes: u64,
}

/// Reads the journal in `dir`, oldest line first. A directory that is not there is an empty journal.
pub fn read(dir: &Path, key: Option<&Key>, mut each: impl FnMut(Line)) -> io::Result<Found> {
    let unchecked = if key.is_some() { Chain::Verified } else { Chain::Unchecked };
    let mut found = Found {
        lines: 0,
        unreadable: 0,
        chain: unchecked,
        seq: 0,
        link: Link::default(),
        last: None,
    };
    let mut number_before = None;
    for (number, path) in files(dir)? {
        // Files are numbered without a gap: a missing one breaks the chain anyhow, this names it.
        if number_before.is_some_and(|before| number != before + 1) {
            found.break_at(&path, 1);
        }
        // Only the newest file may end in the middle of a line.
        if found.last.as_ref().is_some_and(|last| last.torn_bytes > 0) {
            found.break_at(&path, 1);
        }
        number_before = Some(number);
        found.read_file(number, &path, 0, key, &mut each)?;
    }
    Ok(found)
}

/// The journal's files by number, in order.
pub(super) fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(".jsonl").and_then(|n| n.parse().ok()) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Name of a file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:08}.jsonl")
}

impl Found {
    /// What was found up to a place that is known already.
    pub(super) fn up_to(seq: u64, link: Link) -> Found {
        let (chain, last) = (Chain::Unchecked, None);
        Found { lines: 0, unreadable: 0, chain, seq, link, last }
    }

    /// Reads a file from byte `from` on.
    pub(super) fn read_file(
        &mut self,
        number: u64,
        path: &Path,
        from: u64,
        key: Option<&Key>,
        each: &mut impl FnMut(Line),
    ) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut file = BufReader::new(file);
        let (mut at, mut good_bytes, mut line_number) = (from, from, 0_u64);
        let mut text = Vec::new();
        loop {
            text.clear();
            let n = file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)? as u64;
            if n == 0 {
                break;
            }
            at += n;
            line_number += 1;
            // Without its end it is either cut, or longer than any line of ours.
            let Some(whole) = text.strip_suffix(b"\n") else { continue };
            match parse(whole) {
                Some((line, body, link)) => {
                    let follows = line.seq == self.seq + 1
                        && key.is_none_or(|key| key.link(self.link, &body) == link);
                    // Unreadable lines in the middle were counted; here the chain shows them.
                    if !follows || at - n != good_bytes {
                        self.break_at(path, line_number);
                    }
                    (self.seq, self.link) = (line.seq, link);
                    self.lines += 1;
                    good_bytes = at;
                    each(line);
                }
                None => self.unreadable += 1,
            }
        }
        self.last = Some(LastFile { number, good_bytes, torn_bytes: at - good_bytes });
        Ok(())
    }

    fn break_at(&mut self, file: &Path, line: u64) {
        if !matches!(self.chain, Chain::Broken { .. }) {
            self.chain = Chain::Broken { file: file.to_owned(), line };
        }
    }
}

fn parse(whole: &[u8]) -> Option<(Line, Vec<u8>, Link)> {
    let (body, link) = split(whole)?;
    let line: Line = serde_json::from_slice(whole).ok()?;
    Some((line, body, link))
}

/// No line that we write is longer: texts of the shop in it are clipped.
const LINE_BYTES_MAX: u64 = 16 << 10;
