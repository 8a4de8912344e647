//! Groups from a shell: somebody else's consumers are described with their lag and what holds them back; they are not
//! moved while they live, and start where they were moved to when they come back.

use std::time::Instant;

use serde_json::{Value, json};

use crate::common::actor::Actor;
use crate::common::broker::Broker;
use crate::{DEADLINE, Semel, objects};

const GROUP: &str = "readers";

/// A member of the group that lives in an actor.
struct Member<'a> {
    actor: &'a Actor,
    id: u64,
}

impl<'a> Member<'a> {
    fn join(actor: &'a Actor, id: u64, topic: &str) -> Member<'a> {
        let request = json!({
            "op": "subscribe", "id": id, "topic": topic, "group": GROUP, "assignor": "range", "instance": null,
            "session_ms": 20_000,
        });
        actor.ask(&request).unwrap_or_else(|failure| panic!("{failure:?}\n{}", actor.log()));
        Member { actor, id }
    }

    fn ask(&self, mut request: Value) -> Value {
        request["id"] = json!(self.id);
        self.actor.ask(&request).unwrap_or_else(|failure| panic!("{failure:?}\n{}", self.actor.log()))
    }

    /// Reads until it has so many records: partition, offset, value.
    fn read(&self, count: usize) -> Vec<(i64, i64, String)> {
        let begun = Instant::now();
        let mut rows = Vec::new();
        while rows.len() < count {
            assert!(begun.elapsed() < DEADLINE, "only {rows:?}\n{}", self.actor.log());
            let answer = self.ask(json!({"op": "poll", "ms": 200}));
            rows.extend(answer["rows"].as_array().unwrap().iter().map(|row| {
                (row[0].as_i64().unwrap(), row[1].as_i64().unwrap(), row[2].as_str().unwrap().to_owned())
            }));
        }
        rows.sort();
        rows
    }

    fn commit(&self) {
        self.ask(json!({"op": "commit_read"}));
    }

    fn leave(self) {
        self.ask(json!({"op": "leave"}));
    }
}

fn describe(semel: &Semel) -> Value {
    objects(&semel.done(&["group", "describe", GROUP], "")).remove(0)
}

/// What is told of each partition, of these fields.
fn partitions(described: &Value, fields: &[&str]) -> Vec<Vec<Value>> {
    let rows = described["partitions"].as_array().unwrap();
    rows.iter().map(|row| fields.iter().map(|field| row[field].clone()).collect()).collect()
}

pub fn refused(semel: &Semel, words: &[&str], expected: &str) {
    let told = semel.run(words, "");
    assert_eq!(told.status.code(), Some(1), "{words:?}: {:?} {}", told.lines, told.errors);
    assert!(told.errors.contains(expected) && told.errors.contains("hint: "), "{words:?}: {}", told.errors);
}

fn a_group_is_described_and_moved(client: &Actor, semel: &Semel) {
    let topic = format!("read-by-{}", client.name());
    semel.done(&["topic", "create", &topic, "--partitions", "2"], "");
    client.producer("none").send(&topic, &[(0, None, "a"), (0, None, "b"), (0, None, "c"), (1, None, "d")]);
    let member = Member::join(client, 1, &topic);
    member.read(4);
    member.commit();
    let described = describe(semel);
    assert_eq!((&described["state"], &described["protocol"]), (&json!("Stable"), &json!("range")));
    let members = described["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert!(members[0]["client_host"].as_str().unwrap().contains("127.0.0.1"), "{members:?}");
    assert_eq!(members[0]["partitions"], json!([[topic, 0], [topic, 1]]));
    let progress = ["partition", "committed_offset", "end_offset", "lag", "member_id"];
    let id = members[0]["member_id"].clone();
    let at_the_end = [(0, 3), (1, 1)]
        .map(|(partition, end)| vec![json!(partition), json!(end), json!(end), json!(0), id.clone()]);
    assert_eq!(partitions(&described, &progress), at_the_end);

    // Somebody's open transaction holds it back, and is named.
    let holder = client.transactional("slow");
    holder.begin();
    holder.send(&topic, &[(1, None, "open"), (1, None, "open too")]);
    let described = describe(semel);
    let held = partitions(&described, &["lag", "end_offset", "last_stable_offset"]).remove(1);
    assert_eq!(held, [json!(2), json!(3), json!(1)]);
    let blocker = &described["partitions"][1]["blocker"];
    assert_eq!((&blocker["first_offset"], &blocker["transaction"]["state"]), (&json!(1), &json!("Ongoing")));
    assert_eq!(blocker["transaction"]["transactional_id"], "slow");
    assert_eq!(described["partitions"][0]["blocker"], Value::Null);
    let table = semel.done(&["group", "describe", GROUP, "--output", "table"], "").join("\n");
    assert!(table.contains("HELD BY") && table.contains("slow (Ongoing)"), "{table}");
    // The latest that it can be moved to is before them: they may yet be committed.
    let named = format!("{topic}:1");
    let latest = ["group", "reset", GROUP, "--topic", &named, "--to-latest"];
    refused(semel, &latest, "is Stable");

    refused(semel, &["group", "reset", GROUP, "--topic", &topic, "--to-earliest", "--execute"], "is Stable");
    refused(semel, &["group", "delete", GROUP], "NON_EMPTY_GROUP");
    refused(semel, &["group", "delete-offsets", GROUP, "--topic", &topic], "GROUP_SUBSCRIBED_TO_TOPIC");
    member.leave();
    assert_eq!(objects(&semel.done(&latest, ""))[0]["to_offset"], 1);
    holder.commit();
    holder.close();

    moves(semel, &topic);
    let member = Member::join(client, 2, &topic);
    let read = member.read(4);
    let values: Vec<_> = read.iter().map(|(_, _, value)| value.as_str()).collect();
    assert_eq!(values, ["b", "c", "open", "open too"], "it starts where it was moved to: {read:?}");
    member.commit();
    member.leave();
    forget(semel, &topic);
}

/// From 3 and 1, partition 0 is moved to 1.
fn moves(semel: &Semel, topic: &str) {
    let first = format!("{topic}:0");
    let reset = |words: &[&str]| {
        objects(&semel.done(&[&["group", "reset", GROUP, "--topic", &first], words].concat(), ""))
    };
    let to = |words: &[&str]| {
        let told = reset(words).remove(0);
        (told["from_offset"].as_i64(), told["to_offset"].as_i64().unwrap(), told["limited_by"].clone())
    };
    assert_eq!(to(&["--to-earliest"]), (Some(3), 0, Value::Null));
    assert_eq!(to(&["--to-offset", "99"]), (Some(3), 3, json!("end")));
    assert_eq!(to(&["--shift-by", "-99"]), (Some(3), 0, json!("first")));
    assert_eq!(to(&["--to-datetime", "2020-01-01T00:00:00Z"]), (Some(3), 0, Value::Null));
    assert_eq!(to(&["--to-datetime", "2200-01-01T00:00:00Z"]), (Some(3), 3, Value::Null));
    let committed = || partitions(&describe(semel), &["committed_offset"]).concat();
    assert_eq!(committed(), [json!(3), json!(1)], "nothing was asked to be done");
    assert_eq!(reset(&["--shift-by", "-2", "--execute"])[0]["executed"], true);
    assert_eq!(committed(), [json!(1), json!(1)]);
}

fn forget(semel: &Semel, topic: &str) {
    let list = |words: &[&str]| {
        let groups = objects(&semel.done(&[&["group", "list"], words].concat(), ""));
        groups.iter().map(|group| (group["group"].clone(), group["state"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(list(&[]), [(json!(GROUP), json!("Empty"))]);
    assert_eq!(list(&["--state", "empty", "--type", "classic"]).len(), 1);
    assert_eq!(list(&["--state", "Stable"]), []);
    assert_eq!(list(&["--type", "share"]), []);
    let forgotten =
        objects(&semel.done(&["group", "delete-offsets", GROUP, "--topic", &format!("{topic}:1")], ""));
    let places: Vec<_> = forgotten.iter().map(|one| (&one["partition"], &one["forgotten_offset"])).collect();
    assert_eq!(places.len(), 1, "{forgotten:?}");
    // Behind the commit marker, as far as its client goes.
    assert!(*places[0].0 == 1 && places[0].1.as_i64().unwrap() >= 3, "{forgotten:?}");
    assert_eq!(partitions(&describe(semel), &["partition", "committed_offset"]), [[json!(0), json!(3)]]);
    refused(semel, &["group", "reset", GROUP, "--topic", topic, "--shift-by", "1"], &format!("{topic}-1"));
    semel.done(&["group", "delete", GROUP], "");
    refused(semel, &["group", "describe", GROUP], "there is no group readers");
    refused(semel, &["group", "delete", GROUP], "there is no group readers");
    assert_eq!(list(&[]), []);
}

#[test]
fn librdkafkas_groups_are_described_and_moved() {
    let broker = Broker::start();
    let Some(client) = Actor::librdkafka(&broker) else { return };
    a_group_is_described_and_moved(&client, &Semel::of(&broker));
}

#[test]
fn javas_groups_are_described_and_moved() {
    let broker = Broker::start();
    let Some(client) = Actor::java(&broker) else { return };
    a_group_is_described_and_moved(&client, &Semel::of(&broker));
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start();
    let semel = Semel::of(&broker);
    semel.done(&["topic", "create", "t"], "");
    let reset = ["group", "reset", "new", "--topic"];
    let usage = |words: &[&str], expected: &str| {
        let told = semel.run(words, "");
        assert_eq!(told.status.code(), Some(2), "{words:?}: {}", told.errors);
        assert!(told.errors.contains(expected), "{words:?}: {}", told.errors);
    };
    usage(&[&reset[..], &["t"]].concat(), "--to-earliest");
    usage(&[&reset[..], &["t", "--to-earliest", "--to-latest"]].concat(), "cannot be used with");
    usage(&[&reset[..], &["t:x", "--to-earliest"]].concat(), "payments:0,2");
    usage(&[&reset[..], &["t", "--to-datetime", "yesterday"]].concat(), "2026-05-01T12:00:00Z");
    usage(&["group", "list", "--state", "stabel"], "Stable");
    refused(&semel, &[&reset[..], &["t:7", "--to-earliest"]].concat(), "t-7");
    refused(&semel, &[&reset[..], &["nowhere", "--to-earliest"]].concat(), "nowhere");
    refused(&semel, &["group", "delete-offsets", "new", "--topic", "t"], "there is no group new");

    // A group comes into being with its offsets, before anybody reads.
    semel.done(&["produce", "t"], "a\nb\n");
    semel.done(&[&reset[..], &["t", "--to-offset", "1", "--execute"]].concat(), "");
    let described = objects(&semel.done(&["group", "describe", "new"], "")).remove(0);
    assert_eq!(partitions(&described, &["committed_offset", "lag"]), [[json!(1), json!(1)]]);
    assert_eq!(described["state"], "Empty");
}

#[test]
fn records_are_consumed_as_a_member_of_a_group() {
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start();
    let semel = Semel::of(&broker);
    semel.done(&["topic", "create", "a", "--partitions", "2"], "");
    semel.done(&["topic", "create", "b"], "");
    semel.done(&["produce", "a"], "1\n2\n3\n");
    semel.done(&["produce", "b"], "4\n");
    let audit = ["--group", "audit"];
    let consume = |words: &[&str]| {
        let mut values = semel.done(&[&["consume"], words, &audit].concat(), "");
        values.sort();
        values
    };
    assert_eq!(consume(&["a"]), ["1", "2", "3"]);
    assert_eq!(consume(&["a"]), [""; 0], "what was printed is committed");
    assert_eq!(consume(&["a", "b"]), ["4"]);
    semel.done(&["produce", "b"], "5\n6\n");
    let words = ["consume", "--pattern", "[ab]", "--output", "json", "--commit", "never", "--count", "1"];
    let told = objects(&semel.done(&[&words[..], &audit].concat(), ""));
    assert_eq!((&told[0]["topic"], &told[0]["value"], told.len()), (&json!("b"), &json!("5"), 1));
    assert_eq!(consume(&["b", "--count", "1"]), ["5"], "nothing was committed");
    assert_eq!(consume(&["b", "--commit", "interval", "--instance", "me"]), ["6"]);
    assert_eq!(consume(&["b", "--instance", "me"]), [""; 0], "it comes back to its partition");
    let described = objects(&semel.done(&["group", "describe", "audit"], "")).remove(0);
    let of_b = described["partitions"].as_array().unwrap().iter().find(|one| one["topic"] == "b").unwrap();
    assert_eq!((&of_b["committed_offset"], &of_b["lag"]), (&json!(3), &json!(0)));

    let usage = |words: &[&str], expected: &str| {
        let told = semel.run(&[&["consume"], words].concat(), "");
        assert_eq!(told.status.code(), Some(2), "{words:?}: {}", told.errors);
        assert!(told.errors.contains(expected), "{words:?}: {}", told.errors);
    };
    usage(&["a", "b"], "--group");
    usage(&["--pattern", "a.*"], "--group");
    usage(&["a", "--group", "audit", "--partition", "0"], "cannot be used with");
    refused(&semel, &["consume", "--group", "audit", "--pattern", "(a"], "INVALID_REGULAR_EXPRESSION");
}

#[test]
fn many_groups_are_measured_and_leave_nothing_behind() {
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start_with(&["--consumer-heartbeat-interval", "100"]);
    let semel = Semel::of(&broker);
    let size = ["--groups", "5", "--members", "3", "--partitions", "35", "--duration", "1", "--json"];
    for (protocol, further) in [
        ("consumer", &["--members-per-connection", "4"][..]),
        ("classic", &["--heartbeat-interval-ms", "100"][..]),
    ] {
        let words = [&["bench", "groups", "--protocol", protocol][..], &size, further].concat();
        let found = objects(&semel.done(&words, "")).remove(0);
        assert_eq!(found["stable"]["count"], 5, "{found}");
        for counted in ["heartbeat_alone", "heartbeat_beside", "produce_alone", "produce_beside"] {
            assert!(found[counted]["count"].as_u64().unwrap() > 0, "{counted}: {found}");
        }
        assert_eq!(found["rejoined"], 0, "{found}");
        // The headings alone.
        for list in ["group", "topic"] {
            let listed = semel.done(&[list, "list"], "");
            assert!(listed.iter().all(|line| !line.contains("semel-bench")), "{listed:?}");
        }
    }
}
