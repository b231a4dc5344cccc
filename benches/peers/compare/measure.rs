//! Measuring one row: rounds in which every entrant has its turn, so that they share the machine's
//! moods.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::Outcome;
use super::load::{Load, Mix};
use super::origin;
use super::prove::{check_origin, for_floor, prove};
use super::row::{Entrant, Row, Work};
use super::server::{Kind, Place, Server};
use super::tls;

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Rounds.
    pub rounds: usize,
    /// Not measured: connections come to speed.
    pub warm_up: Duration,
    /// Measured.
    pub span: Duration,
}

/// One entrant in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    /// CPU time of the server for each request.
    pub cpu_us: f64,
    /// Clock ticks of 10 ms outside the kernel, for all requests together.
    pub user_ticks: u64,
    /// Requests answered.
    pub answers: u64,
    /// Requests answered in a second.
    pub rate: f64,
    /// Median latency.
    pub p50_us: f64,
    /// 99 of 100 are faster.
    pub p99_us: f64,
}

/// All rounds of a row.
pub struct Measured {
    /// Who took part.
    pub entrants: Vec<Entrant>,
    /// For each entrant, one for each round.
    pub samples: Vec<Vec<Sample>>,
}

/// The servers that run throughout.
pub struct Field {
    /// Each kind once.
    pub servers: Vec<(Kind, Server)>,
}

impl Field {
    /// The server of a kind.
    pub fn server(&self, kind: Kind) -> Outcome<&Server> {
        let found = self.servers.iter().find(|(of, _)| *of == kind);
        Ok(&found.ok_or_else(|| format!("{kind:?} does not run"))?.1)
    }
}

/// An entrant ready to be measured.
struct Ready<'a> {
    entrant: Entrant,
    server: &'a Server,
    mix: Mix,
}

/// Proves, then measures.
pub fn measure(
    row: &Row,
    entrants: &[Entrant],
    place: &Place,
    field: &Field,
    pace: Pace,
) -> Outcome<Measured> {
    let mut own = Vec::new();
    for kind in [Kind::Hyper, Kind::Cold] {
        if entrants.iter().any(|entrant| entrant.kind() == kind) {
            own.push((kind, place.start(kind)?));
        }
    }
    let own = Field { servers: own };
    let server =
        |entrant: Entrant| own.server(entrant.kind()).or_else(|_| field.server(entrant.kind()));
    // Ours first: the floor answers in its shape.
    let ours =
        *entrants.iter().find(|entrant| entrant.is_ours()).ok_or("a row without Penstock")?;
    let (our_mix, shape) = prove(row.work, ours, server(ours)?, place.origin)?;
    let floor = match entrants.contains(&Entrant::Floor) {
        true => Some(place.start_floor(shape)?),
        false => None,
    };
    let mut ready = Vec::new();
    for &entrant in entrants {
        ready.push(match (&floor, entrant) {
            (Some(server), Entrant::Floor) => {
                Ready { entrant, server, mix: for_floor(&our_mix, shape) }
            }
            _ => {
                let server = server(entrant)?;
                let mix = prove(row.work, entrant, server, place.origin)?.0;
                Ready { entrant, server, mix }
            }
        });
    }
    let mut samples = vec![Vec::new(); ready.len()];
    let is_watched = std::io::stderr().is_terminal();
    for round in 0..pace.rounds {
        if is_watched {
            eprint!("\r  round {} of {} ", round + 1, pace.rounds);
        }
        for (ready, samples) in ready.iter().zip(&mut samples) {
            samples.push(
                turn(row, ready, place, pace)
                    .map_err(|cause| format!("{:?}, {:?}: {cause}", ready.entrant, row.work))?,
            );
        }
    }
    if is_watched {
        eprint!("\r                      \r");
    }
    Ok(Measured { entrants: entrants.to_vec(), samples })
}

fn turn(row: &Row, ready: &Ready<'_>, place: &Place, pace: Pace) -> Outcome<Sample> {
    if let Some((protocol, kb)) = row.work.over_tls() {
        return secure_turn(row, ready, protocol, kb, pace);
    }
    let asked = origin::asked(place.origin)?;
    let mut load = Load::connect(ready.server.address, row.connections, &ready.mix)?;
    load.run(pace.warm_up)?;
    let before = ready.server.running.cost()?;
    let tally = load.run(pace.span)?;
    let after = ready.server.running.cost()?;
    drop(load);
    if !matches!(row.work, Work::Cold) && ready.entrant != Entrant::Floor {
        let asked = origin::asked(place.origin)? - asked;
        check_origin(row.work, ready.entrant, asked, tally.answers)?;
    }
    let answers = tally.answers.max(1) as f64;
    Ok(Sample {
        cpu_us: after.cpu_ns_since(&before) as f64 / 1_000.0 / answers,
        user_ticks: after.user_ticks_since(&before),
        answers: tally.answers,
        rate: answers / tally.took.as_secs_f64(),
        p50_us: tally.latencies.value_at_quantile(0.50) as f64 / 1_000.0,
        p99_us: tally.latencies.value_at_quantile(0.99) as f64 / 1_000.0,
    })
}

/// The same with h2load, over TLS: as many requests as fit in the time, the handshakes among them.
fn secure_turn(
    row: &Row,
    ready: &Ready<'_>,
    protocol: &[&str],
    kb: usize,
    pace: Pace,
) -> Outcome<Sample> {
    let before = ready.server.running.cost()?;
    let begun = Instant::now();
    let answers = tls::load(ready.server.tls, row.connections, protocol, kb, pace.span)?;
    let took = begun.elapsed();
    let after = ready.server.running.cost()?;
    Ok(Sample {
        cpu_us: after.cpu_ns_since(&before) as f64 / 1_000.0 / answers as f64,
        user_ticks: after.user_ticks_since(&before),
        answers,
        rate: answers as f64 / took.as_secs_f64(),
        p50_us: f64::NAN,
        p99_us: f64::NAN,
    })
}

impl Measured {
    /// CPU per request of an entrant as a multiple of another's: the median of the rounds' ratios.
    pub fn ratio(&self, entrant: usize, to: usize) -> f64 {
        let pairs = self.samples[entrant].iter().zip(&self.samples[to]);
        median(pairs.map(|(ours, theirs)| ours.cpu_us / theirs.cpu_us))
    }

    /// The median of one figure of an entrant.
    pub fn median(&self, entrant: usize, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples[entrant].iter().map(figure))
    }

    /// Microseconds outside the kernel for each request, over all rounds: ticks are too coarse for one.
    pub fn user_us(&self, entrant: usize) -> f64 {
        let ticks: u64 = self.samples[entrant].iter().map(|sample| sample.user_ticks).sum();
        let answers: u64 = self.samples[entrant].iter().map(|sample| sample.answers).sum();
        ticks as f64 * 10_000.0 / answers.max(1) as f64
    }

    /// The place of an entrant.
    pub fn place(&self, entrant: Entrant) -> Option<usize> {
        self.entrants.iter().position(|of| *of == entrant)
    }

    /// The place of the peer that needs least.
    pub fn best_peer(&self) -> Option<usize> {
        let peers = (0..self.entrants.len()).filter(|place| self.entrants[*place].is_peer());
        peers.min_by(|a, b| {
            let cpu = |place: &usize| self.median(*place, |sample| sample.cpu_us);
            cpu(a).total_cmp(&cpu(b))
        })
    }
}

/// The middle one; of an even number, the upper.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
