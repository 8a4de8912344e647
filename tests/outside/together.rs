//! Clients of different makes as members of one group: they share, read what was committed among what was aborted, are killed,
//! come back, and go on together when the broker is killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::common::actor::Actor;
use crate::common::broker::Broker;
use crate::common::process::{Heard, Process, Said};
use crate::common::tools;
use crate::groups::{
    DEADLINE, Member, PARTITIONS, Subscription, is_shared, read_by, send_among_aborted, until,
};
use crate::kcat;

/// Long enough for clients that work only while they are asked to, short enough to wait for its end.
const SESSION: Duration = Duration::from_secs(10);

/// The partitions are shared; each of them gets something, which is read once and committed.
fn work(topic: &str, round: u64, writer: &Actor, members: &mut [&mut Member<'_>]) {
    until(members, &format!("shared in round {round}"), is_shared);
    let before = read_by(members);
    let values: BTreeSet<String> = (0..PARTITIONS).map(|index| format!("{round} in {index}")).collect();
    send_among_aborted(writer, topic, &values);
    until(members, &format!("read in round {round}"), |members| read_by(members).is_superset(&values));
    let read: BTreeSet<String> = read_by(members).difference(&before).cloned().collect();
    assert_eq!(
        read, values,
        "round {round}: nothing that was aborted, and nothing that was committed before"
    );
    members.iter().for_each(|member| drop(member.ask("commit_read")));
    for index in 0..PARTITIONS {
        // A record, one that was aborted before and behind it, two markers: at least behind the record.
        let committed = writer.group_offset(topic, topic, index).expect("a committed offset");
        let least = i64::try_from(round * 5 + 2).unwrap();
        assert!(committed >= least, "round {round}: {committed} in {index}, not {least}");
    }
}

/// `kill -9` of the broker: nobody rebalances, and all go on.
fn work_on_after_a_kill(
    broker: &mut Broker,
    topic: &str,
    round: u64,
    writer: &Actor,
    members: &mut [&mut Member<'_>],
) {
    let before = seen_by(members);
    broker.kill();
    broker.restart();
    work(topic, round, writer, members);
    assert_eq!(seen_by(members), before, "nobody rebalances");
}

fn seen_by(members: &[&mut Member<'_>]) -> Vec<(Vec<i64>, u64)> {
    members.iter().map(|member| (member.assigned.clone(), member.rebalances)).collect()
}

/// One after the other leads: who leads is killed, and comes back as somebody else.
#[test]
#[ignore = "not run often enough yet to be told from chance when it fails"]
fn java_librdkafka_aiokafka_and_kafkajs_share_a_classic_group() {
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
    let all = &mut [&mut first, &mut of_java, &mut of_librdkafka, &mut of_kafkajs];
    work(topic, 0, &java, all);

    aiokafka.kill();
    work(topic, 1, &librdkafka, &mut [&mut of_java, &mut of_librdkafka, &mut of_kafkajs]);
    let aiokafka = Actor::aiokafka(&broker).unwrap();
    let mut again = subscription.open(&aiokafka, 5, None);
    let all = &mut [&mut of_java, &mut of_librdkafka, &mut of_kafkajs, &mut again];
    work(topic, 2, &java, all);

    work_on_after_a_kill(&mut broker, topic, 3, &java, all);

    kafkajs.kill();
    java.kill();
    work(topic, 4, &librdkafka, &mut [&mut of_librdkafka, &mut again]);
    again.leave();
    work(topic, 5, &librdkafka, &mut [&mut of_librdkafka]);
    of_librdkafka.leave();
}

fn with_sessions_of_the_same_length() -> Broker {
    let session = SESSION.as_millis().to_string();
    Broker::start_with(&["--consumer-session-timeout", &session, "--consumer-heartbeat-interval", "500"])
}

#[test]
#[ignore = "not run often enough yet to be told from chance when it fails"]
fn java_and_librdkafka_share_a_group_of_the_consumer_protocol() {
    java_and_librdkafka_share_a_group("consumer:uniform");
}

#[test]
#[ignore = "not run often enough yet to be told from chance when it fails"]
fn java_and_librdkafka_share_a_group_that_rebalances_cooperatively() {
    java_and_librdkafka_share_a_group("cooperative-sticky");
}

fn java_and_librdkafka_share_a_group(assignor: &str) {
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
    work(topic, 0, &java, &mut [&mut of_victim, &mut of_java, &mut of_librdkafka]);
    victim.kill();
    work(topic, 1, &librdkafka, &mut [&mut of_java, &mut of_librdkafka]);
    let victim = Actor::librdkafka(&broker).unwrap();
    let mut again = subscription.open(&victim, 4, None);
    let all = &mut [&mut of_java, &mut of_librdkafka, &mut again];
    work(topic, 2, &java, all);
    work_on_after_a_kill(&mut broker, topic, 3, &java, all);
    for member in [again, of_librdkafka] {
        member.leave();
    }
    work(topic, 4, &java, &mut [&mut of_java]);
    of_java.leave();
}

/// Members that know only the classic protocol stay where others come with the consumer protocol, are killed and come back, and
/// the others go.
#[test]
#[ignore = "not run often enough yet to be told from chance when it fails"]
fn clients_without_the_consumer_protocol_stay_in_a_group_that_takes_it_up() {
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
    work(topic, 0, &java, &mut [&mut of_kafkajs, &mut of_aiokafka]);
    let mut of_java = consumer.open(&java, 3, None);
    work(topic, 1, &java, &mut [&mut of_kafkajs, &mut of_aiokafka, &mut of_java]);
    let mut of_librdkafka = consumer.open(&librdkafka, 4, None);
    let all = &mut [&mut of_kafkajs, &mut of_aiokafka, &mut of_java, &mut of_librdkafka];
    work(topic, 2, &java, all);
    work_on_after_a_kill(&mut broker, topic, 3, &java, all);

    aiokafka.kill();
    work(topic, 4, &librdkafka, &mut [&mut of_kafkajs, &mut of_java, &mut of_librdkafka]);
    let aiokafka = Actor::aiokafka(&broker).unwrap();
    let mut again = classic.open(&aiokafka, 5, None);
    work(topic, 5, &java, &mut [&mut of_kafkajs, &mut of_java, &mut of_librdkafka, &mut again]);
    of_java.leave();
    librdkafka.kill();
    // A group of the classic protocol again.
    work(topic, 6, &kafkajs, &mut [&mut of_kafkajs, &mut again]);
    of_kafkajs.leave();
    again.leave();
}

/// kcat has no actor: it prints what it reads until it is killed.
#[test]
#[ignore = "not run often enough yet to be told from chance when it fails"]
fn kcat_shares_a_topic_with_java() {
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
