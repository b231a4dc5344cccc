//! Before a server is measured it has to show that it does what it is measured for: that a hit does not
//! reach the origin, that a fill does, that a limiter refuses.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Outcome;
use super::load::{Expected, Mix, next_number};
use super::origin;
use super::request::Ask;
use super::row::{Entrant, Work};
use super::server::{Server, Shape};
use super::wire::Reply;

/// What a server answered to one request, and what was asked.
struct Proof {
    ask: Ask,
    reply: Reply,
    strays_max: u64,
}

/// The load for `entrant`, after it has shown that it does this work, and the shape of its answer
/// (of a page, in a mix).
pub fn prove(
    work: Work,
    entrant: Entrant,
    server: &Server,
    origin: SocketAddr,
) -> Outcome<(Mix, Shape)> {
    let prover = Prover { entrant, address: server.address, origin };
    let proofs = match work {
        Work::Hit(kb) | Work::TlsHit(kb) | Work::Http2Hit(kb) => {
            vec![prover.hit(&format!("page{kb}"), kb * 1024)?]
        }
        Work::Availability => vec![prover.availability()?],
        Work::Refusal => vec![prover.refusal()?],
        Work::Mixed => vec![prover.hit("8848", 1024)?, prover.availability()?, prover.refusal()?],
        Work::Fill => vec![prover.passes(Ask::page_of_any_city("picture"), 1024)?],
        Work::FillHtml => vec![prover.passes(Ask::page_of_any_city("8848"), 1024)?],
        Work::Proxied => vec![prover.passes(Ask::personal(), 1024)?],
        Work::Cold => vec![prover.answered(Ask::personal(), 200, Some(200))?],
    };
    let first = &proofs[0].reply;
    let shape = (first.status, first.head.len(), first.body.len());
    let requests = proofs.into_iter().map(|proof| Expected {
        ask: proof.ask,
        status: proof.reply.status,
        length: proof.reply.body.len(),
        strays_max: proof.strays_max,
    });
    Ok((Mix { requests: requests.collect(), turn: turns(work) }, shape))
}

/// The load for the floor, which answers everything with one shape.
pub fn for_floor(ours: &Mix, (status, _, length): Shape) -> Mix {
    let mut mix = ours.clone();
    for request in &mut mix.requests {
        (request.status, request.length) = (status, length);
    }
    mix
}

/// What was said of the origin has to hold for the whole row.
pub fn check_origin(work: Work, entrant: Entrant, asked: u64, answers: u64) -> Outcome<()> {
    let (least, most) = match work {
        Work::Fill | Work::FillHtml | Work::Proxied => (answers, u64::MAX),
        // What a limiter lets through, once a minute.
        _ => (0, 30),
    };
    match (least..=most).contains(&asked) {
        true => Ok(()),
        false => Err(format!(
            "{entrant:?}, {work:?}: the origin was asked {asked} times for {answers} answers"
        )
        .into()),
    }
}

/// Buys until Penstock says that everything is sold.
pub fn sell_out(server: &Server) -> Outcome<()> {
    let ends = Instant::now() + Duration::from_secs(30);
    loop {
        let reply = Ask::purchase().probe(server.address, next_number())?;
        if is_sold_out(&reply) {
            return Ok(());
        }
        if Instant::now() > ends {
            let head = String::from_utf8_lossy(&reply.head).into_owned();
            return Err(format!("Penstock did not sell out within 30 s, but said: {head}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_sold_out(reply: &Reply) -> bool {
    let head = String::from_utf8_lossy(&reply.head).to_ascii_lowercase();
    reply.status == 409 && head.contains("penstock-reason: sold_out")
}

/// 90 pages, 9 polls, 1 purchase; or the one request there is.
fn turns(work: Work) -> fn(u64) -> usize {
    match work {
        Work::Mixed => |number| match number % 100 {
            0 => 2,
            1..=9 => 1,
            _ => 0,
        },
        _ => |_| 0,
    }
}

struct Prover {
    entrant: Entrant,
    address: SocketAddr,
    origin: SocketAddr,
}

impl Prover {
    fn hit(&self, activity: &str, bytes: usize) -> Outcome<Proof> {
        let mut ask = Ask::page(activity);
        // The fill.
        ask.probe(self.address, 0)?;
        let before = origin::asked(self.origin)?;
        let proof = self.answered(ask, 200, Some(bytes))?;
        match origin::asked(self.origin)? - before {
            0 => Ok(proof),
            times => Err(self.blame(&format!("asked the origin {times} times for a cached page"))),
        }
    }

    fn passes(&self, ask: Ask, bytes: usize) -> Outcome<Proof> {
        let before = origin::asked(self.origin)?;
        let proof = self.answered(ask, 200, Some(bytes))?;
        match origin::asked(self.origin)? - before {
            PROBES => Ok(proof),
            times => Err(self.blame(&format!("asked the origin {times} times, not {PROBES}"))),
        }
    }

    fn availability(&self) -> Outcome<Proof> {
        self.answered(Ask::availability(), 200, None)
    }

    fn refusal(&self) -> Outcome<Proof> {
        let path = match self.entrant.is_constant() {
            true => "/constant/orders",
            false => "/activity/8848/orders",
        };
        let mut ask = Ask::purchase_at(path);
        // What a limiter lets through before it limits.
        for _ in 0..3 {
            ask.probe(self.address, next_number())?;
        }
        let ours = self.entrant == Entrant::Penstock;
        let mut proof = self.answered(ask, if ours { 409 } else { 429 }, None)?;
        if ours && !is_sold_out(&proof.reply) {
            return Err(self.blame("refused for another reason than sold_out"));
        }
        let limits = matches!(self.entrant, Entrant::Nginx | Entrant::Haproxy);
        proof.strays_max = if limits { 2 } else { 0 };
        Ok(proof)
    }

    /// Asks some times; every answer has this status, and all are as long as each other.
    fn answered(&self, mut ask: Ask, status: u16, bytes: Option<usize>) -> Outcome<Proof> {
        let mut bytes = bytes;
        let mut last = None;
        for _ in 0..PROBES {
            let reply = ask.probe(self.address, next_number())?;
            let expected = *bytes.get_or_insert(reply.body.len());
            if reply.status != status || reply.body.len() != expected {
                let head = String::from_utf8_lossy(&reply.head).into_owned();
                let said = format!("answered {} bytes: {head}", reply.body.len());
                return Err(self.blame(&format!("{said}, not {status} with {expected} bytes")));
            }
            last = Some(reply);
        }
        let reply = last.ok_or("nothing was asked")?;
        Ok(Proof { ask, reply, strays_max: 0 })
    }

    fn blame(&self, what: &str) -> Box<dyn std::error::Error> {
        format!("{:?} cannot be measured: it {what}", self.entrant).into()
    }
}

const PROBES: u64 = 10;
