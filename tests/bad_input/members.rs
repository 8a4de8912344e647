//! Members of groups that do not behave: each is refused in words or codes that say why; the broker's memory stays bounded,
//! and members of other groups notice nothing (`spec/groups.md`, M2, M3, J1, B2, B3, C1, C8).

use super::Site;
use super::common::broker::Broker;
use super::common::frames::{ANSWER_DEADLINE, Bytes, Connection, NONE, Parse};
use std::sync::mpsc;
use std::time::Instant;
use std::{iter, thread};

const SYNC_GROUP: i16 = 14;
const HEARTBEAT: i16 = 12;
const LEAVE_GROUP: i16 = 13;
const JOIN_GROUP: i16 = 11;
const OFFSET_COMMIT: i16 = 8;
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const INVALID_REQUEST: i16 = 42;
const GROUP_MAX_SIZE_REACHED: i16 = 81;
const FENCED_MEMBER_EPOCH: i16 = 110;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// Nobody is silent for so long here: whoever is gone has been put out.
const SESSION_MS: i32 = 600_000;
/// How long a rebalance waits for members that do not come.
const REBALANCE_MS: i32 = 6_000;

/// What a broker may keep of what members say: what waits in rebalances (64 MiB), and as much again on the way in and in the
/// allocator's hands.
const KEPT_KIB_MAX: u64 = 128 << 10;

/// What a member of the classic protocol is told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Joined {
    error: i16,
    generation: i32,
    leader: String,
    member: String,
}

/// JoinGroup, version 2: whoever comes without a member id is let in at once.
fn join_request(group: &str, member: &str, metadata: &[u8]) -> Vec<u8> {
    join_request_within(REBALANCE_MS, group, member, metadata)
}

fn join_request_within(rebalance_ms: i32, group: &str, member: &str, metadata: &[u8]) -> Vec<u8> {
    let head = Bytes::new().string(group).i32(SESSION_MS).i32(rebalance_ms).string(member);
    head.string("consumer").i32(1).string("range").sized(metadata).done()
}

fn joined(answer: &[u8]) -> Joined {
    let mut answer = Parse(answer);
    answer.skip(4); // throttle time
    let (error, generation) = (answer.i16(), answer.i32());
    answer.string(); // the protocol
    Joined { error, generation, leader: answer.string().to_owned(), member: answer.string().to_owned() }
}

fn join(connection: &mut Connection, group: &str, member: &str, metadata: &[u8]) -> Joined {
    joined(&connection.ask(JOIN_GROUP, 2, &join_request(group, member, metadata)).expect("an answer"))
}

/// The error code of an answer that begins with its throttle time.
fn code(answer: Option<Vec<u8>>) -> i16 {
    let answer = answer.expect("an answer");
    let mut answer = Parse(&answer);
    answer.skip(4);
    answer.i16()
}

fn sync(connection: &mut Connection, group: &str, generation: i32, member: &str) -> i16 {
    let request = Bytes::new().string(group).i32(generation).string(member);
    let request = request.i32(1).string(member).sized(b"everything").done();
    code(connection.ask(SYNC_GROUP, 1, &request))
}

fn heartbeat(connection: &mut Connection, group: &str, generation: i32, member: &str) -> i16 {
    let request = Bytes::new().string(group).i32(generation).string(member).done();
    code(connection.ask(HEARTBEAT, 1, &request))
}

fn leave(connection: &mut Connection, group: &str, member: &str) -> i16 {
    code(connection.ask(LEAVE_GROUP, 1, &Bytes::new().string(group).string(member).done()))
}

fn commit(connection: &mut Connection, group: &str, generation: i32, member: &str) -> i16 {
    let head = Bytes::new().string(group).i32(generation).string(member).i64(-1).i32(1).string(Site::TOPIC);
    let request = head.i32(1).i32(0).i64(1).string("here").done();
    let answer = connection.ask(OFFSET_COMMIT, 2, &request).expect("an answer");
    let mut answer = Parse(&answer);
    answer.skip(4); // one topic
    answer.string();
    answer.skip(4 + 4); // one partition, its index
    answer.i16()
}

fn varint(bytes: Bytes, mut value: usize) -> Bytes {
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    encoded.push(u8::try_from(value).unwrap());
    bytes.raw(&encoded)
}

/// A text of the newer encoding.
fn compact(bytes: Bytes, text: Option<&str>) -> Bytes {
    match text {
        Some(text) => varint(bytes, text.len() + 1).raw(text.as_bytes()),
        None => varint(bytes, 0),
    }
}

/// What a member of the consumer protocol says.
#[derive(Default)]
struct Beat<'a> {
    group: &'a str,
    member: &'a str,
    epoch: i32,
    topics: Option<&'a [String]>,
    pattern: Option<&'a str>,
}

/// What it is told.
#[derive(Debug)]
struct Told {
    error: i16,
    message: String,
    epoch: i32,
}

impl Beat<'_> {
    /// ConsumerGroupHeartbeat, version 1.
    fn ask(&self, connection: &mut Connection) -> Told {
        let request = Bytes::new().i8(0); // no tagged fields in the header
        let request = compact(compact(request, Some(self.group)), Some(self.member)).i32(self.epoch);
        let request = compact(compact(request, None), None); // no instance id, no rack
        let request = request.i32(if self.epoch == 0 { REBALANCE_MS } else { -1 });
        let mut request = varint(request, self.topics.map_or(0, |topics| topics.len() + 1));
        for topic in self.topics.into_iter().flatten() {
            request = compact(request, Some(topic));
        }
        let request = compact(compact(request, self.pattern), None); // any assignor
        let request = varint(request, usize::from(self.epoch == 0)).i8(0).done(); // owns nothing, or says nothing of it
        let answer = connection.ask(CONSUMER_GROUP_HEARTBEAT, 1, &request).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(1 + 4); // no tagged fields in the header, throttle time
        let error = answer.i16();
        let message = text(&mut answer);
        text(&mut answer); // the member id
        Told { error, message, epoch: answer.i32() }
    }
}

/// A text of the newer encoding; empty if there is none.
fn text(answer: &mut Parse<'_>) -> String {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = u8::from_be_bytes(answer.i8().to_be_bytes());
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    (1..length).map(|_| char::from(u8::from_be_bytes(answer.i8().to_be_bytes()))).collect()
}

/// Members of two groups, one of each protocol, that go on while others misbehave.
struct Others {
    connection: Connection,
    classic: Joined,
    epoch: i32,
}

impl Others {
    const CLASSIC: &str = "others";
    const CONSUMERS: &str = "other consumers";
    const CONSUMER: &str = "a consumer";

    fn of(site: &Site) -> Others {
        let mut connection = site.connect();
        let classic = join(&mut connection, Others::CLASSIC, "", b"mine");
        assert_eq!((classic.error, &classic.leader), (NONE, &classic.member));
        let (generation, member) = (classic.generation, &classic.member);
        assert_eq!(sync(&mut connection, Others::CLASSIC, generation, member), NONE);
        let topics = [Site::TOPIC.to_owned()];
        let beat = Beat { group: Others::CONSUMERS, member: Others::CONSUMER, ..Beat::default() };
        let told = Beat { topics: Some(&topics), ..beat }.ask(&mut connection);
        assert_eq!(told.error, NONE, "{told:?}");
        Others { connection, classic, epoch: told.epoch }
    }

    /// They are in the same generation and epoch, and commit.
    fn notice_nothing(&mut self) {
        let Others { connection, classic: Joined { generation, member, .. }, epoch } = self;
        assert_eq!(heartbeat(connection, Others::CLASSIC, *generation, member), NONE);
        assert_eq!(commit(connection, Others::CLASSIC, *generation, member), NONE);
        assert_eq!(commit(connection, Others::CONSUMERS, *epoch, Others::CONSUMER), NONE);
        let beat = Beat { group: Others::CONSUMERS, member: Others::CONSUMER, ..Beat::default() };
        let told = Beat { epoch: *epoch, ..beat }.ask(connection);
        assert_eq!((told.error, told.epoch), (NONE, *epoch), "{}", told.message);
    }
}

/// What a member sees that joined, and does not sync.
fn wait_to_be_put_out(silent: &mut Connection) {
    let told = joined(&silent.receive().expect("an answer")[4..]);
    assert_eq!(told.error, NONE);
    let mut said = NONE;
    while [NONE, REBALANCE_IN_PROGRESS].contains(&said) {
        said = heartbeat(silent, "shared", told.generation, &told.member);
    }
    assert_eq!(said, UNKNOWN_MEMBER_ID);
}

/// They take up a place in their group's rebalances and are then silent: for a rebalance timeout each, and no longer.
#[test]
fn members_that_join_and_never_sync_are_put_out() {
    const SILENT: usize = 30;
    let site = Site::start();
    let mut others = Others::of(&site);
    let mut silent: Vec<Connection> = (0..SILENT).map(|_| site.connect()).collect();
    for connection in &mut silent {
        connection.send(JOIN_GROUP, 2, &join_request("shared", "", b"mine")).unwrap();
    }
    let mut connection = site.connect();
    let (mut honest, mut said) = (Joined::default(), REBALANCE_IN_PROGRESS);
    let due = Instant::now() + 2 * ANSWER_DEADLINE;
    thread::scope(|scope| {
        let all_out = scope.spawn(|| silent.iter_mut().for_each(wait_to_be_put_out));
        // Some may be late, and come when the group was stable already.
        for over in iter::repeat_with(|| all_out.is_finished()) {
            if said == REBALANCE_IN_PROGRESS {
                honest = join(&mut connection, "shared", &honest.member, b"mine");
                assert_eq!(honest.error, NONE, "who syncs stays a member");
                said = sync(&mut connection, "shared", honest.generation, &honest.member);
            } else {
                said = heartbeat(&mut connection, "shared", honest.generation, &honest.member);
            }
            assert!([NONE, REBALANCE_IN_PROGRESS].contains(&said), "{said}");
            if said == NONE {
                others.notice_nothing();
                if over {
                    break;
                }
            }
            assert!(Instant::now() < due, "the silent ones are still waited for");
        }
    });
    assert_eq!(honest.leader, honest.member);

    // One more, beside a leader that does what leaders do: it holds up nobody.
    silent[0].send(JOIN_GROUP, 2, &join_request("shared", "", b"mine")).unwrap();
    while heartbeat(&mut connection, "shared", honest.generation, &honest.member) == NONE {}
    let again = join(&mut connection, "shared", &honest.member, b"mine");
    assert_eq!(again, Joined { generation: honest.generation + 1, ..honest.clone() });
    assert_eq!(joined(&silent[0].receive().expect("an answer")[4..]).leader, honest.member);
    assert_eq!(sync(&mut connection, "shared", again.generation, &again.member), NONE);
    assert_eq!(heartbeat(&mut connection, "shared", again.generation, &again.member), NONE);
    others.notice_nothing();
    site.must_be_well();
}

/// What the first of these requests to join are told, each over a connection of its own. The others wait, until the broker is
/// gone.
fn first_answers(site: &Site, requests: Vec<Vec<u8>>, count: usize) -> Vec<Joined> {
    let (answers, answered) = mpsc::channel();
    for request in requests {
        let (answers, mut connection) = (answers.clone(), site.connect());
        connection.wait_for_ever();
        connection.send(JOIN_GROUP, 2, &request).unwrap();
        thread::spawn(move || connection.receive().map(|answer| answers.send(joined(&answer[4..]))));
    }
    (0..count).map(|_| answered.recv_timeout(ANSWER_DEADLINE).expect("an answer")).collect()
}

/// Hundreds of megabytes: in requests that are too large, in groups that fill up, and in as many groups as there may wait.
#[test]
fn megabytes_of_metadata_are_not_kept() {
    if !Broker::runs_semel() {
        return;
    }
    let megabytes = vec![b'm'; 4 << 20];
    let most = &megabytes[..500_000];
    // The groups of this site wait for more members, so that what is said to them is held in memory.
    let site = Site::with(&["--group-initial-rebalance-delay", "600000"]);
    let mut other = site.connect();
    let topics = [Site::TOPIC.to_owned()];
    let beat = Beat { group: Others::CONSUMERS, member: Others::CONSUMER, ..Beat::default() };
    let before = Beat { topics: Some(&topics), ..beat }.ask(&mut other);
    let mut connection = site.connect();
    for _ in 0..25 {
        assert_eq!(join(&mut connection, "g", "", &megabytes).error, GROUP_MAX_SIZE_REACHED);
    }
    // Whoever waits does not hold what others need to be read: these are more than all memory for requests.
    // Two of these are more than one group takes; and all of those more than there may be in all groups.
    for (groups, members, refused) in [("full", 2, 1), ("crowd", 200, 60)] {
        let group =
            |number: usize| if groups == "full" { groups.to_owned() } else { format!("{groups} {number}") };
        let requests = (0..members).map(|number| join_request_within(SESSION_MS, &group(number), "", most));
        for told in first_answers(&site, requests.collect(), refused) {
            assert_eq!(told.error, GROUP_MAX_SIZE_REACHED, "{groups}");
        }
    }
    assert_eq!(join(&mut connection, "one more", "", most).error, GROUP_MAX_SIZE_REACHED);
    let beat = Beat { group: Others::CONSUMERS, member: Others::CONSUMER, ..Beat::default() };
    let after = Beat { epoch: before.epoch, ..beat }.ask(&mut other);
    assert_eq!((before.error, after.error, after.epoch), (NONE, NONE, before.epoch));
    site.must_be_well_within(KEPT_KIB_MAX);
}

#[test]
fn a_subscription_to_100_000_topics_is_refused() {
    let site = Site::start();
    let mut others = Others::of(&site);
    let mut connection = site.connect();
    let topics: Vec<String> = (0..100_000).map(|number| format!("topic {number}")).collect();
    for round in 0..20 {
        let member = format!("greedy {round}");
        let beat = Beat { group: "g", member: &member, topics: Some(&topics), ..Beat::default() };
        let told = beat.ask(&mut connection);
        if Broker::runs_semel() {
            assert_eq!(told.error, GROUP_MAX_SIZE_REACHED, "{told:?}");
            assert!(told.message.contains("subscribe to fewer topics"), "{told:?}");
        }
        // As a member of the classic protocol says it: between it and its leader.
        let subscription =
            topics.iter().fold(Bytes::new().i16(0).i32(100_000), |said, topic| said.string(topic));
        let said = subscription.sized(b"").done();
        let refused = join(&mut connection, &format!("g {round}"), "", &said).error;
        assert!(!Broker::runs_semel() || refused == GROUP_MAX_SIZE_REACHED, "{refused}");
    }
    others.notice_nothing();
    site.must_be_well();
}

/// Those that would take long to look for are looked for in linear time; those that would take much memory are refused.
#[test]
fn hostile_regular_expressions_are_refused_or_cost_nobody_else() {
    if !Broker::runs_semel() {
        return;
    }
    let mut site = Site::start();
    for number in 0..50 {
        let name = format!("{}{number}", "a".repeat(240));
        assert_eq!(site.healthy.create_topic(&name, 1), NONE);
    }
    site.resident_kib = site.broker.resident_kib();
    let mut others = Others::of(&site);
    let mut connection = site.connect();
    let beat = |connection: &mut Connection, member: &str, pattern: &str| {
        Beat { group: "g", member, pattern: Some(pattern), ..Beat::default() }.ask(connection)
    };
    for (pattern, says) in [
        ("a".repeat(5_000), "shorten it"),
        ("((((a{10}){10}){10}){10}){10}".to_owned(), "repeat less"),
        (format!("{}a{}", "(".repeat(1_000), ")".repeat(1_000)), "no regular expression"),
        ("(".to_owned(), "no regular expression: unclosed group"),
        ("(?<name>a".to_owned(), "no regular expression"),
        ("(a)\\1".to_owned(), "no regular expression"),
    ] {
        for _ in 0..20 {
            let told = beat(&mut connection, "hostile", &pattern);
            assert_eq!(told.error, INVALID_REGULAR_EXPRESSION, "{told:?}");
            assert!(told.message.contains(says), "{told:?}");
        }
    }
    for (number, pattern) in
        ["(a+)+$", "(a|aa)+b", "(.*)*x", "(a*)*b", "([a-z]+)*[0-9]!", "(a?){200}a{200}"].iter().enumerate()
    {
        let told = beat(&mut connection, &format!("patient {number}"), pattern);
        assert_eq!(told.error, NONE, "{pattern}: {told:?}");
        others.notice_nothing();
    }
    site.must_be_well();
}

/// Member ids that nobody was given, or others were, or that are too long: nothing is done in anybody else's name.
#[test]
fn forged_member_ids_do_nothing_in_anybodys_name() {
    let site = Site::start();
    let mut others = Others::of(&site);
    let Joined { generation, member, .. } = others.classic.clone();
    let mut forger = site.connect();
    let longest = "x".repeat(32_000);
    let forged =
        [format!("{member}x"), member[1..].to_owned(), String::new(), "\u{1b}[2J".to_owned(), longest];
    for (group, forged) in
        [Others::CLASSIC, "nowhere"].iter().flat_map(|group| forged.iter().map(move |id| (*group, id)))
    {
        for generation in [generation, -1, i32::MAX] {
            let told = [
                heartbeat(&mut forger, group, generation, forged),
                sync(&mut forger, group, generation, forged),
            ];
            assert!(
                told.iter().all(|told| *told != NONE && *told != REBALANCE_IN_PROGRESS),
                "{group} {forged}: {told:?}"
            );
        }
        assert_eq!(leave(&mut forger, group, forged), UNKNOWN_MEMBER_ID, "{group} {forged}");
        if !forged.is_empty() {
            let told = join(&mut forger, group, forged, b"mine").error;
            assert!([UNKNOWN_MEMBER_ID, INVALID_REQUEST].contains(&told), "{group} {forged}: {told}");
        }
    }
    // A right id in another group, and in other generations.
    assert_eq!(heartbeat(&mut forger, "nowhere", generation, &member), UNKNOWN_MEMBER_ID);
    assert_eq!(leave(&mut forger, "nowhere", &member), UNKNOWN_MEMBER_ID);
    for old in [generation - 1, generation + 1] {
        assert_eq!(heartbeat(&mut forger, Others::CLASSIC, old, &member), ILLEGAL_GENERATION);
        assert_eq!(sync(&mut forger, Others::CLASSIC, old, &member), ILLEGAL_GENERATION);
        assert_eq!(commit(&mut forger, Others::CLASSIC, old, &member), ILLEGAL_GENERATION);
    }
    assert_eq!(commit(&mut forger, Others::CLASSIC, generation, "nobody"), UNKNOWN_MEMBER_ID);
    // In the consumer protocol members draw their ids themselves: what protects them is the epoch.
    for (member, epoch, expected) in [
        ("nobody", 5, UNKNOWN_MEMBER_ID),
        ("nobody", -1, UNKNOWN_MEMBER_ID),
        (Others::CONSUMER, 1_000, FENCED_MEMBER_EPOCH),
    ] {
        let told = Beat { group: Others::CONSUMERS, member, epoch, ..Beat::default() }.ask(&mut forger);
        assert_eq!(told.error, expected, "{member} {epoch}: {}", told.message);
    }
    for number in 0..500 {
        let told =
            heartbeat(&mut forger, Others::CLASSIC, generation, &format!("{}{number}", "y".repeat(20_000)));
        assert_eq!(told, UNKNOWN_MEMBER_ID);
    }
    others.notice_nothing();
    site.must_be_well();
}
