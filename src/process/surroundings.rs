use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::Resolver;
use crate::dns::Sources;
use crate::outcome::is_exhaustion;
use crate::policy::Host;
use crate::process::Error;
use crate::sys;

/// What is around the process and may change while it runs.
pub(super) struct Surroundings {
    resolver: Resolver,
    resolv_conf: Watched,
    hosts: Watched,
    sources: Arc<Sources>,
    host: Arc<Host>,
}

/// A file, and what it said when it could last be read: that stays true if it disappears.
struct Watched {
    path: &'static str,
    stamp: Option<Stamp>,
    text: Vec<u8>,
    /// As it was when it could not be read, which has been told.
    unread: Option<Stamp>,
}

/// What is another when a file was written to, or another took its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    changed: (i64, i64),
    size: u64,
}

impl Surroundings {
    /// How often to look: no change announces itself.
    pub(super) const INTERVAL: Duration = Duration::from_secs(2);

    pub(super) fn new(resolver: Resolver, listeners: Vec<SocketAddr>) -> Result<Self, Error> {
        let (addresses, networks) =
            local_addresses().map_err(|it| Error::System("list the addresses of this host", it))?;
        let mut resolv_conf = Watched::new("/etc/resolv.conf");
        let mut hosts = Watched::new("/etc/hosts");
        resolv_conf.look();
        hosts.look();
        let prefers_v6 = has_v6_route().unwrap_or(false);
        let sources = sources(&resolver, &resolv_conf, &hosts, prefers_v6).into();
        let host = Host { listeners, addresses, networks }.into();
        Ok(Surroundings { resolver, resolv_conf, hosts, sources, host })
    }

    pub(super) fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.sources)
    }

    pub(super) fn host(&self) -> Arc<Host> {
        Arc::clone(&self.host)
    }

    /// Looks around, and says whether anything has changed.
    pub(super) fn look(&mut self) -> bool {
        let sources_changed = self.look_at_files();
        let host_changed = self.look_at_interfaces();
        sources_changed || host_changed
    }

    fn look_at_files(&mut self) -> bool {
        let read = self.resolv_conf.look() | self.hosts.look();
        let prefers_v6 = has_v6_route().unwrap_or(self.sources.prefers_v6);
        if !read && self.sources.prefers_v6 == prefers_v6 {
            return false;
        }
        let sources = sources(&self.resolver, &self.resolv_conf, &self.hosts, prefers_v6);
        let changed = *self.sources != sources;
        if changed {
            self.sources = sources.into();
            log::info!("names: the hosts file, the servers or the routes have changed");
        }
        changed
    }

    fn look_at_interfaces(&mut self) -> bool {
        let (addresses, networks) = match local_addresses() {
            Ok(local) => local,
            Err(error) => {
                log::warn!("cannot list the addresses of this host: {error}");
                return false;
            }
        };
        let changed = (&self.host.addresses, &self.host.networks) != (&addresses, &networks);
        if changed {
            let listeners = self.host.listeners.clone();
            self.host = Host { listeners, addresses, networks }.into();
            log::info!("the addresses of this host have changed");
        }
        changed
    }
}

impl Watched {
    fn new(path: &'static str) -> Watched {
        Watched { path, stamp: None, text: Vec::new(), unread: None }
    }

    /// Reads it if it has changed since it was last read.
    fn look(&mut self) -> bool {
        let Ok(stamp) = Stamp::of(self.path) else { return false };
        if self.stamp == Some(stamp) {
            return false;
        }
        match read(self.path) {
            // Somebody may be in the middle of writing it anew: what it said last is better.
            Ok(text) if text.is_empty() && !self.text.is_empty() => false,
            Ok(text) => {
                (self.stamp, self.text) = (Some(stamp), text);
                true
            }
            Err(error) => {
                if self.unread.replace(stamp) != Some(stamp) {
                    log::warn!("cannot read {}: {error}", self.path);
                }
                false
            }
        }
    }
}

impl Stamp {
    fn of(path: &str) -> io::Result<Stamp> {
        let metadata = fs::metadata(path)?;
        Ok(Stamp {
            file: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
        })
    }
}

/// No file that a host could use is longer.
fn read(path: &str) -> io::Result<Vec<u8>> {
    const BYTES_MAX: u64 = 16 << 20;
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The addresses of this host, and the networks that are routed to it besides.
fn local_addresses() -> io::Result<(Vec<IpAddr>, Vec<IpNet>)> {
    let (addresses, mut networks) = (sys::local_addresses()?, sys::local_networks()?);
    networks.retain(|network| {
        let is_one = network.prefix_len() == network.max_prefix_len();
        !is_one || addresses.binary_search(&network.addr()).is_err()
    });
    Ok((addresses, networks))
}

fn sources(
    resolver: &Resolver,
    resolv_conf: &Watched,
    hosts: &Watched,
    prefers_v6: bool,
) -> Sources {
    let servers = match resolver {
        Resolver::Servers(servers) => servers.clone(),
        Resolver::ResolvConf | Resolver::System => {
            Sources::servers_in(&resolv_conf.text, sys::interface_index)
        }
    };
    Sources::new(servers, &hosts.text, prefers_v6)
}

/// Whether there is a way to the IPv6 Internet: connecting a datagram socket asks the routes and
/// sends nothing. `None`: there is nothing left to ask with.
fn has_v6_route() -> Option<bool> {
    const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    match socket.and_then(|socket| socket.connect((SOMEWHERE, 9))) {
        Err(error) if is_exhaustion(&error) => None,
        connected => Some(connected.is_ok()),
    }
}
