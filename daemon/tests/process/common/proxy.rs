//! A TCP relay in front of a member's peer port, which can refuse, cut and stall what others send to that member.
//!
//! It cannot tell who connects, so a cut makes its member deaf to all others (and not mute): the one-way partition.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::wait;

/// What a relay does with what it carries.
#[derive(Default)]
struct Rules {
    /// New connections are dropped at once and open ones are cut.
    cut: AtomicBool,
    /// Every connection that has carried this many bytes towards the member is cut; 0: none.
    cut_after: AtomicU64,
    /// How many more connections `cut_after` may cut.
    cuts_left: AtomicU64,
    /// Connections that have carried this many bytes towards the member carry no more; 0: none.
    stall_after: AtomicU64,
    /// All bytes ever carried towards the member.
    carried: AtomicU64,
    ended: AtomicBool,
}

/// The relay; ended when dropped.
pub(crate) struct Proxy {
    listen: SocketAddr,
    rules: Arc<Rules>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(listen: SocketAddr, target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(listen).expect("the address of the relay is free");
        let rules = Arc::new(Rules::default());
        let open = Arc::new(Mutex::new(Vec::new()));
        let acceptor = {
            let (rules, open) = (Arc::clone(&rules), Arc::clone(&open));
            thread::spawn(move || accept(&listener, target, &rules, &open))
        };
        Proxy {
            listen,
            rules,
            open,
            acceptor: Some(acceptor),
        }
    }

    /// Cuts every connection to the member and refuses new ones.
    pub(crate) fn cut(&self) {
        self.rules.cut.store(true, Ordering::SeqCst);
        self.cut_open();
    }

    pub(crate) fn heal(&self) {
        self.rules.cut.store(false, Ordering::SeqCst);
        self.rules.stall_after.store(0, Ordering::SeqCst);
    }

    /// The next `times` connections that have carried this many bytes are cut.
    pub(crate) fn cut_after(&self, bytes: u64, times: u64) {
        self.rules.cuts_left.store(times, Ordering::SeqCst);
        self.rules.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// How many of those cuts are still to come.
    pub(crate) fn cuts_left(&self) -> u64 {
        self.rules.cuts_left.load(Ordering::SeqCst)
    }

    /// Connections that have carried this many bytes stay open and carry no more.
    pub(crate) fn stall_after(&self, bytes: u64) {
        self.rules.stall_after.store(bytes, Ordering::SeqCst);
    }

    /// All bytes ever carried towards the member.
    pub(crate) fn carried(&self) -> u64 {
        self.rules.carried.load(Ordering::SeqCst)
    }

    fn cut_open(&self) {
        for stream in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.rules.ended.store(true, Ordering::SeqCst);
        self.cut_open();
        // Wakes the acceptor, which then sees that it has ended.
        let _ = TcpStream::connect(self.listen);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    rules: &Arc<Rules>,
    open: &Mutex<Vec<TcpStream>>,
) {
    for stream in listener.incoming() {
        if rules.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = stream else { continue };
        if rules.cut.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(far) = TcpStream::connect(target) else {
            continue;
        };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let copies = [
            near.try_clone(),
            far.try_clone(),
            near.try_clone(),
            far.try_clone(),
        ];
        let [Ok(from_near), Ok(to_far), Ok(kept), Ok(also_kept)] = copies else {
            continue;
        };
        open.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend([kept, also_kept]);
        let there = Arc::clone(rules);
        thread::spawn(move || carry(from_near, to_far, Some(&there)));
        thread::spawn(move || carry(far, near, None));
    }
}

/// Copies until either side ends; what goes towards the member is counted and obeys the rules.
fn carry(mut from: TcpStream, mut to: TcpStream, rules: Option<&Rules>) {
    let mut bytes = vec![0; 64 << 10];
    let mut carried = 0;
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if let Some(rules) = rules {
            carried += read as u64;
            rules.carried.fetch_add(read as u64, Ordering::SeqCst);
            if rules.cuts_now(carried) {
                break;
            }
            rules.stall(carried);
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

impl Rules {
    fn cuts_now(&self, carried: u64) -> bool {
        let after = self.cut_after.load(Ordering::SeqCst);
        let one_less = |left: u64| left.checked_sub(1);
        after > 0
            && carried >= after
            && self
                .cuts_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                .is_ok()
    }

    fn stall(&self, carried: u64) {
        let stalled = || {
            let after = self.stall_after.load(Ordering::SeqCst);
            after > 0 && carried >= after && !self.ended.load(Ordering::SeqCst)
        };
        if stalled() {
            wait::pass(Duration::from_secs(600), || !stalled());
        }
    }
}
