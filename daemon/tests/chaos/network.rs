//! A network of namespaces: one for each member and one, the hub, for the driver, on a bridge that ends there.
//!
//! Owns what members can hear of one another. Rules go into the namespaces of members and name peers by address, so
//! that clients, who live in the hub, are cut off from nobody. Everything goes when it is dropped.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::common::machine::{run, succeeds};

/// The members' namespaces and the hub.
pub(crate) struct Network {
    hub: String,
    members: Vec<String>,
}

/// Whom a member does not hear: the deaf one first.
pub(crate) type Deafness = (usize, usize);

impl Network {
    pub(crate) fn make(members: usize) -> Result<Network, String> {
        let id = std::process::id();
        let mut network = Network {
            hub: format!("tenure-{id}-hub"),
            members: Vec::new(),
        };
        if !succeeds("ip", &["netns", "add", &network.hub]) {
            return Err("network namespaces cannot be made (are you root?)".to_owned());
        }
        let in_hub = |arguments: &str| {
            let mut all = vec!["-n", network.hub.as_str()];
            all.extend(arguments.split(' '));
            run("ip", &all);
        };
        in_hub("link set lo up");
        in_hub("link add br0 type bridge");
        in_hub("link set br0 up");
        in_hub("address add 10.77.0.254/24 dev br0");
        for number in 0..members {
            let name = format!("tenure-{id}-n{}", number + 1);
            run("ip", &["netns", "add", &name]);
            in_hub(&format!(
                "link add v{number} type veth peer name eth0 netns {name}"
            ));
            in_hub(&format!("link set v{number} master br0 up"));
            let address = format!("{}/24", Network::address(number));
            run("ip", &["-n", &name, "link", "set", "lo", "up"]);
            run(
                "ip",
                &["-n", &name, "address", "add", &address, "dev", "eth0"],
            );
            run("ip", &["-n", &name, "link", "set", "eth0", "up"]);
            network.members.push(name);
        }
        Ok(network)
    }

    pub(crate) fn address(member: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(member + 1).expect("a few members"))
    }

    /// Moves this thread, and those it will start, into the hub.
    pub(crate) fn enter_hub(&self) {
        enter(&self.hub);
    }

    /// Does something in the namespace of a member; processes that it starts stay there.
    pub(crate) fn within<T: Send>(&self, member: usize, act: impl FnOnce() -> T + Send) -> T {
        let name = &self.members[member];
        let inside = || {
            enter(name);
            act()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("it is done"))
    }

    /// Runs a program in the namespace of a member.
    pub(crate) fn run_at(&self, member: usize, program: &str, arguments: &[&str]) -> String {
        self.within(member, || run(program, arguments))
    }

    /// Adds a rule for what a member hears.
    pub(crate) fn rule(&self, member: usize, rule: &str) {
        let mut arguments = vec!["-w", "-A", "INPUT"];
        arguments.extend(rule.split(' '));
        self.run_at(member, "iptables", &arguments);
    }

    /// Makes members deaf to others.
    pub(crate) fn cut(&self, links: &[Deafness]) {
        for (deaf, mute) in links {
            self.rule(*deaf, &format!("-s {} -j DROP", Network::address(*mute)));
        }
    }

    /// Takes all rules away, and answers how many packets they stopped.
    pub(crate) fn heal(&self) -> u64 {
        (0..self.members.len())
            .map(|member| self.heal_one(member))
            .sum()
    }

    fn heal_one(&self, member: usize) -> u64 {
        let list = self.run_at(member, "iptables", &["-w", "-L", "INPUT", "-n", "-v", "-x"]);
        self.run_at(member, "iptables", &["-w", "-F", "INPUT"]);
        let packets = list.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let packets: u64 = words.next()?.parse().ok()?;
            words.nth(1).map(|_| packets)
        });
        packets.sum()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.members.iter().chain([&self.hub]) {
            succeeds("ip", &["netns", "del", name]);
        }
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace has a name");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}
