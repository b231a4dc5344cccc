//! The journal's files on the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::read::LastFile;

/// Cuts off what follows the last readable line and keeps it in a file of its own.
pub(super) fn cut(path: &Path, last: &LastFile) -> io::Result<()> {
    if last.torn_bytes == 0 {
        return Ok(());
    }
    let torn = path.with_extension("torn");
    tracing::warn!(
        "the journal {} ends in {} bytes that are no whole line: they were being written when the \
         process or the machine stopped; moved to {}",
        path.display(),
        last.torn_bytes,
        torn.display()
    );
    let mut file = File::options().read(true).write(true).open(path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(last.good_bytes))?;
    io::copy(&mut file, &mut open_to_append(&torn)?)?;
    file.set_len(last.good_bytes)?;
    file.sync_all()
}

/// Whether both are the same file.
pub(super) fn is_same(one: &File, other: &File) -> bool {
    let place = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    place(one).is_some() && place(one) == place(other)
}

/// Opens a file to write behind what is in it; made for this user alone.
pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A file that has nothing in it: a new one, or one that an earlier try left behind.
pub(super) fn open_new(path: &Path) -> io::Result<File> {
    let file = open_to_append(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.len() == 0 {
        return Ok(file);
    }
    let text = format!("{} is in the way: it is not empty", path.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
}
