//! Two hosts on a cable: the gateway's and another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::support::netns::Netns;

pub(crate) const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
pub(crate) const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub(crate) const OTHER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

pub(crate) struct Lan {
    /// Where the server runs.
    pub(crate) gateway: Netns,
    pub(crate) other: Netns,
}

impl Lan {
    pub(crate) fn new() -> Lan {
        let lan = Lan { gateway: Netns::new(), other: Netns::new() };
        lan.gateway.link(&lan.other, "cable");
        for (host, v4, v6) in
            [(&lan.gateway, GATEWAY_V4, GATEWAY_V6), (&lan.other, OTHER_V4, OTHER_V6)]
        {
            host.run(&format!(
                "ip address add {v4}/24 dev cable
                 ip address add {v6}/64 dev cable nodad"
            ));
        }
        lan
    }

    /// Whatever the gateway sends is lost, and so is what it is sent.
    pub(crate) fn cut(&self) {
        self.gateway.run(
            "nft add table inet cut
             nft 'add chain inet cut in { type filter hook input priority 0; }'
             nft 'add chain inet cut out { type filter hook output priority 0; }'
             nft add rule inet cut in iifname cable drop
             nft add rule inet cut out oifname cable drop",
        );
    }
}
