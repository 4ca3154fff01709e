//! The TTL of a lease at each of its calls: as it was granted, or as somebody changed it.
//!
//! A change makes no revision, so that only calls tell of it; one that is unknown may or may not have come, and when.

use crate::record::{Ask, Call, Left, Moment, Told};

/// The TTLs that a lease may have.
pub(crate) struct Ttls<'a> {
    granted_ms: u64,
    changes: Vec<&'a Call>,
}

impl<'a> Ttls<'a> {
    /// Of a lease with this TTL, on which these calls were made.
    pub(crate) fn of(granted_ms: u64, calls: &[&'a Call]) -> Ttls<'a> {
        let may_count = |call: &&&Call| {
            matches!(
                (&call.ask, &call.told),
                (Ask::Change { .. }, Told::Renewed { .. } | Told::Unknown)
            )
        };
        Ttls {
            granted_ms,
            changes: calls.iter().filter(may_count).copied().collect(),
        }
    }

    /// All that may be in force when a call is decided.
    pub(crate) fn at(&self, call: &Call) -> Vec<u64> {
        if let (Ask::Change { ttl_ms, .. }, Told::Renewed { .. }) = (&call.ask, &call.told) {
            return vec![*ttl_ms];
        }
        let settings = self.settings().filter(|(asked, done, _)| {
            let is_replaced = self.changes.iter().any(|later| {
                matches!(later.told, Told::Renewed { .. })
                    && *done < later.call
                    && later.ret < call.call
            });
            *asked <= call.ret && !is_replaced
        });
        settings.map(|(.., ttl_ms)| ttl_ms).collect()
    }

    /// Each TTL, when it was asked for, and when it was known to be in force: never for one of which nobody knows.
    fn settings(&self) -> impl Iterator<Item = (Moment, Moment, u64)> {
        let granted = (Moment::default(), Moment::default(), self.granted_ms);
        let changed = self.changes.iter().filter_map(|call| {
            let done = match call.told {
                Told::Renewed { .. } => call.ret,
                _ => Moment::NEVER,
            };
            match &call.ask {
                Ask::Change { ttl_ms, .. } => Some((call.call, done, *ttl_ms)),
                _ => None,
            }
        });
        std::iter::once(granted).chain(changed)
    }

    /// The longest that it ever may have.
    pub(crate) fn longest(&self) -> u64 {
        self.settings()
            .map(|(.., ttl_ms)| ttl_ms)
            .max()
            .unwrap_or_default()
    }

    /// How long it surely has after a call that kept it alive.
    pub(crate) fn least_ms(&self, call: &Call) -> u64 {
        let least = self.at(call).into_iter().min().unwrap_or_default();
        least.max(remaining_ms(call))
    }

    /// How long it has at most after such a call, unless an earlier one gave it more.
    pub(crate) fn most_ms(&self, call: &Call) -> u64 {
        let most = self.at(call).into_iter().max().unwrap_or_default();
        most.max(remaining_ms(call))
    }
}

/// How long it has, where an entry that renewed it says so.
pub(crate) fn left(call: &Call) -> Option<Left> {
    match &call.told {
        Told::Renewed { left, .. } => *left,
        _ => None,
    }
}

fn remaining_ms(call: &Call) -> u64 {
    left(call).map_or(0, |left| left.remaining_ms)
}
