//! Everything that a client can hold, as one thing to the tests that only care for what is believed of it.

use std::pin::Pin;
use std::time::Duration;

use tenure::{Acquire, Client, Error, Guard, Holdable, State};

/// So many permits there are, and so many of them are wanted by each.
const PERMITS: (u64, u64) = (3, 2);

/// What is held, and what the next holder wants, who must wait for its end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// A lock, wanted in the same way.
    Exclusive,
    /// A lock, wanted shared.
    ExclusiveThenShared,
    /// A lock that is held shared, wanted exclusively.
    Shared,
    /// Permits of a semaphore, of which there are too few for both.
    Permits,
    /// Two locks at once, of which the next wants one beside another.
    Together,
    /// A leadership.
    Leadership,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Exclusive,
    Kind::ExclusiveThenShared,
    Kind::Shared,
    Kind::Permits,
    Kind::Together,
    Kind::Leadership,
];

/// A guard, whatever it is of.
pub(crate) trait Believed: Send + Sync {
    fn state(&self) -> State;
    fn remaining(&self) -> Duration;
    fn release(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
}

impl<W: Holdable> Believed for Guard<W> {
    fn state(&self) -> State {
        self.state()
    }

    fn remaining(&self) -> Duration {
        self.remaining()
    }

    fn release(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(Guard::release(*self))
    }
}

/// On what terms it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    pub(crate) wait: Duration,
}

pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Box<dyn Believed>, Error>> + Send>>;

fn asking<W: Holdable>(asked: Acquire<'static, W>, terms: Terms) -> Asking {
    let asked = asked.ttl(terms.ttl).wait(terms.wait).acquire();
    Box::pin(async move { Ok(Box::new(asked.await?) as Box<dyn Believed>) })
}

impl Kind {
    /// Asks for it as the first holder does.
    pub(crate) fn first(self, client: &Client, name: &str, terms: Terms) -> Asking {
        match self {
            Kind::Exclusive | Kind::ExclusiveThenShared => asking(client.lock(name), terms),
            Kind::Shared => asking(client.lock(name).shared(), terms),
            Kind::Permits => permits(client, name, terms),
            Kind::Together => together(client, name, ["a", "b"], terms),
            Kind::Leadership => asking(client.campaign(name, "first"), terms),
        }
    }

    /// Asks for it as the next holder does.
    pub(crate) fn next(self, client: &Client, name: &str, terms: Terms) -> Asking {
        match self {
            Kind::Exclusive | Kind::Shared => asking(client.lock(name), terms),
            Kind::ExclusiveThenShared => asking(client.lock(name).shared(), terms),
            Kind::Permits => permits(client, name, terms),
            Kind::Together => together(client, name, ["b", "c"], terms),
            Kind::Leadership => asking(client.campaign(name, "next"), terms),
        }
    }

    /// Whether somebody waits for it.
    pub(crate) async fn is_waited_for(self, client: &Client, name: &str) -> Result<bool, Error> {
        let waiting = match self {
            Kind::Exclusive | Kind::ExclusiveThenShared | Kind::Shared => {
                client.inspect_lock(name).await?.queue_length
            }
            Kind::Together => {
                let contended = format!("{name}/b");
                client.inspect_lock(&contended).await?.queue_length
            }
            Kind::Permits => client.inspect_semaphore(name).await?.queue_length,
            Kind::Leadership => client.election(name).await?.candidate_count,
        };
        Ok(waiting > 0)
    }
}

fn permits(client: &Client, name: &str, terms: Terms) -> Asking {
    let (limit, wanted) = PERMITS;
    asking(client.semaphore(name, limit).permits(wanted), terms)
}

fn together(client: &Client, name: &str, parts: [&str; 2], terms: Terms) -> Asking {
    let names = parts.map(|part| format!("{name}/{part}"));
    asking(client.locks_together(names), terms)
}
