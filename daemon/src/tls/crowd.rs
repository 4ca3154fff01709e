//! How many handshakes may be under way at a time.
//!
//! A handshake costs its member work and memory before it is known who is there. One network has half of the places at
//! most, so that a flood from one address finds others room left. Where a network has all that it may have, or all places are
//! taken, one that has been under way longest makes room, if it has had a second; a place that is free goes to the network that
//! has fewest of them, of those that wait. So in a crowd of clients that come back at once each has its turn, and crowds that say
//! nothing, from however many networks, keep nobody out for much longer than a second who comes from another.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::network::Network;

/// Handshakes at a time.
pub(crate) const MOST: usize = 256;
/// So long each may take undisturbed.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// How often it is looked who could make room.
const LOOK: Duration = Duration::from_millis(100);

/// The handshakes of a listener that are under way.
pub(crate) struct Crowd {
    most: usize,
    open: Mutex<Open>,
    /// One has ended.
    ended: Notify,
}

#[derive(Default)]
struct Open {
    /// By their numbers: the oldest is the first.
    handshakes: BTreeMap<u64, Handshake>,
    /// How many each network has of them.
    counts: HashMap<Network, usize>,
    /// How many of each network wait for a place.
    waiting: HashMap<Network, usize>,
}

/// One who waits for a place, until it is dropped.
struct Waiting<'a> {
    crowd: &'a Crowd,
    network: Network,
}

struct Handshake {
    network: Network,
    since: Instant,
    leave: Arc<Notify>,
}

/// A place among them; free again when dropped.
pub(crate) struct Place {
    number: u64,
    crowd: Arc<Crowd>,
    leave: Arc<Notify>,
}

impl Crowd {
    pub(crate) fn of(most: usize) -> Arc<Crowd> {
        Arc::new(Crowd {
            most,
            open: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Waits for a place for whoever comes from this address.
    pub(crate) async fn enter(self: &Arc<Crowd>, address: IpAddr) -> Place {
        let network = Network::of(address);
        let _waiting = self.wait(network);
        loop {
            if let Some(place) = self.try_enter(network) {
                return place;
            }
            // Whoever may have the place that is free now need not be the one who is woken: he looks by himself.
            let _ = timeout(LOOK, self.ended.notified()).await;
        }
    }

    fn wait(&self, network: Network) -> Waiting<'_> {
        *self.open().waiting.entry(network).or_default() += 1;
        Waiting {
            crowd: self,
            network,
        }
    }

    /// A place, if there is one. If not, somebody is asked to make room.
    fn try_enter(self: &Arc<Crowd>, network: Network) -> Option<Place> {
        let mut open = self.open();
        let has_its_share = (self.most / 2).max(1) <= open.count(network);
        if has_its_share || self.most <= open.handshakes.len() {
            let of = match has_its_share {
                true => Some(network),
                false => open.greediest(),
            };
            open.make_room(of?);
            return None;
        }
        let free = self.most - open.handshakes.len();
        if open.stands_back(network, free) {
            return None;
        }
        let leave = Arc::new(Notify::new());
        let number = open
            .handshakes
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        let handshake = Handshake {
            network,
            since: Instant::now(),
            leave: Arc::clone(&leave),
        };
        open.handshakes.insert(number, handshake);
        *open.counts.entry(network).or_default() += 1;
        Some(Place {
            number,
            crowd: Arc::clone(self),
            leave,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }

    /// Whether the free places are for others who wait: for those of networks that have fewer of them.
    fn stands_back(&self, network: Network, free: usize) -> bool {
        let has = self.count(network);
        let fewer = |(of, waiting): (&Network, &usize)| match self.count(*of) < has {
            true => *waiting,
            false => 0,
        };
        let before: usize = self.waiting.iter().map(fewer).sum();
        free <= before
    }

    /// The network that has most of them; of those that have as many as others, the one that was there first.
    fn greediest(&self) -> Option<Network> {
        let most = self.counts.values().max()?;
        let mut networks = self.handshakes.values().map(|shaking| shaking.network);
        networks.find(|network| self.count(*network) == *most)
    }

    /// Whoever of a network has been under way longest, and long enough, is told to leave. One that was told and has not left
    /// is told again: then it is about to.
    fn make_room(&self, network: Network) {
        let mut handshakes = self.handshakes.values();
        let longest = handshakes.find(|handshake| handshake.network == network);
        if let Some(Handshake { since, leave, .. }) = longest
            && UNDISTURBED <= since.elapsed()
        {
            leave.notify_one();
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(Handshake { network, .. }) = self.handshakes.remove(&number) else {
            return;
        };
        one_less(&mut self.counts, network);
    }
}

/// No network is remembered that has nothing.
fn one_less(counts: &mut HashMap<Network, usize>, network: Network) {
    match counts.get_mut(&network) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            counts.remove(&network);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        one_less(&mut self.crowd.open().waiting, self.network);
    }
}

impl Place {
    /// Returns when another is to have this place.
    pub(crate) async fn is_needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.open().remove(self.number);
        self.crowd.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_makes_room_after_a_second_and_nobody_before() {
        let crowd = Crowd::of(2);
        let first = crowd.enter(address(1)).await;
        tokio::time::advance(Duration::from_millis(500)).await;
        let second = crowd.enter(address(2)).await;
        let newcomer = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.enter(address(3)).await }
        });
        let began = Instant::now();
        tokio::select! {
            () = second.is_needed() => panic!("the older one is to go"),
            () = first.is_needed() => {}
        }
        let waited = began.elapsed();
        let expected = Duration::from_millis(500)..Duration::from_millis(700);
        assert!(expected.contains(&waited), "{waited:?}");
        drop(first);
        let third = newcomer.await.expect("it does not panic");
        drop((second, third));
        assert!(crowd.open().handshakes.is_empty());
        assert!(crowd.open().counts.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_one_network_has_half_and_makes_room_for_itself_alone() {
        let crowd = Crowd::of(4);
        let other = crowd.enter(address(2)).await;
        let flood = [crowd.enter(address(1)).await, crowd.enter(address(1)).await];
        tokio::time::advance(Duration::from_secs(2)).await;
        // One more of it waits for one of its own, though a place is free and the other is the oldest.
        let more = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.enter(address(1)).await }
        });
        tokio::select! {
            () = other.is_needed() => panic!("it is another's flood"),
            () = flood[1].is_needed() => panic!("it is not the oldest of them"),
            () = flood[0].is_needed() => {}
        }
        // Whoever comes from elsewhere waits for nobody.
        let began = Instant::now();
        let another = crowd.enter(address(3)).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        // All places are taken: the oldest of those who have most of them makes room for who comes now.
        let newcomer = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.enter(address(4)).await }
        });
        drop(flood);
        let (more, newcomer) = (more.await, newcomer.await);
        assert!(more.is_ok() && newcomer.is_ok());
        drop((other, another));
    }

    #[tokio::test(start_paused = true)]
    async fn floods_from_two_networks_do_not_keep_a_third_out() {
        let crowd = Crowd::of(8);
        // Two floods, each with half of the places and many that wait for more; whoever is to go goes.
        for flood in [1, 2] {
            for _ in 0..200 {
                let crowd = Arc::clone(&crowd);
                tokio::spawn(async move {
                    loop {
                        let place = crowd.enter(address(flood)).await;
                        let _ = timeout(Duration::from_secs(10), place.is_needed()).await;
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        for _ in 0..20 {
            let began = Instant::now();
            let place = crowd.enter(address(3)).await;
            let waited = began.elapsed();
            assert!(waited <= UNDISTURBED + 2 * LOOK, "{waited:?}");
            drop(place);
        }
    }
}
