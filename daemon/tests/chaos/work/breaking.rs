//! Operators who end what somebody else holds: by the fence or by the holder too, in haste or with the patience that the
//! holder's belief asks for, and now and then when it is over.

use tenure_oracle::{Ask, Told};

use super::Worker;

/// Looks who holds it, and ends the hold of one of them.
pub(super) fn look_and_end(worker: &mut Worker<'_>, resource: &str) {
    let looked = worker.caller.ask(Ask::Holders {
        resource: resource.to_owned(),
    });
    let Told::Holders { holders, .. } = looked.told else {
        return worker.breathe(&looked.told);
    };
    if holders.is_empty() {
        return;
    }
    let one = worker.rng.usize(..holders.len());
    let Some((lease, owner, fence)) = holders.into_iter().nth(one) else {
        return;
    };
    let holder = worker.rng.bool().then_some((lease, owner));
    end(worker, resource, fence, holder);
}

/// Ends the holds with that fence, or the one that is named, and now and then tries it again.
pub(super) fn end(
    worker: &mut Worker<'_>,
    resource: &str,
    fence: u64,
    holder: Option<(String, String)>,
) {
    let ask = Ask::Break {
        resource: resource.to_owned(),
        fence,
        holder,
        now: worker.rng.u8(..3) == 0,
    };
    let told = worker.caller.ask(ask.clone()).told;
    worker.breathe(&told);
    if worker.rng.u8(..4) == 0 {
        worker.caller.ask(ask);
    }
}
