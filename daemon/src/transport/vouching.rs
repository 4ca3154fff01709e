//! Whether a member of which this one has not heard is one that its cluster has.
//!
//! Owns asking those that are known. Where connections are secured, a stranger is no guest because it says so: its certificate
//! has the URI of the member that it says it is, or a member that is known, which has shown its own certificate, knows it:
//! then it is held against what that one knows of it. Nobody waits for the answer: a dialer comes again by itself.

use std::sync::Arc;

use tenure_raft::{MemberId, MemberInfo};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::directory::Directory;
use super::hello::ask_hello;
use super::tasks::Tasks;
use crate::tls::Port;

/// Asks about one stranger at a time: whoever has a certificate could make a member dial without end otherwise.
pub(super) struct Vouching {
    tls: Arc<Port>,
    tasks: Tasks,
    turn: Arc<Semaphore>,
}

impl Vouching {
    pub(super) fn new(tls: Arc<Port>, tasks: Tasks) -> Vouching {
        Vouching {
            tls,
            tasks,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Begins to ask whether this is a member of this name, unless it is asked about somebody already.
    pub(super) fn ask(&self, directory: &Directory, stranger: MemberId, name: &str) {
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            return;
        };
        let (directory, tls, name) = (directory.clone(), Arc::clone(&self.tls), name.to_owned());
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = tasks.stopped() => {}
                () = ask_all(&directory, &tls, stranger, &name) => {}
            }
            drop(turn);
        });
    }
}

async fn ask_all(directory: &Directory, tls: &Port, stranger: MemberId, name: &str) {
    let Some(membership) = directory.membership() else {
        return;
    };
    let own = directory.identity().member;
    for (id, info) in membership.members.iter().filter(|(id, _)| **id != own) {
        let hello = match ask_hello(Some(tls), &info.peer_url).await {
            Ok(hello) => hello,
            Err(error) => {
                debug!(peer = %info.name, %error, "a member was not asked about a stranger");
                continue;
            }
        };
        // That its certificate is that of the name it says was made sure of; it is the member that was meant, too.
        let is_known = hello.member == *id && hello.name == info.name;
        let is_of_ours = hello.cluster == Some(membership.cluster);
        let knows = hello.known_names.get(name);
        let knows = knows.is_some_and(|known| known.0 == stranger);
        if let Some(peer_url) = hello.known_urls.get(name)
            && is_known
            && is_of_ours
            && knows
        {
            info!(peer = %info.name, member = %stranger, name, peer_url, "a member of which this one had not heard is known to a peer");
            let described = MemberInfo {
                name: name.to_owned(),
                peer_url: peer_url.clone(),
                ..MemberInfo::default()
            };
            directory.vouch(stranger, described);
            return;
        }
    }
}
