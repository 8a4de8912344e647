//! Bad bytes, bad certificates, bad disks: each gets a clear error; the broker stays up where it should, keeps its
//! memory, and loses nothing that it has acknowledged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[path = "../common/mod.rs"]
mod common;
mod members;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use common::broker::{Broker, Refused};
use common::frames::{
    API_VERSIONS, Batch, Bytes, CORRUPT_MESSAGE, Connection, FETCH, INVALID_RECORD, Identity, METADATA, NONE,
    PRODUCE, Parse, UNKNOWN_TOPIC_OR_PARTITION, UNSUPPORTED_COMPRESSION_TYPE, UNSUPPORTED_VERSION, connect,
    frame, is_late, produce_request, record, request,
};
use rcgen::{
    Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    date_time_ymd,
};

/// What a broker may grow by while it is abused: room for the allocator's habits, none for what an attacker asks for.
const RESIDENT_GROWTH_KIB_MAX: u64 = 32 << 10;

/// A broker with records to lose, and a client that behaves.
struct Site {
    broker: Broker,
    healthy: Connection,
    acknowledged: Vec<(i64, Vec<u8>)>,
    resident_kib: u64,
}

impl Site {
    const TOPIC: &str = "kept";

    fn start() -> Site {
        Site::with(&[])
    }

    /// With further options of the broker.
    fn with(options: &[&str]) -> Site {
        let broker = Broker::start_with(options);
        let mut healthy = Connection::open(&broker);
        assert_eq!(healthy.create_topic(Site::TOPIC, 1), NONE);
        let mut site = Site { broker, healthy, acknowledged: Vec::new(), resident_kib: 0 };
        site.wait_for_leader();
        for n in 0..20 {
            site.produce(format!("before {n}").as_bytes());
        }
        site.resident_kib = site.broker.resident_kib();
        site
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.broker)
    }

    /// Apache Kafka in semel's place creates topics in the background: its leader may not know of it yet.
    fn wait_for_leader(&mut self) {
        const NOT_LEADER_OR_FOLLOWER: i16 = 6;
        while self.healthy.fetch(Site::TOPIC, 0, 0).error == NOT_LEADER_OR_FOLLOWER && !Broker::runs_semel() {
        }
    }

    fn produce(&mut self, value: &[u8]) {
        let (error, offset) = self.healthy.produce(Site::TOPIC, 0, &Batch::of(&[value]).done());
        assert_eq!(error, NONE);
        self.acknowledged.push((offset, value.to_vec()));
    }

    /// The connection that was open all the time still works, and so does a new one; everything is there, and nothing
    /// that was refused; memory has stayed flat.
    fn must_be_well(self) {
        self.must_be_well_within(RESIDENT_GROWTH_KIB_MAX);
    }

    /// The same, where what was sent may be kept up to a limit.
    fn must_be_well_within(mut self, growth_kib_max: u64) {
        self.produce(b"after");
        assert_eq!(self.healthy.read_all(Site::TOPIC, 0), self.acknowledged);
        assert_eq!(self.connect().read_all(Site::TOPIC, 0), self.acknowledged);
        let grown = self.broker.resident_kib().saturating_sub(self.resident_kib);
        if Broker::runs_semel() {
            assert!(grown <= growth_kib_max, "resident memory has grown by {grown} KiB");
        }
    }

    /// The broker's log names who sent the bad bytes.
    fn log_names(&self, peer: SocketAddr) {
        if Broker::runs_semel() {
            self.broker.wait_for_log(&format!("the peer {peer}"), |log| log.contains(&peer.to_string()));
        }
    }
}

/// Deterministic noise (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end).unwrap()
    }

    fn bytes(&mut self, length_end: u64) -> Vec<u8> {
        (0..self.below(length_end)).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

#[test]
fn random_bytes_harm_only_their_own_connection() {
    let site = Site::start();
    let mut noise = Noise(1);
    for _ in 0..150 {
        // A length that happens to be plausible makes the broker wait for the rest: the sender goes away instead.
        let _ = site.connect().send_bytes(&noise.bytes(4096));
    }
    for _ in 0..150 {
        let mut connection = site.connect();
        let _ = connection.send_bytes(&frame(&noise.bytes(4096)));
        assert!(connection.is_closed());
    }
    for _ in 0..300 {
        // The right envelope around nonsense: an answer with an error or a closed connection, but not silence.
        let (api_key, version) =
            (i16::try_from(noise.below(76)).unwrap(), i16::try_from(noise.below(14)).unwrap());
        let mut connection = site.connect();
        let _ = connection.send(api_key, version, &noise.bytes(512));
        connection.receive();
    }
    site.must_be_well();
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let site = Site::start();
    let whole = request(PRODUCE, 3, 7, &produce_request(Site::TOPIC, 0, &Batch::of(&[b"cut off"]).done()));
    for length in 0..whole.len() {
        let mut connection = site.connect();
        // A frame that is complete but whose message is not …
        let _ = connection.send_bytes(&frame(&whole[..length]));
        assert!(connection.is_closed(), "cut at {length}");
        // … and one that promises more than comes.
        let _ = site.connect().send_bytes(&frame(&whole)[..4 + length]);
    }
    site.must_be_well();
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let site = Site::start();
    const LENGTHS: [i32; 5] = [i32::MAX, i32::MAX - 1, 0x7000_0000, -1, i32::MIN];
    for round in 0..20 {
        for length in LENGTHS {
            let mut connection = site.connect();
            let _ = connection.send_bytes(&Bytes::new().i32(length).raw(&[0; 1000]).done());
            assert!(connection.is_closed(), "length {length}");
            if round == 0 {
                // Later ones may be counted instead, so that a flood does not fill the log.
                site.log_names(connection.local_address());
            }
        }
    }
    for count in [i32::MAX, i32::MAX / 8, 1 << 24] {
        let topics_in_metadata = Bytes::new().i32(count).done();
        let topics_in_produce = Bytes::new().i16(-1).i16(-1).i32(1000).i32(count).done();
        let partitions_in_fetch =
            Bytes::new().i32(-1).i32(0).i32(0).i32(1000).i8(0).i32(1).string("t").i32(count).done();
        let records =
            Bytes::new().i16(-1).i16(-1).i32(1000).i32(1).string("t").i32(1).i32(0).i32(count).done();
        let lies =
            [(METADATA, 1, topics_in_metadata), (PRODUCE, 3, topics_in_produce), (PRODUCE, 3, records)];
        for (api_key, version, body) in lies.into_iter().chain([(FETCH, 4, partitions_in_fetch)]) {
            let mut connection = site.connect();
            let _ = connection.send(api_key, version, &body);
            assert!(connection.is_closed(), "api key {api_key}, count {count}");
        }
    }
    site.must_be_well();
}

#[test]
fn plaintext_is_closed_and_named() {
    let site = Site::start();
    for hello in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &frame(&request(METADATA, 1, 1, &[0, 0, 0, 0]))]
    {
        let mut tcp = connect(site.broker.address());
        let peer = tcp.local_addr().unwrap();
        tcp.write_all(hello).unwrap();
        let mut answer = Vec::new();
        if let Err(error) = tcp.read_to_end(&mut answer) {
            assert!(!is_late(&error), "plaintext was left hanging");
        }
        assert!(!answer.starts_with(b"HTTP") && answer.len() < 100, "only a TLS alert at most: {answer:?}");
        site.log_names(peer);
    }
    site.must_be_well();
}

#[test]
fn batches_that_lie_are_refused_whole() {
    let site = Site::start();
    let honest = Batch::of(&[b"one", b"two", b"three"]);
    let lie = |tell: fn(&mut Batch)| {
        let mut batch = honest.clone();
        tell(&mut batch);
        batch.done()
    };
    let counting = |count: i32| Batch { count, last_offset_delta: count - 1, ..honest.clone() }.done();
    let spoilt = |spoil: fn(&mut Vec<u8>)| {
        let mut bytes = honest.done();
        spoil(&mut bytes);
        bytes
    };
    let corrupt: &[i16] = &[CORRUPT_MESSAGE];
    let invalid: &[i16] = &[INVALID_RECORD];
    let either: &[i16] = &[CORRUPT_MESSAGE, INVALID_RECORD];
    let codec: &[i16] = &[CORRUPT_MESSAGE, INVALID_RECORD, UNSUPPORTED_COMPRESSION_TYPE];
    let mut lies = vec![
        ("a flipped bit in a record", spoilt(|bytes| bytes[70] ^= 1), corrupt),
        ("a flipped bit in the CRC", spoilt(|bytes| bytes[17] ^= 1), corrupt),
        ("fewer records than it says", counting(4), invalid),
        ("more records than it says", counting(2), invalid),
        ("a billion records", counting(1 << 30), invalid),
        ("no records", counting(0), either),
        ("a negative count", lie(|batch| batch.count = -1), either),
        ("a last offset beyond its count", lie(|batch| batch.last_offset_delta = 9), invalid),
        ("a marker of its own", lie(|batch| batch.attributes = 0x20), invalid),
        ("zstd that is none", lie(|batch| batch.attributes = 4), codec),
        ("an old magic", lie(|batch| batch.magic = 1), either),
        ("a future magic", lie(|batch| batch.magic = 3), either),
        ("a record longer than the batch", lie(|batch| batch.records[0] = 0x7e), either),
        ("bytes after the last record", lie(|batch| batch.records.push(0)), either),
        ("a length of its own choice", spoilt(|bytes| bytes[8] = 0x7f), either),
        ("half a header", spoilt(|bytes| bytes.truncate(40)), either),
        ("two batches in one", [honest.done(), honest.done()].concat(), invalid),
        ("nothing", Vec::new(), either),
    ];
    if Broker::runs_semel() {
        // Apache Kafka stores the first of these and answers the others with an unknown error.
        let shuffled = [record(1, b"a"), record(0, b"b"), record(2, b"c")].concat();
        lies.push(("offsets out of order", Batch { records: shuffled, ..honest.clone() }.done(), invalid));
        lies.push(("gzip that is none", lie(|batch| batch.attributes = 1), codec));
        lies.push(("an unknown codec", lie(|batch| batch.attributes = 7), codec));
    }
    let mut wrong = Vec::new();
    for (what, batch, allowed) in &lies {
        let (error, _) = site.connect().produce(Site::TOPIC, 0, batch);
        if !allowed.contains(&error) {
            wrong.push(format!("{what}: error {error}, not one of {allowed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    site.must_be_well();
}

/// A little that unpacks to a lot: refused without ever being held in memory.
#[test]
fn decompression_bombs_do_not_go_off() {
    if !Broker::runs_semel() {
        return;
    }
    let site = Site::start();
    for (attributes, records) in [(1, gzip_bomb()), (4, zstd_bomb())] {
        let bomb = Batch { attributes, records, ..Batch::of(&[b""]) }.done();
        let (error, offset) = site.connect().produce(Site::TOPIC, 0, &bomb);
        assert_ne!(error, NONE, "codec {attributes}: stored at {offset}");
    }
    site.must_be_well();
}

const BOMB_BYTES: usize = 512 << 20;

fn gzip_bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write_bomb(&mut packed);
    packed.finish().unwrap()
}

fn zstd_bomb() -> Vec<u8> {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    write_bomb(&mut packed);
    packed.finish().unwrap()
}

/// One record whose value is half a gibibyte of zeros, but for the end of it.
fn write_bomb(to: &mut impl Write) {
    let length = i64::try_from(BOMB_BYTES).unwrap();
    let head = Bytes::new().varint(length + 20).i8(0).varint(0).varint(0).varint(-1).varint(length).done();
    to.write_all(&head).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..BOMB_BYTES >> 20 {
        to.write_all(&zeros).unwrap();
    }
}

#[test]
fn unknown_requests_and_versions() {
    let site = Site::start();
    // The one request that is answered in a version that its sender did not ask for (KIP-511). Its body here is the
    // empty list of tagged fields that ends a newer header.
    let answer = site.connect().ask(API_VERSIONS, 99, &[0]).expect("an answer");
    let mut answer = Parse(&answer);
    assert_eq!(answer.i16(), UNSUPPORTED_VERSION);
    let listed = (0..answer.i32()).map(|_| (answer.i16(), answer.i16(), answer.i16())).collect::<Vec<_>>();
    let newest =
        |wanted| listed.iter().find(|(api_key, ..)| *api_key == wanted).map(|(_, _, newest)| *newest);
    assert!(newest(API_VERSIONS).is_some(), "{listed:?}");
    for (api_key, version) in
        [(PRODUCE, 99), (PRODUCE, -1), (FETCH, 99), (METADATA, 99), (9_999, 0), (-1, 0), (4, 0)]
    {
        let mut connection = site.connect();
        let peer = connection.local_address();
        let _ = connection.send(api_key, version, &[0; 64]);
        assert!(connection.is_closed(), "api key {api_key} version {version}");
        site.log_names(peer);
    }
    site.must_be_well();
}

#[test]
fn unknown_topics_and_partitions() {
    let site = Site::start();
    let mut connection = site.connect();
    for (topic, partition) in [("nowhere", 0), (Site::TOPIC, 1), (Site::TOPIC, -1), (Site::TOPIC, i32::MAX)] {
        let (error, _) = connection.produce(topic, partition, &Batch::of(&[b"lost"]).done());
        assert_eq!(error, UNKNOWN_TOPIC_OR_PARTITION, "produce to {topic}-{partition}");
        let fetched = connection.fetch(topic, partition, 0);
        assert_eq!(fetched.error, UNKNOWN_TOPIC_OR_PARTITION, "fetch from {topic}-{partition}");
    }
    // Metadata version 4, which can say that the topic is not to be created.
    let answer =
        connection.ask(METADATA, 4, &Bytes::new().i32(1).string("nowhere").i8(0).done()).expect("an answer");
    let mut answer = Parse(&answer);
    answer.skip(4 + 4 + 4); // throttle time, one broker, its id
    answer.string();
    answer.skip(4 + 2); // its port, no rack
    answer.string(); // the cluster's id
    answer.skip(4 + 4); // the controller, one topic
    assert_eq!(answer.i16(), UNKNOWN_TOPIC_OR_PARTITION);
    site.must_be_well();
}

#[test]
fn a_client_must_show_a_certificate_that_is_valid_now() {
    let site = Site::start();
    let own = || issuer_named(&site.broker.tls("ca.pem"), own_key(&site.broker));
    let foreign = || issuer_named(&site.broker.tls("ca.pem"), KeyPair::generate().unwrap());
    let strangers = [
        ("no certificate", None),
        ("an expired certificate", Some(issue(&own(), 2001, 2002))),
        ("a certificate of the future", Some(issue(&own(), 2400, 2401))),
        ("a certificate that somebody else signed", Some(issue(&foreign(), 2001, 2400))),
    ];
    for (who, identity) in strangers {
        // In TLS 1.3 the client has finished its handshake before the server judges its certificate.
        if let Ok(mut connection) = Connection::open_as(&site.broker, identity) {
            let peer = connection.local_address();
            let _ = connection.send(METADATA, 1, &[0, 0, 0, 0]);
            assert!(connection.receive().is_none(), "{who} got an answer");
            site.log_names(peer);
        }
    }
    // The same hands with a valid one are let in: it was the certificate.
    let mut welcome = Connection::open_as(&site.broker, Some(issue(&own(), 2001, 2400))).unwrap();
    assert!(welcome.ask(METADATA, 1, &[0, 0, 0, 0]).is_some());
    site.must_be_well();
}

/// Requests about transactions, and what they are answered.
mod transactions {
    use super::{Batch, Bytes, Connection, NONE, PRODUCE, Parse};

    pub const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub const INVALID_REQUEST: i16 = 42;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const INVALID_TXN_STATE: i16 = 48;
    pub const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    pub const OPERATION_NOT_ATTEMPTED: i16 = 55;
    pub const PRODUCER_FENCED: i16 = 90;

    /// Who somebody is, or says to be: a transactional id, a producer id, an epoch.
    #[derive(Clone, Copy, Debug)]
    pub struct Claim<'a>(pub &'a str, pub i64, pub i16);

    impl Claim<'_> {
        fn bytes(self) -> Bytes {
            Bytes::new().string(self.0).i64(self.1).i16(self.2)
        }
    }

    /// A length as newer versions have it.
    fn compact(length: usize) -> Vec<u8> {
        let (mut length, mut bytes) = (length + 1, Vec::new());
        while length >= 0x80 {
            bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        bytes.push(u8::try_from(length).unwrap());
        bytes
    }

    /// InitProducerId 2, in which names of any length can be written; nothing if the connection is closed.
    pub fn try_init(connection: &mut Connection, id: &str, timeout_ms: i32) -> Option<(i16, i64, i16)> {
        let request = Bytes::new().i8(0).raw(&compact(id.len())).raw(id.as_bytes()).i32(timeout_ms).i8(0);
        let answer = connection.ask(22, 2, &request.done())?;
        let mut answer = Parse(&answer);
        answer.skip(1 + 4); // tagged fields, throttle time
        Some((answer.i16(), answer.i64(), answer.i16()))
    }

    pub fn init(connection: &mut Connection, id: &str, timeout_ms: i32) -> (i16, i64, i16) {
        try_init(connection, id, timeout_ms).expect("an answer")
    }

    /// AddPartitionsToTxn 0: each error that there is, once.
    pub fn enrol(connection: &mut Connection, claim: Claim<'_>, topic: &str, partitions: &[i32]) -> Vec<i16> {
        let count = i32::try_from(partitions.len()).unwrap();
        let request = claim.bytes().i32(1).string(topic).i32(count);
        let request = partitions.iter().fold(request, |request, partition| request.i32(*partition));
        let answer = connection.ask(24, 0, &request.done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4 + 4); // throttle time, one topic
        answer.string();
        let mut errors: Vec<i16> = (0..answer.i32())
            .map(|_| {
                answer.skip(4); // the partition
                answer.i16()
            })
            .collect();
        errors.sort_unstable();
        errors.dedup();
        errors
    }

    /// AddOffsetsToTxn 0.
    pub fn enrol_group(connection: &mut Connection, claim: Claim<'_>, group: &str) -> i16 {
        let answer = connection.ask(25, 0, &claim.bytes().string(group).done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4); // throttle time
        answer.i16()
    }

    /// EndTxn 2.
    pub fn end(connection: &mut Connection, claim: Claim<'_>, commit: bool) -> i16 {
        let answer = connection.ask(26, 2, &claim.bytes().i8(commit.into()).done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4); // throttle time
        answer.i16()
    }

    /// Produce 3, one record in a transaction.
    pub fn produce(
        connection: &mut Connection,
        claim: Claim<'_>,
        topic: &str,
        (base_sequence, value): (i32, &[u8]),
    ) -> i16 {
        let Claim(id, producer_id, producer_epoch) = claim;
        let plain = Batch::of(&[value]);
        let batch = Batch { attributes: 0x10, producer_id, producer_epoch, base_sequence, ..plain };
        let request = Bytes::new().string(id).i16(-1).i32(30_000).i32(1).string(topic).i32(1).i32(0);
        let answer = connection.ask(PRODUCE, 3, &request.sized(&batch.done()).done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4); // one topic
        answer.string();
        answer.skip(4 + 4); // one partition, its index
        answer.i16()
    }

    /// WriteTxnMarkers 1, for partition 0 of a topic.
    pub fn write_marker(connection: &mut Connection, claim: Claim<'_>, topic: &str, commit: bool) -> i16 {
        let Claim(_, producer_id, epoch) = claim;
        let marker = Bytes::new().i8(0).raw(&compact(1)).i64(producer_id).i16(epoch).i8(commit.into());
        let marker = marker.raw(&compact(1)).raw(&compact(topic.len())).raw(topic.as_bytes());
        let marker = marker.raw(&compact(1)).i32(0).i8(0).i32(0).i8(0).i8(0);
        let answer = connection.ask(27, 1, &marker.done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(1 + 1 + 8 + 1); // tagged fields, one marker, its producer, one topic
        let length = usize::try_from(answer.i8()).unwrap() - 1;
        answer.skip(length + 1 + 4); // its name, one partition, its index
        answer.i16()
    }

    /// Begins a transaction of an id with a record.
    pub fn begin(connection: &mut Connection, id: &'static str, topic: &str) -> Claim<'static> {
        let (error, producer, epoch) = init(connection, id, 600_000);
        assert_eq!(error, NONE);
        let claim = Claim(id, producer, epoch);
        assert_eq!(enrol(connection, claim, topic, &[0]), [NONE]);
        assert_eq!(produce(connection, claim, topic, (0, b"honest")), NONE);
        claim
    }
}

/// Who lies about transactions, or leaves them lying about, is refused with a clear error, and disturbs nobody's.
#[test]
fn lies_about_transactions_end_nobodys() {
    use transactions::*;

    if !Broker::runs_semel() {
        return;
    }
    const HELD: &str = "held";
    let mut site = Site::start();
    assert_eq!(site.healthy.create_topic(HELD, 1), NONE);
    let mut holder = site.connect();
    let honest = begin(&mut holder, "honest", HELD);
    let Claim(id, producer, epoch) = honest;

    // Identities that nobody was given: each is tried at each entrance, by somebody else.
    let mapping = INVALID_PRODUCER_ID_MAPPING;
    let forgeries = [
        (Claim(id, producer + 1, epoch), mapping, mapping),
        (Claim(id, i64::MAX, epoch), mapping, mapping),
        (Claim("nobody", producer, epoch), mapping, mapping),
        (Claim(id, producer, epoch + 1), PRODUCER_FENCED, INVALID_PRODUCER_EPOCH),
        (Claim(id, producer, i16::MAX), PRODUCER_FENCED, INVALID_PRODUCER_EPOCH),
    ];
    for (claim, at_its_end, elsewhere) in forgeries {
        let mut liar = site.connect();
        assert_eq!(enrol(&mut liar, claim, HELD, &[0]), [elsewhere], "{claim:?}");
        assert_eq!(enrol_group(&mut liar, claim, "g"), elsewhere, "{claim:?}");
        // The next sequence: what repeats a batch that is stored is answered as that, whoever says it (A3), and what comes
        // out of order as that.
        let sequence = if claim.2 == epoch { 1 } else { 0 };
        assert_eq!(produce(&mut liar, claim, HELD, (sequence, b"forged")), elsewhere, "{claim:?}");
        for commit in [true, false] {
            assert_eq!(end(&mut liar, claim, commit), at_its_end, "{claim:?}");
        }
    }

    // Markers: from somebody who is no administrator; and from one, of what is not so.
    let somebody = issue(&issuer_named(&site.broker.tls("ca.pem"), own_key(&site.broker)), 2001, 2400);
    let mut somebody = Connection::open_as(&site.broker, Some(somebody)).unwrap();
    for commit in [true, false] {
        let answer = write_marker(&mut somebody, honest, HELD, commit);
        assert_eq!(answer, CLUSTER_AUTHORIZATION_FAILED);
    }
    assert_eq!(
        write_marker(&mut site.healthy, honest, HELD, true),
        INVALID_TXN_STATE,
        "none is committed so"
    );
    let forged = Claim(id, producer, epoch + 1);
    assert_eq!(write_marker(&mut site.healthy, forged, HELD, false), INVALID_TXN_STATE);

    // Names of 32 and of 64 KiB (the protocol has none longer than a signed 16-bit number can say), and a transaction with
    // 100,000 partitions, again and again.
    let (long, longer) = ("x".repeat(32_767), "x".repeat(64 << 10));
    let many: Vec<i32> = (0..100_000).collect();
    let mut greedy = site.connect();
    let (_, producer, epoch) = init(&mut greedy, "greedy", 600_000);
    for _ in 0..20 {
        assert_eq!(init(&mut site.connect(), &long, 600_000).0, INVALID_REQUEST);
        assert_eq!(try_init(&mut site.connect(), &longer, 600_000), None);
        let answers = enrol(&mut greedy, Claim("greedy", producer, epoch), HELD, &many);
        assert_eq!(answers, [UNKNOWN_TOPIC_OR_PARTITION, OPERATION_NOT_ATTEMPTED]);
    }

    site.broker.wait_for_log("the reason", |log| log.contains("65536 is no length"));

    // Who enrols and never writes: a marker comes at the deadline, and no reader has waited for it.
    let mut idle = site.connect();
    let (error, producer, epoch) = init(&mut idle, "idle", 1_000);
    assert_eq!((error, enrol(&mut idle, Claim("idle", producer, epoch), HELD, &[0])), (NONE, vec![NONE]));
    assert_eq!(end(&mut holder, honest, true), NONE, "nothing has been ended that should not be");
    let is_ended = || {
        let fetched = site.connect().fetch(HELD, 0, 0);
        assert_eq!((fetched.error, fetched.last_stable_offset), (NONE, fetched.high_watermark));
        fetched.high_watermark == 3 // a record, its marker, the other one
    };
    let begun = std::time::Instant::now();
    while !is_ended() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it is never ended");
    }
    assert_eq!(end(&mut idle, Claim("idle", producer, epoch), true), PRODUCER_FENCED);
    site.must_be_well();
}

/// Somebody who signs in the name of the certificate in a file, rightly or not.
fn issuer_named(ca: &Path, key: KeyPair) -> Issuer<'static, KeyPair> {
    let pem = fs::read(ca).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let subject = pem.parse_x509().unwrap().tbs_certificate.subject.clone();
    let mut name = DistinguishedName::new();
    for attribute in subject.iter_attributes() {
        name.push(
            DnType::from_oid(&attribute.attr_type().iter().unwrap().collect::<Vec<_>>()),
            attribute.as_str().unwrap(),
        );
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    Issuer::new(params, key)
}

fn issue(issuer: &Issuer<'_, KeyPair>, from_year: i32, to_year: i32) -> Identity {
    let (certificate, key) = sign(issuer, ExtendedKeyUsagePurpose::ClientAuth, from_year, to_year);
    Identity { chain: vec![certificate.der().clone()], key: key.serialize_der().try_into().unwrap() }
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    usage: ExtendedKeyUsagePurpose,
    from_year: i32,
    to_year: i32,
) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "somebody");
    params.extended_key_usages = vec![usage];
    (params.not_before, params.not_after) = (date_time_ymd(from_year, 1, 1), date_time_ymd(to_year, 1, 1));
    (params.signed_by(&key, issuer).unwrap(), key)
}

/// No client would talk to it: better to say so at the start than to let each of them find out.
#[test]
fn an_expired_server_certificate_is_named() {
    if !Broker::runs_semel() {
        return;
    }
    let mut broker = Broker::start();
    assert!(broker.stop().success());
    let issuer = issuer_named(&broker.tls("ca.pem"), own_key(&broker));
    let (certificate, key) = sign(&issuer, ExtendedKeyUsagePurpose::ServerAuth, 2001, 2002);
    fs::write(broker.tls("server.pem"), certificate.pem()).unwrap();
    fs::write(broker.tls("server.key"), key.serialize_pem()).unwrap();
    refuses(broker.try_restart(), "server.pem");
}

/// The key of the broker's own certificate authority.
fn own_key(broker: &Broker) -> KeyPair {
    KeyPair::from_pem(&fs::read_to_string(broker.tls("ca.key")).unwrap()).unwrap()
}

/// It ended by itself, with an error status, and told why in a line that names the thing.
fn refuses(attempt: Result<(), Refused>, named: &str) {
    let refused = attempt.expect_err("it started");
    assert!(refused.status.code().is_some_and(|code| code != 0), "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains(named), "nothing about {named}:\n{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_taken_port_is_named() {
    let home = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    refuses(Broker::try_start(&home.path().join("tcp"), &address.to_string()), &address.port().to_string());
    if Broker::runs_semel() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        refuses(
            Broker::try_start(&home.path().join("udp"), &address.to_string()),
            &address.port().to_string(),
        );
    }
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    // Also true for root, who may write everywhere else.
    refuses(Broker::try_start(&file, "127.0.0.1:0"), &file.display().to_string());
    let below = file.join("data");
    refuses(Broker::try_start(&below, "127.0.0.1:0"), &file.display().to_string());
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a directory");
}

#[test]
fn a_data_directory_has_one_broker() {
    if !Broker::runs_semel() {
        return;
    }
    let site = Site::start();
    let data_dir = site.broker.data_dir();
    refuses(Broker::try_start(&data_dir, "127.0.0.1:0"), &data_dir.display().to_string());
    site.must_be_well();
}

/// What a power cut leaves behind the last block is not believed, and costs nothing that was acknowledged.
#[test]
fn garbage_behind_the_log_is_cut_off() {
    if !Broker::runs_semel() {
        return;
    }
    const BLOCK_ALIGNMENT: u64 = 4096;
    let mut site = Site::start();
    site.produce(b"the last record of all");
    site.broker.kill();
    let (file, at) = place_of(&site.broker.data_dir(), b"the last record of all");
    let end = (at / BLOCK_ALIGNMENT + 1) * BLOCK_ALIGNMENT;
    let mut noise = Noise(2);
    overwrite(
        &file,
        end,
        &std::iter::repeat_with(|| noise.next().to_be_bytes()).take(1 << 13).flatten().collect::<Vec<_>>(),
    );

    site.broker.restart();
    site.healthy = site.connect();
    assert_eq!(site.healthy.read_all(Site::TOPIC, 0), site.acknowledged);
    site.produce(b"in the place of the garbage");
    site.broker.kill();
    site.broker.restart();
    assert_eq!(site.connect().read_all(Site::TOPIC, 0), site.acknowledged);
}

/// A site as a power cut leaves it at worst: of its rows only what was there before the last twenty records is left, and
/// the log has everything. The broker is down.
fn after_a_power_cut() -> Site {
    let mut site = Site::start();
    let (rows, kept) = (site.broker.data_dir().join("rows"), site.broker.data_dir().join("rows-before"));
    site.broker.kill();
    copy_dir(&rows, &kept);
    site.broker.restart();
    site.healthy = site.connect();
    for n in 0..20 {
        site.produce(format!("since {n}").as_bytes());
    }
    site.broker.kill();
    fs::remove_dir_all(&rows).unwrap();
    fs::rename(&kept, &rows).unwrap();
    site
}

#[test]
fn rows_lost_in_a_power_cut_come_back_from_the_log() {
    if !Broker::runs_semel() {
        return;
    }
    let mut site = after_a_power_cut();
    site.broker.restart();
    site.healthy = site.connect();
    assert_eq!(site.healthy.read_all(Site::TOPIC, 0), site.acknowledged);
    site.produce(b"and on it goes");
    assert_eq!(site.connect().read_all(Site::TOPIC, 0), site.acknowledged);
}

/// A damaged block with good ones behind it is no torn tail: serving without it would lose acknowledged records (as
/// Apache Kafka does: it cuts the partition off before the damage and goes on).
#[test]
fn a_damaged_log_is_not_served() {
    if !Broker::runs_semel() {
        return;
    }
    let mut site = after_a_power_cut();
    let (file, at) = place_of(&site.broker.data_dir(), b"since 3");
    overwrite(&file, at, b"SINCE");
    let refused = site.broker.try_restart().expect_err("it serves from a damaged log");
    refuses(Err(refused), &file.file_name().unwrap().to_string_lossy());

    // The disk gives the right bytes after all: nothing was cut off, everything is still there.
    overwrite(&file, at, b"since");
    site.broker.restart();
    assert_eq!(site.connect().read_all(Site::TOPIC, 0), site.acknowledged);
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &copy);
        } else {
            fs::copy(&path, copy).unwrap();
        }
    }
}

/// Damage in what a start need not replay shows when it is read, as an error and never as wrong bytes.
#[test]
fn a_damaged_record_is_not_returned() {
    if !Broker::runs_semel() {
        return;
    }
    let mut site = Site::start();
    assert!(site.broker.stop().success(), "a clean stop");
    let (file, at) = place_of(&site.broker.data_dir(), b"before 3");
    overwrite(&file, at, b"BEFORE");
    if let Err(refused) = site.broker.try_restart() {
        return refuses(Err(refused), &file.file_name().unwrap().to_string_lossy());
    }
    let fetched = site.connect().fetch(Site::TOPIC, 0, 3);
    assert_ne!(fetched.error, NONE);
    assert!(fetched.records.is_empty(), "{} bytes beside error {}", fetched.records.len(), fetched.error);
    assert!(site.broker.is_running(), "one damaged record stopped everything");
}

/// The only file below a directory that holds these bytes, and where.
fn place_of(dir: &Path, wanted: &[u8]) -> (PathBuf, u64) {
    let mut places = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Some(at) = position_of(&fs::read(&path).unwrap(), wanted) {
                places.push((path, u64::try_from(at).unwrap()));
            }
        }
    }
    assert_eq!(places.len(), 1, "the payload is written once: {places:?}");
    places.remove(0)
}

/// Goes from one occurrence of the first byte to the next with the standard library's own search, because log segments
/// are large and tests are compiled without optimisation.
fn position_of(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while rest.skip_until(wanted[0]).unwrap() > 0 {
        let at = bytes.len() - rest.len() - 1;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
    }
    None
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    fs::File::options().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}
