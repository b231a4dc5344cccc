//! `make bench` and `make bench-quick`: Penstock beside nginx, HAProxy, Varnish and a bare epoll loop.
//!
//! One worker of each server runs on one processor, the load on another. All servers of a row are
//! measured in turn, round after round (A B C … A B C …), and compared within each round, so that a
//! machine that changes its speed changes it for all. What is compared is the CPU time that all
//! threads of a server took for one request, by the kernel's own accounting. `docs/performance.md` says
//! what the figures mean.
//!
//! This program is also the floor, the origin and the two hyper servers: it starts itself again with
//! the name of one of them.

#[cfg(target_os = "linux")]
mod compare;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    compare::run(std::env::args().skip(1).collect())
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("the comparison needs Linux: epoll, and /proc for CPU time and memory");
    ExitCode::from(2)
}
