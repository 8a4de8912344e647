//! A perfect broker's histories are without findings, and each planted defect breaks the property that bears its name.

mod members;

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// A broker that is a few maps, and clients whose calls overlap.
#[derive(Default)]
struct Perfect {
    at: u64,
    events: Vec<Event>,
    calls: u64,
    names: u64,
    log: BTreeMap<String, Vec<Entry>>,
    outcomes: HashMap<String, bool>,
    open: Vec<String>,
    staged: HashMap<String, i64>,
    committed: Option<i64>,
    holders: HashMap<String, (String, i16)>,
    clients: Vec<Client>,
}

#[derive(Clone)]
enum Entry {
    Record { name: String, txn: Option<String> },
    Marker,
}

#[derive(Clone, Default)]
struct Client {
    name: String,
    /// The transactional id it uses.
    id: Option<String>,
    epoch: Option<i16>,
    txn: Option<String>,
    position: HashMap<(String, Isolation), i64>,
    doing: Option<(u64, Operation, Option<Returned>)>,
}

const PARTITIONS: [&str; 2] = ["t/0", "t/1"];

impl Perfect {
    fn new() -> Perfect {
        let client = |name: &str, id: Option<&str>| Client {
            name: name.to_owned(),
            id: id.map(str::to_owned),
            ..Client::default()
        };
        let clients = vec![
            client("one", Some("x")),
            client("other", Some("x")),
            client("third", Some("y")),
            client("plain", None),
            client("reader", None),
        ];
        let log = PARTITIONS.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        let events = vec![Event::History { version: VERSION, clock_skew_us: 0 }];
        Perfect { clients, log, events, ..Perfect::default() }
    }

    /// A client goes on: it asks, what it asks for is done, or it is answered.
    fn step(&mut self, who: usize, choice: u8) {
        self.at += 1;
        let mut client = self.clients[who].clone();
        match client.doing.take() {
            None => {
                let operation = self.wish(&mut client, choice);
                self.calls += 1;
                let call = self.calls;
                client.doing = Some((call, operation.clone(), None));
                let process = client.name.clone();
                self.events.push(Event::Call(Call { call, process, at: self.at, operation }));
            }
            Some((call, operation, None)) => {
                let returned = self.perform(&mut client, &operation, choice);
                client.doing = Some((call, operation, Some(returned)));
            }
            Some((call, _, Some(returned))) => {
                self.events.push(Event::Return { call, at: self.at, returned });
            }
        }
        self.clients[who] = client;
    }

    fn wish(&mut self, client: &mut Client, choice: u8) -> Operation {
        let partition = PARTITIONS[usize::from(choice & 1)].to_owned();
        self.names += 1;
        let name = self.names.to_string();
        if client.name == "reader" {
            let isolation =
                if choice & 2 == 0 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
            let from = client.position.get(&(partition.clone(), isolation)).copied().unwrap_or(0);
            return match choice % 7 {
                0 => Operation::End { partition },
                1 => Operation::FetchOffsets { group: "g".to_owned() },
                // Again from the beginning, now and then.
                2 => Operation::Read { partition, from: 0, isolation },
                _ => Operation::Read { partition, from, isolation },
            };
        }
        let Some(transactional_id) = client.id.clone() else {
            return Operation::Produce {
                partition,
                record: name,
                txn: None,
                key: None,
                tombstone: false,
                idempotency_key: None,
            };
        };
        if client.epoch.is_none() {
            client.txn = None;
            return Operation::Init { transactional_id, resumes: false };
        }
        let txn = client.txn.get_or_insert_with(|| format!("txn-{name}")).clone();
        match choice % 8 {
            0 => Operation::Commit { txn },
            1 => Operation::Abort { txn },
            2 => {
                let offsets = [("t/0".to_owned(), i64::try_from(self.names).unwrap())].into();
                Operation::SendOffsets { txn, group: "g".to_owned(), offsets }
            }
            _ => Operation::Produce {
                partition,
                record: name,
                txn: Some(txn),
                key: None,
                tombstone: false,
                idempotency_key: None,
            },
        }
    }

    fn perform(&mut self, client: &mut Client, operation: &Operation, choice: u8) -> Returned {
        let holds = client.id.as_ref().is_none_or(|id| {
            self.holders
                .get(id)
                .is_some_and(|(holder, epoch)| *holder == client.name && Some(*epoch) == client.epoch)
        });
        let mut answer = Answer::default();
        match operation {
            Operation::Init { transactional_id, .. } => answer = self.init(client, transactional_id),
            _ if !holds => {
                // Fenced: begins anew.
                client.epoch = None;
                return Returned::Failed;
            }
            Operation::Produce { partition, record, txn, .. } => {
                if let Some(txn) = txn.as_ref().filter(|txn| !self.open.contains(txn)) {
                    self.open.push(txn.clone());
                }
                let log = self.log.get_mut(partition).unwrap();
                answer.offset = Some(i64::try_from(log.len()).unwrap());
                log.push(Entry::Record { name: record.clone(), txn: txn.clone() });
                if choice & 0x70 == 0 {
                    return Returned::Unknown;
                }
            }
            Operation::SendOffsets { txn, offsets, .. } => {
                if !self.open.contains(txn) {
                    self.open.push(txn.clone());
                }
                self.staged.insert(txn.clone(), offsets["t/0"]);
            }
            Operation::Commit { txn } | Operation::Abort { txn } => {
                client.txn = None;
                self.end(txn, matches!(operation, Operation::Commit { .. }));
                if choice & 0x70 == 0 {
                    return Returned::Unknown;
                }
            }
            Operation::FetchOffsets { .. } => {
                answer.offsets =
                    self.committed.map(|offset| ("t/0".to_owned(), offset)).into_iter().collect();
            }
            Operation::Read { partition, from, isolation } => {
                let (high, stable) = self.marks(partition);
                let end = if *isolation == Isolation::ReadCommitted { stable } else { high };
                let end = end.max(*from);
                answer.records = self.read(partition, *from, end, *isolation);
                answer.next = Some(end);
                (answer.high_watermark, answer.last_stable) = (Some(high), Some(stable));
                client.position.insert((partition.clone(), *isolation), end);
            }
            Operation::End { partition } => {
                let (high, stable) = self.marks(partition);
                (answer.high_watermark, answer.last_stable) = (Some(high), Some(stable));
            }
            Operation::Outcome { .. } | Operation::CommitOffsets { .. } | Operation::Heartbeat { .. } => {
                unreachable!("nobody asks for it")
            }
        }
        Returned::Ok(answer)
    }

    fn init(&mut self, client: &mut Client, id: &str) -> Answer {
        let before = self.holders.get(id).cloned();
        let of = |name: &String| self.clients.iter().find(|other| other.name == *name);
        if let Some(txn) =
            before.as_ref().and_then(|(holder, _)| of(holder)).and_then(|other| other.txn.clone())
        {
            self.end(&txn, false);
        }
        let epoch = before.map_or(0, |(_, epoch)| epoch + 1);
        self.holders.insert(id.to_owned(), (client.name.clone(), epoch));
        client.epoch = Some(epoch);
        let producer_id = Some(if id == "x" { 1 } else { 2 });
        Answer { producer_id, epoch: Some(epoch), ..Answer::default() }
    }

    fn end(&mut self, txn: &str, commit: bool) {
        if self.outcomes.contains_key(txn) {
            return;
        }
        self.outcomes.insert(txn.to_owned(), commit);
        self.open.retain(|open| open != txn);
        if let Some(offset) = self.staged.remove(txn).filter(|_| commit) {
            self.committed = Some(offset);
        }
        for log in self.log.values_mut() {
            let is_in = |entry: &Entry| matches!(entry, Entry::Record { txn: Some(of), .. } if of == txn);
            if log.iter().any(is_in) {
                log.push(Entry::Marker);
            }
        }
    }

    fn marks(&self, partition: &str) -> (i64, i64) {
        let log = &self.log[partition];
        let is_open =
            |entry: &Entry| matches!(entry, Entry::Record { txn: Some(txn), .. } if self.open.contains(txn));
        let stable = log.iter().position(is_open).unwrap_or(log.len());
        (i64::try_from(log.len()).unwrap(), i64::try_from(stable).unwrap())
    }

    fn read(&self, partition: &str, from: i64, to: i64, isolation: Isolation) -> Vec<(i64, String)> {
        let shown = |entry: &Entry| match entry {
            Entry::Record { name, txn: Some(txn) } if isolation == Isolation::ReadCommitted => {
                self.outcomes.get(txn).is_some_and(|commit| *commit).then(|| name.clone())
            }
            Entry::Record { name, .. } => Some(name.clone()),
            Entry::Marker => None,
        };
        let log = (0i64..).zip(&self.log[partition]);
        log.filter(|(offset, _)| (from..to).contains(offset))
            .filter_map(|(offset, entry)| Some((offset, shown(entry)?)))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What calls overlap, answers that are lost, fences: a perfect broker never looks broken.
    #[test]
    fn a_perfect_broker_has_no_findings(steps in proptest::collection::vec((0usize..5, any::<u8>()), 1..600)) {
        let mut perfect = Perfect::new();
        for (who, choice) in steps {
            perfect.step(who, choice);
        }
        let verdict = check(&History::of(perfect.events.clone()).unwrap()).unwrap();
        prop_assert!(verdict.holds(), "{verdict:#?}\n{:#?}", perfect.events);
    }

    /// It reads what it writes.
    #[test]
    fn lines_come_back_as_they_went(steps in proptest::collection::vec((0usize..5, any::<u8>()), 1..60)) {
        let mut perfect = Perfect::new();
        for (who, choice) in steps {
            perfect.step(who, choice);
        }
        for event in perfect.events {
            let line = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }

    /// No input makes it panic.
    #[test]
    fn whatever_comes_is_an_error_at_worst(text in "(\\{\"event\":\"history\",\"version\":1\\}\n)?[ -~\n]{0,300}") {
        let _ = History::read(text.as_bytes()).map(|history| check(&history));
    }
}

/// A history with something of everything; `SOUND` is without findings, and each defect changes a line or adds one.
const SOUND: &str = r#"{"event":"history","version":1}
{"event":"call","call":1,"process":"p","at":1,"op":"init","transactional_id":"x"}
{"event":"return","call":1,"at":2,"result":"ok","producer_id":1,"epoch":0}
{"event":"call","call":2,"process":"p","at":3,"op":"produce","partition":"t/0","record":"a","txn":"T1"}
{"event":"return","call":2,"at":4,"result":"ok","offset":0}
{"event":"call","call":3,"process":"p","at":5,"op":"produce","partition":"t/0","record":"b","txn":"T1"}
{"event":"return","call":3,"at":6,"result":"ok","offset":1}
{"event":"call","call":4,"process":"p","at":7,"op":"send_offsets","txn":"T1","group":"g","offsets":{"in/0":5}}
{"event":"return","call":4,"at":8,"result":"ok"}
{"event":"call","call":5,"process":"p","at":9,"op":"commit","txn":"T1"}
{"event":"return","call":5,"at":10,"result":"ok"}
{"event":"call","call":6,"process":"p","at":11,"op":"produce","partition":"t/0","record":"c","txn":"T2"}
{"event":"return","call":6,"at":12,"result":"ok","offset":3}
{"event":"call","call":7,"process":"p","at":13,"op":"send_offsets","txn":"T2","group":"g","offsets":{"in/0":9}}
{"event":"return","call":7,"at":14,"result":"ok"}
{"event":"call","call":8,"process":"p","at":15,"op":"abort","txn":"T2"}
{"event":"return","call":8,"at":16,"result":"ok"}
{"event":"call","call":9,"process":"q","at":17,"op":"produce","partition":"t/0","record":"d"}
{"event":"return","call":9,"at":18,"result":"ok","offset":5}
{"event":"call","call":10,"process":"q","at":19,"op":"produce","partition":"t/0","record":"e"}
{"event":"return","call":10,"at":20,"result":"ok","offset":6}
{"event":"call","call":11,"process":"r","at":21,"op":"read","partition":"t/0","from":0,"isolation":"read_committed"}
{"event":"return","call":11,"at":22,"result":"ok","records":[[0,"a"],[1,"b"],[5,"d"],[6,"e"]],"next":7,"high_watermark":7,"last_stable":7}
{"event":"call","call":12,"process":"r","at":23,"op":"read","partition":"t/0","from":0,"isolation":"read_uncommitted"}
{"event":"return","call":12,"at":24,"result":"ok","records":[[0,"a"],[1,"b"],[3,"c"],[5,"d"],[6,"e"]],"next":7}
{"event":"call","call":13,"process":"r","at":25,"op":"fetch_offsets","group":"g"}
{"event":"return","call":13,"at":26,"result":"ok","offsets":{"in/0":5}}
{"event":"call","call":14,"process":"s","at":27,"op":"init","transactional_id":"x"}
{"event":"return","call":14,"at":28,"result":"ok","producer_id":1,"epoch":3}
{"event":"call","call":15,"process":"p","at":29,"op":"produce","partition":"t/0","record":"z","txn":"T3"}
{"event":"return","call":15,"at":30,"result":"failed"}
{"event":"crash","at":31}
{"event":"settled","at":32}
{"event":"call","call":16,"process":"r","at":33,"op":"end","partition":"t/0"}
{"event":"return","call":16,"at":34,"result":"ok","high_watermark":7,"last_stable":7}
{"event":"call","call":17,"process":"r","at":35,"op":"read","partition":"t/0","from":0,"isolation":"read_uncommitted"}
{"event":"return","call":17,"at":36,"result":"ok","records":[[0,"a"],[1,"b"],[3,"c"],[5,"d"],[6,"e"]],"next":7}
"#;

fn verdict(text: &str) -> Verdict {
    check(&History::read(text.as_bytes()).unwrap()).unwrap()
}

/// The first line with `from` has `to` instead.
fn changed(from: &str, to: &str) -> Verdict {
    assert!(SOUND.contains(from), "{from}");
    verdict(&SOUND.replacen(from, to, 1))
}

#[track_caller]
fn breaks(property: Property, found: &Verdict) {
    assert!(found.broken.contains_key(&property), "{property:?}: {found:#?}");
    let named = found.findings.iter().find(|finding| finding.property == property).unwrap();
    assert!(!named.lines.is_empty() && !named.says.is_empty(), "{named:?}");
}

#[test]
fn a_sound_history_speaks_of_every_property() {
    let found = verdict(SOUND);
    assert!(found.holds(), "{found:#?}");
    let spoken: Vec<_> = found.looked_at.keys().copied().collect();
    // The epochs and fences, the marks, the offsets, the end: all but what a crash could have changed.
    let of_others = |property: &Property| property.is_of_all();
    let missing: Vec<_> =
        Property::ALL.into_iter().filter(of_others).filter(|property| !spoken.contains(property)).collect();
    assert_eq!(missing, [], "{found:#?}");
}

#[test]
fn a_lost_record_is_found() {
    breaks(Property::NoLostWrite, &changed(r#"[5,"d"],"#, ""));
    // At the end of the log, too, where no reader gets.
    breaks(
        Property::NoLostWrite,
        &changed(
            r#""at":34,"result":"ok","high_watermark":7"#,
            r#""at":34,"result":"ok","high_watermark":6"#,
        ),
    );
}

#[test]
fn a_record_that_is_stored_twice_is_found() {
    breaks(Property::NoDuplicate, &changed(r#"[6,"e"]],"next":7,"#, r#"[6,"e"],[7,"d"]],"next":8,"#));
    // Somebody was told that it is not stored, and sends it again.
    breaks(
        Property::NoDuplicate,
        &changed(r#""at":18,"result":"ok","offset":5"#, r#""at":18,"result":"failed""#),
    );
}

#[test]
fn records_out_of_order_are_found() {
    let swapped = SOUND
        .replace(r#"[5,"d"],[6,"e"]"#, r#"[5,"e"],[6,"d"]"#)
        .replace(r#""at":18,"result":"ok","offset":5"#, r#""at":18,"result":"ok","offset":6"#)
        .replace(r#""at":20,"result":"ok","offset":6"#, r#""at":20,"result":"ok","offset":5"#);
    breaks(Property::SeqContiguous, &verdict(&swapped));
}

#[test]
fn a_record_of_an_aborted_transaction_is_found() {
    breaks(Property::NoAbortedRead, &changed(r#"[1,"b"],[5,"d"]"#, r#"[1,"b"],[3,"c"],[5,"d"]"#));
}

#[test]
fn a_record_that_is_read_too_early_is_found() {
    let open = SOUND.replacen(r#""op":"abort","txn":"T2""#, r#""op":"abort","txn":"T0""#, 1);
    let early = open.replacen(r#"[1,"b"],[5,"d"]"#, r#"[1,"b"],[3,"c"],[5,"d"]"#, 1);
    breaks(Property::NoUncommittedRead, &verdict(&early));
    breaks(Property::NoUncommittedRead, &changed(r#"[5,"d"],"#, r#"[4,"nobody's"],[5,"d"],"#));
}

#[test]
fn half_a_transaction_is_found() {
    breaks(Property::NoTornTxn, &changed(r#"[0,"a"],[1,"b"],[5"#, r#"[0,"a"],[5"#));
    // Also where the answer to the commit was lost.
    let unknown = SOUND.replacen(r#""at":10,"result":"ok""#, r#""at":10,"result":"unknown""#, 1);
    assert!(verdict(&unknown).holds(), "{:#?}", verdict(&unknown));
    breaks(Property::NoTornTxn, &verdict(&unknown.replacen(r#"[0,"a"],[1,"b"],[5"#, r#"[0,"a"],[5"#, 1)));
    // And two answers that contradict each other.
    let asked = r#"{"event":"call","call":90,"process":"p","at":50,"op":"outcome","txn":"T1"}
{"event":"return","call":90,"at":51,"result":"ok","outcome":"aborted"}
"#;
    breaks(Property::NoTornTxn, &verdict(&format!("{SOUND}{asked}")));
}

#[test]
fn a_marker_too_many_is_found() {
    let more = SOUND
        .replace(r#"[6,"e"]],"next":7}"#, r#"[6,"e"]],"next":8}"#)
        .replace(r#""high_watermark":7,"last_stable":7"#, r#""high_watermark":8,"last_stable":8"#);
    // T1, T2 and perhaps T3, whose producer was fenced: three offsets without a record are possible, four are not.
    assert!(verdict(&more).holds(), "{:#?}", verdict(&more));
    let more = more
        .replace(r#""next":8}"#, r#""next":9}"#)
        .replace(r#"mark":8,"last_stable":8"#, r#"mark":9,"last_stable":9"#);
    breaks(Property::MarkerExactlyOnce, &verdict(&more));
}

#[test]
fn offsets_that_do_not_go_with_their_transaction_are_found() {
    breaks(
        Property::OffsetsAtomicWithTxn,
        &changed(
            r#""offsets":{"in/0":5}}
{"event":"call","call":14"#,
            r#""offsets":{"in/0":9}}
{"event":"call","call":14"#,
        ),
    );
    breaks(
        Property::OffsetsAtomicWithTxn,
        &changed(r#""at":26,"result":"ok","offsets":{"in/0":5}"#, r#""at":26,"result":"ok""#),
    );
}

#[test]
fn a_zombie_is_found() {
    breaks(
        Property::FenceZombie,
        &changed(r#""at":30,"result":"failed""#, r#""at":30,"result":"ok","offset":7"#),
    );
    // Its answer is lost, and its record stored.
    let stored = SOUND.replacen(r#""at":30,"result":"failed""#, r#""at":30,"result":"unknown""#, 1).replacen(
        r#""at":36,"result":"ok","records":[[0,"a"],[1,"b"],[3,"c"],[5,"d"],[6,"e"]],"next":7"#,
        r#""at":36,"result":"ok","records":[[0,"a"],[1,"b"],[3,"c"],[5,"d"],[6,"e"],[7,"z"]],"next":8"#,
        1,
    );
    breaks(Property::FenceZombie, &verdict(&stored));
}

#[test]
fn an_identity_that_goes_back_is_found() {
    breaks(Property::EpochMonotone, &changed(r#""epoch":3"#, r#""epoch":0"#));
}

#[test]
fn what_changes_between_two_looks_is_found() {
    let without = r#""at":36,"result":"ok","records":[[0,"a"],[1,"b"],[3,"c"],[5,"d"],[6,"e"]]"#;
    let with = r#""at":36,"result":"ok","records":[[0,"a"],[1,"b"],[3,"c"],[5,"d"],[6,"other"]]"#;
    let other = r#"{"event":"call","call":80,"process":"v","at":30,"op":"produce","partition":"t/0","record":"other"}"#;
    let changed = SOUND.replacen(without, with, 1).replacen(
        r#"{"event":"crash""#,
        &format!("{other}\n{{\"event\":\"crash\""),
        1,
    );
    let changed = changed.replacen(r#"{"event":"settled","at":32}"#, "", 1);
    breaks(Property::DurableBeforeVisible, &verdict(&changed));
    let quiet = changed.replacen(r#"{"event":"crash","at":31}"#, "", 1);
    breaks(Property::CommittedPrefixStable, &verdict(&quiet));
}

#[test]
fn a_mark_that_goes_back_is_found() {
    let back = r#"{"event":"call","call":70,"process":"r","at":40,"op":"end","partition":"t/0"}
{"event":"return","call":70,"at":41,"result":"ok","last_stable":6}
"#;
    breaks(Property::CommittedPrefixStable, &verdict(&format!("{SOUND}{back}")));
}

#[test]
fn readers_that_are_held_back_are_found() {
    breaks(
        Property::LsoAdvances,
        &changed(
            r#""at":34,"result":"ok","high_watermark":7,"last_stable":7"#,
            r#""at":34,"result":"ok","high_watermark":9,"last_stable":7"#,
        ),
    );
}

#[test]
fn a_call_without_an_answer_is_found() {
    breaks(Property::NoHang, &changed(r#"{"event":"return","call":9,"at":18,"result":"ok","offset":5}"#, ""));
    let gone = r#"{"event":"gone","process":"q"}"#;
    assert!(changed(r#"{"event":"return","call":9,"at":18,"result":"ok","offset":5}"#, gone).holds());
}

#[test]
fn in_a_compacted_topic_records_may_go() {
    let compacted = SOUND.replacen("\n", "\n{\"event\":\"compacted\",\"topic\":\"t\"}\n", 1);
    let gone = compacted.replacen(r#"[5,"d"],"#, "", 1);
    assert!(verdict(&gone).holds(), "{:#?}", verdict(&gone));
}

/// The sound history in a compacted topic whose tombstones stay for a while, with keys: those of "a", "b", "c", "d" and "e".
fn keyed(keys: [&str; 5], rest: &str) -> String {
    let first = "\n{\"event\":\"compacted\",\"topic\":\"t\",\"tombstones_kept_us\":10}\n";
    let text = SOUND.replacen('\n', first, 1);
    ["a", "b", "c", "d", "e"].iter().zip(keys).fold(text, |text, (record, key)| {
        let rest = if *record == "d" { rest } else { "" };
        let (from, to) =
            (format!(r#""record":"{record}""#), format!(r#""record":"{record}","key":"{key}"{rest}"#));
        assert!(text.contains(&from));
        text.replacen(&from, &to, 1)
    })
}

#[test]
fn in_a_compacted_topic_the_newest_record_of_a_key_stays() {
    // "d" is passed over. Its key has a newer record, or none, or one that was aborted, or one in another place.
    let without = |text: &str| verdict(&text.replacen(r#"[5,"d"],"#, "", 1));
    let superseded = without(&keyed(["1", "2", "3", "4", "4"], ""));
    assert!(superseded.holds(), "{superseded:#?}");
    breaks(Property::NoLostWrite, &without(&keyed(["1", "2", "3", "4", "5"], "")));
    breaks(Property::NoLostWrite, &without(&keyed(["4", "4", "4", "4", "5"], "")));
    // What was aborted supersedes nothing: "b" is missed, "c" was aborted.
    let text = keyed(["1", "2", "2", "4", "5"], "");
    breaks(Property::NoLostWrite, &verdict(&text.replacen(r#"[1,"b"],"#, "", 1)));
    let text = keyed(["1", "2", "3", "2", "5"], "");
    let superseded = verdict(&text.replacen(r#"[1,"b"],"#, "", 1));
    assert!(superseded.holds(), "{superseded:#?}");
}

#[test]
fn in_a_compacted_topic_a_tombstone_stays_for_its_time() {
    let text = keyed(["1", "2", "3", "4", "5"], r#","tombstone":true"#);
    // The first reader is early, the last one late enough.
    breaks(Property::NoLostWrite, &verdict(&text.replacen(r#"[5,"d"],"#, "", 1)));
    let (early, late) = text.rsplit_once(r#"[5,"d"],"#).unwrap();
    let gone = verdict(&format!("{early}{late}"));
    assert!(gone.holds(), "{gone:#?}");
}

#[test]
fn a_key_that_is_accepted_twice_is_found() {
    // "d" and "e", without a transaction; "a" of a transaction that has committed; "c" of one that was aborted.
    let with = |window: u64, records: [&str; 2]| {
        let first = format!("\n{{\"event\":\"keyed\",\"topic\":\"t\",\"window_us\":{window}}}\n");
        let text = SOUND.replacen('\n', &first, 1);
        let keyed = records.iter().fold(text, |text, record| {
            let from = format!(r#""record":"{record}""#);
            text.replacen(&from, &format!(r#"{from},"idempotency_key":"k""#), 1)
        });
        verdict(&keyed)
    };
    breaks(Property::KeyOnce, &with(100, ["d", "e"]));
    breaks(Property::KeyOnce, &with(100, ["a", "d"]));
    for (window, records) in [(100, ["c", "d"]), (100, ["d", "z"]), (2, ["d", "e"])] {
        let found = with(window, records);
        assert!(found.holds() && found.looked_at.contains_key(&Property::KeyOnce), "{records:?}: {found:#?}");
    }
}

#[test]
fn clocks_may_differ_as_far_as_the_history_says() {
    // The commit is called after its record was read, by another clock.
    let late = SOUND
        .replacen(r#""call":5,"process":"p","at":9"#, r#""call":5,"process":"p","at":23"#, 1)
        .replacen(r#""call":5,"at":10"#, r#""call":5,"at":24"#, 1);
    breaks(Property::NoUncommittedRead, &verdict(&late));
    let skewed = late.replacen(r#""version":1"#, r#""version":1,"clock_skew_us":2"#, 1);
    assert!(!verdict(&skewed).broken.contains_key(&Property::NoUncommittedRead));
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    for (text, says) in [
        ("", "names the version"),
        (r#"{"event":"crash","at":1}"#, "the first line is not"),
        (r#"{"event":"history","version":9}"#, "version 9 is not known"),
        (
            "{\"event\":\"history\",\"version\":1}\n{\"event\":\"return\",\"call\":1,\"at\":1,\"result\":\"ok\"}",
            "line 2: call 1 was not made",
        ),
        ("{\"event\":\"history\",\"version\":1}\nnonsense", "line 2"),
    ] {
        let error = History::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let twice = SOUND.replacen(r#""record":"b""#, r#""record":"a""#, 1);
    let error = check(&History::read(twice.as_bytes()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("written before"), "{error}");
}
