//! Bugs on purpose: each is planted in the production code at the place where the real one would be, and is dead unless
//! a test build asks for it by name.
//!
//! Owns the list of them and which one is active in the present thread. Without the feature `planted` there is none:
//! [`mutated`] is `false` at compile time. Never depends on anything of ours, and never decides what a bug does: that
//! stands where [`mutated`] is asked.

mod list;

pub use list::Mutant;

/// Whether this bug is planted in the present thread.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn mutated(_: Mutant) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use planted::{mutated, with};

#[cfg(feature = "planted")]
mod planted {
    use std::cell::Cell;

    use crate::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this bug is planted in the present thread.
    pub fn mutated(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    /// Runs `work` with a bug planted in this thread, and in no other.
    pub fn with<T>(mutant: Mutant, work: impl FnOnce() -> T) -> T {
        let before = ACTIVE.replace(Some(mutant));
        let _restore = Restore(before);
        work()
    }

    /// The bug is gone when the work is done, however it ended.
    struct Restore(Option<Mutant>);

    impl Drop for Restore {
        fn drop(&mut self) {
            ACTIVE.set(self.0);
        }
    }
}

#[cfg(all(test, feature = "planted"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_planted_in_one_thread_while_its_work_lasts() {
        let (one, other) = (Mutant::ALL[0], Mutant::ALL[1]);
        with(one, || {
            assert!(mutated(one) && !mutated(other));
            let elsewhere = std::thread::spawn(move || mutated(one));
            assert!(!elsewhere.join().expect("it does not panic"));
        });
        assert!(!mutated(one));
    }

    #[test]
    fn names_lead_back_to_their_bugs() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::named(mutant.name()), Some(*mutant));
            assert!(!mutant.bug().is_empty());
        }
    }
}
