//! How large requests are, near enough to bound what waits and what goes into one entry.
//!
//! Owns an estimate: what a request carries of its caller's, and a flat share for the rest. Encoding it only to know its
//! length would cost as much as encoding it for the log.

use tenure_state::{
    AccessChange, Acquire, Claim, Command, Condition, Field, NewLease, Operation, Request,
    Transaction,
};

/// For numbers, tags and lengths.
const OVERHEAD: usize = 64;

/// About as many bytes as the encoded request has.
pub(crate) fn request_size(request: &Request) -> usize {
    let idempotency = request
        .idempotency
        .as_ref()
        .map_or(0, |key| key.identity.len() + key.key.len());
    let principal = request
        .principal
        .identity()
        .map_or(0, |name| name.len() + 16);
    OVERHEAD + idempotency + principal + command_size(&request.command)
}

fn command_size(command: &Command) -> usize {
    match command {
        Command::GrantLease(new) => lease_size(new),
        Command::RevokeLease { .. } => 0,
        Command::Acquire(acquire) => acquire_size(acquire),
        Command::Release(release) => release.name.len() + release.owner.len(),
        Command::Transaction(transaction) => transaction_size(transaction),
        Command::ChangeLease { .. } | Command::Compact { .. } | Command::RaiseVersion { .. } => 0,
        Command::ChangeLimits(changes) => changes.keys().map(|name| name.len() + 16).sum(),
        Command::ChangeAccess(change) => access_size(change),
        Command::Break(broken) => {
            let owner = broken.holder.as_ref().map_or(0, |(_, owner)| owner.len());
            broken.name.len() + owner
        }
        Command::Proclaim(proclaim) => {
            proclaim.name.len() + proclaim.candidate.len() + proclaim.value.len()
        }
        Command::HandOver(hand_over) => {
            hand_over.name.len() + hand_over.candidate.len() + hand_over.to.len()
        }
    }
}

fn access_size(change: &AccessChange) -> usize {
    match change {
        AccessChange::PutRole { name, grants } => {
            let grants = grants.iter();
            name.len() + grants.map(|grant| grant.resource.len() + 32).sum::<usize>()
        }
        AccessChange::PutIdentity { name, identity } => {
            let roles: usize = identity.roles.iter().map(|role| role.len() + 8).sum();
            name.len() + roles + identity.certificate.as_ref().map_or(0, String::len) + 32
        }
        AccessChange::DeleteRole { name } | AccessChange::DeleteIdentity { name } => name.len(),
        AccessChange::CreateToken { identity, .. } => identity.len() + 64,
        AccessChange::DeleteToken { .. } | AccessChange::Enable { .. } => 0,
    }
}

fn lease_size(new: &NewLease) -> usize {
    new.name.len() + labels_size(&new.metadata)
}

fn labels_size(labels: &std::collections::BTreeMap<String, String>) -> usize {
    labels
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum()
}

fn acquire_size(acquire: &Acquire) -> usize {
    let claim = match &acquire.claim {
        Claim::Lease(_) => 0,
        Claim::Grant(new) => lease_size(new),
    };
    let names: usize = acquire
        .wanted
        .iter()
        .map(|wanted| wanted.name.len() + 16)
        .sum();
    claim + names + acquire.owner.len() + acquire.value.len() + labels_size(&acquire.metadata)
}

fn transaction_size(transaction: &Transaction) -> usize {
    let conditions: usize = transaction.conditions.iter().map(condition_size).sum();
    let operations: usize = transaction
        .then
        .iter()
        .chain(&transaction.otherwise)
        .map(operation_size)
        .sum();
    let guard = transaction
        .guard
        .as_ref()
        .map_or(0, |guard| guard.name.len());
    conditions + operations + guard
}

fn condition_size(condition: &Condition) -> usize {
    const FLAT: usize = 16;
    FLAT + match condition {
        Condition::Key {
            key,
            field: Field::Value(value),
            ..
        } => key.len() + value.len(),
        Condition::Key { key, .. } => key.len(),
        Condition::Held(guard) => guard.name.len(),
        Condition::LeaseLive(_) => 0,
    }
}

fn operation_size(operation: &Operation) -> usize {
    const FLAT: usize = 16;
    FLAT + match operation {
        Operation::Put(put) => {
            put.key.len() + put.value.len() + put.content_type.as_ref().map_or(0, String::len)
        }
        Operation::Delete { key } | Operation::Get { key } => key.len(),
        Operation::DeleteRange { start, end } => {
            start.len() + end.as_ref().map_or(0, bytes::Bytes::len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tenure_state::{Origin, Put, encode_request};

    #[test]
    fn the_estimate_is_not_far_below_the_encoded_length() {
        for (key, value) in [(1, 0), (1024, 10), (10, 1 << 20)] {
            let put = Put {
                key: vec![b'k'; key].into(),
                value: vec![b'v'; value].into(),
                content_type: Some("text/plain".to_owned()),
                lease: None,
                refuse_other_lease: false,
            };
            let transaction = Transaction {
                conditions: vec![Condition::Key {
                    key: Bytes::from_static(b"k"),
                    field: Field::Version(3),
                    compare: tenure_state::Compare::Equal,
                }],
                then: vec![Operation::Put(put)],
                ..Transaction::default()
            };
            let request = Request {
                origin: Origin {
                    member: u64::MAX,
                    token: u64::MAX,
                },
                principal: tenure_state::Principal::anonymous(),
                idempotency: None,
                command: Command::Transaction(transaction),
            };
            let (estimate, encoded) = (request_size(&request), encode_request(&request).len());
            assert!(
                encoded <= estimate + 64 && estimate <= encoded + 256,
                "{estimate} for {encoded}"
            );
        }
    }
}
