//! The list. What each bug breaks, and whose bug it was where somebody had it.

macro_rules! mutants {
    ($($(#[doc = $bug:literal])+ $name:ident,)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Mutant {
            $($(#[doc = $bug])+ $name,)+
        }

        impl Mutant {
            /// All of them, in the order of this list.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)+];

            /// Its name, as on the command line of the simulator.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutant::$name => stringify!($name),)+
                }
            }

            /// What is wrong with it.
            pub fn bug(self) -> &'static str {
                match self {
                    $(Mutant::$name => concat!($($bug,)+).trim_start(),)+
                }
            }
        }
    };
}

mutants! {
    // Durability and acknowledgement.
    /// A follower acknowledges what it received, not what is on its disk (yugabyte #32875).
    AckReceived,
    /// An acknowledgement waits for writes under way, not for the one that is being gathered (tigerbeetle #768).
    AckForgetsGathered,
    /// A vote is spoken of before it is on disk (tikv #994, dragonboat #201).
    VoteUnsynced,
    /// A candidate asks for votes before its term and its own vote are on disk (tigerbeetle #650).
    CampaignUnsynced,
    /// A leader counts its own log before it is on disk (openraft a9f696a9, etcd #14370).
    LeaderCountsUnwritten,
    /// Entries are applied that are committed and not yet on this member's disk (etcd #14370).
    HandsOutUnwritten,
    /// Term and vote are not written where entries are written with them (openraft's io ordering, Curvine #1368).
    HardStateLostBesideEntries,
    /// A vote is forgotten when its member steps down within the term (redpanda #19).
    VoteForgotten,
    /// The completion of a write raises the durable index over entries that a later write replaces (etcd raft, the test
    /// `async_storage_writes_append_aba_race`).
    AbaCompletion,
    /// A conflicting tail is removed from memory and not from disk (qdrant #1329).
    TruncationUnwritten,
    /// What waited for a write is said though the term has moved on.
    StaleHeldSpoken,
    /// Of two writes that are merged, the later one's term and vote are lost.
    MergedVoteLost,

    // Log matching, truncation, commit.
    /// An entry of an earlier term is committed by counting (Raft figure 8; logcabin #44, canonical/raft #220).
    OldTermCommitted,
    /// A follower commits up to the leader's commit, beyond what the message proved (scylladb #9965, copycat #265).
    FollowerCommitsUnproved,
    /// A heartbeat carries a commit beyond what its receiver is known to have (camunda #30354).
    HeartbeatCommitsUnmatched,
    /// Entries that are there already are removed and written anew (openraft 9540c904).
    EqualEntriesRewritten,
    /// An entry that is not there, or is compacted, matches (etcd raft #31).
    MissingEntryMatches,
    /// A late rejection lowers the next index to the match index (etcd raft #148, raft-rs #555).
    NextBelowMatch,
    /// An acknowledgement of an earlier term moves progress in this one (openraft cecb5de8).
    StaleAckCounted,
    /// The answer to a heartbeat of an earlier term confirms rounds of this one (openraft fbbf37b1).
    StaleRoundCounted,
    /// The index that a quorum has is looked up in a list that is not sorted (openraft #1802).
    QuorumUnsorted,
    /// One less than a majority commits (hashicorp 163a55f).
    MajorityTooSmall,
    /// One less than a majority elects.
    ElectionByHalf,
    /// Logs are compared by term and by index apart, so that neither of two may be up to date (openraft a48a3282).
    LogsComparedApart,
    /// A vote is granted whatever the candidate's log is (Raft §5.4.1).
    VoteIgnoresLog,
    /// Only the first few committed entries of a turn are applied, and the rest is taken for applied (etcd raft 8ecce32).
    CommittedSkipped,
    /// What counts as uncommitted never falls, until every proposal is refused (etcd raft a370b6f).
    UncommittedNeverFalls,
    /// The window of what is in flight is not freed (etcd raft #54).
    WindowNeverFreed,
    /// A leader sends the same place again and never one that the follower's log agrees with (yugabyte #8879).
    ProbeNeverFallsBack,
    /// A follower acknowledges all of its log, not what the message proved.
    AckBeyondMatch,
    /// An acknowledgement that was lost is not repeated when the leader asks again.
    LostAckNotRepeated,

    // Snapshots and restart.
    /// A follower appends to its log while a snapshot is being installed (openraft eed681d5).
    AppendDuringInstall,
    /// A member campaigns while a snapshot is being installed (etcd #12163).
    CampaignDuringInstall,
    /// A restart between the installation of a snapshot and the reset of the log keeps the log (openraft 674e78aa).
    RestartKeepsLog,
    /// The log on disk is not reset behind an installed snapshot (tikv #12618).
    ResetUnwritten,
    /// A checkpoint names an earlier term than that of its last entry (tikv #10225).
    CheckpointTermOld,
    /// A checkpoint's position is one behind its rows (etcd #13766).
    AppliedApartFromData,
    /// A probe that got no answer is never sent again (etcd #10308).
    ProbeNotResumed,
    /// A member that has caught up stays in the state of one that needs a snapshot (etcd raft d87942f).
    StuckInSnapshot,
    /// A leader whose log is compacted to its end sends no snapshot (openraft #1828).
    PurgedLogSilent,
    /// The log is compacted past where a snapshot on its way connects.
    CompactsPastTransfer,
    /// A snapshot is taken in that is older than what is committed here.
    SnapshotOverNewer,

    // Reads.
    /// A follower takes any answer for that to the reads it asked last (etcd #20418).
    ReadKeyedByCaller,
    /// A leader answers reads before an entry of its own term is committed (etcd #7331, #12680).
    ReadBeforeNoop,
    /// A leader confirms reads without asking anybody (tikv #964, sofa-jraft #26).
    ReadWithoutRound,
    /// A read is confirmed by answers to a round that began before it came.
    ReadRidesEarlierRound,
    /// A member answers a linearizable read from what it has applied.
    ReadServedLocally,

    // Elections.
    /// A leader that has stepped down still takes itself for the leader (etcd #8334, openraft #1796).
    LeaderFollowsItself,
    /// A leader of an older term is not told of the newer one (raft-rs #84, #42).
    StaleLeaderNotTold,
    /// A leader that hears of no quorum goes on (Cloudflare 2020, etcd #13527).
    QuorumNeverLost,
    /// A leader ignores a higher term in an answer.
    HigherTermIgnored,

    // Membership.
    /// The voters are changed while another change of them is under way.
    ChangeUncommitted,
    /// New voters count at once, without a joint configuration.
    JointSkipped,
    /// A joint configuration is left before it is committed.
    JointLeftUncommitted,
    /// Of a joint configuration only the incoming half decides elections and commits (openraft 6c0ccaf3).
    OutgoingForgotten,
    /// A configuration stays in force though its entry gave way.
    ConfigurationNotRolledBack,
    /// A configuration is in force only once a later one is appended.
    ConfigurationAdoptedLate,
    /// A leader counts itself though it has no vote in the new configuration.
    RemovedLeaderCounts,
    /// Learners count as voters.
    LearnersCount,
    /// A learner that was made a voter and does not know it gives no vote (etcd #10998).
    LearnerRefusesVote,
    /// Compaction forgets which configuration is in force behind the new base.
    CompactionLosesConfiguration,
    /// A member that is left without a vote by an entry that may not be committed never campaigns again, though nobody
    /// else may have a log long enough (thesis §4.2.2).
    RemovedNeverCampaigns,
    /// A joint configuration stays for ever when its leader is lost.
    JointNeverLeft,
    /// A change of the membership goes into the log before renewals that wait, and ends their leases.
    ChangeBeforeRenewals,
    /// Whoever is a member is added once more.
    AddedTwice,
    /// An id that was removed is a member's again.
    RemovedIdReturns,
    /// A change of voters is made though too few of those to be are known to be alive.
    QuorumChangedAway,
    /// A member that runs on an old copy of its disk is welcome.
    OldCopyWelcome,

    /// A member whose state differs from that of a majority goes on.
    DivergedGoesOn,

    // Versions of the rules.
    /// The version of the rules is raised though a learner has not said that it can follow.
    RaisedWithoutLearners,
    /// A leader goes on with what members said in earlier rounds, to itself or before it lost its office: in runs that have ended.
    VersionsRemembered,
    /// A leader makes somebody a member without a look at which rules it can follow.
    NewcomerUnjudged,
    /// A leader makes somebody a member while an entry of its log that raises the version is not applied.
    NewcomerBesideRaise,
    /// A member says what its program can, not what this run of it may.
    VersionOverstated,
    /// A command that only newer rules know is proposed under older ones.
    NewerCommandProposed,

    // What is proposed once.
    /// Requests are forwarded twice.
    ForwardedTwice,
    /// A leader that steps down refuses what it has appended already (redpanda #3003, turned round).
    RefusedThoughAppended,
    /// Requests for which the log has no room are refused and kept.
    RefusedAndKept,
    /// A member answers the requests of other members' clients.
    AnswersForOthers,
    /// Any number of requests may wait for an entry.
    WaitingUnbounded,
    /// The applier is given committed entries without end, however slow it is.
    AppliesUnbounded,
    /// Whatever comes over the network is believed, possible or not.
    ImpossibleBelieved,
    /// A member applies what it has on disk, committed or not: a deposed leader renews and ends leases.
    AppliesUncommitted,

    // Leases and the clock.
    /// A new leader's clock makes up an election timeout, in which nobody led.
    ClockMakesUpElections,
    /// Renewals stay behind while an entry ends their leases.
    RenewalsLeftBehind,
    /// A leader with nothing to do appends nothing, and nothing ends.
    NothingEnds,
    /// A lease ends at its deadline, not after it.
    EndsAtDeadline,
    /// A renewal does not move the deadline.
    RenewalIgnored,
    /// A renewal may lower the deadline.
    RenewalShortens,
    /// What is due is ended without a look at whether it was renewed.
    RenewedLeaseEnds,
    /// The keys of a lease outlive it.
    LeaseLeavesKeys,
    /// The holds of a lease outlive it.
    LeaseLeavesHolds,
    /// The places of a lease outlive it.
    LeaseLeavesPlaces,

    // Locks, semaphores, elections.
    /// A place is granted though its lease or its wait is due (etcd #11456).
    DueWaiterGranted,
    /// No delay follows the end of a lease that asked for one.
    DelayForgotten,
    /// A delay that begins cuts a longer one short.
    DelayCutShort,
    /// A broken hold is granted anew while its holder believes in it.
    BreakWithoutDelay,
    /// A grant has the fence of the one before it.
    FenceRepeats,
    /// A shared hold is granted beside an exclusive one.
    SharedBesideExclusive,
    /// One more permit is granted than there are.
    PermitsOverLimit,
    /// Whoever comes is granted what others wait for.
    QueueOvertaken,
    /// The last of a queue is granted first.
    LastIsFirst,
    /// A place is not saved, and lost by a restart.
    PlaceNotSaved,
    /// What is released is granted to nobody who waits.
    ReleaseServesNobody,
    /// Of several names that are wanted together, one that is free is enough.
    TogetherByOne,
    /// Who hands a leadership over keeps it.
    HandOverKeepsLeader,
    /// Whoever knows the fence of a leader may proclaim.
    StrangerProclaims,
    /// What a place counted for is not given back.
    QuotaNotReleased,

    // Exactly once.
    /// A repeat is decided again.
    RepeatDecidedAgain,
    /// The record of a decision is not saved, and lost by a restart.
    RepeatNotSaved,
    /// Another request with the same key is told the first one's decision.
    OtherRequestReplayed,
    /// A record replays after its time.
    ExpiredRecordReplays,
    /// Any number of records is kept.
    RecordsUnbounded,
    /// Refusals that tell how the state stood are not recorded.
    RefusalsNotRecorded,

    // Access.
    /// Members do what they are asked without judging again who asks.
    AppliedUnauthorized,
    /// What was decided is told to whom it would be refused now.
    ReplayUnauthorized,
    /// A lease is renewed for whoever names it.
    LeaseOfAnotherRenewed,
    /// A lease is used for whoever names it.
    LeaseOfAnotherUsed,
    /// A token that is gone still proves who asks.
    RevokedTokenUsed,
    /// Of a granted prefix the last byte is not compared.
    PrefixOffByOne,
    /// Of a range only its beginning is compared with what was granted.
    RangeJudgedByStart,
    /// Of a transaction only the branch for conditions that hold is judged.
    OtherBranchUnjudged,
    /// What a role became is not saved.
    RoleNotSaved,
    /// A member that starts does not know whose its leases are.
    OwnersForgotten,
    /// A lease that was granted while access control was off belongs to nobody for ever.
    LeaseStaysNobodys,
    /// Who has claimed a lease is not saved.
    ClaimNotSaved,
    /// A delay lets pass another identity whose lease has the same name.
    DelayPassesOthers,
    /// The quota of an identity is not judged.
    IdentityQuotaIgnored,
    /// Whoever waits is granted what it has lost the right to.
    GrantedWithoutRight,

    // Keys.
    /// A transaction ignores its conditions.
    ConditionsIgnored,
    /// The last of several writes of a transaction is not done.
    TransactionTorn,
    /// A range is deleted with its end.
    RangeEndIncluded,
    /// A get does not see what its transaction wrote before it.
    GetMissesOwnWrites,
    /// A second version has the number of the first.
    VersionStands,

    // Watches and history.
    /// A revision of which only some is selected is left out.
    WatchSkipsMixed,
    /// What is selected of a revision comes in another order.
    WatchReorders,
    /// A revision comes twice.
    WatchRepeats,
    /// A page that is full claims to have seen everything.
    WatchClaimsTooMuch,
    /// History that is gone is passed over in silence.
    CompactedNotTold,
    /// A revision that is not here yet is taken for seen.
    AheadTakenForSeen,
    /// History goes when this member has saved it, so that members differ.
    CompactionFollowsDisk,
}

impl Mutant {
    /// The bug of this name.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL
            .iter()
            .copied()
            .find(|mutant| mutant.name() == name)
    }
}
