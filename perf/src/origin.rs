use serde::{Deserialize, Serialize};
use std::{io, net::Ipv4Addr};
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Ports {
    pub address: Ipv4Addr,
    pub source: u16,
    pub sink: u16,
    pub echo: u16,
}
pub fn serve() -> io::Result<()> {
    Ok(())
}
pub struct Origin;
impl Origin {
    pub fn start(_cpu: usize) -> io::Result<Origin> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub fn ports(&self) -> Ports {
        unreachable!()
    }
}
