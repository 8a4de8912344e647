//! Members of the classic protocol in a group of the consumer protocol, rule by rule (`spec/groups.md`, section 16): who may
//! join, what each request of a member must say, who goes and what is left of it.

use super::hostile_groups::{REBALANCE, Site, is_full, protocol};
use crate::core::limits::{
    DECISION_OVERHEAD_BYTES, GROUP_MEMBERS_MAX, REBALANCES_BYTES_MAX, SESSIONS_BYTES_MAX,
};
use crate::core::*;
use crate::types::*;
use std::collections::BTreeSet;
use std::time::Duration;

const GROUP: &str = "consumers";

/// It reads "t", and owns these partitions of it.
fn consumes(owned: &[i32]) -> impl Fn(&mut JoinGroup) + use<> {
    let owned: Vec<PartitionIndex> = owned.iter().copied().map(PartitionIndex).collect();
    move |join: &mut JoinGroup| {
        let owned = if owned.is_empty() { Vec::new() } else { vec![("t".to_owned(), owned.clone())] };
        join.consumes = Some(ConsumerMetadata { topics: BTreeSet::from(["t".to_owned()]), owned });
    }
}

fn of(instance: &str) -> Option<InstanceId> {
    Some(InstanceId::new(instance))
}

struct Mixed {
    site: Site,
}

impl Mixed {
    /// A group of the member "a" of the consumer protocol.
    fn new() -> Mixed {
        let mut site = Site::new();
        site.beat("a", 0, |_| {});
        Mixed { site }
    }

    fn join(&mut self, member: &str, lie: impl FnOnce(&mut JoinGroup)) -> Result<Joined, Refusal> {
        let join = |join: &mut JoinGroup| {
            consumes(&[])(join);
            lie(join);
        };
        self.site.join(GROUP, member, join).expect("nobody waits in a consumer group")
    }

    /// A new member of the classic protocol.
    fn classic(&mut self, lie: impl FnOnce(&mut JoinGroup)) -> String {
        self.join("", lie).unwrap().member.as_str().to_owned()
    }

    fn row(&self, member: &str) -> Option<&ConsumerRow> {
        let key = MemberKey { group: GroupId::new(GROUP), member: MemberId::new(member) };
        self.site.world.rows.get::<ConsumerRow>(&key)
    }

    fn epoch(&self) -> i32 {
        self.site.world.rows.get::<ConsumerGroupRow>(&GroupId::new(GROUP)).unwrap().epoch.0
    }

    /// The member's claim, with its epoch for its generation.
    fn claim(&self, member: &str) -> GroupMember {
        Site::claim(GROUP, member, self.row(member).unwrap().held.epoch.0)
    }

    fn sync(&mut self, claim: &GroupMember, lie: impl FnOnce(&mut SyncGroup)) -> Result<Synced, Refusal> {
        let mut sync = SyncGroup {
            request: RequestId(1_000_000),
            member: claim.clone(),
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        };
        lie(&mut sync);
        match self.site.world.ask(Command::SyncGroup(sync)) {
            Reply::Synced(synced) => synced,
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, leaving: &[(&str, Option<InstanceId>)]) -> Vec<Result<(), Refusal>> {
        let leaving = leaving.iter().map(|(member, instance)| LeavingMember {
            member: MemberId::new(member),
            instance: instance.clone(),
        });
        let leave = Command::LeaveGroup { group: GroupId::new(GROUP), members: leaving.collect() };
        match self.site.world.ask(leave) {
            Reply::Each(answers) => answers,
            other => panic!("{other:?}"),
        }
    }

    /// "a" revokes what the others are to have; each classic member joins until it has nothing to do.
    fn settle(&mut self, classic: &[&str]) {
        for _ in 0..6 {
            let held = self.row("a").unwrap().held.clone();
            self.site.beat("a", held.epoch.0, |beat| beat.owned = Some(held.assigned));
            for member in classic {
                let owned: Vec<i32> = self.owned(member);
                let instance = self.row(member).unwrap().said.instance.clone();
                let goes_on = |join: &mut JoinGroup| {
                    consumes(&owned)(join);
                    join.joiner.instance = instance;
                };
                self.join(member, goes_on).unwrap();
                let claim = self.claim(member);
                let _ = self.sync(&claim, |_| {});
            }
        }
    }

    fn owned(&self, member: &str) -> Vec<i32> {
        self.row(member).unwrap().held.assigned.iter().map(|partition| partition.index.0).collect()
    }
}

#[test]
fn only_consumers_that_share_a_protocol_join() {
    let mut mixed = Mixed::new();
    let other =
        |name: &'static str| move |join: &mut JoinGroup| join.joiner.protocols = vec![protocol(name, 1)];
    let inconsistent = Err(Refusal::InconsistentProtocol);
    assert_eq!(mixed.join("", |join| join.protocol_type = "connect".to_owned()), inconsistent);
    assert_eq!(mixed.join("", |join| join.consumes = None), inconsistent);
    let first = mixed.classic(|_| {});
    // Alone of its kind, it may speak another one from now on.
    assert!(mixed.join(&first, other("sticky")).is_ok());
    assert!(mixed.join(&first, |_| {}).is_ok());
    assert_eq!(mixed.join("", other("sticky")), inconsistent);
    let second = mixed.classic(|join| join.joiner.protocols.insert(0, protocol("sticky", 1)));
    assert_eq!(mixed.join(&second, other("sticky")), inconsistent, "the first one does not know it");
    assert!(mixed.join(&second, |_| {}).is_ok());
    // Nor does a static member's next life have to share with the one before.
    let mut mixed = Mixed::new();
    mixed.classic(|join| join.joiner.instance = of("s"));
    let later = |join: &mut JoinGroup| {
        join.joiner.instance = of("s");
        other("sticky")(join);
    };
    assert!(mixed.join("", later).is_ok());
}

#[test]
fn what_a_member_owns_it_must_hold() {
    let mut mixed = Mixed::new();
    let rows = mixed.site.world.rows.0.clone();
    let logged = mixed.site.world.log.len();
    // A newcomer holds nothing: nobody is gone.
    assert_eq!(mixed.join("", consumes(&[0])), Err(Refusal::UnknownMember));
    assert!(mixed.site.world.rows.0 == rows && mixed.site.world.log.len() == logged);
    let member = mixed.classic(|_| {});
    mixed.settle(&[&member]);
    let owned = mixed.owned(&member);
    assert_eq!(owned.len(), 2);
    assert!(mixed.join(&member, consumes(&owned)).is_ok());
    assert!(mixed.join(&member, consumes(&owned[..1])).is_ok());
    let epoch = mixed.epoch();
    assert_eq!(mixed.join(&member, consumes(&[0, 1, 2, 3])), Err(Refusal::UnknownMember));
    assert!(mixed.row(&member).is_none() && mixed.epoch() == epoch + 1, "it is gone");
}

#[test]
fn what_does_not_fit_into_a_block_is_refused_and_nobody_has_joined() {
    let mut mixed = Mixed::new();
    let small = |join: &mut JoinGroup| join.decision_bytes_max = DECISION_OVERHEAD_BYTES;
    let refused = mixed.site.nothing_happens("a newcomer", |site| {
        site.join(GROUP, "", |join| {
            consumes(&[])(join);
            small(join);
        })
    });
    assert_eq!(refused, is_full(GroupLimit::Decision));
    assert!(mixed.join("", |_| {}).is_ok());
}

#[test]
fn a_member_that_is_given_its_id_first_joins_with_it() {
    let mut mixed = Mixed::new();
    let asks = |join: &mut JoinGroup| join.requires_known_member = true;
    mixed.site.requests = 10;
    let epoch = mixed.epoch();
    assert_eq!(mixed.join("", asks), Err(Refusal::MemberIdRequired));
    assert!(mixed.epoch() == epoch && mixed.row("drawn 11").is_none(), "it is no member yet");
    // Such an id is nobody's instance.
    let with_instance = |join: &mut JoinGroup| join.joiner.instance = of("s");
    assert_eq!(mixed.join("drawn 11", with_instance), Err(Refusal::UnknownMember));
    assert_eq!(mixed.join("drawn 12", |_| {}), Err(Refusal::UnknownMember), "nobody was given this one");
    assert_eq!(mixed.join("drawn 11", |_| {}).unwrap().member, MemberId::new("drawn 11"));
    assert_eq!(mixed.epoch(), epoch + 1);
    assert_eq!(mixed.join("drawn 11", |_| {}).unwrap().generation.0, epoch + 1, "and goes on");
    // A static member needs none.
    assert!(mixed.join("", |join| (asks(join), with_instance(join)).1).is_ok());

    // Who leaves before it has joined was no member.
    mixed.site.requests = 20;
    assert_eq!(mixed.join("", asks), Err(Refusal::MemberIdRequired));
    let logged = mixed.site.world.log.len();
    assert_eq!(mixed.leave(&[("drawn 21", None), ("drawn 22", None)]), [Ok(()), Err(Refusal::UnknownMember)]);
    assert_eq!(mixed.site.world.log.len(), logged);
    assert_eq!(mixed.join("drawn 21", |_| {}), Err(Refusal::UnknownMember));
}

#[test]
fn members_and_ids_that_are_given_out_are_bounded_together() {
    let mut mixed = Mixed::new();
    for _ in 0..GROUP_MEMBERS_MAX - 1 {
        assert_eq!(mixed.join("", |join| join.requires_known_member = true), Err(Refusal::MemberIdRequired));
    }
    let asks = |join: &mut JoinGroup| {
        consumes(&[])(join);
        join.requires_known_member = true;
    };
    let refused = mixed.site.nothing_happens("one more", |site| site.join(GROUP, "", asks));
    assert_eq!(refused, is_full(GroupLimit::Members));
}

#[test]
fn an_id_that_there_is_no_room_for_is_not_given_out() {
    let mut mixed = Mixed::new();
    let full = SessionsRow { bytes: u64::try_from(SESSIONS_BYTES_MAX).unwrap(), ..SessionsRow::default() };
    let before = mixed.site.world.rows.0.insert(RowKey::Sessions(()), RowValue::Sessions(full));
    let asks = |join: &mut JoinGroup| {
        consumes(&[])(join);
        join.requires_known_member = true;
    };
    let refused = mixed.site.nothing_happens("one more session", |site| site.join(GROUP, "", asks));
    assert_eq!(refused, is_full(GroupLimit::Sessions));
    let waiting = u64::try_from(REBALANCES_BYTES_MAX).unwrap();
    let full = SessionsRow { rebalances_bytes: waiting, ..SessionsRow::default() };
    mixed.site.world.rows.0.insert(RowKey::Sessions(()), RowValue::Sessions(full));
    let refused = mixed.site.nothing_happens("one more that waits", |site| site.join(GROUP, "", asks));
    assert_eq!(refused, is_full(GroupLimit::Rebalances));
    mixed.site.world.rows.0.insert(RowKey::Sessions(()), before.unwrap());
    assert_eq!(mixed.join("", |join| join.requires_known_member = true), Err(Refusal::MemberIdRequired));
}

#[test]
fn a_member_says_who_it_is_and_in_which_generation() {
    let mut mixed = Mixed::new();
    let (first, second) = (mixed.classic(|_| {}), mixed.classic(|join| join.joiner.instance = of("s")));
    mixed.settle(&[&first, &second]);
    let own = mixed.claim(&first);
    let with = |claim: &GroupMember, instance: &str| GroupMember { instance: of(instance), ..claim.clone() };
    let older = GroupMember { generation: Generation(own.generation.0 - 1), ..own.clone() };
    let of_the_other_protocol = mixed.claim("a");
    for (what, claim, expected) in [
        ("its own", own.clone(), Ok(())),
        ("as static", with(&mixed.claim(&second), "s"), Ok(())),
        ("older", older, Err(Refusal::IllegalGeneration)),
        ("nobody's instance", with(&own, "nobody's"), Err(Refusal::UnknownMember)),
        ("another's instance", with(&own, "s"), Err(Refusal::FencedInstance)),
        ("a member of the consumer protocol", of_the_other_protocol, Err(Refusal::UnknownMember)),
        ("a stranger", Site::claim(GROUP, "a stranger", own.generation.0), Err(Refusal::UnknownMember)),
    ] {
        assert_eq!(mixed.site.heartbeat(claim.clone()), expected, "Heartbeat: {what}");
        assert_eq!(mixed.sync(&claim, |_| {}).map(|_| ()), expected, "SyncGroup: {what}");
        let instance = claim.instance.clone();
        let joins = mixed.join(claim.member.as_str(), |join| join.joiner.instance = instance).map(|_| ());
        let expected = if expected == Err(Refusal::IllegalGeneration) { Ok(()) } else { expected };
        assert_eq!(joins, expected, "JoinGroup: {what}");
    }
}

#[test]
fn what_a_member_syncs_must_be_what_it_has_joined_with() {
    let mut mixed = Mixed::new();
    let member = mixed.classic(|_| {});
    mixed.settle(&[&member]);
    let claim = mixed.claim(&member);
    let says = |kind: Option<&str>, name: Option<&str>| {
        let (kind, name) = (kind.map(str::to_owned), name.map(str::to_owned));
        move |sync: &mut SyncGroup| (sync.protocol_type, sync.protocol) = (kind, name)
    };
    let inconsistent = Err(Refusal::InconsistentProtocol);
    assert_eq!(mixed.sync(&claim, says(Some("connect"), None)), inconsistent);
    assert_eq!(mixed.sync(&claim, says(None, Some("sticky"))), inconsistent);
    let Ok(synced) = mixed.sync(&claim, says(Some("consumer"), Some("range"))) else {
        panic!("it is assigned")
    };
    let Assignment::ByBroker(assigned) = synced.assignment else { panic!("the broker assigns") };
    let expected = mixed.owned(&member).into_iter().map(PartitionIndex).collect::<Vec<_>>();
    assert_eq!(assigned, [("t".to_owned(), expected)]);
    assert_eq!((synced.protocol_type.as_str(), synced.protocol.as_str()), ("consumer", "range"));
}

#[test]
fn a_member_is_asked_to_join_again_when_it_has_a_step_to_take() {
    let mut mixed = Mixed::new();
    let member = mixed.classic(|_| {});
    mixed.settle(&[&member]);
    let claim = mixed.claim(&member);
    assert_eq!(mixed.site.heartbeat(claim.clone()), Ok(()));
    // The group's epoch grows: it is told where it beats, and where it syncs.
    mixed.site.beat("b", 0, |_| {});
    assert_eq!(mixed.site.heartbeat(claim.clone()), Err(Refusal::RebalanceInProgress));
    assert_eq!(mixed.sync(&claim, |_| {}), Err(Refusal::RebalanceInProgress));
    // It joins, still owns everything, and is to revoke something: that it is told with its assignment.
    let owned = mixed.owned(&member);
    mixed.join(&member, consumes(&owned)).unwrap();
    let held = mixed.row(&member).unwrap().held.clone();
    assert_eq!((held.assigned.len(), held.revoking.len()), (1, 1));
    let claim = mixed.claim(&member);
    assert!(mixed.sync(&claim, |_| {}).is_ok(), "what is left to it");
    assert_eq!(
        mixed.site.heartbeat(claim.clone()),
        Err(Refusal::RebalanceInProgress),
        "until it has revoked"
    );
    let deadline = |mixed: &Mixed| {
        let key = MemberKey { group: GroupId::new(GROUP), member: MemberId::new(&member) };
        mixed.site.world.rows.get::<DeadlineRow>(&Timer::Revocation(key)).map(|row| row.deadline)
    };
    let asked = mixed.site.world.now.served;
    assert_eq!(deadline(&mixed), Some(asked.plus(REBALANCE)));
    // Asked again and again, it has no longer time.
    for _ in 0..3 {
        mixed.site.pass(Duration::from_secs(1));
        assert_eq!(mixed.site.heartbeat(claim.clone()), Err(Refusal::RebalanceInProgress));
        assert_eq!(deadline(&mixed), Some(asked.plus(REBALANCE)));
    }
    let owned = mixed.owned(&member);
    mixed.join(&member, consumes(&owned)).unwrap();
    let claim = mixed.claim(&member);
    assert!(mixed.sync(&claim, |_| {}).is_ok());
    assert_eq!((mixed.site.heartbeat(claim), deadline(&mixed)), (Ok(()), None));
}

#[test]
fn members_leave_together_each_on_its_own_merits() {
    let mut mixed = Mixed::new();
    let (first, second) = (mixed.classic(|_| {}), mixed.classic(|join| join.joiner.instance = of("s")));
    let third = mixed.classic(|join| join.joiner.instance = of("other"));
    let epoch = mixed.epoch();
    let refused = [
        (first.as_str(), of("nobody's")),
        (first.as_str(), of("s")),
        ("a", None),
        ("", None),
        ("", of("nobody's")),
        ("a stranger", None),
    ];
    let [unknown, fenced] = [Err(Refusal::UnknownMember), Err(Refusal::FencedInstance)];
    let logged = mixed.site.world.log.len();
    assert_eq!(mixed.leave(&refused), [unknown, fenced, unknown, unknown, unknown, unknown]);
    assert_eq!(mixed.site.world.log.len(), logged, "nobody has gone");
    // Twice in one request is once; an operator names the instance alone.
    let leaving =
        [(first.as_str(), None), (first.as_str(), None), ("", of("s")), (third.as_str(), of("other"))];
    assert_eq!(mixed.leave(&leaving), [Ok(()); 4]);
    let gone: Vec<MemberId> = [&first, &second, &third].into_iter().map(|id| MemberId::new(id)).collect();
    let left = mixed.site.world.log[logged..].iter().map(|(_, event)| event.clone()).collect::<Vec<_>>();
    let all_at_once =
        Event::ConsumersLeft { group: GroupId::new(GROUP), epoch: GroupEpoch(epoch + 1), members: gone };
    assert_eq!(left, [all_at_once]);
}
