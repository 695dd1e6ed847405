use crate::origin;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
pub enum Way {
    Direct,
    Forward(SocketAddr),
    Socks5 { proxy: SocketAddr, login: Option<(String, String)>, target: Target },
}
pub enum Target {
    Address,
    Name(String),
}
pub struct Load {
    pub way: Way,
    pub origin: origin::Ports,
    pub kind: Kind,
    pub duration: Duration,
    pub warm_up: Duration,
}
pub enum Kind {
    Down { flows: usize },
    Up { flows: usize },
    DownPaced { flows: usize, bytes_per_second: u64 },
    Sessions { concurrent: usize },
    Requests { size: usize, connections: usize, rate: Option<f64>, beside: Option<u64> },
}
#[derive(Clone, Serialize, Deserialize)]
pub struct Measured {
    pub units: u64,
    pub elapsed_seconds: f64,
    pub latency: Option<Latency>,
    pub errors: u64,
    pub beside_bytes: u64,
}
#[derive(Clone, Serialize, Deserialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub curve: Vec<(f64, f64)>,
}
pub fn run(_load: &Load, _at_start: impl FnOnce(), _at_end: impl FnOnce()) -> io::Result<Measured> {
    Err(io::ErrorKind::Unsupported.into())
}
pub enum Held {
    Idle,
    Stalled,
}
pub fn hold<T>(
    _way: &Way,
    _ports: origin::Ports,
    _sessions: usize,
    _held: Held,
    _during: impl FnOnce() -> T,
) -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}
