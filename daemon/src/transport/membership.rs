//! Configurations on the wire, and what is said of changing them.
//!
//! Owns the same promise as the codec, of which it is a part: what passes here keeps the invariants that
//! `Configuration` lists, and every text is bounded, since it stays in the log and is shown to people.

use tenure_raft::{Change, Configuration, MemberId, MemberInfo};
use tenure_replica::{AdminRequest, Introduction, KNOWN_STARTS, Operated, PeerMessage};

use super::codec::CodecError;
use super::wire;

/// Longest name, URL or sentence. A name has at most 1024 bytes, and so has a URL.
const TEXT_BYTES: usize = 4096;

pub(super) fn configuration_to_wire(configuration: &Configuration) -> wire::Configuration {
    let ids = |set: &std::collections::BTreeSet<MemberId>| set.iter().map(|id| id.0).collect();
    let promotion = |(id, replaces): (&MemberId, &Option<MemberId>)| wire::Promotion {
        id: id.0,
        replaces: replaces.map(|replaced| replaced.0),
    };
    wire::Configuration {
        voters: ids(&configuration.voters),
        outgoing: ids(&configuration.outgoing),
        learners: ids(&configuration.learners),
        info: configuration
            .info
            .iter()
            .map(|(id, info)| info_to_wire(*id, info))
            .collect(),
        promoting: configuration.promoting.iter().map(promotion).collect(),
        removed: ids(&configuration.removed),
    }
}

pub(super) fn configuration_from_wire(
    wire: wire::Configuration,
) -> Result<Configuration, CodecError> {
    let ids = |list: Vec<u64>| list.into_iter().map(MemberId).collect();
    let promotion =
        |promotion: wire::Promotion| (MemberId(promotion.id), promotion.replaces.map(MemberId));
    let configuration = Configuration {
        voters: ids(wire.voters),
        outgoing: ids(wire.outgoing),
        learners: ids(wire.learners),
        promoting: wire.promoting.into_iter().map(promotion).collect(),
        removed: ids(wire.removed),
        info: wire.info.into_iter().map(info_from_wire).collect(),
    };
    check_configuration(&configuration)?;
    Ok(configuration)
}

fn info_to_wire(id: MemberId, info: &MemberInfo) -> wire::MemberInfo {
    wire::MemberInfo {
        id: id.0,
        name: info.name.clone(),
        peer_url: info.peer_url.clone(),
        client_url: info.client_url.clone(),
        start: info.start,
    }
}

fn info_from_wire(wire: wire::MemberInfo) -> (MemberId, MemberInfo) {
    let info = MemberInfo {
        name: wire.name,
        peer_url: wire.peer_url,
        client_url: wire.client_url,
        start: wire.start,
    };
    (MemberId(wire.id), info)
}

/// The invariants that `Configuration` lists.
fn check_configuration(configuration: &Configuration) -> Result<(), CodecError> {
    if configuration.voters.is_empty() {
        return Err(CodecError::Meaning("configuration without voters"));
    }
    if configuration
        .learners
        .iter()
        .any(|learner| configuration.is_voter(*learner))
    {
        return Err(CodecError::Meaning(
            "configuration in which a member is voter and learner",
        ));
    }
    if !configuration.members().iter().eq(configuration.info.keys()) {
        return Err(CodecError::Meaning(
            "configuration whose members and their descriptions differ",
        ));
    }
    let learns = |id: &MemberId| configuration.learners.contains(id);
    if !configuration.promoting.keys().all(learns) {
        return Err(CodecError::Meaning(
            "configuration in which somebody is promoted who is no learner",
        ));
    }
    if configuration
        .removed
        .iter()
        .any(|gone| configuration.contains(*gone))
    {
        return Err(CodecError::Meaning(
            "configuration with a member that was removed",
        ));
    }
    Ok(())
}

pub(super) fn operate_to_wire(token: u64, operation: &AdminRequest) -> wire::Operate {
    match operation {
        AdminRequest::Transfer(to) => wire::Operate {
            token,
            kind: wire::OperationKind::Transfer as i32,
            member: to.map(|to| to.0),
            ..wire::Operate::default()
        },
        AdminRequest::Change(change) => change_to_wire(token, change),
        AdminRequest::Admit { change, follows } => wire::Operate {
            follows: Some(*follows),
            ..change_to_wire(token, change)
        },
    }
}

fn change_to_wire(token: u64, change: &Change) -> wire::Operate {
    use wire::OperationKind as Kind;
    let about = |kind: Kind, id: MemberId| wire::Operate {
        token,
        kind: kind as i32,
        member: Some(id.0),
        ..wire::Operate::default()
    };
    let with = |kind: Kind, id: MemberId, info: &MemberInfo| wire::Operate {
        info: Some(info_to_wire(id, info)),
        ..about(kind, id)
    };
    match change {
        Change::Add { id, info, promote } => wire::Operate {
            promote: *promote,
            ..with(Kind::Add, *id, info)
        },
        Change::Replace { old, id, info } => wire::Operate {
            replaces: Some(old.0),
            ..with(Kind::Replace, *id, info)
        },
        Change::Update { id, info } => with(Kind::Update, *id, info),
        Change::Promote(id) => about(Kind::Promote, *id),
        Change::Remove(id) => about(Kind::Remove, *id),
    }
}

pub(super) fn operate_from_wire(wire: wire::Operate) -> Result<PeerMessage, CodecError> {
    use wire::OperationKind as Kind;
    let kind = wire.kind();
    let token = wire.token;
    let member = wire.member.map(MemberId);
    let operation = match kind {
        Kind::Unspecified => return Err(CodecError::Meaning("operation of unknown kind")),
        Kind::Transfer => AdminRequest::Transfer(member),
        Kind::Promote => AdminRequest::Change(Change::Promote(named(member)?)),
        Kind::Remove => AdminRequest::Change(Change::Remove(named(member)?)),
        Kind::Add | Kind::Replace | Kind::Update => {
            let (id, info) = described(wire.info)?;
            let change = match kind {
                Kind::Update => Change::Update { id, info },
                Kind::Replace => Change::Replace {
                    old: named(wire.replaces.map(MemberId))?,
                    id,
                    info,
                },
                _ => Change::Add {
                    id,
                    info,
                    promote: wire.promote,
                },
            };
            match wire.follows.filter(|_| kind != Kind::Update) {
                Some(follows) => AdminRequest::Admit { change, follows },
                None => AdminRequest::Change(change),
            }
        }
    };
    Ok(PeerMessage::Operate { token, operation })
}

fn named(member: Option<MemberId>) -> Result<MemberId, CodecError> {
    member.ok_or(CodecError::Meaning("operation that names no member"))
}

fn described(info: Option<wire::MemberInfo>) -> Result<(MemberId, MemberInfo), CodecError> {
    let info = info.ok_or(CodecError::Meaning("operation without a description"))?;
    for text in [&info.name, &info.peer_url, &info.client_url] {
        check_text(text)?;
    }
    Ok(info_from_wire(info))
}

fn check_text(text: &str) -> Result<(), CodecError> {
    if text.len() > TEXT_BYTES || text.chars().any(char::is_control) {
        return Err(CodecError::Meaning(
            "text that is too long or not printable",
        ));
    }
    Ok(())
}

pub(super) fn operated_to_wire(token: u64, result: &Operated) -> wire::Operated {
    use wire::OperatedKind as Kind;
    let (kind, member, detail) = match result {
        Operated::Changed => (Kind::Changed, None, None),
        Operated::HandedTo(to) => (Kind::HandedTo, Some(*to), None),
        Operated::NoLeader => (Kind::NoLeader, None, None),
        Operated::Busy(detail) => (Kind::Busy, None, Some(detail)),
        Operated::Unsafe(detail) => (Kind::Unsafe, None, Some(detail)),
        Operated::NoSuchMember(id) => (Kind::NoSuchMember, Some(*id), None),
        Operated::Unknown => (Kind::Unknown, None, None),
    };
    wire::Operated {
        token,
        kind: kind as i32,
        member: member.map_or(0, |member| member.0),
        detail: detail.cloned().unwrap_or_default(),
    }
}

pub(super) fn operated_from_wire(wire: wire::Operated) -> Result<PeerMessage, CodecError> {
    use wire::OperatedKind as Kind;
    check_text(&wire.detail)?;
    let kind = wire.kind();
    let member = MemberId(wire.member);
    let result = match kind {
        Kind::Unspecified => return Err(CodecError::Meaning("answer of unknown kind")),
        Kind::Changed => Operated::Changed,
        Kind::HandedTo => Operated::HandedTo(member),
        Kind::NoLeader => Operated::NoLeader,
        Kind::Busy => Operated::Busy(wire.detail),
        Kind::Unsafe => Operated::Unsafe(wire.detail),
        Kind::NoSuchMember => Operated::NoSuchMember(member),
        Kind::Unknown => Operated::Unknown,
    };
    Ok(PeerMessage::Operated {
        token: wire.token,
        result,
    })
}

pub(super) fn introduction_to_wire(introduction: &Introduction) -> wire::Introduce {
    wire::Introduce {
        start: introduction.start,
        known: introduction.known.clone(),
        client_url: introduction.client_url.clone(),
        peer_url: introduction.peer_url.clone(),
    }
}

pub(super) fn introduction_from_wire(wire: wire::Introduce) -> Result<Introduction, CodecError> {
    for text in std::iter::once(&wire.client_url).chain(&wire.peer_url) {
        check_text(text)?;
    }
    if wire.known.len() > KNOWN_STARTS {
        return Err(CodecError::Meaning("introduction with too many starts"));
    }
    Ok(Introduction {
        start: wire.start,
        known: wire.known,
        client_url: wire.client_url,
        peer_url: wire.peer_url,
    })
}
