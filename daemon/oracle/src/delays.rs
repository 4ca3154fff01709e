//! Times in which nobody is granted what somebody held: after the lease of a hold with a lock delay ran out, but for
//! leases of the same name; and after a break, until the lease of the broken holder is due as it stood, for it may
//! believe until then.
//!
//! Judges the breaks themselves too. How long a delay lasted is judged by real time, which is not less than that of the
//! cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::Judged;
use crate::askings::Askings;
use crate::breaks::{self, breakers, is_broken};
use crate::history::History;
use crate::leases::{keeps, lease_of};
use crate::made::Made;
use crate::record::{Ask, Call, Event, Moment, Recording, Revision, Told};
use crate::standing::{begins, ends};
use crate::ttls::Ttls;

/// A time in which a name is granted to nobody, or to leases of one name.
struct Delay {
    /// It lasts for so long after this moment, at least.
    from: Moment,
    ms: u64,
    /// Whom it lets through; nobody where it is empty.
    lease_name: String,
    /// What began it.
    since: String,
}

/// Grants that were made ahead of the queue because a delay let them through: when, and of what.
pub(crate) type Admitted<'a> = BTreeSet<(Revision, &'a str)>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    breaks::check(recording, history)?;
    walk(recording, history).map(|(judged, _)| judged)
}

/// The grants that a delay may have let through.
pub(crate) fn admitted<'a>(recording: &Recording, history: &'a History) -> Admitted<'a> {
    // Where a delay is found to be wrong, that is told by its own checker.
    walk(recording, history).map_or_else(|_| Admitted::new(), |(_, admitted)| admitted)
}

fn walk<'a>(recording: &Recording, history: &'a History) -> Result<(u64, Admitted<'a>), String> {
    let around = Around::of(recording, history);
    let mut delays: BTreeMap<&str, Vec<Delay>> = BTreeMap::new();
    let (mut judged, mut admitted) = (0, Admitted::new());
    for event in history.events() {
        if ends(event) {
            let begun = around.delay(event);
            delays.entry(&event.resource).or_default().extend(begun);
        } else if begins(event) {
            // A grant ends the delay: whoever else has room is granted it too.
            for delay in delays.remove(event.resource.as_str()).unwrap_or_default() {
                judged += 1;
                let name = around.lease_name(event);
                if !name.is_empty() && name == delay.lease_name {
                    admitted.insert((event.revision, event.resource.as_str()));
                } else if around
                    .made
                    .is_too_soon(delay.from, delay.ms, event.revision, history)
                {
                    return Err(format!(
                        "granted {} us after what is followed by {} ms of delay for all but leases named {:?}, {}: {event:?}",
                        history.observed(event.revision).since(delay.from) / 1000,
                        delay.ms,
                        delay.lease_name,
                        delay.since
                    ));
                }
            }
        }
    }
    Ok((judged, admitted))
}

/// What delays depend on.
struct Around<'a> {
    recording: &'a Recording,
    history: &'a History,
    askings: Askings<'a>,
    made: Made,
    /// The TTL and the name of each lease.
    leases: BTreeMap<&'a str, (u64, &'a str)>,
    /// What was asked of each lease.
    calls: BTreeMap<&'a str, Vec<&'a Call>>,
}

impl<'a> Around<'a> {
    fn of(recording: &'a Recording, history: &'a History) -> Around<'a> {
        let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in &recording.calls {
            if let Some(lease) = lease_of(call) {
                calls.entry(lease).or_default().push(call);
            }
        }
        let granted = history.events().iter();
        let granted = granted.filter(|event| event.kind == "granted");
        let life = |event: &'a Event| {
            let ttl_ms = event.number("ttl_ms").unwrap_or_default();
            (event.text("lease"), (ttl_ms, event.text("name")))
        };
        Around {
            recording,
            history,
            askings: Askings::of(recording),
            made: Made::of(recording),
            leases: granted.map(life).collect(),
            calls,
        }
    }

    fn lease_name(&self, event: &Event) -> &'a str {
        let lease = self.leases.get(event.text("lease"));
        lease.map_or("", |(_, name)| name)
    }

    /// The delay that follows the end of a hold.
    fn delay(&self, event: &Event) -> Option<Delay> {
        if is_broken(event) {
            return self.after_break(event);
        }
        let mut at = self.history.at(event.revision).iter();
        let ran_out = at.any(|end| {
            end.kind == "ended"
                && end.text("reason") == "expired"
                && end.text("lease") == event.text("lease")
        });
        let ms = self.askings.lock_delay_ms(event);
        (ran_out && 0 < ms).then(|| Delay {
            from: self.made.not_before(event.revision),
            ms,
            lease_name: self.lease_name(event).to_owned(),
            since: format!("{event:?}"),
        })
    }

    fn after_break(&self, event: &Event) -> Option<Delay> {
        let accepts = |call: &&Call| matches!(call.ask, Ask::Break { now: true, .. });
        let calls = breakers(self.recording, event);
        if calls.is_empty() || calls.iter().any(accepts) {
            return None;
        }
        let lease = event.text("lease");
        let (ttl_ms, _) = self.leases.get(lease)?;
        let of_lease = self.calls.get(lease)?;
        let ttls = Ttls::of(*ttl_ms, of_lease);
        // Whatever answers with an earlier state was decided before the break.
        let kept = of_lease.iter().filter(|call| keeps(call));
        let before = kept.filter(|call| told_at(&call.told).is_some_and(|at| at < event.revision));
        let due = before.map(|call| (call.call, ttls.least_ms(call)));
        let (from, ms) = due.max_by_key(|(from, ms)| from.plus_ms(*ms))?;
        Some(Delay {
            from,
            ms,
            lease_name: String::new(),
            since: format!("{event:?}"),
        })
    }
}

/// The state that an answer to whoever keeps a lease alive reflects.
fn told_at(told: &Told) -> Option<Revision> {
    match told {
        Told::Granted { revision, .. }
        | Told::Renewed { revision, .. }
        | Told::Held { revision, .. }
        | Told::HeldAll { revision, .. }
        | Told::Queued { revision, .. } => Some(*revision),
        _ => None,
    }
}
