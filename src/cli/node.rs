//! Asking a running node: where its admin socket is, and what its answers mean for the exit code.

use std::path::PathBuf;

use serde_json::Value;

use super::Exit;
use super::config_file::{ConfigFile, show};
use crate::admin_client::AdminClient;
use crate::config::{self, Settings};
use crate::ident::{Name, SaleId};

/// Which node.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Node {
    #[command(flatten)]
    config: ConfigFile,
    /// The node's admin socket; absent: the one that the config names.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// One sale of a node.
#[derive(Debug, clap::Args)]
pub struct One {
    /// `SALE`, or `SITE/SALE` where there are several sites.
    pub sale: String,
    /// Which node is asked.
    #[command(flatten)]
    pub node: Node,
    /// The node's JSON.
    #[arg(long)]
    pub json: bool,
}

/// A node that answers.
#[derive(Debug)]
pub struct Asking {
    client: AdminClient,
    /// Absent where only the socket was named.
    settings: Option<Settings>,
}

impl Node {
    /// Finds the node and looks whether it is there.
    pub fn ask(&self) -> Result<Asking, Exit> {
        let (socket, settings) = match &self.socket {
            Some(socket) => (socket.clone(), None),
            None => {
                let settings = self.settings()?;
                (settings.admin_socket(), Some(settings))
            }
        };
        let client = AdminClient::connect(&socket).map_err(unreachable)?;
        Ok(Asking { client, settings })
    }

    /// Tells the node something about itself. A config that it refuses is shown with every mistake
    /// (exit 78); without `--socket` the file is read here first, to find the node.
    pub fn steer(&self, path: &str) -> Result<Value, Exit> {
        let (status, body) = self.ask()?.client.request("POST", path, None).map_err(unreachable)?;
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(told);
        }
        let problems = told["problems"].as_array().into_iter().flatten();
        let problems: Vec<&str> = problems.filter_map(Value::as_str).collect();
        if problems.is_empty() {
            eprintln!("penstock: {}", said(status, &body));
        }
        for problem in problems {
            eprintln!("{problem}");
        }
        Err(match status {
            422 => Exit::Config,
            409 => Exit::Refused,
            _ => Exit::Failure,
        })
    }

    fn settings(&self) -> Result<Settings, Exit> {
        match config::load(&self.config.path()) {
            // Warnings are `check`'s to say, not every verb's.
            Ok(loaded) => Ok(loaded.settings),
            Err(problems) => {
                show(&problems);
                Err(Exit::Config)
            }
        }
    }
}

impl Asking {
    /// The body of a good answer; any other is said on standard error.
    pub fn bytes(&self, method: &str, path: &str, body: Option<Value>) -> Result<Vec<u8>, Exit> {
        let (status, body) = self.client.request(method, path, body).map_err(unreachable)?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        eprintln!("penstock: {}", said(status, &body));
        Err(match status {
            409 => Exit::Refused,
            _ => Exit::Failure,
        })
    }

    /// Status and body, whatever they are.
    pub fn any(&self, method: &str, path: &str) -> Result<(u16, Vec<u8>), Exit> {
        self.client.request(method, path, None).map_err(unreachable)
    }

    /// The same as JSON.
    pub fn json(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Exit> {
        let bytes = self.bytes(method, path, body)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            eprintln!("penstock: the node's answer is no JSON: {error}");
            Exit::Failure
        })
    }

    /// The sale that `name` means: `site/sale`, or a sale's name alone where one site has it.
    pub fn sale(&self, name: &str) -> Result<SaleId, Exit> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let Ok(sale) = Name::new(name) else {
            eprintln!("penstock: `{name}` is not the name of a sale: write SALE or SITE/SALE");
            return Err(Exit::Usage);
        };
        let sites = self.settings.iter().flat_map(|settings| settings.site.keys());
        let sites: Vec<&Name> = sites.collect();
        if let [site] = sites.as_slice() {
            return Ok(SaleId { site: (*site).clone(), sale });
        }
        self.known(&sale)
    }

    /// A sale that the node knows, by its name alone.
    fn known(&self, sale: &Name) -> Result<SaleId, Exit> {
        let told = self.json("GET", "/v1/sales", None)?;
        let ids = told["sales"].as_array().into_iter().flatten();
        let ids = ids.filter_map(|told| told["id"].as_str()?.parse::<SaleId>().ok());
        let found: Vec<SaleId> = ids.filter(|id| id.sale == *sale).collect();
        match found.as_slice() {
            [id] => Ok(id.clone()),
            [] => {
                eprintln!("penstock: the node knows no sale {sale}; for a new one write SITE/SALE");
                Err(Exit::Failure)
            }
            [..] => {
                eprintln!("penstock: several sites have a sale {sale}: write SITE/SALE");
                Err(Exit::Usage)
            }
        }
    }
}

fn unreachable(error: crate::admin_client::Unreachable) -> Exit {
    eprintln!("penstock: {error}");
    Exit::Unreachable
}

/// What an answer that is not good says.
fn said(status: u16, body: &[u8]) -> String {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let error = told.as_ref().and_then(|told| told["error"].as_str());
    error.map_or_else(|| format!("the node answered {status}"), str::to_owned)
}
