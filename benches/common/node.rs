//! A node without sockets: settings as a shop would write them, a shop, a sale, and workers made by
//! the same [`Kit`] as those of `penstock run`.

#![allow(dead_code)] // Each bench uses its part.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use penstock::app::Kit;
use penstock::claims::{self, Claims, History};
use penstock::clock::{Clock, MonoMs};
use penstock::config::Settings;
use penstock::config::schema::JournalSync;
use penstock::edge::Entrance;
use penstock::http::{Exchange, Head, Interim, RequestBody, Service, Step};
use penstock::ident::{NodeId, SaleId};
use penstock::journal::Journal;
use penstock::ledger::{Control, Op};
use penstock::log::AccessLog;
use penstock::metrics::{Registry, Sink};
use penstock::sale::SaleBook;
use penstock::sale::book::Update;
use penstock::store::sim::Sim;
use tokio::runtime::Runtime;

use super::request::with_head;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What every worker of a process is made of. Threads may share it.
pub struct Node {
    pub clock: Clock,
    pub registry: Registry,
    kit: Kit,
    claims: Claims,
    book: Arc<SaleBook>,
    store: Sim,
    sale: SaleId,
    control: Runtime,
    _dir: tempfile::TempDir,
}

impl Node {
    /// A node with a sale that is open and has stock.
    pub fn start() -> Outcome<Node> {
        let dir = tempfile::tempdir()?;
        let (clock, registry) = (Clock::system(), Registry::default());
        let control =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let settings = Arc::new(settings(shop()?, dir.path(), &clock)?);
        let book = Arc::new(SaleBook::new());
        let store = Sim::new(clock.clone());
        let (journal, _) =
            Journal::open(dir.path(), JournalSync::Batch, clock.clone(), registry.sink(), |_| {})?;
        let claims = Claims::start(claims::Parts {
            store: Arc::new(store.clone()),
            journal,
            history: History::default(),
            book: book.clone(),
            clock: clock.clone(),
            node: NodeId::random(),
            limits: claims::Limits::of(&settings),
            predecessor: None,
            sales_file: None,
            declarations: claims::declare::of_config(&settings)?,
            sink: registry.sink(),
            runtime: control.handle().clone(),
        });
        let log = AccessLog::start(&settings.log, registry.sink())?;
        let kit = Kit::new(&settings, &book, log)?;
        let sale = "shop/spring-drop".parse()?;
        let node = Node { clock, registry, kit, claims, book, store, sale, control, _dir: dir };
        node.control.block_on(node.claims.declared());
        node.clock.set_ledger_offset(i64::try_from(BEFORE_T0_MS)? + 1_000, 0);
        node.tell()?;
        Ok(node)
    }

    /// Latches the sale: from now on every purchase is refused.
    pub fn sell_out(&self) -> Outcome<()> {
        self.control.block_on(self.claims.call(&self.sale, Op::Control(Control::SoldOut)))?;
        self.tell()
    }

    /// Tells the book what the ledger holds, as a mirror does, but once and for long: a measurement
    /// that takes longer must not find the sale stale.
    fn tell(&self) -> Outcome<()> {
        let state = self.store.state(&self.sale).ok_or("the sale was not declared")?;
        self.book.apply(Update { state, heard: MonoMs(u64::MAX / 2) });
        self.book.set_synced();
        Ok(())
    }

    /// Asks until the answer is ready-made: a page is fetched from the shop first, and what asks before
    /// it is stored waits for it.
    pub async fn prime(&self, entrance: &Entrance, text: &str) -> Outcome<()> {
        let ends = tokio::time::Instant::now() + PRIME_LONGEST;
        while tokio::time::Instant::now() < ends {
            let decide = |head: &Head<'_>, exchange: &dyn Fn() -> Exchange| {
                entrance.decide(head, &exchange())
            };
            match with_head(text, &self.clock, decide)? {
                Step::Work(work) => drop(work(RequestBody::Empty, Interim::default()).await),
                Step::Answer(_) | Step::Refuse(_) => return Ok(()),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err("there is no ready-made answer".into())
    }

    /// Where requests find the sale.
    pub fn book(&self) -> &SaleBook {
        &self.book
    }

    /// One worker's edge and its counters; on the thread that uses it.
    pub fn worker(&self) -> Outcome<(Rc<Entrance>, Sink)> {
        let sink = self.registry.sink();
        let listeners = vec![(0, penstock::edge::Entry::default())];
        let kit = self.kit.clone();
        let mut entrances = kit.entrances(self.claims.clone(), listeners, None, &sink);
        let (_, entrance) = entrances.pop().ok_or("no listener")?;
        Ok((entrance, sink))
    }
}

/// Long enough under callgrind on a machine that does other things.
const PRIME_LONGEST: Duration = Duration::from_secs(120);

/// How far T0 lies ahead when the sale is declared; a sale whose T0 is past begins paused.
const BEFORE_T0_MS: u64 = 3_600_000;

fn settings(shop: SocketAddr, dir: &std::path::Path, clock: &Clock) -> Outcome<Settings> {
    let opens_at = penstock::config::units::Time { at: clock.now().wall.plus(BEFORE_T0_MS) };
    Ok(toml::from_str(&format!(
        r#"
        [trust]
        proxies = ["10.0.1.0/24"]
        [upstream.shop]
        servers = ["{shop}"]
        outcome = "status"
        connect_timeout = "1m"
        [site.shop]
        hosts = ["shop.example", "www.shop.example"]
        upstream = "shop"
        [site.shop.activity]
        page = {{ path = "/activity/{{activity}}", ttl = "1h" }}
        availability = "/activity/{{activity}}/availability"
        purchase = "/activity/{{activity}}/orders"
        city = ["query:city", "cookie:city_id"]
        user = ["cookie:uid"]
        [sale.spring-drop]
        activity = "8848"
        opens_at = "{opens_at}"
        stock = 1000
        [log]
        access = {log:?}
        "#,
        log = dir.join("access.log"),
    ))?)
}

/// A shop on threads of its own: one page of 4 KiB whatever it is asked for, and 100 KiB for the
/// activity called `large`.
fn shop() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || talk(stream));
        }
    });
    Ok(address)
}

fn talk(mut stream: TcpStream) -> std::io::Result<()> {
    let (small, large) = (page(4 * 1024), page(100 * 1024));
    let mut buffer = [0; 16 * 1024];
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..])?;
        if read == 0 {
            return Ok(());
        }
        have += read;
        if buffer[..have].ends_with(b"\r\n\r\n") {
            let is_large = buffer.starts_with(b"GET /activity/large");
            stream.write_all(if is_large { &large } else { &small })?;
            have = 0;
        }
    }
}

/// An answer of the shop. The text compresses about as well as a page does.
fn page(bytes: usize) -> Vec<u8> {
    let mut body = String::from("<!doctype html><title>8848</title>");
    let mut seed = 8848_u32;
    while body.len() < bytes {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        body.push_str(&format!(
            "<p class=item>item {} for {}</p>\n",
            seed >> 20,
            seed >> 12 & 0xff
        ));
    }
    body.truncate(bytes);
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/html; charset=utf-8\r\n\
         ETag: \"v8848\"\r\nContent-Length: {bytes}\r\n\r\n"
    );
    [head.into_bytes(), body.into_bytes()].concat()
}
