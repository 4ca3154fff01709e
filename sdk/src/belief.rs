//! For how long something may be believed to be held.
//!
//! Owns the local deadline of a lease or a hold and the state that follows from it. A belief is lost once: nothing that
//! arrives afterwards revives it. Whoever asks looks at the clock, so an answer is right also when no task has run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Deadline};
use crate::error::Loss;

/// The longest sleep of whoever waits for a loss: timers stand still while a machine is suspended, so the clock is
/// looked at this soon after it went on.
const LONGEST_NAP: Duration = Duration::from_millis(250);
const SHORTEST_NAP: Duration = Duration::from_millis(1);

/// What a holder may believe.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # let lock = client.lock("jobs/nightly").ttl(std::time::Duration::from_secs(1)).acquire().await?;
/// # client.revoke_lease(lock.lease_id()).await?;
/// use tenure::State;
///
/// let mut states = lock.watch();
/// while states.changed().await.is_ok() {
///     match *states.borrow_and_update() {
///         State::Held => println!("renewals get through again"),
///         State::InJeopardy => println!("{:?} left; nothing new is begun", lock.remaining()),
///         State::Lost(loss) => {
///             eprintln!("{loss}");
///             break;
///         }
///     }
/// }
/// # assert!(matches!(lock.state(), State::Lost(_)));
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It is held, and was confirmed lately.
    Held,
    /// It is held, but less than half of the TTL is left: renewals do not get through.
    InJeopardy,
    /// It may not be believed in any longer, for ever.
    Lost(Loss),
}

pub(crate) struct Belief {
    clock: Arc<dyn Clock>,
    ttl: Duration,
    until: Mutex<Deadline>,
    /// Changed only while `until` is locked, so that deadline and state agree.
    state: watch::Sender<State>,
    /// Cancelled once it is lost.
    over: CancellationToken,
}

impl Belief {
    pub(crate) fn new(clock: Arc<dyn Clock>, ttl: Duration, until: Deadline) -> Belief {
        let belief = Belief {
            clock,
            ttl,
            until: Mutex::new(until),
            state: watch::Sender::new(State::Held),
            over: CancellationToken::new(),
        };
        belief.look();
        belief
    }

    /// The state by the clock.
    pub(crate) fn look(&self) -> State {
        self.change(|_| ())
    }

    /// The cluster confirmed it until then. An answer that comes after the deadline changes nothing.
    pub(crate) fn extend(&self, later: Deadline) -> State {
        let now = self.clock.now();
        self.change(|until| *until = until.later(later, now))
    }

    /// It is over; the first reason stays.
    pub(crate) fn end(&self, loss: Loss) {
        self.look();
        let _until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        self.become_lost(loss);
    }

    /// What is left of it: zero once it is lost.
    pub(crate) fn remaining(&self) -> Duration {
        if let State::Lost(_) = self.look() {
            return Duration::ZERO;
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.remaining(self.clock.now())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Cancelled once it is lost; cancelling it ends no belief.
    pub(crate) fn token(&self) -> CancellationToken {
        self.over.child_token()
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) -> Loss {
        loop {
            if let Some(loss) = self.nearly_lost(Duration::ZERO).await {
                return loss;
            }
        }
    }

    /// Waits until it is lost, with the reason, or until no more than `reserve` is left.
    pub(crate) async fn nearly_lost(&self, reserve: Duration) -> Option<Loss> {
        let mut changes = self.watch();
        loop {
            if let State::Lost(loss) = self.look() {
                return Some(loss);
            }
            let left = self.remaining().saturating_sub(reserve);
            if left.is_zero() {
                return None;
            }
            let nap = left.clamp(SHORTEST_NAP, LONGEST_NAP);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Looks at the clock, then changes the deadline of what is not lost.
    fn change(&self, change: impl FnOnce(&mut Deadline)) -> State {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Lost(loss) = *self.state.borrow() {
            return State::Lost(loss);
        }
        if until.has_passed(self.clock.now()) {
            return self.become_lost(Loss::Deadline);
        }
        change(&mut until);
        let left = until.remaining(self.clock.now());
        if left.is_zero() {
            return self.become_lost(Loss::Deadline);
        }
        let state = if left < self.ttl / 2 {
            State::InJeopardy
        } else {
            State::Held
        };
        self.tell(state)
    }

    /// Called with the deadline locked.
    fn become_lost(&self, loss: Loss) -> State {
        let state = *self.state.borrow();
        match state {
            State::Lost(_) => state,
            State::Held | State::InJeopardy => self.tell(State::Lost(loss)),
        }
    }

    fn tell(&self, state: State) -> State {
        self.state.send_if_modified(|told| {
            let news = *told != state;
            *told = state;
            news
        });
        if let State::Lost(_) = state {
            self.over.cancel();
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    const TTL: Duration = Duration::from_secs(10);

    fn belief(clock: &Arc<TestClock>) -> Belief {
        let until = clock.now().believed_until(10_000);
        Belief::new(Arc::clone(clock) as Arc<dyn Clock>, TTL, until)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_after_the_deadline_revives_nothing() {
        let clock = Arc::new(TestClock::default());
        let belief = belief(&clock);
        let sent = clock.now();
        clock.suspend(TTL);
        // The member received the request in time and its answer speaks of a deadline far ahead.
        assert_eq!(
            belief.extend(sent.believed_until(60_000)),
            State::Lost(Loss::Deadline)
        );
        assert_eq!(belief.remaining(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_finds_its_belief_lost_as_soon_as_it_goes_on() {
        let clock = Arc::new(TestClock::default());
        let belief = belief(&clock);
        clock.suspend(TTL);
        let woken = tokio::time::Instant::now();
        assert_eq!(belief.lost().await, Loss::Deadline);
        assert_eq!(
            woken.elapsed(),
            Duration::ZERO,
            "no timer had to run for it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspension_during_the_wait_is_noticed_within_one_nap() {
        let clock = Arc::new(TestClock::default());
        let belief = Arc::new(belief(&clock));
        let waiting = tokio::spawn({
            let belief = Arc::clone(&belief);
            async move { belief.lost().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.suspend(TTL);
        let woken = tokio::time::Instant::now();
        assert_eq!(waiting.await.expect("it ends"), Loss::Deadline);
        assert!(woken.elapsed() <= LONGEST_NAP);
    }

    #[tokio::test(start_paused = true)]
    async fn jeopardy_comes_at_half_of_the_ttl_and_goes_with_a_renewal() {
        let clock = Arc::new(TestClock::default());
        let belief = belief(&clock);
        tokio::time::sleep(Duration::from_millis(4_700)).await;
        assert_eq!(belief.look(), State::Held);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(belief.look(), State::InJeopardy);
        assert_eq!(
            belief.extend(clock.now().believed_until(10_000)),
            State::Held
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_takes_nothing_away_and_the_first_loss_stays() {
        let clock = Arc::new(TestClock::default());
        let belief = belief(&clock);
        belief.extend(clock.now().believed_until(1_000));
        assert_eq!(belief.remaining(), Duration::from_millis(9_750));
        belief.end(Loss::Broken);
        belief.end(Loss::GivenUp);
        assert_eq!(belief.lost().await, Loss::Broken);
    }
}
