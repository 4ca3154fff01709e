//! What a watch selects: resources by name, and by the beginning of their names.

use std::collections::BTreeSet;

use bytes::Bytes;
use tenure_state::{Collection, Resource, Scope, Selector, prefix_end};

use super::failure::Failure;
use super::rights::{Needed, Verbs};
use super::text;

/// At least one selector, and at most this many.
const MOST_SELECTORS: usize = 1_000;
const COLLECTIONS: &str = "`keys/`, `locks/`, `semaphores/`, `elections/` and `leases/`";

/// Selectors, so that one look tells whether a resource is selected, however many there are.
///
/// No prefix here begins with another, and no exact name begins with a prefix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Selection {
    prefixes: BTreeSet<Resource>,
    /// Where the names that begin so end, in the order of prefixes.
    ends: Vec<Option<Bytes>>,
    exact: BTreeSet<Resource>,
}

impl Selection {
    /// The selectors of a request.
    ///
    /// # Errors
    ///
    /// `invalid-request` for what selects nothing, and for too many; `invalid-name`.
    pub(super) fn of(prefixes: &[String], resources: &[String]) -> Result<Selection, Failure> {
        match prefixes.len() + resources.len() {
            1..=MOST_SELECTORS => {}
            n => {
                return Err(Failure::invalid(format!(
                    "there are {n} selectors; accepted are 1 to {MOST_SELECTORS}, as `prefix=keys/config/`"
                )));
            }
        }
        let prefixes = prefixes.iter().map(|text| resource(text, true));
        let resources = resources.iter().map(|text| resource(text, false));
        let mut selection = Selection {
            prefixes: BTreeSet::new(),
            ends: Vec::new(),
            exact: BTreeSet::new(),
        };
        // In order, a prefix comes before all that begin with it.
        for prefix in prefixes.collect::<Result<BTreeSet<_>, Failure>>()? {
            if !selection.is_under_prefix(&prefix) {
                selection.prefixes.insert(prefix);
            }
        }
        for exact in resources.collect::<Result<BTreeSet<_>, Failure>>()? {
            if !selection.is_under_prefix(&exact) {
                selection.exact.insert(exact);
            }
        }
        let ends = selection.prefixes.iter();
        selection.ends = ends.map(|prefix| prefix_end(&prefix.name)).collect();
        Ok(selection)
    }

    /// Whether a resource is selected.
    pub(super) fn selects(&self, resource: &Resource) -> bool {
        self.exact.contains(resource) || self.is_under_prefix(resource)
    }

    /// Of prefixes of which none begins with another, the greatest that is not greater than a name is the only one that
    /// the name may begin with.
    fn is_under_prefix(&self, resource: &Resource) -> bool {
        let nearest = self.prefixes.range(..=resource).next_back();
        nearest.is_some_and(|prefix| {
            prefix.collection == resource.collection && resource.name.starts_with(&prefix.name)
        })
    }

    /// The beginnings of names.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &Resource> {
        self.prefixes.iter()
    }

    /// The whole names.
    pub(super) fn exact(&self) -> impl Iterator<Item = &Resource> {
        self.exact.iter()
    }

    /// Verbs on everything that is selected.
    pub(super) fn needed(&self, verbs: Verbs) -> Needed<'_> {
        let all = self.prefixes.iter().zip(&self.ends);
        let prefixes = all.map(|(prefix, end)| Scope::Range {
            collection: prefix.collection,
            start: &prefix.name,
            end: end.as_deref(),
        });
        let exact = self.exact.iter();
        let exact = exact.map(|one| Scope::One(one.collection, &one.name));
        Needed::on_each(verbs, prefixes.chain(exact))
    }

    /// As those who wake waiters take them.
    pub(super) fn selectors(&self) -> Vec<Selector> {
        let prefixes = self.prefixes.iter().cloned().map(Selector::Prefix);
        let exact = self.exact.iter().cloned().map(Selector::Exact);
        prefixes.chain(exact).collect()
    }
}

/// A collection and a name, or the beginning of one.
fn resource(text: &str, is_prefix: bool) -> Result<Resource, Failure> {
    let unknown = || {
        Failure::invalid(format!(
            "selector {} begins with no collection; there are {COLLECTIONS}",
            text::shown(text)
        ))
    };
    let (collection, name) = text.split_once('/').ok_or_else(unknown)?;
    let collection = match collection {
        "keys" => Collection::Keys,
        "locks" => Collection::Locks,
        "semaphores" => Collection::Semaphores,
        "elections" => Collection::Elections,
        "leases" => Collection::Leases,
        _ => return Err(unknown()),
    };
    let name = match (is_prefix, collection) {
        (true, _) => text::prefix("prefix", name.to_owned())?,
        (false, Collection::Leases) => text::lease(name)?.to_string(),
        (
            false,
            Collection::Elections | Collection::Keys | Collection::Locks | Collection::Semaphores,
        ) => text::valid_name(name.to_owned())?,
    };
    Ok(Resource {
        collection,
        name: Bytes::from(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(prefixes: &[&str], resources: &[&str]) -> Result<Selection, Failure> {
        let owned = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        Selection::of(&owned(prefixes), &owned(resources))
    }

    fn named(collection: Collection, name: &'static str) -> Resource {
        Resource {
            collection,
            name: Bytes::from_static(name.as_bytes()),
        }
    }

    #[test]
    fn selectors_name_a_collection_and_what_is_in_it() {
        let check = |prefixes: &[&str], resources: &[&str], expected: &[Selector]| {
            let selection = selection(prefixes, resources).expect("accepted");
            assert_eq!(selection.selectors(), expected);
        };
        let prefix = |collection, name| Selector::Prefix(named(collection, name));
        let exact = |collection, name| Selector::Exact(named(collection, name));
        check(&["keys/"], &[], &[prefix(Collection::Keys, "")]);
        check(&["keys//a/"], &[], &[prefix(Collection::Keys, "/a/")]);
        check(
            &["locks/a", "locks/a"],
            &[],
            &[prefix(Collection::Locks, "a")],
        );
        check(
            &[],
            &["leases/3f9c2a7b5d1e8046"],
            &[exact(Collection::Leases, "3f9c2a7b5d1e8046")],
        );
        check(
            &["semaphores/s", "keys/a/b", "keys/a"],
            &["elections/e", "keys/ab", "keys/b"],
            &[
                prefix(Collection::Keys, "a"),
                prefix(Collection::Semaphores, "s"),
                exact(Collection::Elections, "e"),
                exact(Collection::Keys, "b"),
            ],
        );
    }

    #[test]
    fn what_is_selected_is_what_begins_so_or_is_named_so() {
        let selection = selection(
            &["keys/a/", "keys/a0", "keys/c", "locks/"],
            &["keys/a", "elections/e"],
        )
        .expect("accepted");
        let check = |collection, name, expected| {
            assert_eq!(
                selection.selects(&named(collection, name)),
                expected,
                "{name}"
            );
        };
        for name in ["a", "a/", "a/z", "a0", "a01", "c", "cz"] {
            check(Collection::Keys, name, true);
        }
        for name in ["", "a.", "a1", "b", "d", "aa"] {
            check(Collection::Keys, name, false);
        }
        check(Collection::Locks, "anything", true);
        check(Collection::Elections, "e", true);
        check(Collection::Elections, "ee", false);
        check(Collection::Semaphores, "a/z", false);
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        let check = |prefixes: &[&str], resources: &[&str], expected: &str| {
            let failure = selection(prefixes, resources).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        check(&[], &[], "there are 0 selectors");
        check(&["keys"], &[], "begins with no collection");
        check(&[""], &[], "begins with no collection");
        check(&["key/a"], &[], "begins with no collection");
        check(&["keys/a\n"], &[], "control character");
        check(&[], &["keys/"], "the name is empty");
        check(&[], &["leases/xyz"], "not the id of a lease");
        check(&["keys/"; 1001], &[], "there are 1001 selectors");
    }
}
