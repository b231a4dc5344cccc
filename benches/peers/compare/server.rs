//! Starting the servers of the comparison, each on the measured processor, each from a config file
//! beside this directory.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Outcome;
use super::process::{Cpus, Running};

/// The programs that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bare loop.
    Floor,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Varnish.
    Varnish,
    /// Penstock, whole.
    Penstock,
    /// hyper alone.
    Hyper,
    /// Penstock's HTTP/1.1 driver alone, leaving all to hyper.
    Cold,
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it listens for TLS, if it does.
    pub tls: SocketAddr,
    /// Its processes.
    pub running: Running,
}

/// What starting a server needs to know.
#[derive(Clone)]
pub struct Place {
    /// Files of this run.
    pub dir: PathBuf,
    /// Where the certificate of all servers is.
    pub certificates: PathBuf,
    /// Files of this run that have to lie in memory.
    pub shm: PathBuf,
    /// The processors.
    pub cpus: Cpus,
    /// The origin behind every server.
    pub origin: SocketAddr,
    /// Descriptors that a process may have.
    pub files: u64,
    /// Connections that a server has to bear.
    pub connections: usize,
    /// Body bytes of the peers' ready-made answers: Penstock's own sizes.
    pub availability_bytes: usize,
    /// The same of a refusal.
    pub refusal_bytes: usize,
}

/// What a constant answer is made of: status, bytes of the head, bytes of the body.
pub type Shape = (u16, usize, usize);

impl Place {
    /// Starts a server that is no floor, and waits until it accepts.
    pub fn start(&self, kind: Kind) -> Outcome<Server> {
        let (address, tls) = (free_address()?, free_address()?);
        let command = match kind {
            Kind::Floor => return Err("the floor needs the shape of its answer".into()),
            Kind::Nginx => self.nginx(address, tls)?,
            Kind::Haproxy => self.haproxy(address, tls)?,
            Kind::Varnish => self.varnish(address, tls)?,
            Kind::Penstock => self.penstock(address, tls)?,
            Kind::Hyper => own("hyper", &[address.to_string()])?,
            Kind::Cold => own("cold", &[address.to_string()])?,
        };
        self.launch(kind, (address, tls), command)
    }

    /// Starts the floor.
    pub fn start_floor(&self, (status, head, body): Shape) -> Outcome<Server> {
        let address = free_address()?;
        let args = [address.to_string(), status.to_string(), head.to_string(), body.to_string()];
        self.launch(Kind::Floor, (address, address), own("floor", &args)?)
    }

    fn launch(
        &self,
        kind: Kind,
        (address, tls): (SocketAddr, SocketAddr),
        command: Command,
    ) -> Outcome<Server> {
        let log = self.dir.join(format!("{kind:?}-{}.log", address.port()));
        let running = Running::start(command, self.cpus.server, self.cpus.load, &log)?;
        let mut server = Server { address, tls, running };
        await_listening(&mut server, &log)?;
        Ok(server)
    }

    fn nginx(&self, address: SocketAddr, tls: SocketAddr) -> Outcome<Command> {
        let config = self.write("nginx.conf", include_str!("../nginx.conf"), (address, tls))?;
        let mut command = Command::new(find("nginx")?);
        command.arg("-p").arg(&self.dir).arg("-c").arg(config);
        Ok(command)
    }

    fn haproxy(&self, address: SocketAddr, tls: SocketAddr) -> Outcome<Command> {
        let config = self.write("haproxy.cfg", include_str!("../haproxy.cfg"), (address, tls))?;
        let mut command = Command::new(find("haproxy")?);
        command.arg("-db").arg("-f").arg(config);
        Ok(command)
    }

    fn varnish(&self, address: SocketAddr, tls: SocketAddr) -> Outcome<Command> {
        let config = self.write("varnish.vcl", include_str!("../varnish.vcl"), (address, tls))?;
        let work = self.dir.join(format!("varnish-{}", address.port()));
        let mut command = Command::new(find("varnishd")?);
        // In the foreground, without a command line of its own, and without changing its user.
        command.args(["-F", "-T", "none", "-j", "none"]);
        command.arg("-a").arg(address.to_string()).arg("-f").arg(config).arg("-n").arg(work);
        command.args(["-s", "malloc,512m"]);
        for parameter in VARNISH {
            command.args(["-p", parameter]);
        }
        command.arg("-p").arg(format!("vsl_mask={}", varnish_mask(&find("varnishd")?)?));
        Ok(command)
    }

    fn penstock(&self, address: SocketAddr, tls: SocketAddr) -> Outcome<Command> {
        // A node of its own each time: a sale is sold but once.
        let place =
            Place { dir: self.dir.join(format!("penstock-{}", address.port())), ..self.clone() };
        fs::create_dir_all(&place.dir)?;
        let config =
            place.write("penstock.toml", include_str!("../penstock.toml"), (address, tls))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.arg("run").arg("-c").arg(config);
        Ok(command)
    }

    /// The config with its names filled in.
    fn write(
        &self,
        name: &str,
        template: &str,
        (address, tls): (SocketAddr, SocketAddr),
    ) -> Outcome<PathBuf> {
        let opens_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() + 2_000;
        let opens_at = jiff::Timestamp::from_millisecond(i64::try_from(opens_at)?)?;
        let text = template
            .replace("@NAMES@", "Names")
            .replace("@dir@", &self.dir.display().to_string())
            .replace("@shm@", &self.shm.display().to_string())
            .replace("@address@", &address.to_string())
            .replace("@tls@", &tls.to_string())
            .replace("@certificates@", &self.certificates.display().to_string())
            .replace("@origin@", &self.origin.to_string())
            .replace("@origin_host@", &self.origin.ip().to_string())
            .replace("@origin_port@", &self.origin.port().to_string())
            .replace("@files@", &self.files.to_string())
            .replace("@connections@", &(self.connections + 200).to_string())
            .replace("@availability@", &"x".repeat(self.availability_bytes))
            .replace("@refusal@", &"x".repeat(self.refusal_bytes))
            .replace("@opens_at@", &opens_at.to_string());
        let path = self.dir.join(format!("{}-{name}", address.port()));
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Starts the origin, on the load's processor.
pub fn start_origin(dir: &Path, cpus: Cpus) -> Outcome<Server> {
    let address = free_address()?;
    let log = dir.join("origin.log");
    let command = own("origin", &[address.to_string()])?;
    let mut server = Server {
        address,
        tls: address,
        running: Running::start(command, cpus.load, cpus.load, &log)?,
    };
    await_listening(&mut server, &log)?;
    Ok(server)
}

/// This program in another part.
fn own(part: &str, args: &[String]) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).args(args);
    Ok(command)
}

fn await_listening(server: &mut Server, log: &Path) -> Outcome<()> {
    let ends = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(server.address).is_err() {
        if !server.running.is_alive() || Instant::now() > ends {
            let said = fs::read_to_string(log).unwrap_or_default();
            return Err(format!("{} does not listen: {said}", log.display()).into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Masks all that Varnish would write into its shared log for a request: it is spared it. The tags
/// differ from version to version, so it is asked: its answer underlines each.
fn varnish_mask(varnishd: &Path) -> Outcome<String> {
    let output = Command::new(varnishd).args(["-x", "vsl"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().zip(text.lines().skip(1));
    let tags = lines.filter(|(tag, below)| !tag.is_empty() && **below == "-".repeat(tag.len()));
    let kept = ["CLI", "Error", "VCL_Error"];
    let masked = tags.filter(|(tag, _)| !kept.contains(tag)).map(|(tag, _)| format!("-{tag}"));
    Ok(masked.collect::<Vec<_>>().join(","))
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A peer's program, on the path or where Debian has what is for administrators.
pub fn find(program: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = dirs.map(|dir| dir.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| {
        format!(
            "{program} is not installed. The comparison needs nginx, HAProxy and Varnish, their \
             services stopped: sudo apt-get install nginx-light haproxy varnish"
        )
        .into()
    })
}

/// Varnish's parameters.
const VARNISH: [&str; 7] = [
    "thread_pools=1",        // one pool on one processor
    "thread_pool_min=600",   // a thread for each of 512 busy connections, made beforehand
    "thread_pool_max=2000",  // no more: they are not used
    "http_gzip_support=off", // the bodies cannot be compressed
    "timeout_idle=3600",     // no connection may end within a run
    "backend_idle_timeout=3600",
    "ban_lurker_sleep=0", // there are no bans
];
