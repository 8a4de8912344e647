//! Who may commit a group's offsets, at once and with a transaction (`spec/groups.md`, G1, G9, M2, M3): every kind of claim in
//! every state of a group, of either protocol.

use super::hostile_groups::{DELAY, Site, beat_of, consumes};
use super::world::World;
use crate::core::*;
use crate::types::*;

/// Somebody who says that a member of this generation commits.
fn claim(group: &str, generation: i32, member: &str, instance: Option<&str>) -> GroupMember {
    GroupMember { instance: instance.map(InstanceId::new), ..Site::claim(group, member, generation) }
}

/// The answers to a commit at once, and to one with a transaction.
fn answers(site: &mut Site, member: &GroupMember) -> [Result<(), Refusal>; 2] {
    let offsets = vec![OffsetToCommit {
        partition: site.world.partition(0),
        offset: Offset(7),
        leader_epoch: LeaderEpoch(-1),
        metadata: String::new(),
    }];
    let holder = site.world.init(Some("committer"), None).unwrap();
    let stage = StageOffsets {
        producer: World::producer("committer", holder, 1),
        protocol: Protocol::V2,
        member: member.clone(),
        offsets: offsets.clone(),
    };
    let commit = Command::CommitOffsets { member: member.clone(), offsets };
    [commit, Command::StageOffsets(stage)].map(|command| match site.world.ask(command) {
        Reply::Each(answers) => answers[0],
        other => panic!("{other:?}"),
    })
}

/// What is answered to each kind of claim, where `member` is of this generation of the group, or was.
struct Answers {
    /// Neither member nor generation.
    nobody: [Result<(), Refusal>; 2],
    own: [Result<(), Refusal>; 2],
    /// The generation before.
    older: [Result<(), Refusal>; 2],
    /// The member, without a generation.
    timeless: [Result<(), Refusal>; 2],
    /// A generation, without a member.
    nameless: [Result<(), Refusal>; 2],
    /// An instance id that nobody bears, alone or beside what is right otherwise.
    instance: [[Result<(), Refusal>; 2]; 2],
    stranger: [Result<(), Refusal>; 2],
}

fn hold(site: &mut Site, what: &str, (group, generation, member): (&str, i32, &str), expected: &Answers) {
    let Answers { nobody, own, older, timeless, nameless, instance, stranger } = expected;
    let [alone, beside] = instance;
    for (kind, claim, expected) in [
        ("nobody", claim(group, -1, "", None), nobody),
        ("its own", claim(group, generation, member, None), own),
        ("older", claim(group, generation - 1, member, None), older),
        ("timeless", claim(group, -1, member, None), timeless),
        ("nameless", claim(group, generation, "", None), nameless),
        ("nameless, of generation 0", claim(group, 0, "", None), nameless),
        ("an instance alone", claim(group, -1, "", Some("nobody's")), alone),
        ("an instance", claim(group, generation, member, Some("nobody's")), beside),
        ("a stranger", claim(group, generation, "a stranger", None), stranger),
    ] {
        assert_eq!(answers(site, &claim), *expected, "{what}: {kind}");
    }
}

const OK: [Result<(), Refusal>; 2] = [Ok(()); 2];

const fn both(refusal: Refusal) -> [Result<(), Refusal>; 2] {
    [Err(refusal); 2]
}

const UNKNOWN: [Result<(), Refusal>; 2] = both(Refusal::UnknownMember);

/// Clients of old versions name nobody in a transaction.
const ONLY_IN_A_TRANSACTION: [Result<(), Refusal>; 2] = [Err(Refusal::UnknownMember), Ok(())];

#[test]
fn who_commits_in_a_group_of_the_classic_protocol() {
    let not_there = both(Refusal::GroupNotFound);
    let in_none = Answers {
        nobody: OK,
        own: not_there,
        older: not_there,
        timeless: OK,
        nameless: not_there,
        instance: [OK, not_there],
        stranger: not_there,
    };
    hold(&mut Site::new(), "no group", ("g", 1, "drawn 1"), &in_none);

    let mut site = Site::new();
    let member = site.honest("g").member.as_str().to_owned();
    let illegal = both(Refusal::IllegalGeneration);
    let mut expected = Answers {
        nobody: ONLY_IN_A_TRANSACTION,
        own: OK,
        older: illegal,
        timeless: illegal,
        nameless: UNKNOWN,
        instance: [UNKNOWN, UNKNOWN],
        stranger: UNKNOWN,
    };
    hold(&mut site, "Stable", ("g", 1, &member), &expected);
    assert_eq!(site.join("g", "", |_| {}), None);
    hold(&mut site, "PreparingRebalance", ("g", 1, &member), &expected);
    assert_eq!(site.join("g", &member, |_| {}), None);
    site.heard();
    expected.own = [Err(Refusal::RebalanceInProgress), Ok(())];
    hold(&mut site, "CompletingRebalance", ("g", 2, &member), &expected);

    let mut site = Site::new();
    let left = site.honest("g");
    site.leave("g", left.member.as_str());
    let in_empty = Answers {
        nobody: OK,
        own: UNKNOWN,
        older: UNKNOWN,
        timeless: OK,
        nameless: UNKNOWN,
        instance: [OK, UNKNOWN],
        stranger: UNKNOWN,
    };
    hold(&mut site, "Empty", ("g", 1, left.member.as_str()), &in_empty);
}

#[test]
fn who_commits_in_a_group_of_the_consumer_protocol() {
    let mut site = Site::new();
    let heard = |site: &mut Site, beat: ConsumerHeartbeat| {
        let reply = site.world.ask(Command::ConsumerHeartbeat(Box::new(beat)));
        assert!(matches!(reply, Reply::Consumer(Ok(ConsumerTold::Epoch { .. }))), "{reply:?}");
    };
    heard(&mut site, beat_of("a"));
    let stale = [Err(Refusal::StaleMemberEpoch), Err(Refusal::IllegalGeneration)];
    let mut expected = Answers {
        nobody: ONLY_IN_A_TRANSACTION,
        own: OK,
        older: stale,
        timeless: stale,
        nameless: UNKNOWN,
        instance: [UNKNOWN, OK],
        stranger: UNKNOWN,
    };
    hold(&mut site, "a member", ("consumers", 1, "a"), &expected);

    // A static one that is away has an epoch that is none.
    let is_static = |epoch: GroupEpoch| ConsumerHeartbeat {
        epoch,
        instance: Some(InstanceId::new("static")),
        ..beat_of("s")
    };
    heard(&mut site, is_static(GroupEpoch::JOIN));
    heard(&mut site, is_static(GroupEpoch::AWAY));
    assert_eq!(answers(&mut site, &claim("consumers", GroupEpoch::AWAY.0, "s", None)), stale);

    // One of the classic protocol knows generations.
    let Some(Ok(joined)) = site.join("consumers", "", consumes) else { panic!("it joins at once") };
    let older = claim("consumers", joined.generation.0 - 1, joined.member.as_str(), None);
    assert_eq!(answers(&mut site, &older), both(Refusal::IllegalGeneration));

    let mut site = Site::new();
    heard(&mut site, beat_of("a"));
    heard(&mut site, ConsumerHeartbeat { epoch: GroupEpoch::LEAVE, ..beat_of("a") });
    (expected.nobody, expected.timeless, expected.instance) = (OK, OK, [OK, UNKNOWN]);
    (expected.own, expected.older) = (UNKNOWN, UNKNOWN);
    hold(&mut site, "no member", ("consumers", 1, "a"), &expected);
}

#[test]
fn a_commit_keeps_the_session_of_a_member_of_the_classic_protocol() {
    let mut site = Site::new();
    let member = site.honest("g");
    for _ in 0..30 {
        site.pass(DELAY);
        assert_eq!(answers(&mut site, &member), OK);
    }
}
