//! The tasks beside a group's sequencer: who attends to its backends, asks for what is on their disks, reads deadlines,
//! scrubs, and hears what the servers tell. They live as long as the ownership that begins them.

use super::own::Ownership;
use crate::backend::attach::Owner;
use crate::backend::deadlines::Survey;
use crate::backend::disk::Disk;
use crate::backend::link::Link;
use crate::backend::reseed::{Reseeds, Seeds};
use crate::backend::scrub::Scrubber;
use crate::backend::serve::{Attendant, Peers};
use crate::backend::subscriber::Feed;
use crate::drive::Driver;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

impl Ownership {
    pub(super) fn scrubber(&self, driver: &Rc<RefCell<Driver>>) -> Scrubber {
        let group = &self.config.groups[self.group];
        Scrubber {
            backends: self.config.replicas(group).cloned().collect(),
            shared: self.shared.clone(),
            driver: driver.clone(),
            rate: group.scrub_rate,
            every: group.scrub_every.filter(|_| group.replicas.len() > 1),
        }
    }

    pub(super) fn ask_disks(&self, driver: &Rc<RefCell<Driver>>) {
        let mut ask = Vec::new();
        for (replica, backend) in self.config.replicas(&self.config.groups[self.group]).enumerate() {
            let (sender, asked) = mpsc::unbounded_channel();
            let (backend, shared, driver) = (backend.clone(), self.shared.clone(), Rc::downgrade(driver));
            tokio::task::spawn_local(Disk { replica, backend, shared, driver, asked }.run());
            ask.push(sender);
        }
        driver.borrow_mut().set_disks(ask);
    }

    pub(super) fn deadlines(&self, driver: &Rc<RefCell<Driver>>) -> Survey {
        let group = &self.config.groups[self.group];
        Survey {
            backends: self.config.replicas(group).cloned().collect(),
            shared: self.shared.clone(),
            driver: driver.clone(),
        }
    }

    pub(super) fn attend(
        &self,
        driver: &Rc<RefCell<Driver>>,
        links: &[Rc<Link>],
        owner: &Owner,
        password: &str,
    ) -> JoinSet<()> {
        let mut attendants = JoinSet::new();
        let peers = Rc::new(Peers::new(links.to_vec()));
        let group = &self.config.groups[self.group];
        let seeds = Seeds::new(self.config.replicas(group).cloned().collect(), group);
        for (replica, backend) in self.config.replicas(group).enumerate() {
            let attendant = Attendant {
                replica,
                backend: backend.clone(),
                shared: self.shared.clone(),
                driver: driver.clone(),
                link: links[replica].clone(),
                peers: peers.clone(),
                owner: owner.clone(),
                password: password.to_string(),
                reseeds: Reseeds::new(seeds.clone()),
            };
            attendants.spawn_local(attendant.run());
        }
        attendants
    }

    pub(super) fn feed(&self, driver: &Rc<RefCell<Driver>>, owner: &Owner, password: &str) -> Feed {
        Feed {
            backends: self.config.replicas(&self.config.groups[self.group]).cloned().collect(),
            shared: self.shared.clone(),
            driver: driver.clone(),
            mailboxes: driver.borrow().mailboxes(),
            owner: owner.clone(),
            password: password.to_string(),
        }
    }
}
