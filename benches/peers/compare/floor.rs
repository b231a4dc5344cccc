//! The floor: nothing below it can be had from the kernel's sockets. A constant answer, as long as
//! Penstock's to the same request, head and body.

use std::net::TcpListener;
use std::rc::Rc;

use super::Outcome;
use super::eventloop::{Responder, serve};

/// `floor ADDRESS STATUS HEAD_BYTES BODY_BYTES`.
pub fn run(args: &[String]) -> Outcome<()> {
    let [address, status, head, body] = args else { return Err("floor: four arguments".into()) };
    serve(
        TcpListener::bind(address)?,
        Constant(answer(status, head.parse()?, body.parse()?).into()),
    )
}

struct Constant(Rc<[u8]>);

impl Responder for Constant {
    fn answer(&mut self, _: &[u8]) -> Rc<[u8]> {
        self.0.clone()
    }
}

/// An answer of exactly so many bytes; heads shorter than the least are not asked for.
fn answer(status: &str, head_bytes: usize, body_bytes: usize) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} OK\r\nContent-Length: {body_bytes}\r\nX-Filler: ");
    let filler = head_bytes.saturating_sub(answer.len() + "\r\n\r\n".len());
    answer.extend(std::iter::repeat_n('x', filler));
    answer.push_str("\r\n\r\n");
    answer.extend(std::iter::repeat_n('x', body_bytes));
    answer.into_bytes()
}
