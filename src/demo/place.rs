//! Where the demo happens: a fresh directory, free ports, the rendered config.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::DemoError;
use crate::clock::UnixMs;

/// The config as it is shipped: valid as it stands, with the usual ports and a far T0.
pub const TEMPLATE: &str = include_str!("../../conf/demo.toml");
/// The activity of the template's sale.
pub const ACTIVITY: &str = "8848";
/// The template's sale.
pub const SALE: &str = "spring-drop";
/// Its stock.
pub const STOCK: u64 = 100;

const EDGE_PORT: u16 = 8080;
const SHOP_PORT: u16 = 9000;

/// A directory of its own and two ports.
#[derive(Clone, Debug)]
pub struct Place {
    /// Everything that the demo writes.
    pub dir: PathBuf,
    /// The edge.
    pub edge: SocketAddr,
    /// The shop.
    pub shop: SocketAddr,
}

impl Place {
    /// Makes the directory and picks the ports: the usual ones, or free ones where those are taken.
    pub fn make(port: Option<u16>) -> Result<Place, DemoError> {
        let dir = fresh_dir()?;
        let edge = match port {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            None => free(EDGE_PORT)?,
        };
        Ok(Place { dir, edge, shop: free(SHOP_PORT)? })
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("penstock.toml")
    }

    /// The edge's state: ledger, journal, admin socket.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Output of one of the processes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Path of the activity page.
    pub fn page(&self) -> String {
        format!("/activity/{ACTIVITY}")
    }

    /// Writes the config for a sale that opens at `t0`.
    pub fn write_config(&self, t0: UnixMs) -> Result<(), DemoError> {
        let text = render(self.edge, self.shop, &self.state_dir(), t0)?;
        let path = self.config();
        std::fs::write(&path, text).map_err(DemoError::system(format!("{}", path.display())))
    }
}

/// The shipped config with this demo's ports, state directory and opening time.
pub fn render(
    edge: SocketAddr,
    shop: SocketAddr,
    state_dir: &Path,
    t0: UnixMs,
) -> Result<String, DemoError> {
    let state_dir = toml::Value::String(state_dir.display().to_string()).to_string();
    let opens_at = rfc3339(t0);
    let changes = [
        (r#""./penstock-demo""#, state_dir.as_str()),
        ("127.0.0.1:8080", &edge.to_string()),
        ("127.0.0.1:9000", &shop.to_string()),
        ("2030-01-01T00:00:00Z", &opens_at),
    ];
    let mut text = TEMPLATE.to_owned();
    for (from, to) in changes {
        if text.matches(from).count() != 1 {
            let what = "conf/demo.toml".to_owned();
            let said = format!("`{from}` should stand there once");
            return Err(DemoError::Unreadable { what, said });
        }
        text = text.replace(from, to);
    }
    Ok(text)
}

fn rfc3339(at: UnixMs) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    // Out of range only beyond the year 9999.
    jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default()
}

fn fresh_dir() -> Result<PathBuf, DemoError> {
    let name = format!("penstock-demo-{}", std::process::id());
    let base = std::env::temp_dir().join(name);
    for attempt in 0..100 {
        let dir = base.with_extension(attempt.to_string());
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(cause) => {
                return Err(DemoError::system(format!("cannot make {}", dir.display()))(cause));
            }
        }
    }
    let cause = std::io::Error::other("a hundred like it are there already");
    Err(DemoError::system(format!("cannot make {}.N", base.display()))(cause))
}

/// `port` on loopback if nobody has it, else any free one.
fn free(port: u16) -> Result<SocketAddr, DemoError> {
    let try_port = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr();
    try_port(port).or_else(|_| try_port(0)).map_err(DemoError::system("no free port on 127.0.0.1"))
}

/// The command for another process of this binary.
pub fn this_binary() -> Result<Command, DemoError> {
    let exe = std::env::current_exe().map_err(DemoError::system("cannot find this program"))?;
    Ok(Command::new(exe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_config_is_rendered_and_stays_valid() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let dir = Path::new("/tmp/a \"dir\"/state");
        let t0 = UnixMs(1_796_126_400_500);
        let text = render(address(4_001), address(4_002), dir, t0).unwrap();
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["state_dir"].as_str(), dir.to_str());
        assert_eq!(config["listen"]["http"]["address"].as_str(), Some("127.0.0.1:4001"));
        assert_eq!(config["upstream"]["shop"]["servers"][0].as_str(), Some("127.0.0.1:4002"));
        let sale = &config["sale"][SALE];
        assert_eq!(sale["opens_at"].to_string(), "2026-12-01T12:00:00.5Z");
        assert_eq!(sale["stock"].as_integer(), Some(STOCK as i64));
        assert_eq!(sale["activity"].as_str(), Some(ACTIVITY));
    }

    #[test]
    fn the_shipped_config_has_only_known_settings() {
        let settings: crate::config::Settings = toml::from_str(TEMPLATE).unwrap();
        assert_eq!(settings.sale.len(), 1);
    }

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free(port).unwrap().port(), port);
    }
}
