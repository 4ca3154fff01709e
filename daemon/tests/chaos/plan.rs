//! Which rounds are run: a few fixed ones that have every nemesis, or many drawn from a seed.

use fastrand::Rng;

use crate::common::machine::succeeds;
use crate::disks::Kind;
use crate::nemesis::{ALL, Need, Nemesis};
use crate::round::Plan;

/// How many nemeses a drawn round has.
const NEMESES: usize = 6;

/// What can be drawn on this machine.
pub(crate) struct Draw {
    seed: u64,
    met: Vec<Nemesis>,
    missing: Vec<(&'static str, Need)>,
    xfs: bool,
}

impl Draw {
    /// All nemeses, or those that are named; what is wrong with the names where one is of none.
    pub(crate) fn new(seed: u64, only: Option<&str>) -> Result<Draw, String> {
        let names: Option<Vec<&str>> = only.map(|names| names.split(',').map(str::trim).collect());
        for name in names.iter().flatten() {
            if !ALL.iter().any(|nemesis| nemesis.name == *name) {
                let known: Vec<&str> = ALL.iter().map(|nemesis| nemesis.name).collect();
                return Err(format!(
                    "there is no nemesis {name:?}; those that there are, separated by commas: {}",
                    known.join(", ")
                ));
            }
        }
        let wanted = |nemesis: &&Nemesis| {
            names
                .as_ref()
                .is_none_or(|names| names.contains(&nemesis.name))
        };
        let wanted = ALL.iter().filter(wanted).copied();
        let (met, missing): (Vec<Nemesis>, Vec<Nemesis>) =
            wanted.partition(|nemesis| nemesis.need.is_met());
        Ok(Draw {
            seed,
            met,
            missing: missing
                .iter()
                .map(|nemesis| (nemesis.name, nemesis.need))
                .collect(),
            xfs: succeeds("mkfs.xfs", &["-V"]),
        })
    }

    /// Whether none of them can be had here.
    pub(crate) fn has_nothing(&self) -> bool {
        self.met.is_empty()
    }

    /// The nemeses that cannot be had here.
    pub(crate) fn missing(&self) -> &[(&'static str, Need)] {
        &self.missing
    }

    fn kind(&self, xfs: bool) -> Kind {
        match xfs && self.xfs {
            true => Kind::Xfs,
            false => Kind::Ext4,
        }
    }

    /// A round of its own for each number.
    pub(crate) fn round(&self, number: u64) -> Plan {
        let seed = self.seed.wrapping_add(number);
        let mut rng = Rng::with_seed(seed);
        let large = rng.u8(..3) == 0 || self.fitting(3).next().is_none();
        let members = if large { 5 } else { 3 };
        let mut nemeses: Vec<Nemesis> = self.fitting(members).collect();
        rng.shuffle(&mut nemeses);
        nemeses.truncate(NEMESES);
        Plan {
            seed,
            members,
            kind: self.kind(rng.bool()),
            nemeses,
        }
    }

    fn fitting(&self, members: usize) -> impl Iterator<Item = Nemesis> {
        let fits = move |nemesis: &&Nemesis| nemesis.least_members <= members;
        self.met.iter().filter(fits).copied()
    }

    fn named(&self, names: &[&str]) -> Vec<Nemesis> {
        let met = self
            .met
            .iter()
            .filter(|nemesis| names.contains(&nemesis.name));
        met.copied().collect()
    }
}

/// The rounds of every day: each nemesis once, on both file systems, with three members and with five.
pub(crate) fn fixed(draw: &Draw) -> Vec<Plan> {
    const AT_FIVE: [&str; 4] = ["ring", "kill the leader", "halves", "stop a minority"];
    let five = draw.named(&AT_FIVE);
    let mut rest: Vec<Nemesis> = draw
        .fitting(3)
        .filter(|nemesis| !AT_FIVE.contains(&nemesis.name))
        .collect();
    Rng::with_seed(draw.seed).shuffle(&mut rest);
    let second = rest.split_off(rest.len() / 2);
    let plan = |number: u64, members: usize, kind: Kind, nemeses: Vec<Nemesis>| Plan {
        seed: draw.seed.wrapping_add(number),
        members,
        kind,
        nemeses,
    };
    let rounds = [
        plan(0, 3, draw.kind(false), rest),
        plan(1, 3, draw.kind(true), second),
        plan(2, 5, draw.kind(false), five),
    ];
    let with_faults = |plan: &Plan| !plan.nemeses.is_empty();
    rounds.into_iter().filter(with_faults).collect()
}

#[test]
fn a_nemesis_that_does_not_exist_is_named_with_those_that_do() {
    let error = |names: &str| Draw::new(1, Some(names)).err();
    for names in ["brigde", "bridge,kil all", "bridge,", ""] {
        let error = error(names).expect("such names are refused");
        let wrong = names.rsplit(',').next().unwrap_or_default();
        assert!(error.contains(&format!("{wrong:?}")), "{error}");
        assert!(error.contains("kill all, "), "{error}");
    }
    assert_eq!(error("kill all , stop all"), None);
}
