//! Members of groups: what they share, who takes over, and what a restart of anybody changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::actor::{Actor, Failure};
use crate::common::broker::Broker;
use crate::common::process::pipe;
use crate::common::tools;
use crate::kcat;

/// Nothing that a group does takes longer, not on a busy machine either.
pub const DEADLINE: Duration = Duration::from_secs(90);
pub const PARTITIONS: i32 = 4;

/// A consumer that lives in an actor.
pub struct Member<'a> {
    actor: &'a Actor,
    id: u64,
    pub assigned: Vec<i64>,
    pub rebalances: u64,
    /// What it has read, by partition and offset.
    pub rows: BTreeMap<(i64, i64), String>,
    /// How often it has read something once more.
    read_again: usize,
}

pub struct Subscription<'s> {
    pub topic: &'s str,
    group: &'s str,
    pub assignor: &'s str,
    pub session: Duration,
}

impl<'s> Subscription<'s> {
    pub fn new(topic: &'s str, assignor: &'s str) -> Subscription<'s> {
        Subscription { topic, group: topic, assignor, session: Duration::from_secs(20) }
    }

    pub fn open<'a>(&self, actor: &'a Actor, id: u64, instance: Option<&str>) -> Member<'a> {
        let Subscription { topic, group, assignor, session } = self;
        let session = u64::try_from(session.as_millis()).unwrap();
        let request = json!({
            "op": "subscribe", "id": id, "topic": topic, "group": group, "assignor": assignor,
            "instance": instance, "session_ms": session,
        });
        actor
            .ask(&request)
            .unwrap_or_else(|failure| panic!("{}: {failure:?}\n{}", actor.name(), actor.log()));
        Member { actor, id, assigned: Vec::new(), rebalances: 0, rows: BTreeMap::new(), read_again: 0 }
    }
}

impl Member<'_> {
    fn try_ask(&self, op: &str) -> Result<serde_json::Value, Failure> {
        let request = json!({"op": op, "id": self.id, "ms": 200});
        let request = if op == "poll" { request } else { json!({"op": op, "id": self.id}) };
        self.actor.ask(&request)
    }

    pub fn ask(&self, op: &str) -> serde_json::Value {
        self.try_ask(op).unwrap_or_else(|failure| {
            panic!("{}: {op}: {failure:?}\n{}", self.actor.name(), self.actor.log())
        })
    }

    /// Commits what it has read. Java's members refuse that themselves while they are on the way into a new generation, and say
    /// that one should poll and try again.
    pub fn commit_read(&mut self) {
        for _ in 0..100 {
            match self.try_ask("commit_read") {
                Err(failure) if failure.error == "RebalanceInProgressException" => self.poll(),
                Err(failure) => panic!("{}: {failure:?}\n{}", self.actor.name(), self.actor.log()),
                Ok(_) => return,
            }
        }
        panic!("{}: in no generation\n{}", self.actor.name(), self.actor.log());
    }

    fn poll(&mut self) {
        let answer = self.ask("poll");
        self.assigned = answer["assigned"].as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect();
        self.rebalances = answer["rebalances"].as_u64().unwrap();
        for row in answer["rows"].as_array().unwrap() {
            let place = (row[0].as_i64().unwrap(), row[1].as_i64().unwrap());
            let before = self.rows.insert(place, row[2].as_str().unwrap().to_owned());
            self.read_again += usize::from(before.is_some());
        }
    }

    pub fn leave(self) {
        self.ask("leave");
    }
}

/// Lets all members work until what is wanted is so.
pub fn until(members: &mut [&mut Member<'_>], what: &str, wanted: impl Fn(&[&mut Member<'_>]) -> bool) {
    let begun = Instant::now();
    loop {
        // All at once: some do not come back before the others have joined.
        std::thread::scope(|scope| {
            members.iter_mut().for_each(|member| drop(scope.spawn(|| member.poll())));
        });
        if wanted(members) {
            return;
        }
        let assigned: Vec<_> = members.iter().map(|member| (&member.assigned, &member.rows)).collect();
        let log = members.first().map(|member| member.actor.log()).unwrap_or_default();
        assert!(begun.elapsed() < DEADLINE, "not {what}: {assigned:?}\n{log}");
    }
}

pub fn is_shared(members: &[&mut Member<'_>]) -> bool {
    let all: Vec<i64> = members.iter().flat_map(|member| member.assigned.iter().copied()).collect();
    let each = members.iter().all(|member| !member.assigned.is_empty());
    each && all.len() == PARTITIONS as usize && all.iter().collect::<BTreeSet<_>>().len() == all.len()
}

pub fn read_by(members: &[&mut Member<'_>]) -> BTreeSet<String> {
    members.iter().flat_map(|member| member.rows.values().cloned()).collect()
}

/// Commits a value in each partition, while another transaction that is aborted writes before and behind it.
pub fn send_among_aborted(client: &Actor, topic: &str, values: &BTreeSet<String>) {
    let aborting = client.transactional(&format!("aborting-{topic}"));
    let committing = client.transactional(&format!("committing-{topic}"));
    aborting.begin();
    committing.begin();
    for (partition, value) in (0..PARTITIONS).zip(values) {
        aborting.send(topic, &[(partition, None, "aborted")]);
        committing.send(topic, &[(partition, None, value)]);
        aborting.send(topic, &[(partition, None, "aborted")]);
    }
    committing.commit();
    aborting.abort();
    committing.close();
    aborting.close();
}

/// Two members share four partitions, read everything that was committed, commit, and the one that stays takes over.
fn members_share_and_take_over(client: &Actor, assignor: &str) {
    let topic = format!("shared-{}-{}", client.name(), assignor.replace(':', "-"));
    client.create_topic(&topic, PARTITIONS);
    let subscription = Subscription::new(&topic, assignor);
    let (mut first, mut second) = (subscription.open(client, 1, None), subscription.open(client, 2, None));
    until(&mut [&mut first, &mut second], "shared", is_shared);

    let committed: BTreeSet<String> =
        (0..PARTITIONS).map(|partition| format!("committed {partition}")).collect();
    send_among_aborted(client, &topic, &committed);
    until(&mut [&mut first, &mut second], "read", |members| read_by(members).is_superset(&committed));
    assert_eq!(read_by(&[&mut first, &mut second]), committed, "what was aborted is not read");
    first.commit_read();
    second.commit_read();

    second.leave();
    until(&mut [&mut first], "taken over", is_shared);
    for partition in 0..PARTITIONS {
        let offset = client.group_offset(&topic, &topic, partition).expect("a committed offset");
        assert!(
            offset >= 2,
            "{offset} in {partition}: behind the first aborted record and the committed one"
        );
    }
    first.leave();
}

/// A member whose process is killed keeps its partitions for one session; then another one has them.
fn a_killed_member_is_replaced(survivor: &Actor, victim: &Actor, assignor: &str) {
    let topic = format!("killed-{}", survivor.name());
    survivor.create_topic(&topic, PARTITIONS);
    let mut subscription = Subscription::new(&topic, assignor);
    subscription.session = Duration::from_secs(6);
    let mut first = subscription.open(survivor, 10, None);
    let mut second = subscription.open(victim, 11, None);
    until(&mut [&mut first, &mut second], "shared", is_shared);
    victim.kill();
    until(&mut [&mut first], "taken over", is_shared);
    first.leave();
}

/// KIP-345: a static member does not take leave.
fn a_static_member_returns(client: &Actor, assignor: &str) {
    let subscription = (format!("static-{}", client.name()), assignor);
    a_static_member_is_away(subscription, [(client, 20), (client, 21), (client, 22)], Member::leave);
}

/// KIP-345 again: one whose process is killed has no time to say anything, and comes back as somebody with the same name.
fn a_static_member_is_killed_and_returns(
    survivor: &Actor,
    victim: &Actor,
    successor: &Actor,
    assignor: &str,
) {
    let subscription = (format!("static-killed-{}", survivor.name()), assignor);
    let members = [(survivor, 23), (victim, 24), (successor, 25)];
    a_static_member_is_away(subscription, members, |_| victim.kill());
}

/// A static member that comes back in time gets what it had, and nobody else notices. The members: who stays, who goes, and who
/// comes back.
fn a_static_member_is_away<'a>(
    (topic, assignor): (String, &str),
    [stays, goes, returns]: [(&'a Actor, u64); 3],
    go: impl FnOnce(Member<'a>),
) {
    stays.0.create_topic(&topic, PARTITIONS);
    // Who returns has to begin a program first.
    let subscription =
        Subscription { session: Duration::from_secs(60), ..Subscription::new(&topic, assignor) };
    let open = |(actor, id): (&'a Actor, u64), instance| subscription.open(actor, id, Some(instance));
    let mut stays = open(stays, "stays");
    let mut away = open(goes, "returns");
    until(&mut [&mut stays, &mut away], "shared", is_shared);
    let (assigned, rebalances) = (away.assigned.clone(), stays.rebalances);
    go(away);
    let mut returned = open(returns, "returns");
    until(&mut [&mut stays, &mut returned], "shared again", is_shared);
    assert_eq!(returned.assigned, assigned);
    assert_eq!(stays.rebalances, rebalances, "the other one has not been bothered");
    stays.leave();
    returned.leave();
}

/// R2: `kill -9` of the broker under a stable group: nobody rebalances, offsets are where they were.
fn a_broker_that_is_killed_is_not_noticed(broker: &mut Broker, client: &Actor, assignor: &str) {
    let topic = format!("restart-{}", client.name());
    client.create_topic(&topic, PARTITIONS);
    let mut subscription = Subscription::new(&topic, assignor);
    subscription.session = Duration::from_secs(30);
    let (mut first, mut second) = (subscription.open(client, 30, None), subscription.open(client, 31, None));
    until(&mut [&mut first, &mut second], "shared", is_shared);
    let send = |value: &str| {
        let producer = client.producer("none");
        producer.send(&topic, &(0..PARTITIONS).map(|partition| (partition, None, value)).collect::<Vec<_>>());
        producer.close();
    };
    let everywhere = |wanted: &'static str| {
        move |members: &[&mut Member<'_>]| {
            let rows = members.iter().flat_map(|member| member.rows.values());
            rows.filter(|value| *value == wanted).count() == PARTITIONS as usize
        }
    };
    send("before");
    until(&mut [&mut first, &mut second], "read", everywhere("before"));
    first.commit_read();
    second.commit_read();
    let before = [&first, &second].map(|member| (member.assigned.clone(), member.rebalances));

    broker.kill();
    broker.restart();
    send("after");
    until(&mut [&mut first, &mut second], "read after the restart", everywhere("after"));
    let after = [&first, &second].map(|member| (member.assigned.clone(), member.rebalances));
    assert_eq!(after, before, "nobody rebalances\n{}", client.log());
    for partition in 0..PARTITIONS {
        assert_eq!(client.group_offset(&topic, &topic, partition), Some(1));
    }
    first.leave();
    second.leave();
}

/// An operator sees a group, and deletes it when it has no members.
fn an_operator_describes_and_deletes(client: &Actor, assignor: &str, deletes_offsets: bool) {
    let topic = format!("operated-{}", client.name());
    client.create_topic(&topic, PARTITIONS);
    let mut member = Subscription::new(&topic, assignor).open(client, 40, None);
    until(&mut [&mut member], "assigned", is_shared);
    client.producer("none").send(&topic, &[(0, None, "x"), (1, None, "y")]);
    until(&mut [&mut member], "read", |members| read_by(members).len() == 2);
    member.commit_read();
    let describe = || client.ask(&json!({"op": "describe_group", "group": topic})).unwrap();
    assert_eq!(describe(), json!({"listed": true, "state": "stable", "members": 1}));
    let delete = || client.ask(&json!({"op": "delete_group", "group": topic}));
    let refused = delete().expect_err("a group with members");
    assert!(format!("{refused:?}").to_lowercase().contains("empty"), "{refused:?}");
    member.leave();
    assert_eq!(describe(), json!({"listed": true, "state": "empty", "members": 0}));
    if deletes_offsets {
        let forget = json!({"op": "forget_group_offset", "group": topic, "topic": topic, "partition": 1});
        client.ask(&forget).unwrap();
        assert_eq!(client.group_offset(&topic, &topic, 1), None);
    }
    assert_eq!(client.group_offset(&topic, &topic, 0), Some(1));
    delete().unwrap();
    assert_eq!(client.group_offset(&topic, &topic, 0), None);
}

/// KIP-447: who asks where a group is, while an open transaction may yet move it, hears of it when that has ended.
fn offsets_of_an_open_transaction_are_waited_for(writer: &Actor, reader: &Actor) {
    let topic = format!("unstable-{}", writer.name());
    writer.create_topic(&topic, 1);
    let producer = writer.transactional(&topic);
    for (offset, commits, expected) in [(10, true, 10), (20, true, 20), (30, false, 20)] {
        producer.begin();
        producer.send_group_offset(&topic, &topic, 0, offset);
        let asked = || reader.log().matches("Sending OFFSET_FETCH request").count();
        let before = asked();
        std::thread::scope(|scope| {
            let told = scope.spawn(|| reader.group_offset(&topic, &topic, 0));
            let begun = Instant::now();
            // Once more: the first answer was none yet.
            while asked() < before + 2 {
                assert!(begun.elapsed() < DEADLINE && !told.is_finished(), "{}", reader.log());
                std::thread::yield_now();
            }
            if commits {
                producer.commit()
            } else {
                producer.abort()
            }
            assert_eq!(told.join().unwrap(), Some(expected));
        });
    }
    producer.close();
}

/// Offsets live for a minute at least, and are looked at once in another.
pub fn offsets_that_nobody_has_used_for_long_are_forgotten() {
    const PATIENCE: Duration = Duration::from_secs(400);
    let broker = Broker::start_with(&["--offsets-retention", "1"]);
    let Some(client) = Actor::librdkafka(&broker) else { return };
    let topic = "grows-old";
    client.create_topic(topic, PARTITIONS);
    client.producer("none").send(topic, &[(0, None, "a")]);
    let writer = client.transactional("writer");
    writer.begin();
    writer.send_group_offset("left", topic, 0, 1);
    let begun = Instant::now();
    writer.commit();
    assert_eq!(client.group_offset("left", topic, 0), Some(1));
    writer.close();
    let mut member = Subscription::new(topic, "range").open(&client, 1, None);
    until(&mut [&mut member], "read", |members| read_by(members).len() == 1);
    member.commit_read();
    while client.group_offset("left", topic, 0).is_some() {
        assert!(begun.elapsed() < PATIENCE, "it stays");
        member.poll();
    }
    assert!(begun.elapsed() > Duration::from_secs(59), "too early: {:?}", begun.elapsed());
    assert_eq!(client.group_offset(topic, topic, 0), Some(1), "a group with members keeps its own");
    let is_listed =
        |group| client.ask(&json!({"op": "describe_group", "group": group})).unwrap()["listed"] == true;
    assert!(is_listed(topic) && !is_listed("left"), "{}", client.log());
    member.leave();
}

#[test]
fn librdkafka() {
    let mut broker = Broker::start();
    let Some(client) = Actor::librdkafka(&broker) else { return };
    for assignor in ["range", "roundrobin", "cooperative-sticky"] {
        members_share_and_take_over(&client, assignor);
    }
    a_killed_member_is_replaced(&client, &Actor::librdkafka(&broker).unwrap(), "range");
    a_static_member_returns(&client, "range");
    let another = || Actor::librdkafka(&broker).unwrap();
    a_static_member_is_killed_and_returns(&client, &another(), &another(), "range");
    an_operator_describes_and_deletes(&client, "range", false);
    a_broker_that_is_killed_is_not_noticed(&mut broker, &client, "cooperative-sticky");
}

#[test]
fn java() {
    let mut broker = Broker::start();
    let Some(client) = Actor::java(&broker) else { return };
    for assignor in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        members_share_and_take_over(&client, assignor);
    }
    a_killed_member_is_replaced(&client, &Actor::java(&broker).unwrap(), "cooperative-sticky");
    a_static_member_returns(&client, "range");
    let another = || Actor::java(&broker).unwrap();
    a_static_member_is_killed_and_returns(&client, &another(), &another(), "cooperative-sticky");
    offsets_of_an_open_transaction_are_waited_for(&client, &another());
    an_operator_describes_and_deletes(&client, "range", true);
    a_broker_that_is_killed_is_not_noticed(&mut broker, &client, "range");
}

/// KIP-848: the broker matches the expression, also against topics that come later.
fn a_pattern_follows_the_topics(client: &Actor) {
    let topic = |number: i32| format!("matched-{}-{number}", client.name());
    let send = |number: i32| {
        let producer = client.producer("none");
        producer.send(&topic(number), &[(0, None, &format!("in {number}"))]);
        producer.close();
    };
    client.create_topic(&topic(1), 1);
    client.create_topic(&format!("not-{}", topic(1)), 1);
    let pattern = format!("^matched-{}-[0-9]+$", client.name());
    let mut member = Subscription::new(&pattern, "consumer:uniform").open(client, 50, None);
    until(&mut [&mut member], "assigned", |members| members[0].assigned == [0]);
    client.create_topic(&topic(2), 1);
    until(&mut [&mut member], "assigned both", |members| members[0].assigned == [0, 0]);
    send(1);
    until(&mut [&mut member], "read the first", |members| read_by(members).contains("in 1"));
    send(2);
    until(&mut [&mut member], "read the second", |members| read_by(members).contains("in 2"));
    member.leave();
}

/// Members are restarted with the other protocol, one by one, and back: all is read, nothing that was committed is read again,
/// and no two have a partition.
fn a_group_goes_over_and_back(client: &Actor, classic: &str) {
    const MEMBERS: usize = 3;
    let topic = format!("migrated-{}-{classic}", client.name());
    client.create_topic(&topic, PARTITIONS);
    let open = |assignor: &str, id| Subscription::new(&topic, assignor).open(client, id, None);
    let mut members: Vec<Member<'_>> = (60..).take(MEMBERS).map(|id| open(classic, id)).collect();
    for round in 0..=2 * MEMBERS {
        if let Some(restarted) = round.checked_sub(1) {
            let assignor = if restarted < MEMBERS { "consumer:uniform" } else { classic };
            members.remove(restarted % MEMBERS).leave();
            members.insert(restarted % MEMBERS, open(assignor, 70 + restarted as u64));
        }
        let mut all: Vec<&mut Member<'_>> = members.iter_mut().collect();
        until(&mut all, &format!("shared in round {round}"), is_shared);
        let values: BTreeSet<String> = (0..PARTITIONS).map(|index| format!("{round} in {index}")).collect();
        let producer = client.producer("none");
        for (index, value) in (0..PARTITIONS).zip(&values) {
            producer.send(&topic, &[(index, None, value)]);
        }
        producer.close();
        until(&mut all, &format!("read in round {round}"), |all| values.is_subset(&read_by(all)));
        all.iter_mut().for_each(|member| member.commit_read());
        for index in 0..PARTITIONS {
            let committed = client.group_offset(&topic, &topic, index);
            assert_eq!(committed, i64::try_from(round + 1).ok(), "{round} in {index}\n{}", client.log());
        }
        if let Some(restarted) = round.checked_sub(1) {
            let newest = &members[restarted % MEMBERS];
            let fresh = newest.rows.values().all(|value| values.contains(value));
            assert!(fresh, "read what was committed: {:?}\n{}", newest.rows, client.log());
        }
        let again: usize = members.iter().map(|member| member.read_again).sum();
        assert_eq!(again, 0, "{}", client.log());
    }
    members.into_iter().for_each(Member::leave);
}

#[test]
fn javas_members_go_over_to_the_consumer_protocol_and_back() {
    let broker = with_short_sessions();
    let Some(client) = Actor::java(&broker) else { return };
    for classic in ["range", "cooperative-sticky"] {
        a_group_goes_over_and_back(&client, classic);
    }
}

#[test]
fn librdkafkas_members_go_over_to_the_consumer_protocol_and_back() {
    let broker = with_short_sessions();
    let Some(client) = Actor::librdkafka(&broker) else { return };
    for classic in ["range", "cooperative-sticky"] {
        a_group_goes_over_and_back(&client, classic);
    }
}

/// A broker whose members of the consumer protocol need not be waited for.
fn with_short_sessions() -> Broker {
    Broker::start_with(&["--consumer-session-timeout", "20000", "--consumer-heartbeat-interval", "500"])
}

#[test]
fn librdkafka_with_the_consumer_protocol() {
    let mut broker = with_short_sessions();
    let Some(client) = Actor::librdkafka(&broker) else { return };
    for assignor in ["consumer:uniform", "consumer:range"] {
        members_share_and_take_over(&client, assignor);
    }
    a_killed_member_is_replaced(&client, &Actor::librdkafka(&broker).unwrap(), "consumer:uniform");
    a_static_member_returns(&client, "consumer:uniform");
    a_pattern_follows_the_topics(&client);
    a_broker_that_is_killed_is_not_noticed(&mut broker, &client, "consumer:uniform");
}

#[test]
fn java_with_the_consumer_protocol() {
    let mut broker = with_short_sessions();
    let Some(client) = Actor::java(&broker) else { return };
    for assignor in ["consumer:uniform", "consumer:range"] {
        members_share_and_take_over(&client, assignor);
    }
    a_killed_member_is_replaced(&client, &Actor::java(&broker).unwrap(), "consumer:uniform");
    a_static_member_returns(&client, "consumer:range");
    an_operator_describes_and_deletes(&client, "consumer:uniform", true);
    a_pattern_follows_the_topics(&client);
    a_broker_that_is_killed_is_not_noticed(&mut broker, &client, "consumer:range");
}

#[test]
fn aiokafka() {
    let mut broker = Broker::start();
    let Some(client) = Actor::aiokafka(&broker) else { return };
    for assignor in ["range", "roundrobin", "sticky"] {
        members_share_and_take_over(&client, assignor);
    }
    let another = || Actor::aiokafka(&broker).unwrap();
    a_killed_member_is_replaced(&client, &another(), "range");
    a_static_member_returns(&client, "range");
    a_static_member_is_killed_and_returns(&client, &another(), &another(), "range");
    a_broker_that_is_killed_is_not_noticed(&mut broker, &client, "range");
}

#[test]
fn kafkajs() {
    let mut broker = Broker::start();
    let Some(client) = Actor::kafkajs(&broker) else { return };
    members_share_and_take_over(&client, "roundrobin");
    a_killed_member_is_replaced(&client, &Actor::kafkajs(&broker).unwrap(), "roundrobin");
    a_broker_that_is_killed_is_not_noticed(&mut broker, &client, "roundrobin");
}

#[test]
fn kcat_reads_as_a_member() {
    let broker = Broker::start();
    let (Some(program), Some(admin)) = (tools::kcat(), Actor::librdkafka(&broker)) else { return };
    admin.create_topic("lines", 1);
    admin.producer("none").send("lines", &[(0, None, "one"), (0, None, "two")]);
    let read = || {
        let words = ["-q", "-e", "-X", "auto.offset.reset=earliest", "-G", "readers", "lines"];
        let command = kcat::towards(&program, &broker, &words);
        let told = pipe("kcat", command, b"", DEADLINE);
        assert!(told.status.success(), "{}\n{}", told.status, told.errors);
        told.lines
    };
    assert_eq!(read(), ["one", "two"]);
    assert_eq!(read(), Vec::<String>::new(), "the group has committed what it read");
    admin.producer("none").send("lines", &[(0, None, "three")]);
    assert_eq!(read(), ["three"]);
}
