//! What a process leaves to the one that takes over from it: its listening sockets and the lock of its
//! journal, over a socket that is the new one's standard input.
//!
//! ```text
//! old: sockets, lock ──SCM_RIGHTS──→ new: boots with them, serves
//!      stops accepting, drains  ←── "ready"
//!      ends: the channel closes ──→ finishes what the old one left open
//! ```
//!
//! A channel that closes before "ready" means that the new one did not come up: the old one goes on.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::ident::NodeId;
use crate::listener::Inherited;

/// What a process inherits from the one before it.
#[derive(Debug)]
pub(super) struct Heritage {
    /// Its listening sockets.
    pub inherited: Inherited,
    /// The lock of its journal.
    pub lock: Option<OwnedFd>,
    /// Its run.
    pub node: NodeId,
    channel: OwnedFd,
}

/// A process that was started to take over.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    /// Says that it serves; is dropped where it will not.
    ready: oneshot::Receiver<()>,
    /// Closes with this process.
    _channel: OwnedFd,
}

/// One message: what the descriptors beside it are.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    version: u32,
    node: NodeId,
    /// For each descriptor the address as the config has it; `None`: the lock.
    what: Vec<Option<String>>,
    is_last: bool,
}

impl Heritage {
    /// Receives it, if this process was started to take over.
    pub(super) fn receive() -> io::Result<Option<Heritage>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let channel = rustix::stdio::stdin().try_clone_to_owned()?;
        let (mut inherited, mut lock) = (Inherited::default(), None);
        loop {
            let (part, descriptors) = receive_part(channel.as_fd())?;
            if part.version != VERSION || part.what.len() != descriptors.len() {
                let said = "the running version hands over in a way that this one does not know; \
                            restart instead";
                return Err(io::Error::new(io::ErrorKind::InvalidData, said));
            }
            for (what, descriptor) in part.what.into_iter().zip(descriptors) {
                match what {
                    Some(address) => inherited.add(descriptor, Some(address))?,
                    None => lock = Some(descriptor),
                }
            }
            if part.is_last {
                return Ok(Some(Heritage { inherited, lock, node: part.node, channel }));
            }
        }
    }

    /// Tells the old process that this one serves. `ended` hears when the old one has ended.
    pub(super) fn ready(self, ended: oneshot::Sender<()>) -> io::Result<()> {
        let channel = self.channel;
        rustix::io::write(&channel, READY)?;
        std::thread::Builder::new().name("predecessor".to_owned()).spawn(move || {
            // It says nothing more: this returns when its end is closed.
            let _ = rustix::io::read(&channel, &mut [0; 8]);
            // Nobody listens where this process is ending, too.
            let _ = ended.send(());
        })?;
        Ok(())
    }
}

impl Successor {
    /// Starts the binary at `command` and hands it everything.
    pub(super) fn start<'a>(
        mut command: Command,
        node: NodeId,
        lock: BorrowedFd<'a>,
        sockets: impl Iterator<Item = (String, BorrowedFd<'a>)>,
    ) -> io::Result<Successor> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // Addressed to this process alone.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.env(VARIABLE, "stdin").stdin(Stdio::from(theirs));
        let mut child = command.spawn()?;
        // Or its end of the channel would stay open here, too.
        drop(command);
        let sent = send(ours.as_fd(), node, lock, sockets);
        if let Err(cause) = sent {
            let _ = child.kill();
            let _ = child.wait();
            return Err(cause);
        }
        let (tell, ready) = oneshot::channel();
        let hears = ours.try_clone()?;
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || {
            let mut word = [0; 8];
            if rustix::io::read(&hears, &mut word).is_ok_and(|n| word.get(..n) == Some(READY)) {
                // Whoever gave it up meanwhile has killed it.
                let _ = tell.send(());
            }
        })?;
        Ok(Successor { child, ready, _channel: ours })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves. An error says why it will not. May be dropped and called again.
    pub(super) async fn ready(&mut self) -> Result<(), String> {
        let waits = tokio::time::timeout(READY_LONGEST, &mut self.ready);
        match waits.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.end()),
            Err(_) => {
                self.end();
                Err(format!("the new process did not serve within {READY_LONGEST:?}"))
            }
        }
    }

    /// Makes sure that it is gone; how it ended.
    pub(super) fn end(&mut self) -> String {
        // It has closed its end, so it is ending, or dead.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => match status.code() {
                Some(78) => "the new process refuses the config (exit 78): see the log".to_owned(),
                Some(code) => format!("the new process ended with exit code {code}: see the log"),
                None => format!("the new process was killed before it served: {status}"),
            },
            Err(cause) => format!("the new process cannot be waited for: {cause}"),
        }
    }
}

fn send<'a>(
    channel: BorrowedFd<'_>,
    node: NodeId,
    lock: BorrowedFd<'a>,
    sockets: impl Iterator<Item = (String, BorrowedFd<'a>)>,
) -> io::Result<()> {
    let sockets = sockets.map(|(address, socket)| (Some(address), socket));
    let all: Vec<_> = std::iter::once((None, lock)).chain(sockets).collect();
    let count = all.chunks(DESCRIPTORS_MAX).count();
    for (at, chunk) in all.chunks(DESCRIPTORS_MAX).enumerate() {
        let what = chunk.iter().map(|(what, _)| what.clone()).collect();
        let part = Part { version: VERSION, node, what, is_last: at + 1 == count };
        let text = serde_json::to_vec(&part)?;
        let descriptors: Vec<BorrowedFd<'_>> = chunk.iter().map(|(_, socket)| *socket).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        // There is room for them.
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(channel, &[IoSlice::new(&text)], &mut control, flags)?;
    }
    Ok(())
}

fn receive_part(channel: BorrowedFd<'_>) -> io::Result<(Part, Vec<OwnedFd>)> {
    let mut text = vec![0; PART_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(&mut text)];
    let received = rustix::net::recvmsg(channel, &mut slices, &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    let part = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
    Ok((part, descriptors))
}

/// Set for a process that takes over.
const VARIABLE: &str = "PENSTOCK_HANDOVER";
/// Of what is said here; a version that says something else refuses.
const VERSION: u32 = 1;
const READY: &[u8] = b"ready";
/// The kernel takes 253 in one message.
const DESCRIPTORS_MAX: usize = 200;
/// Longer than so many addresses.
const PART_BYTES_MAX: usize = 128 << 10;
/// A new process has so long to boot: it reads the journal.
const READY_LONGEST: std::time::Duration = std::time::Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_lock_arrive_however_many_they_are() {
        let flags = SocketFlags::CLOEXEC;
        let (near, far) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .unwrap();
        let file = tempfile::tempfile().unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let count = DESCRIPTORS_MAX + 50;
        let sockets = (0..count).map(|n| (format!("127.0.0.1:{n}"), socket.as_fd()));
        let node = NodeId::random();
        send(near.as_fd(), node, file.as_fd(), sockets).unwrap();
        let (first, descriptors) = receive_part(far.as_fd()).unwrap();
        assert_eq!((first.node, first.is_last, descriptors.len()), (node, false, DESCRIPTORS_MAX));
        assert_eq!(first.what[0], None);
        assert_eq!(first.what[1].as_deref(), Some("127.0.0.1:0"));
        let (last, rest) = receive_part(far.as_fd()).unwrap();
        assert_eq!((last.is_last, rest.len()), (true, count + 1 - DESCRIPTORS_MAX));
    }
}
