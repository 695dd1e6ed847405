use std::io;
use std::net::SocketAddr;

use crate::config::{Config, Listen};
use crate::policy;
use crate::process::Error;
use crate::reactor::{BACKLOG, Group, Listener};

/// An address that is taken, and the part of the configuration that it is from.
pub(super) type Taken<'a> = (Group, &'a Listen);

/// Takes every address for every reactor. The wildcards come first: who has one has all.
pub(super) fn take(config: &Config, reactors: usize) -> Result<Vec<Taken<'_>>, Error> {
    let mut wanted: Vec<_> = config
        .listen
        .iter()
        .flat_map(|listen| listen.address.sockets().map(move |socket| (socket, listen)))
        .collect();
    wanted.sort_by_key(|((address, _), _)| !address.ip().is_unspecified());
    let mut groups: Vec<Taken<'_>> = Vec::new();
    for ((address, required), listen) in wanted {
        let claimed = groups.iter().any(|(group, _)| policy::covers(group.address, address));
        match Group::take(address, reactors, claimed) {
            Ok(group) => groups.push((group, listen)),
            Err(error) if !required && is_missing_family(&error) => {
                log::info!("no listener at {address}: this host has no IPv6");
            }
            Err(error) => return Err(Error::Listen(address, error)),
        }
    }
    Ok(groups)
}

/// Opens every address, and gives each reactor its share of all.
pub(super) fn listen(groups: Vec<Taken<'_>>, reactors: usize) -> Result<Vec<Vec<Listener>>, Error> {
    let mut shares: Vec<Vec<Listener>> = Vec::new();
    shares.resize_with(reactors, Vec::new);
    for (number, (group, listen)) in groups.into_iter().enumerate() {
        let address = group.address;
        let clients = listen.clients.clone().into();
        let listeners =
            group.listen(number as u16, &clients).map_err(|it| Error::Listen(address, it))?;
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
