//! An ear for what others do to a hold: a revoked lease, a hold that an operator ended.
//!
//! Owns nothing that is believed: renewals decide that, and tell of the same, after a third of the TTL or so. What is heard
//! here is what the cluster has committed, and ends a command sooner; that nothing is heard means nothing.

use serde_json::Value;
use tenure::api::{Change, Event, Resource};
use tenure::{Client, Loss, Told, Watch};

/// A watch of one hold.
pub(super) struct Ear {
    watch: Watch,
    /// As the resources of watches are called.
    lease: String,
    /// Where only its holder listens; what is shared would wake all its holders at every change of one.
    thing: Option<String>,
    fence: u64,
    /// An error ends a watch: from then on nothing is heard.
    deaf: bool,
}

impl Ear {
    /// Listens for the end of a lease and, where it is given, of the hold with a fence on a thing.
    pub(super) fn for_the_end(
        client: &Client,
        lease: &str,
        thing: Option<String>,
        fence: u64,
    ) -> Ear {
        let lease = format!("leases/{lease}");
        let watching = client.watch_one(&lease);
        let watching = match &thing {
            Some(thing) => watching.and_one(thing),
            None => watching,
        };
        Ear {
            watch: watching.after(fence).begin(),
            lease,
            thing,
            fence,
            deaf: false,
        }
    }

    /// Waits until the cluster tells that the hold has ended; for ever, where it does not. Dropping the future loses
    /// nothing.
    pub(super) async fn hears(&mut self) -> Loss {
        while !self.deaf {
            let loss = match self.watch.next().await {
                Some(Ok(Told::Changes { events, .. })) => {
                    events.iter().find_map(|event| self.in_event(event))
                }
                Some(Ok(Told::Resync { state, .. })) => self.in_state(&state),
                Some(Err(_)) | None => {
                    self.deaf = true;
                    None
                }
            };
            if let Some(loss) = loss {
                return loss;
            }
        }
        std::future::pending().await
    }

    fn in_event(&self, event: &Event) -> Option<Loss> {
        match &event.change {
            Change::Ended { .. } if event.resource == self.lease => Some(Loss::LeaseEnded),
            Change::Released { fence, .. } | Change::Resigned { fence, .. }
                if self.thing.as_ref() == Some(&event.resource) && *fence == self.fence =>
            {
                Some(Loss::Broken)
            }
            _ => None,
        }
    }

    /// In a state that is told whole, what is not shown has ended.
    fn in_state(&self, state: &[Resource]) -> Option<Loss> {
        let shown = |name: &String| state.iter().find(|is| is.resource == *name);
        if shown(&self.lease).is_none() {
            return Some(Loss::LeaseEnded);
        }
        let thing = self.thing.as_ref()?;
        let holds = |holder: &Value| holder["fence"].as_u64() == Some(self.fence);
        let is_held = shown(thing).is_some_and(|is| {
            let holders = is.state["holders"].as_array();
            let mut holders = holders.into_iter().flatten();
            holders.any(holds) || holds(&is.state["leader"])
        });
        (!is_held).then_some(Loss::Broken)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ear(thing: Option<&str>) -> Ear {
        let client = Client::connect(["http://127.0.0.1:1"]).expect("it is a URL");
        Ear::for_the_end(&client, "3f9c2a7b5d1e8046", thing.map(str::to_owned), 121)
    }

    fn event(json: &Value) -> Event {
        serde_json::from_value(json.clone()).expect("it is an event")
    }

    #[test]
    fn the_end_of_the_lease_and_of_this_very_hold_are_heard_and_nothing_else() {
        let ear = ear(Some("locks/a"));
        let check = |json: Value, loss: Option<Loss>| {
            assert_eq!(ear.in_event(&event(&json)), loss, "{json}");
        };
        let ended = |lease: &str, reason: &str| {
            json!({"revision": 140, "type": "ended", "resource": format!("leases/{lease}"), "lease": lease,
                "name": "h:1", "reason": reason})
        };
        check(ended("3f9c2a7b5d1e8046", "revoked"), Some(Loss::LeaseEnded));
        check(ended("3f9c2a7b5d1e8046", "expired"), Some(Loss::LeaseEnded));
        check(ended("00000000000000aa", "revoked"), None);
        let released = |fence: u64, reason: &str| {
            json!({"revision": 140, "type": "released", "resource": "locks/a", "lock": "a", "owner": "",
                "lease": "3f9c2a7b5d1e8046", "fence": fence, "reason": reason})
        };
        check(released(121, "broken"), Some(Loss::Broken));
        check(released(99, "broken"), None);
        check(
            json!({"revision": 141, "type": "resigned", "resource": "elections/a", "election": "a",
                "candidate": "c", "lease": "3f9c2a7b5d1e8046", "fence": 121, "reason": "broken"}),
            None,
        );
    }

    #[test]
    fn what_a_whole_state_does_not_show_has_ended() {
        let is = |resource: &str, state: Value| Resource {
            resource: resource.into(),
            state,
        };
        let lease = || is("leases/3f9c2a7b5d1e8046", json!({}));
        let lock = |fence: u64| is("locks/a", json!({"holders": [{"fence": fence}]}));
        let election = is("elections/a", json!({"leader": {"fence": 121}}));
        let exclusive = ear(Some("locks/a"));
        assert_eq!(exclusive.in_state(&[lease(), lock(121)]), None);
        assert_eq!(
            exclusive.in_state(&[lease(), lock(122)]),
            Some(Loss::Broken)
        );
        assert_eq!(exclusive.in_state(&[lease()]), Some(Loss::Broken));
        assert_eq!(exclusive.in_state(&[lock(121)]), Some(Loss::LeaseEnded));
        assert_eq!(
            ear(Some("elections/a")).in_state(&[lease(), election]),
            None
        );
        assert_eq!(ear(None).in_state(&[lease()]), None);
        assert_eq!(ear(None).in_state(&[]), Some(Loss::LeaseEnded));
    }
}
