//! The load: one thread and one epoll instance, so cheap that the server is what is busy. A closed loop
//! over keep-alive connections: each sends its next request when it has the whole answer to the last.
//! Every status is checked, and every answer counted to the last byte of its `Content-Length`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::Outcome;
use super::eventloop::content_length;
use super::request::Ask;
use super::wire;

/// A request, and what the measured server must answer to it.
#[derive(Clone)]
pub struct Expected {
    /// The request.
    pub ask: Ask,
    /// Status of every answer.
    pub status: u16,
    /// Body bytes of every answer.
    pub length: usize,
    /// Answers with another status that are borne in one run: a limiter lets one through at times.
    pub strays_max: u64,
}

/// Which of the requests is sent as the nth.
#[derive(Clone)]
pub struct Mix {
    /// The requests, with what is expected.
    pub requests: Vec<Expected>,
    /// The turn of each, by the number of the request.
    pub turn: fn(u64) -> usize,
}

/// What came back within a run.
pub struct Tally {
    /// Whole answers.
    pub answers: u64,
    /// From the run's begin to its end.
    pub took: Duration,
    /// Nanoseconds from sending to the whole answer.
    pub latencies: Histogram<u64>,
}

/// Connections to one server, each with one request under way after the first run.
pub struct Load {
    epoll: OwnedFd,
    conns: Vec<Conn>,
    mix: Mix,
    buffer: Vec<u8>,
    began: bool,
}

/// The number of the next request, whoever gets it: no user and no city comes twice.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no request had before.
pub fn next_number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Conn {
    stream: TcpStream,
    /// Which of the mix is under way.
    turn: usize,
    /// A head that did not come in one piece.
    partial: Vec<u8>,
    /// Body bytes to come, once the head is there.
    rest: Option<usize>,
    sent: Instant,
}

impl Load {
    /// Connects.
    pub fn connect(address: SocketAddr, connections: usize, mix: &Mix) -> Outcome<Load> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut conns = Vec::with_capacity(connections);
        for place in 0..connections {
            let stream = wire::connect(address)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            let (partial, sent) = (Vec::new(), Instant::now());
            conns.push(Conn { stream, turn: 0, partial, rest: None, sent });
        }
        let buffer = vec![0; READ_BYTES];
        Ok(Load { epoll, conns, mix: mix.clone(), buffer, began: false })
    }

    /// Keeps all connections busy for `span`. What is under way at its end belongs to the next run.
    pub fn run(&mut self, span: Duration) -> Outcome<Tally> {
        let began = Instant::now();
        if !self.began {
            self.began = true;
            for conn in &mut self.conns {
                conn.send(&mut self.mix)?;
            }
        }
        let mut tally = Tally { answers: 0, took: span, latencies: Histogram::new(3)? };
        let (mut events, mut strays) = (Vec::with_capacity(EVENTS), 0);
        let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
        while began.elapsed() < span {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => return Err("no answer for 5 s".into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(cause) => return Err(cause.into()),
            }
            for event in &events {
                let conn = &mut self.conns[event.data.u64() as usize];
                if conn.receive(&mut self.buffer, &self.mix, &mut strays)? {
                    tally.answers += 1;
                    tally.latencies.record(conn.sent.elapsed().as_nanos() as u64)?;
                    conn.send(&mut self.mix)?;
                }
            }
        }
        tally.took = began.elapsed();
        Ok(tally)
    }
}

impl Conn {
    fn send(&mut self, mix: &mut Mix) -> Outcome<()> {
        let number = next_number();
        self.turn = (mix.turn)(number);
        self.sent = Instant::now();
        let request = mix.requests[self.turn].ask.numbered(number);
        match self.stream.write(request)? {
            sent if sent == request.len() => Ok(()),
            _ => Err("the socket did not take a whole request".into()),
        }
    }

    /// Reads what is there; whether the answer is whole.
    fn receive(&mut self, buffer: &mut [u8], mix: &Mix, strays: &mut u64) -> Outcome<bool> {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(read) => read,
            Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(cause) => return Err(cause.into()),
        };
        let mut bytes = &buffer[..read];
        let expected = &mix.requests[self.turn];
        let rest = match self.rest {
            Some(rest) => rest,
            None => {
                if !self.partial.is_empty() {
                    self.partial.extend_from_slice(bytes);
                    bytes = &self.partial;
                }
                let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
                    if self.partial.is_empty() {
                        self.partial = bytes.to_vec();
                    }
                    return Ok(false);
                };
                let length = check(&bytes[..end + 4], expected, strays)?;
                bytes = &bytes[end + 4..];
                length
            }
        };
        let rest = rest.checked_sub(bytes.len()).ok_or("more bytes than an answer has")?;
        self.partial.clear();
        self.rest = (rest > 0).then_some(rest);
        Ok(rest == 0)
    }
}

/// The length of the body that follows a head, which has to be the expected one.
fn check(head: &[u8], expected: &Expected, strays: &mut u64) -> Outcome<usize> {
    let status = wire::status(head).ok_or("an answer without a status")?;
    let length = content_length(head).ok_or("an answer without its length")?;
    if status != expected.status {
        *strays += 1;
        if *strays > expected.strays_max {
            return Err(format!("status {status} in place of {}", expected.status).into());
        }
    } else if length != expected.length {
        return Err(format!("{length} bytes in place of {}", expected.length).into());
    }
    Ok(length)
}

const EVENTS: usize = 512;
const READ_BYTES: usize = 256 * 1024;
