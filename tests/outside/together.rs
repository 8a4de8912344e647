//! Clients of different makes as members of one group: they share, read what was committed among what was aborted, are killed,
//! come back, and go on together when the broker is killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::common::actor::Actor;
use crate::common::broker::Broker;
use crate::common::process::{Heard, Process, Said};
use crate::common::tools;
use crate::groups::{
    DEADLINE, Member, PARTITIONS, Subscription, is_shared, read_by, send_among_aborted, until,
};
use crate::kcat;

/// Long enough for a broker that is killed and for a busy machine, short enough to wait for its end.
const SESSION: Duration = Duration::from_secs(20);

/// What a group is asked to do again and again, and who sees how it stands.
struct Work<'a> {
    topic: &'a str,
    observer: &'a Actor,
    rounds: u64,
}

impl<'a> Work<'a> {
    fn of(topic: &'a str, observer: &'a Actor) -> Work<'a> {
        Work { topic, observer, rounds: 0 }
    }

    /// The partitions are shared, and nobody has a step to take any more; each of them gets something, which is read once and
    /// committed.
    fn go_on(&mut self, writer: &Actor, members: &mut [&mut Member<'_>]) {
        let round = self.rounds;
        self.rounds += 1;
        until(members, &format!("settled in round {round}"), |members| {
            is_shared(members) && self.is_stable()
        });
        let before = read_by(members);
        let values: BTreeSet<String> = (0..PARTITIONS).map(|index| format!("{round} in {index}")).collect();
        send_among_aborted(writer, self.topic, &values);
        until(members, &format!("read in round {round}"), |members| read_by(members).is_superset(&values));
        let read: BTreeSet<String> = read_by(members).difference(&before).cloned().collect();
        assert_eq!(
            read, values,
            "round {round}: nothing that was aborted, and nothing that was committed before"
        );
        members.iter_mut().for_each(|member| member.commit_read());
        for index in 0..PARTITIONS {
            // A record, one that was aborted before and behind it, two markers: at least behind the record.
            let committed = writer.group_offset(self.topic, self.topic, index).expect("a committed offset");
            let least = i64::try_from(round * 5 + 2).unwrap();
            assert!(committed >= least, "round {round}: {committed} in {index}, not {least}");
        }
    }

    fn is_stable(&self) -> bool {
        let described = self.observer.ask(&json!({"op": "describe_group", "group": self.topic})).unwrap();
        described["state"] == "stable"
    }

    /// `kill -9` of the broker: nobody rebalances, and all go on.
    fn go_on_after_a_kill(&mut self, broker: &mut Broker, writer: &Actor, members: &mut [&mut Member<'_>]) {
        let before = seen_by(members);
        broker.kill();
        broker.restart();
        self.go_on(writer, members);
        assert_eq!(seen_by(members), before, "nobody rebalances");
    }
}

fn seen_by(members: &[&mut Member<'_>]) -> Vec<(Vec<i64>, u64)> {
    members.iter().map(|member| (member.assigned.clone(), member.rebalances)).collect()
}

/// One after the other leads: who leads is killed, and comes back as somebody else.
pub fn java_librdkafka_aiokafka_and_kafkajs_share_a_classic_group() {
    let mut broker = Broker::start();
    let (Some(java), Some(librdkafka)) = (Actor::java(&broker), Actor::librdkafka(&broker)) else { return };
    let (Some(aiokafka), Some(kafkajs)) = (Actor::aiokafka(&broker), Actor::kafkajs(&broker)) else { return };
    let topic = "of-all-makes";
    java.create_topic(topic, PARTITIONS);
    let mut subscription = Subscription::new(topic, "roundrobin");
    subscription.session = SESSION;
    let mut first = subscription.open(&aiokafka, 1, None);
    until(&mut [&mut first], "assigned", is_shared);
    let mut of_java = subscription.open(&java, 2, None);
    let mut of_librdkafka = subscription.open(&librdkafka, 3, None);
    let mut of_kafkajs = subscription.open(&kafkajs, 4, None);
    let mut work = Work::of(topic, &librdkafka);
    work.go_on(&java, &mut [&mut first, &mut of_java, &mut of_librdkafka, &mut of_kafkajs]);

    aiokafka.kill();
    work.go_on(&librdkafka, &mut [&mut of_java, &mut of_librdkafka, &mut of_kafkajs]);
    let aiokafka = Actor::aiokafka(&broker).unwrap();
    let mut again = subscription.open(&aiokafka, 5, None);
    let all = &mut [&mut of_java, &mut of_librdkafka, &mut of_kafkajs, &mut again];
    work.go_on(&java, all);

    work.go_on_after_a_kill(&mut broker, &java, all);

    kafkajs.kill();
    java.kill();
    work.go_on(&librdkafka, &mut [&mut of_librdkafka, &mut again]);
    again.leave();
    work.go_on(&librdkafka, &mut [&mut of_librdkafka]);
    of_librdkafka.leave();
}

fn with_sessions_of_the_same_length() -> Broker {
    let session = SESSION.as_millis().to_string();
    Broker::start_with(&["--consumer-session-timeout", &session, "--consumer-heartbeat-interval", "500"])
}

pub fn java_and_librdkafka_share_a_group(assignor: &str) {
    let mut broker = with_sessions_of_the_same_length();
    let (Some(java), Some(librdkafka)) = (Actor::java(&broker), Actor::librdkafka(&broker)) else { return };
    let victim = Actor::java(&broker).unwrap();
    let topic = "of-both-makes";
    java.create_topic(topic, PARTITIONS);
    let mut subscription = Subscription::new(topic, assignor);
    subscription.session = SESSION;
    let mut of_victim = subscription.open(&victim, 1, None);
    let mut of_java = subscription.open(&java, 2, None);
    let mut of_librdkafka = subscription.open(&librdkafka, 3, None);
    let mut work = Work::of(topic, &java);
    work.go_on(&java, &mut [&mut of_victim, &mut of_java, &mut of_librdkafka]);
    victim.kill();
    work.go_on(&librdkafka, &mut [&mut of_java, &mut of_librdkafka]);
    let victim = Actor::librdkafka(&broker).unwrap();
    let mut again = subscription.open(&victim, 4, None);
    let all = &mut [&mut of_java, &mut of_librdkafka, &mut again];
    work.go_on(&java, all);
    work.go_on_after_a_kill(&mut broker, &java, all);
    for member in [again, of_librdkafka] {
        member.leave();
    }
    work.go_on(&java, &mut [&mut of_java]);
    of_java.leave();
}

/// Members that know only the classic protocol stay where others come with the consumer protocol, are killed and come back, and
/// the others go.
pub fn clients_without_the_consumer_protocol_stay_in_a_group_that_takes_it_up() {
    let mut broker = with_sessions_of_the_same_length();
    let (Some(java), Some(librdkafka)) = (Actor::java(&broker), Actor::librdkafka(&broker)) else { return };
    let (Some(aiokafka), Some(kafkajs)) = (Actor::aiokafka(&broker), Actor::kafkajs(&broker)) else { return };
    let topic = "of-both-protocols";
    java.create_topic(topic, PARTITIONS);
    let mut classic = Subscription::new(topic, "roundrobin");
    classic.session = SESSION;
    let consumer = Subscription::new(topic, "consumer:uniform");
    let mut of_kafkajs = classic.open(&kafkajs, 1, None);
    let mut of_aiokafka = classic.open(&aiokafka, 2, None);
    let mut work = Work::of(topic, &java);
    work.go_on(&java, &mut [&mut of_kafkajs, &mut of_aiokafka]);
    let mut of_java = consumer.open(&java, 3, None);
    work.go_on(&java, &mut [&mut of_kafkajs, &mut of_aiokafka, &mut of_java]);
    let mut of_librdkafka = consumer.open(&librdkafka, 4, None);
    let all = &mut [&mut of_kafkajs, &mut of_aiokafka, &mut of_java, &mut of_librdkafka];
    work.go_on(&java, all);
    work.go_on_after_a_kill(&mut broker, &java, all);

    aiokafka.kill();
    work.go_on(&librdkafka, &mut [&mut of_kafkajs, &mut of_java, &mut of_librdkafka]);
    let aiokafka = Actor::aiokafka(&broker).unwrap();
    let mut again = classic.open(&aiokafka, 5, None);
    work.go_on(&java, &mut [&mut of_kafkajs, &mut of_java, &mut of_librdkafka, &mut again]);
    of_java.leave();
    librdkafka.kill();
    // A group of the classic protocol again.
    work.go_on(&kafkajs, &mut [&mut of_kafkajs, &mut again]);
    of_kafkajs.leave();
    again.leave();
}

/// kcat has no actor: it prints what it reads until it is killed.
pub fn kcat_shares_a_topic_with_java() {
    let broker = Broker::start();
    let (Some(program), Some(java)) = (tools::kcat(), Actor::java(&broker)) else { return };
    let topic = "with-kcat";
    java.create_topic(topic, PARTITIONS);
    let mut subscription = Subscription::new(topic, "range");
    subscription.session = SESSION;
    let mut member = subscription.open(&java, 1, None);
    until(&mut [&mut member], "assigned", is_shared);
    let session = format!("session.timeout.ms={}", SESSION.as_millis());
    let words = ["-q", "-u", "-X", "auto.offset.reset=earliest", "-X", &session, "-G", topic, topic];
    let command = kcat::towards(&program, &broker, &words);
    let mut kcat = Process::spawn("kcat", command, &Arc::new(Heard::default()));
    until(&mut [&mut member], "shared", |members| members[0].assigned.len() == 2);
    let kept = member.assigned.clone();
    let values: Vec<String> = (0..PARTITIONS).map(|index| format!("in {index}")).collect();
    let producer = java.producer("none");
    for (index, value) in (0..PARTITIONS).zip(&values) {
        producer.send(topic, &[(index, None, value)]);
    }
    until(&mut [&mut member], "read", |members| read_by(members).len() == 2);
    let of_java = read_by(&[&mut member]);
    assert_eq!(of_java, kept.iter().map(|index| format!("in {index}")).collect());
    let mut of_kcat = BTreeSet::new();
    while of_kcat.len() < 2 {
        match kcat.next(DEADLINE) {
            Said::Line(line) => drop(of_kcat.insert(line)),
            Said::Nothing | Said::Late => panic!("kcat has read {of_kcat:?}\n{}", kcat.report()),
        }
    }
    assert_eq!(of_java.union(&of_kcat).cloned().collect::<Vec<_>>(), values);
    kcat.kill();
    until(&mut [&mut member], "taken over", is_shared);
    member.leave();
}
