//! What locks, permits and leaderships have in common for a command that runs under one.

use std::time::Duration;

use tenure::{Error, Leadership, Lock, Permits, State};
use tokio::sync::watch;

/// A guard of the client.
pub(crate) trait Hold {
    fn fence(&self) -> u64;
    fn state(&self) -> State;
    /// How long it may still be believed in.
    fn remaining(&self) -> Duration;
    fn changes(&self) -> watch::Receiver<State>;
    /// Gives it up, with certainty.
    async fn give_up(self) -> Result<(), Error>;
}

macro_rules! hold {
    ($guard:ty, $give_up:ident) => {
        impl Hold for $guard {
            fn fence(&self) -> u64 {
                self.fence()
            }
            fn state(&self) -> State {
                self.state()
            }
            fn remaining(&self) -> Duration {
                self.remaining()
            }
            fn changes(&self) -> watch::Receiver<State> {
                self.watch()
            }
            async fn give_up(self) -> Result<(), Error> {
                self.$give_up().await
            }
        }
    };
}

hold!(Lock, release);
hold!(Permits, release);
hold!(Leadership, resign);
