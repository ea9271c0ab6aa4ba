//! Sections against each other: addresses that clash, and what is legal but probably not meant.

use super::super::address::Address;
use super::super::model::{Ack, Backend, Config, Group, Listener, Policy};
use super::super::place::Place;
use super::super::report::Problem;
use super::super::suggest::{brief, did_you_mean};
use super::Check;
use quorate_core::plan::ReadPick;
use std::collections::{BTreeMap, BTreeSet};

/// An address that the proxy binds, by port.
type Bound<'c> = BTreeMap<u16, Vec<(String, &'c Address)>>;

/// Errors.
pub(super) fn check(check: &mut Check<'_>, config: &Config) {
    same_groups(check, config);
    let bound = bound(check, config);
    let mut owners: BTreeMap<&Address, &str> = BTreeMap::new();
    for backend in in_file_order(&config.backends, |backend| backend.at) {
        for address in backend.addresses.iter().filter(|address| address.port != 0) {
            loops(check, backend, address, &bound);
            match owners.get(address) {
                Some(owner) if *owner != backend.name => shared(check, backend, address, owner),
                _ => _ = owners.insert(address, &backend.name),
            }
        }
    }
}

/// The later of two that clash is the one to report.
fn in_file_order<T>(items: &[T], place: impl Fn(&T) -> Place) -> Vec<&T> {
    let mut items: Vec<&T> = items.iter().collect();
    items.sort_by_key(|item| place(item).span().map(|span| span.start));
    items
}

/// Everything that is bound; two that cannot both be are reported.
fn bound<'c>(check: &mut Check<'_>, config: &'c Config) -> Bound<'c> {
    let mut bound = Bound::new();
    let listeners = in_file_order(&config.listeners, |listener| listener.at).into_iter();
    let listeners = listeners.map(|l| (format!("listener '{}'", brief(&l.name)), &l.address, l.at));
    let admin = config.admin.iter().map(|admin| ("[admin]".to_string(), &admin.address, admin.at));
    for (name, address, place) in listeners.chain(admin) {
        let same_port = bound.entry(address.port).or_default();
        if let Some((other, _)) = same_port.iter().find(|(_, taken)| taken.overlaps(address)) {
            check.add(Problem::error("C116", format!("{address} is taken by {other}")).at(place));
        }
        same_port.push((name, address));
    }
    bound
}

fn loops(check: &mut Check<'_>, backend: &Backend, address: &Address, bound: &Bound<'_>) {
    let same_port = bound.get(&address.port).map_or(&[][..], Vec::as_slice);
    if let Some((name, _)) = same_port.iter().find(|(_, listener)| listener.overlaps(address)) {
        let message = format!(
            "backend '{}' is {name} of this proxy: requests would go in circles",
            brief(&backend.name)
        );
        check.add(
            Problem::error("C117", message).at(backend.at).help("name the address of the server itself"),
        );
    }
}

fn shared(check: &mut Check<'_>, backend: &Backend, address: &Address, owner: &str) {
    let message = format!("backends '{}' and '{}' are both {address}", brief(owner), brief(&backend.name));
    let help = "two copies on one server are one copy; name a server of its own for each";
    check.add(Problem::error("C118", message).at(backend.at).help(help));
}

/// Listeners that share a group deal keys to it in the same way, or one would not find what another wrote.
fn same_groups(check: &mut Check<'_>, config: &Config) {
    for (i, one) in config.listeners.iter().enumerate() {
        let differs = |other: &&Listener| {
            other.groups != one.groups && other.groups.iter().any(|group| one.groups.contains(group))
        };
        if let Some(other) = config.listeners[..i].iter().find(differs) {
            let message = format!(
                "listeners '{}' and '{}' share a group, but do not have the same groups in the same order",
                other.name, one.name
            );
            let help = "one would not find keys that the other wrote; give both the same list";
            check.add(Problem::error("C126", message).at(one.at).help(help));
        }
    }
}

/// Warnings. Only for a configuration without errors: most errors would make them wrong.
pub(super) fn warn(check: &mut Check<'_>, config: &Config) {
    let used: BTreeSet<&str> = config.groups.iter().flat_map(|g| &g.replicas).map(String::as_str).collect();
    let listed = config.listeners.iter().flat_map(|listener| listener.users.iter().flatten());
    let admitted: BTreeSet<&str> = listed.map(String::as_str).collect();
    for user in config.users.iter().filter(|user| !admitted.contains(user.name.as_str())) {
        let problem = Problem::warning("C211", format!("no listener lets user '{}' in", brief(&user.name)));
        check.add(problem.at(user.at).help("name it in a listener's users, or take it out"));
    }
    for backend in config.backends.iter().filter(|backend| !used.contains(backend.name.as_str())) {
        let message = format!("backend '{}' is in no group", backend.name);
        check.add(
            Problem::warning("C203", message)
                .at(backend.at)
                .help("add it to a group's replicas, or take it out"),
        );
    }
    let reached: BTreeSet<&str> =
        config.listeners.iter().flat_map(|listener| &listener.groups).map(String::as_str).collect();
    for group in &config.groups {
        if !reached.contains(group.name.as_str()) {
            let message = format!("no listener leads to group '{}'", group.name);
            let help = format!("a listener has group = \"{}\"", group.name);
            check.add(Problem::warning("C204", message).at(group.at.name).help(help));
        }
        warn_group(check, config, group);
    }
    warn_zone(check, config);
}

fn warn_group(check: &mut Check<'_>, config: &Config, group: &Group) {
    let name = &group.name;
    let (problem, place) = match group.replicas.len() {
        1 => (one_replica(name), group.at.replicas),
        2 if needs_both(group) => (two_replicas(name), group.at.replicas),
        _ => (None, Place::NOWHERE),
    };
    problem.into_iter().for_each(|problem| check.add(problem.at(place)));
    if group.read_pick == Some(ReadPick::Nearest) && config.proxy.zone.is_empty() {
        let message =
            format!("group '{name}' reads from the nearest replica, but the proxy's zone is not given");
        check.add(Problem::warning("C207", message).at(group.at.read_pick).help("[proxy] zone = \"…\""));
    }
    if !group.tail {
        let message =
            format!("group '{name}' keeps no tail in its backends: a fail-over may lose acknowledged writes");
        check.add(Problem::warning("C208", message).at(group.at.name).help("leave tail = true"));
    }
}

/// Does the group's quorum need both of two replicas, as far as the file tells?
fn needs_both(group: &Group) -> bool {
    let plain = group.policy.source == Policy::default().source
        && !group.policy.settings.contains_key("write-quorum");
    group.ack == Ack::Quorum && group.write_quorum.map_or(plain, |quorum| quorum.needed(2) == 2)
}

fn one_replica(name: &str) -> Option<Problem> {
    let message = format!("group '{name}' has one replica: losing it loses everything");
    Some(Problem::warning("C206", message).help("three replicas survive the loss of any one"))
}

fn two_replicas(name: &str) -> Option<Problem> {
    let message = format!("group '{name}' has 2 replicas and needs both: no backend may be down");
    let help = "a third replica, or ack = \"in-sync\", lets writes go on while any one is down";
    Some(Problem::warning("C201", message).label("a majority of 2 is 2").help(help))
}

fn warn_zone(check: &mut Check<'_>, config: &Config) {
    let zone = &config.proxy.zone;
    let zones: BTreeSet<&str> =
        config.backends.iter().map(|b| b.zone.as_str()).filter(|z| !z.is_empty()).collect();
    if !zone.is_empty() && !zones.contains(zone.as_str()) {
        let known: Vec<&str> = zones.into_iter().collect();
        let message = format!("no backend is in the proxy's zone '{}'", brief(zone));
        let problem = Problem::warning("C205", message).at(config.proxy.at);
        check.add(problem.help(did_you_mean(zone, &known)));
    }
}
