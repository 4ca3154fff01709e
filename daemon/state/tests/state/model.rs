//! The state against a model that is simple enough to be believed.

use std::collections::BTreeMap;

use crate::naive::{Model, RECORDS, RETENTION_MS, as_repeated, with_root};
use crate::support::{ROOT_TOKEN, arrange, entries, furnish, keys_at};
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_the_model(
        mut entries in vec((entries(1), any::<Option<prop::sample::Index>>()), 1..50),
        guarded in any::<bool>(),
    ) {
        let limits = Limits {
            idempotency_retention_ms: RETENTION_MS,
            idempotency_records: RECORDS as u64,
            ..Limits::default()
        };
        let root = guarded.then_some(RootToken { id: ROOT_TOKEN, hash: [7; 32] });
        let mut state = State::genesis(Genesis { limits, root, ..Genesis::default() });
        let mut model = Model { revision: 1, ..Model::default() };
        if guarded {
            model.access = with_root(ROOT_TOKEN);
            entries.insert(0, ((0, furnish()), None));
        }
        let (mut clock, mut sent) = (0, Vec::new());
        let mut first: BTreeMap<(String, String, u128), Outcome> = BTreeMap::new();
        let mut then: Vec<(Revision, Vec<KeyEntry>)> = Vec::new();
        for ((advance, mut batch), repeat) in entries {
            clock += advance;
            // Limits change what is refused; the model knows no quota but one.
            batch.requests.retain(|request| !matches!(request.command, Command::ChangeLimits(_)));
            arrange(&state, &mut batch, &repeat, &mut sent);
            let applied = state.apply(Clock(clock), &batch);
            let said: Vec<(bool, bool)> = applied.outcomes.iter().map(|decision| (decision.outcome.is_ok(), decision.replayed)).collect();
            prop_assert_eq!(said, model.apply(clock, &batch), "{:?}", batch);
            for (request, decision) in batch.requests.iter().zip(&applied.outcomes[batch.renewals.len()..]) {
                let Some(key) = &request.idempotency else { continue };
                // Whoever may not know is told so, which changes nothing that was decided.
                if matches!(decision.outcome, Err(Refusal::Denied(_))) { continue }
                let name = (key.identity.clone(), key.key.clone(), key.digest);
                match (decision.replayed, first.get(&name).and_then(|first| as_repeated(first, state.clock()))) {
                    (false, _) => { first.insert(name, decision.outcome.clone()); }
                    (true, Some(told)) if !matches!(request.command, Command::Acquire(_) | Command::GrantLease(_)) => {
                        prop_assert_eq!(&told, &decision.outcome);
                    }
                    (true, _) => {}
                }
            }
            model.check(&state)?;
            then.push((state.revision(), model.keys.clone()));
        }
        prop_assert_eq!(state.compact_revision().0, model.target);
        for (revision, keys) in then {
            let expected = match revision < state.compact_revision() {
                true => Err(ReadError::Compacted { compact_revision: state.compact_revision() }),
                false => Ok(keys),
            };
            prop_assert_eq!(keys_at(&state, revision), expected);
        }
    }
}
