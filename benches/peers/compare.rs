//! The whole comparison, or its telling rows.

mod eventloop;
mod floor;
mod hyper;
mod load;
mod machine;
mod measure;
mod memory;
mod origin;
mod process;
mod prove;
mod request;
mod row;
mod server;
mod table;
mod tls;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use self::measure::{Field, Pace, measure};
use self::process::{Cpus, pin};
use self::row::{Entrant, ROWS, Work};
use self::server::{Kind, Place, find, start_origin};
use self::table::Table;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// One of the parts that this program plays, or the comparison.
pub fn run(args: Vec<String>) -> ExitCode {
    let done = match args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("floor", rest)) => floor::run(rest).map(|()| true),
        Some(("origin", rest)) => origin::run(rest).map(|()| true),
        Some(("hyper", rest)) => hyper::plain(rest).map(|()| true),
        Some(("cold", rest)) => hyper::cold(rest).map(|()| true),
        _ if args.iter().any(|arg| arg == "--bench") => compare(&args),
        // `cargo test --benches` calls with other arguments; there is nothing to measure then.
        _ => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(ABOVE_TARGET),
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every target is kept.
fn compare(args: &[String]) -> Outcome<bool> {
    let is_quick = args.iter().any(|arg| arg == "--quick");
    // A part of a row's title, to measure that row alone.
    let only = args.iter().find_map(|arg| arg.strip_prefix("--only="));
    let pace = if is_quick { QUICK } else { FULL };
    let files = raise_files()?;
    let cpus = Cpus::choose()?;
    pin(cpus.load)?;
    let (dir, shm) = (tempfile::tempdir()?, in_memory()?);
    tls::certify(dir.path())?;
    let origin = start_origin(dir.path(), cpus)?;
    let mut place = Place {
        dir: dir.path().to_owned(),
        certificates: dir.path().to_owned(),
        shm: shm.path().to_owned(),
        cpus,
        origin: origin.address,
        files,
        connections: usize::try_from(files)?.saturating_sub(1_000).min(2 * IDLE_CONNECTIONS) / 2,
        availability_bytes: 0,
        refusal_bytes: 0,
    };
    let field = start_field(&mut place, is_quick)?;
    print_circumstances(is_quick, pace, cpus)?;
    let mut table = Table::default();
    table.begin();
    for row in ROWS.iter().filter(|row| !is_quick || row.is_telling) {
        if only.is_some_and(|only| !table::title(row).contains(only)) {
            continue;
        }
        let entrants = row.entrants.iter().copied();
        let entrants: Vec<Entrant> =
            entrants.filter(|entrant| !is_quick || is_quick_entrant(row.work, *entrant)).collect();
        table.row(row, &measure(row, &entrants, &place, &field, pace)?);
    }
    drop(field);
    if !is_quick && only.is_none_or(|only| "idle".contains(only)) {
        idle(&place, &mut table)?;
    }
    Ok(table.end())
}

/// The peers that the telling rows are told by: the best one of each is among them.
fn is_quick_entrant(work: Work, entrant: Entrant) -> bool {
    match work {
        Work::Availability => !entrant.is_peer(),
        _ => entrant != Entrant::Varnish && !entrant.is_constant(),
    }
}

/// Penstock first: the peers' ready-made answers are as long as its own.
fn start_field(place: &mut Place, is_quick: bool) -> Outcome<Field> {
    for program in ["nginx", "haproxy"].into_iter().chain((!is_quick).then_some("varnishd")) {
        find(program)?;
    }
    let penstock = place.start(Kind::Penstock)?;
    prove::sell_out(&penstock)?;
    place.availability_bytes = request::Ask::availability().probe(penstock.address, 0)?.body.len();
    let refused = request::Ask::purchase().probe(penstock.address, load::next_number())?;
    place.refusal_bytes = refused.body.len();
    let mut servers = vec![(Kind::Penstock, penstock)];
    for kind in [Kind::Nginx, Kind::Haproxy, Kind::Varnish] {
        if kind != Kind::Varnish || !is_quick {
            servers.push((kind, place.start(kind)?));
        }
    }
    Ok(Field { servers })
}

fn idle(place: &Place, table: &mut Table) -> Outcome<()> {
    table.begin_memory(place.connections);
    for entrant in
        [Entrant::Nginx, Entrant::Haproxy, Entrant::Varnish, Entrant::Hyper, Entrant::Penstock]
    {
        let mut kib = Vec::new();
        for (_, after) in memory::ASKED.iter().filter(|(of, _)| *of == entrant) {
            kib.push((*after, memory::idle_kib(entrant, *after, place)?));
        }
        table.memory(entrant, &kib);
    }
    Ok(())
}

fn print_circumstances(is_quick: bool, pace: Pace, cpus: Cpus) -> Outcome<()> {
    println!("{}", machine::machine());
    let mut versions = vec![machine::version("nginx", "-v")?, machine::version("haproxy", "-v")?];
    if !is_quick {
        versions.push(machine::version("varnishd", "-V")?);
    }
    println!("{}, penstock {}", versions.join(", "), env!("CARGO_PKG_VERSION"));
    println!(
        "one worker of each on cpu {}, load on cpu {}; {} rounds of {} ms each, medians, ratios of the \
         same round; load average {:.1}\n",
        cpus.server,
        cpus.load,
        pace.rounds,
        pace.span.as_millis(),
        machine::busy()
    );
    Ok(())
}

/// As many descriptors as we may have: idle connections need one here and up to two in a server.
fn raise_files() -> Outcome<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(1 << 20).min(1 << 20))
}

/// A directory in memory, for nginx's cache.
fn in_memory() -> Outcome<tempfile::TempDir> {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { PathBuf::from(shm) } else { std::env::temp_dir() };
    Ok(tempfile::tempdir_in(dir)?)
}

const FULL: Pace =
    Pace { rounds: 9, warm_up: Duration::from_millis(200), span: Duration::from_millis(1_000) };
const QUICK: Pace =
    Pace { rounds: 9, warm_up: Duration::from_millis(100), span: Duration::from_millis(800) };

/// Enough that a server's own memory does not count; fewer where descriptors are scarce.
const IDLE_CONNECTIONS: usize = 9_000;

/// A target was missed.
const ABOVE_TARGET: u8 = 5;
