//! Why groups rebalance, as people are told (`spec/groups.md`, section 20). That each rebalance is told of once the worlds of
//! all histories check; here, that it is told of as what it is.

use super::hostile_groups::{DELAY, REBALANCE, SESSION, Site, beat_of, consumes, protocol};
use crate::core::*;
use crate::types::*;
use std::time::Duration;
use uuid::Uuid;

impl Site {
    /// What has been told since it was last asked.
    fn causes(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.world.rebalances).into_iter().map(|(_, cause)| cause.name()).collect()
    }

    /// These join the next generation, the leader first, and it assigns; who waited has heard.
    fn next_generation(&mut self, generation: i32, members: &[&str]) {
        for member in members {
            self.join("g", member, |_| {});
        }
        self.heard();
        let leader = members[0];
        assert_eq!(self.sync(Site::claim("g", leader, generation), members), None);
        assert!(matches!(self.heard()[..], [Reply::Synced(Ok(_))]), "{leader} leads {generation}");
    }

    pub(super) fn leave(&mut self, group: &str, member: &str) {
        let members = vec![LeavingMember { member: MemberId::new(member), instance: None }];
        let left = self.world.ask(Command::LeaveGroup { group: GroupId::new(group), members });
        assert_eq!(left, Reply::Each(vec![Ok(())]));
    }

    /// A member of the consumer protocol beats.
    pub(super) fn beat(
        &mut self,
        member: &str,
        epoch: i32,
        lie: impl FnOnce(&mut ConsumerHeartbeat),
    ) -> ConsumerTold {
        let joins = epoch == 0;
        let mut beat = ConsumerHeartbeat { epoch: GroupEpoch(epoch), ..beat_of(member) };
        if !joins {
            (beat.topics, beat.owned, beat.rebalance_timeout) = (None, None, None);
        }
        lie(&mut beat);
        match self.world.ask(Command::ConsumerHeartbeat(Box::new(beat))) {
            Reply::Consumer(told) => told.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn why_groups_of_the_classic_protocol_rebalance() {
    let mut site = Site::new();
    let first = site.honest("g");
    let first = first.member.as_str();
    assert_eq!(site.causes(), ["member_joined"]);
    site.next_generation(2, &[first]);
    assert_eq!(site.causes(), ["leader_rejoined"]);

    // Whoever else joins the generation that is being formed is no other cause.
    let second = "drawn 20";
    site.requests = 19;
    assert_eq!(site.join("g", "", |_| {}), None);
    site.next_generation(3, &[first]);
    assert_eq!(site.causes(), ["member_joined"]);
    let says_more = |join: &mut JoinGroup| join.joiner.protocols = vec![protocol("range", 11)];
    assert_eq!(site.join("g", second, says_more), None);
    site.next_generation(4, &[first]);
    assert_eq!(site.causes(), ["subscription_changed"]);

    // A silent member.
    for _ in 0..SESSION.as_secs() {
        let _ = site.heartbeat(Site::claim("g", first, 4));
        site.pass(Duration::from_secs(1));
    }
    site.next_generation(5, &[first]);
    assert_eq!(site.causes(), ["session_expired"]);

    // A leader that lives, and assigns nothing.
    site.requests = 29;
    assert_eq!(site.join("g", "", |_| {}), None);
    assert_eq!(site.join("g", first, |_| {}), None);
    assert_eq!((site.causes(), site.heard().len()), (vec!["member_joined"], 2));
    assert_eq!(site.sync(Site::claim("g", "drawn 30", 6), &[]), None);
    for _ in 0..REBALANCE.as_secs() {
        assert_eq!(site.heartbeat(Site::claim("g", first, 6)), Ok(()));
        site.pass(Duration::from_secs(1));
    }
    assert_eq!(site.causes(), ["rebalance_expired"]);

    // The broker is restarted before the one who is left has come.
    site.world.restart();
    site.world.ask(Command::Expire { timer: Timer::Group(GroupId::new("g")) });
    assert_eq!(site.causes(), ["broker_restarted"]);
    site.next_generation(7, &["drawn 30"]);

    // A static member comes, comes back before it is assigned anything, and an operator removes it.
    let is_static = |join: &mut JoinGroup| join.joiner.instance = Some(InstanceId::new("static"));
    site.requests = 49;
    assert_eq!(site.join("g", "", is_static), None);
    assert_eq!(site.join("g", "drawn 30", |_| {}), None);
    assert_eq!((site.causes(), site.heard().len()), (vec!["member_joined"], 2));
    site.requests = 59;
    assert_eq!(site.join("g", "", is_static), None);
    assert_eq!(site.causes(), ["static_replaced"]);
    site.next_generation(9, &["drawn 30"]);
    site.leave("g", "drawn 60");
    assert_eq!(site.causes(), ["member_left"]);
    site.leave("g", "drawn 30");
    assert_eq!(site.causes(), [""; 0], "nobody is left who would rebalance");
}

#[test]
fn why_groups_of_the_consumer_protocol_rebalance() {
    let mut site = Site::new();
    site.beat("a", 0, |_| {});
    site.beat("a", 0, |_| {});
    assert_eq!(site.causes(), ["member_joined"], "what is asked again is no other rebalance");
    site.beat("a", 1, |beat| beat.topics = Some(["t".to_owned(), "u".to_owned()].into()));
    assert_eq!(site.causes(), ["subscription_changed"]);
    let topic = NewTopic {
        id: TopicId(Uuid::from_u128(8)),
        name: TopicName::new("u").unwrap(),
        partitions: 1,
        config: TopicConfig::new(),
    };
    site.world.ask(Command::CreateTopic { topic, validate_only: false });
    site.beat("a", 2, |_| {});
    assert_eq!(site.causes(), ["topics_changed"]);

    // A second one comes, and is silent.
    site.beat("b", 0, |beat| beat.rebalance_timeout = Some(REBALANCE));
    assert_eq!(site.causes(), ["member_joined"]);
    let all = |site: &Site| site.world.rows.get::<ConsumerRow>(&key("a")).unwrap().held.assigned.clone();
    let kept = all(&site);
    for _ in 0..SESSION.as_secs() {
        site.beat("a", 3, |beat| beat.owned = Some(kept.clone()));
        site.pass(Duration::from_secs(1));
    }
    assert_eq!(site.causes(), ["session_expired"]);

    // And again, while the first one does not revoke what is the other's: it is gone, which has nobody else to wait for.
    site.beat("b", 0, |_| {});
    let epoch = |site: &Site| site.world.rows.get::<ConsumerRow>(&key("b")).unwrap().held.epoch.0;
    for _ in 0..REBALANCE.as_secs() {
        let reached = epoch(&site);
        site.beat("b", reached, |_| {});
        if site.world.rows.get::<ConsumerRow>(&key("a")).is_some() {
            let reached = site.world.rows.get::<ConsumerRow>(&key("a")).unwrap().held.epoch.0;
            site.beat("a", reached, |beat| beat.owned = Some(kept.clone()));
        }
        site.pass(Duration::from_secs(1));
    }
    assert_eq!(site.causes(), ["member_joined", "rebalance_expired"]);

    // A static member is away, and comes back as one that subscribes to something else.
    let is_static = |beat: &mut ConsumerHeartbeat| beat.instance = Some(InstanceId::new("static"));
    site.beat("s", 0, is_static);
    site.beat("s", GroupEpoch::AWAY.0, is_static);
    assert_eq!(site.causes(), ["member_joined"]);
    site.beat("s again", 0, |beat| {
        is_static(beat);
        beat.topics = Some(["u".to_owned()].into());
    });
    assert_eq!(site.causes(), ["static_replaced"]);
    site.beat("s again", GroupEpoch::LEAVE.0, |_| {});
    assert_eq!(site.causes(), ["member_left"]);

    // A member of the classic protocol says that it has what it has not; another one is left alone.
    site.requests = 99;
    assert!(matches!(site.join("consumers", "", consumes), Some(Ok(_))));
    let owns = |join: &mut JoinGroup| {
        consumes(join);
        let everything = (0..4).map(PartitionIndex).collect();
        join.consumes.as_mut().unwrap().owned = vec![("t".to_owned(), everything)];
    };
    assert_eq!(site.join("consumers", "drawn 100", owns), Some(Err(Refusal::UnknownMember)));
    assert_eq!(site.causes(), ["member_joined", "member_fenced"]);
    assert!(matches!(site.join("consumers", "", consumes), Some(Ok(_))));
    site.beat("b", GroupEpoch::LEAVE.0, |_| {});
    assert_eq!(site.causes(), ["member_joined", "protocol_changed"]);
    site.pass(DELAY);
    assert_eq!(site.causes(), [""; 0]);
}

fn key(member: &str) -> MemberKey {
    MemberKey { group: GroupId::new("consumers"), member: MemberId::new(member) }
}
