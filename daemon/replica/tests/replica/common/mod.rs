//! A member without its threads, for tests.

use std::collections::BTreeSet;

use tenure_raft::{Body, Configuration, MemberId, MemberInfo, Message, Restored, Term};
use tenure_replica::{Core, CoreSettings, Input, PeerMessage};

pub(crate) const ME: MemberId = MemberId(1);

/// The first member of three, which has just been formed.
pub(crate) fn member_of_three(settings: CoreSettings) -> Core {
    let members = [1, 2, 3].map(MemberId);
    let info = |member: MemberId| MemberInfo {
        name: format!("n{}", member.0),
        ..MemberInfo::default()
    };
    let configuration = Configuration {
        voters: BTreeSet::from(members),
        info: members.map(|member| (member, info(member))).into(),
        ..Configuration::default()
    };
    let restored = Restored::genesis(configuration);
    Core::new(ME, settings, 1, restored).expect("it can start")
}

/// Another member says something to this one.
pub(crate) fn hear(core: &mut Core, from: MemberId, term: Term, body: Body) {
    let message = PeerMessage::Raft(Message {
        from,
        to: ME,
        term,
        body,
    });
    core.handle(Input::Peer { from, message });
}
