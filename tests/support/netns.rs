//! A network of a test's own, deleted with it: needs root and iproute2.

use std::fs::File;
use std::os::fd::AsFd;
use std::panic;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace whose loopback is up and which reaches nobody until it is linked.
pub struct Netns {
    name: String,
}

impl Netns {
    #[track_caller]
    pub fn new() -> Netns {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let netns = Netns { name: format!("ringsocks-{}-{number}", process::id()) };
        run_script(&format!("ip netns add {}", netns.name));
        netns.run("ip link set lo up");
        netns
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([&format!("--net={}", self.path()), program]);
        command
    }

    /// Runs a shell script inside, which must succeed.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.enter(|| run_script(script))
    }

    /// Does something inside: sockets that it opens and processes that it starts stay there.
    #[track_caller]
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = File::open(self.path()).expect("the namespace is there");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            act()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    /// Gives a device an address, such as `10.0.0.1/24`, and waits until it may be used: for IPv6
    /// the kernel sees to that later.
    #[track_caller]
    pub fn add_address(&self, address: &str, device: &str) {
        let (ip, _) = address.split_once('/').expect("an address with its network");
        let without_detection = if ip.contains(':') { "nodad" } else { "" };
        self.run(&format!(
            "ip address replace {address} dev {device} {without_detection}
             for _ in $(seq 500); do
                 ! ip route get {ip} | grep -q ^local || exit 0
                 sleep 0.02
             done
             exit 1"
        ));
    }

    /// A cable between two namespaces: the interface `name` at both of its ends.
    #[track_caller]
    pub fn link(&self, other: &Netns, name: &str) {
        run_script(&format!(
            "ip link add {name} netns {} type veth peer name {name} netns {}",
            self.name, other.name
        ));
        for end in [self, other] {
            // Addresses of IPv6 may be used at once, and nobody solicits a router.
            end.run(&format!(
                "echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad
                 echo 0 >/proc/sys/net/ipv6/conf/{name}/router_solicitations
                 ip link set {name} up"
            ));
        }
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Runs a shell script where we are, which must succeed; what it wrote.
#[track_caller]
pub fn run_script(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
