//! The bare loop that the floor and the origin are: one thread, one `recv` and one `send` for each
//! request. It does not parse, look up or count anything by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::Outcome;

/// What a whole request is answered with.
pub trait Responder {
    /// The answer, head and body in one piece.
    fn answer(&mut self, request: &[u8]) -> Rc<[u8]>;
}

/// Serves until the process is ended.
pub fn serve(listener: TcpListener, responder: impl Responder) -> Outcome<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut room = Room { epoll, conns: Vec::new(), free: Vec::new(), responder };
    let mut events = Vec::with_capacity(EVENTS);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        events.clear();
        match epoll::wait(&room.epoll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(cause) => return Err(cause.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => room.accept(&listener)?,
                place => room.step(place, event.flags, &mut buffer),
            }
        }
    }
}

/// The end of the first message in `bytes`, if it is whole: the head, and a body of known length.
pub fn message_end(bytes: &[u8]) -> Option<usize> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    // Only requests with a body pay for the search of its length.
    let body = if bytes.starts_with(b"GET ") { 0 } else { content_length(bytes.get(..head)?)? };
    (head + body <= bytes.len()).then_some(head + body)
}

/// The value of `Content-Length`, in whatever case a server spells it.
pub fn content_length(head: &[u8]) -> Option<usize> {
    let name = b"content-length: ";
    let mut from = 0;
    loop {
        let found = from + memmem::find(head.get(from..)?, b"ength: ")?;
        from = found + b"ength: ".len();
        let begins = from.checked_sub(name.len())?;
        if head.get(begins..from)?.eq_ignore_ascii_case(name) {
            let digits = head.get(from..)?.iter().take_while(|byte| byte.is_ascii_digit());
            return Some(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')));
        }
    }
}

struct Room<R> {
    epoll: OwnedFd,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    responder: R,
}

struct Conn {
    stream: TcpStream,
    /// The beginning of a request that did not come in one piece.
    partial: Vec<u8>,
    /// What the socket did not take yet, and how much of it was taken.
    unsent: Option<(Rc<[u8]>, usize)>,
}

impl<R: Responder> Room<R> {
    fn accept(&mut self, listener: &TcpListener) -> Outcome<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(cause) => return Err(cause.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            epoll::add(&self.epoll, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
            self.conns[place] = Some(Conn { stream, partial: Vec::new(), unsent: None });
        }
    }

    /// Does what a connection is ready for, and forgets it when it ends.
    fn step(&mut self, place: u64, flags: EventFlags, buffer: &mut [u8]) {
        let place = place as usize;
        let Some(Some(conn)) = self.conns.get_mut(place) else { return };
        let lives = match flags.contains(EventFlags::OUT) {
            true => conn.flush(&self.epoll, place),
            false => conn.receive(&self.epoll, place, buffer, &mut self.responder),
        };
        if !lives {
            self.conns[place] = None;
            self.free.push(place);
        }
    }
}

impl Conn {
    /// Whether the connection lives on.
    fn receive(
        &mut self,
        epoll: &OwnedFd,
        place: usize,
        buffer: &mut [u8],
        responder: &mut impl Responder,
    ) -> bool {
        let read = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(cause) => return cause.kind() == ErrorKind::WouldBlock,
        };
        let answer = if self.partial.is_empty() && message_end(&buffer[..read]).is_some() {
            responder.answer(&buffer[..read])
        } else {
            self.partial.extend_from_slice(&buffer[..read]);
            if message_end(&self.partial).is_none() {
                return true;
            }
            let answer = responder.answer(&self.partial);
            self.partial = Vec::new();
            answer
        };
        match self.stream.write(&answer) {
            Ok(sent) if sent == answer.len() => true,
            Ok(sent) => {
                self.unsent = Some((answer, sent));
                watch(epoll, &self.stream, place, EventFlags::OUT)
            }
            Err(_) => false,
        }
    }

    fn flush(&mut self, epoll: &OwnedFd, place: usize) -> bool {
        let Some((answer, sent)) = &mut self.unsent else { return false };
        match self.stream.write(&answer[*sent..]) {
            Ok(more) => *sent += more,
            Err(cause) => return cause.kind() == ErrorKind::WouldBlock,
        }
        if *sent == answer.len() {
            self.unsent = None;
            return watch(epoll, &self.stream, place, EventFlags::IN);
        }
        true
    }
}

fn watch(epoll: &OwnedFd, stream: &TcpStream, place: usize, flags: EventFlags) -> bool {
    epoll::modify(epoll, stream, EventData::new_u64(place as u64), flags).is_ok()
}

const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 512;
const READ_BYTES: usize = 64 * 1024;
