//! Edges that share a ledger, a crowd at all of them, and the audit of what came of it.

use std::ops::Range;

use crate::rig::{Edge, Plan, Stage, crowd, free, until};

/// Several edges of one sale.
pub struct Fleet {
    pub stage: Stage,
    pub edges: Vec<Edge>,
    plan: Plan,
}

impl Fleet {
    /// A shop, and no edge yet.
    pub fn set(plan: Plan) -> Fleet {
        Fleet { stage: Stage::set(plan.clone()), edges: Vec::new(), plan }
    }

    /// A shop and its edges.
    pub fn start(plan: Plan, edges: usize) -> Fleet {
        let mut fleet = Fleet::set(plan);
        fleet.join(edges);
        fleet
    }

    /// Starts the edges.
    pub fn join(&mut self, edges: usize) {
        self.edges = (0..edges).map(|i| self.edge(i)).collect();
    }

    /// The edge with this number, anew or again.
    pub fn edge(&self, i: usize) -> Edge {
        self.edge_with(&self.plan, i, &[])
    }

    /// The same, that ends itself at a point of `src/fault.rs`.
    pub fn edge_that_ends(&self, i: usize, point: &str) -> Edge {
        self.edge_with(&self.plan, i, &[("PENSTOCK_FAULT", point)])
    }

    /// An edge whose plan differs.
    pub fn edge_by(&self, plan: &Plan, i: usize) -> Edge {
        self.edge_with(plan, i, &[])
    }

    fn edge_with(&self, plan: &Plan, i: usize, env: &[(&str, &str)]) -> Edge {
        let (at, name) = (free(), format!("edge-{i}"));
        let text = self.stage.config(plan, at, &name);
        Edge::start_with(self.stage.write(&format!("{name}.toml"), &text), at, env)
    }

    /// Orders that the shop has.
    pub fn orders(&self) -> u64 {
        self.stage.shop.stats().orders
    }

    /// `people` buy at every edge, `at_once` at a time, and in the middle of it `fault` happens.
    pub fn sell(&self, people: usize, at_once: usize, fault: impl FnOnce() + Send) {
        for edge in &self.edges {
            until("T0", || edge.availability()["state"] == "available");
        }
        std::thread::scope(|scope| {
            let crowds: Vec<_> = self
                .edges
                .iter()
                .map(|edge| scope.spawn(move || crowd(edge.at, people, at_once)))
                .collect();
            until("the middle of the sale", || self.orders() >= self.plan.stock / 3);
            fault();
            crowds.into_iter().for_each(|crowd| drop(crowd.join().expect("no panic")));
        });
    }

    /// Every edge knows that every unit is sold or in limbo; returns the units in limbo.
    pub fn is_over(&self) -> u64 {
        let mut in_limbo = 0;
        for edge in &self.edges {
            until("sold out everywhere", || {
                let sale = edge.sale();
                sale["state"] == "sold_out" && sale["held"] == 0
            });
            let sale = edge.sale();
            let units = |what: &str| sale[what].as_u64().expect("units");
            assert_eq!(units("confirmed") + units("limbo"), self.plan.stock, "{sale}");
            in_limbo = units("limbo");
        }
        until("the shop is idle", || self.stage.shop.stats().in_flight == 0);
        in_limbo
    }

    /// Every invariant holds, by the journals of all edges; `running` are those that can be asked.
    pub fn audit(&self, running: Range<usize>) {
        let state = |i: usize| self.stage.dir.path().join(format!("edge-{i}"));
        let journals = (0..self.edges.len()).map(|i| ("--journal", state(i).join("journal")));
        let sockets = running.clone().map(|i| ("--socket", state(i).join("admin.sock")));
        let more: Vec<String> = journals
            .chain(sockets)
            .flat_map(|(option, path)| [option.to_owned(), path.display().to_string()])
            .collect();
        let broken = self.edges[running.start].audit_with(&self.stage.orders_csv(), &more);
        assert_eq!(broken, Vec::<String>::new());
        let (shop, sale) = (self.stage.shop.stats(), self.edges[running.start].sale());
        println!(
            "every invariant holds: {} orders, {} users twice, stock {}, confirmed {}, limbo {}",
            shop.orders, shop.users_twice, sale["stock"], sale["confirmed"], sale["limbo"]
        );
    }
}
