//! Whether calls of one register can be put in an order that explains their answers: Wing and Gong's search, with
//! Lowe's memory of what was tried, in the form of Horn and Kroening.
//!
//! Written here, because the crates at hand do not fit: `todc-utils` has no bound for a search that explodes and no
//! calls without an answer, and `porcupine-rs` brings a benchmark framework and threads with it. The bound counts
//! steps, not time, so that a judgement is the same on every machine.

use std::collections::BTreeSet;

/// A value of the register: none, or the number of one that was written.
pub(crate) type Value = Option<u32>;

/// What a call does to the register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// It was read.
    Read(Value),
    /// It was set.
    Write(Value),
    /// It was the first and was set to the second.
    Swap(Value, Value),
    /// It was not this one.
    Not(Value),
}

/// A call with the times between which it took effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) call: u64,
    /// Never, for one whose answer did not come.
    pub(crate) ret: u64,
    pub(crate) action: Action,
}

/// What the search found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    None,
    /// It was not found within the bound.
    GaveUp,
}

/// The state after an action; none where the action cannot happen.
fn step(state: Value, action: Action) -> Option<Value> {
    match action {
        Action::Read(value) => (state == value).then_some(state),
        Action::Write(value) => Some(value),
        Action::Swap(from, to) => (state == from).then_some(to),
        Action::Not(value) => (state != value).then_some(state),
    }
}

/// A list of calls and returns in the order of time, from which pairs can be taken out and put back.
struct Entries {
    /// The number of the operation and whether it is its return.
    entries: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    returns: Vec<usize>,
}

/// The end before the first and after the last entry.
const HEAD: usize = 0;

impl Entries {
    fn new(operations: &[Operation]) -> Entries {
        let mut times: Vec<(u64, bool, usize)> = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            times.push((operation.call, false, number));
            times.push((operation.ret, true, number));
        }
        // What happens at one moment overlaps: calls come first.
        times.sort_unstable();
        let count = times.len() + 1;
        let mut returns = vec![HEAD; operations.len()];
        let mut entries = vec![(usize::MAX, true)];
        for (_, is_return, number) in times {
            if is_return {
                returns[number] = entries.len();
            }
            entries.push((number, is_return));
        }
        Entries {
            entries,
            next: (0..count).map(|at| (at + 1) % count).collect(),
            previous: (0..count).map(|at| (at + count - 1) % count).collect(),
            returns,
        }
    }

    fn take_out(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn put_back(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = at;
        self.previous[after] = at;
    }

    /// Takes a call and its return out.
    fn lift(&mut self, at: usize) {
        let (number, _) = self.entries[at];
        self.take_out(at);
        self.take_out(self.returns[number]);
    }

    /// Puts them back, in the other order.
    fn unlift(&mut self, at: usize) {
        let (number, _) = self.entries[at];
        self.put_back(self.returns[number]);
        self.put_back(at);
    }
}

/// Searches for an order of the operations, from an empty register, within so many steps.
pub(crate) fn search(operations: &[Operation], most_steps: u64) -> Found {
    let mut entries = Entries::new(operations);
    let mut known = operations
        .iter()
        .filter(|operation| operation.ret != u64::MAX)
        .count();
    let mut placed = vec![0_u64; operations.len().div_ceil(64)];
    let mut state: Value = None;
    let mut tried: BTreeSet<(Vec<u64>, Value)> = BTreeSet::new();
    let mut stack: Vec<(usize, Value)> = Vec::new();
    let mut at = entries.next[HEAD];
    for _ in 0..most_steps {
        // What is not known to have been answered need not have happened.
        if known == 0 {
            return Found::Order;
        }
        let (number, is_return) = entries.entries[at];
        if !is_return && let Some(after) = step(state, operations[number].action) {
            placed[number / 64] |= 1 << (number % 64);
            if tried.insert((placed.clone(), after)) {
                stack.push((at, state));
                state = after;
                known -= usize::from(operations[number].ret != u64::MAX);
                entries.lift(at);
                at = entries.next[HEAD];
                continue;
            }
            placed[number / 64] &= !(1 << (number % 64));
        }
        if !is_return {
            at = entries.next[at];
            continue;
        }
        // A call that returned here must have been placed before: something placed earlier was wrong.
        let Some((last, before)) = stack.pop() else {
            return Found::None;
        };
        let (number, _) = entries.entries[last];
        placed[number / 64] &= !(1 << (number % 64));
        known += usize::from(operations[number].ret != u64::MAX);
        state = before;
        entries.unlift(last);
        at = entries.next[last];
    }
    Found::GaveUp
}
