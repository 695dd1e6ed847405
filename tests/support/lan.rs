//! Two hosts on a cable: the gateway's and another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netns::Netns;

pub const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
pub const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub const OTHER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

pub struct Lan {
    /// Where the server runs.
    pub gateway: Netns,
    pub other: Netns,
}

impl Lan {
    pub fn new() -> Lan {
        let lan = Lan { gateway: Netns::new(), other: Netns::new() };
        lan.gateway.link(&lan.other, "cable");
        for (host, v4, v6) in
            [(&lan.gateway, GATEWAY_V4, GATEWAY_V6), (&lan.other, OTHER_V4, OTHER_V6)]
        {
            host.add_address(&format!("{v4}/24"), "cable");
            host.add_address(&format!("{v6}/64"), "cable");
        }
        lan
    }

    /// From now on the connections that the gateway begins are counted.
    pub fn count_syns(&self) {
        self.gateway.run(
            "nft add table inet count
             nft 'add chain inet count out { type filter hook output priority 0; }'
             nft 'add rule inet count out tcp flags & (syn | ack) == syn counter'",
        );
    }

    /// How many there were.
    pub fn syns_sent(&self) -> u64 {
        let rules = self.gateway.run("nft list chain inet count out");
        let (_, counter) = rules.split_once("packets ").expect("a counter");
        counter.split_whitespace().next().expect("a number").parse().expect("a number")
    }

    /// Whatever the gateway sends is lost, and so is what it is sent.
    pub fn cut(&self) {
        self.gateway.run(
            "nft add table inet cut
             nft 'add chain inet cut in { type filter hook input priority 0; }'
             nft 'add chain inet cut out { type filter hook output priority 0; }'
             nft add rule inet cut in iifname cable drop
             nft add rule inet cut out oifname cable drop",
        );
    }
}
