use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::Config;
use crate::policy;
use crate::process::Error;
use crate::reactor::{BACKLOG, Group, Listener};

/// An address that is taken, and who may connect to it.
pub(super) type Taken = (Group, Arc<[IpNet]>);

/// Takes every address for every reactor. The wildcards come first: who has one has all.
pub(super) fn take(config: &Config, reactors: usize) -> Result<Vec<Taken>, Error> {
    let mut wanted: Vec<_> = config
        .listen
        .iter()
        .flat_map(|listen| listen.address.sockets().map(move |socket| (socket, &listen.clients)))
        .collect();
    wanted.sort_by_key(|((address, _), _)| !address.ip().is_unspecified());
    let mut groups: Vec<Taken> = Vec::new();
    for ((address, required), clients) in wanted {
        let claimed = groups.iter().any(|(group, _)| policy::covers(group.address, address));
        match Group::take(address, reactors, claimed) {
            Ok(group) => groups.push((group, clients.clone().into())),
            Err(error) if !required && is_missing_family(&error) => {
                log::info!("no listener at {address}: this host has no IPv6");
            }
            Err(error) => return Err(Error::Listen(address, error)),
        }
    }
    Ok(groups)
}

/// Opens every address, and gives each reactor its share of all.
pub(super) fn listen(groups: Vec<Taken>, reactors: usize) -> Result<Vec<Vec<Listener>>, Error> {
    let mut shares: Vec<Vec<Listener>> = Vec::new();
    shares.resize_with(reactors, Vec::new);
    for (group, clients) in groups {
        let address = group.address;
        let listeners = group.listen(&clients).map_err(|it| Error::Listen(address, it))?;
        shares.iter_mut().zip(listeners).for_each(|(share, listener)| share.push(listener));
    }
    Ok(shares)
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Says where we listen.
pub(super) fn announce(addresses: &[SocketAddr]) {
    for address in addresses {
        log::info!("listening on {address}");
    }
    warn_of_short_backlog();
}

fn warn_of_short_backlog() {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    if let Some(somaxconn) = somaxconn.ok().and_then(|it| it.trim().parse::<i32>().ok())
        && somaxconn < BACKLOG
    {
        log::warn!(
            "net.core.somaxconn is {somaxconn}: a burst of more new clients is turned away; \
             {BACKLOG} would be better"
        );
    }
}
