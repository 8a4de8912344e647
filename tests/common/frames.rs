//! Kafka frames by hand, over TLS: for saying what no client library would say. Old, non-flexible versions, because
//! their layouts are short enough to be read here; everything is big-endian.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::broker::Broker;

/// An answer, or the end of the connection, comes within this time, or the broker hangs.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

pub const NONE: i16 = 0;
pub const CORRUPT_MESSAGE: i16 = 2;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const UNSUPPORTED_VERSION: i16 = 35;
pub const INVALID_RECORD: i16 = 87;
pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const METADATA: i16 = 3;
pub const API_VERSIONS: i16 = 18;
pub const CREATE_TOPICS: i16 = 19;

/// A certificate with its key, as DER.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn from_pem(chain: &Path, key: &Path) -> Identity {
        let chain = CertificateDer::pem_file_iter(chain).unwrap().collect::<Result<_, _>>().unwrap();
        Identity { chain, key: PrivateKeyDer::from_pem_file(key).unwrap() }
    }
}

/// What a fetch of one partition gave.
pub struct Fetched {
    pub error: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub records: Vec<u8>,
}

/// One TLS connection that carries frames.
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    correlation: i32,
}

impl Connection {
    /// Connects with the certificate that the broker made for clients.
    pub fn open(broker: &Broker) -> Connection {
        let identity = Identity::from_pem(&broker.tls("client.pem"), &broker.tls("client.key"));
        Connection::open_as(broker, Some(identity))
            .expect("the broker's own client certificate opens a connection")
    }

    /// Connects as somebody; in TLS 1.3 a refusal may only show with the first answer.
    pub fn open_as(broker: &Broker, identity: Option<Identity>) -> io::Result<Connection> {
        let roots = CertificateDer::pem_file_iter(broker.tls("ca.pem")).unwrap();
        let mut trusted = RootCertStore::empty();
        roots.for_each(|root| trusted.add(root.unwrap()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(trusted);
        let config = match identity {
            Some(Identity { chain, key }) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        let server = ServerName::from(broker.address().ip());
        let mut tls = ClientConnection::new(Arc::new(config), server).unwrap();
        let mut tcp = connect(broker.address());
        tls.complete_io(&mut tcp)?;
        Ok(Connection { stream: StreamOwned::new(tls, tcp), correlation: 0 })
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.sock.local_addr().unwrap()
    }

    /// From now on answers may take as long as they like: somebody else has a deadline.
    pub fn wait_for_ever(&self) {
        self.stream.sock.set_read_timeout(None).unwrap();
    }

    /// Sends bytes as they are. A broker that has closed the connection already is no failure of the sender.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub fn send(&mut self, api_key: i16, version: i16, body: &[u8]) -> io::Result<()> {
        self.correlation += 1;
        self.send_bytes(&frame(&request(api_key, version, self.correlation, body)))
    }

    /// The next frame; `None` when the broker has closed the connection instead.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        let body = self.stream.read_exact(&mut length).and_then(|()| {
            let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
            self.stream.read_exact(&mut body).map(|()| body)
        });
        match body {
            Ok(body) => Some(body),
            Err(error) if is_late(&error) => {
                panic!("neither an answer nor an end within {ANSWER_DEADLINE:?}")
            }
            Err(_) => None,
        }
    }

    /// Asks and waits for the answer's body.
    pub fn ask(&mut self, api_key: i16, version: i16, body: &[u8]) -> Option<Vec<u8>> {
        self.send(api_key, version, body).ok()?;
        let mut answer = self.receive()?;
        assert_eq!(answer[..4], self.correlation.to_be_bytes(), "the answer to another request");
        Some(answer.split_off(4))
    }

    /// Whatever else comes, the broker closes the connection.
    pub fn is_closed(&mut self) -> bool {
        while self.receive().is_some() {}
        true
    }

    pub fn create_topic(&mut self, topic: &str, partitions: i32) -> i16 {
        let topics = Bytes::new().i32(1).string(topic).i32(partitions).i16(1).i32(0).i32(0);
        let answer = self.ask(CREATE_TOPICS, 2, &topics.i32(30_000).i8(0).done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4 + 4); // throttle time, one topic
        answer.string();
        answer.i16()
    }

    /// Produces one set of record batches: the error code and the base offset.
    pub fn produce(&mut self, topic: &str, partition: i32, records: &[u8]) -> (i16, i64) {
        let answer = self.ask(PRODUCE, 3, &produce_request(topic, partition, records)).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4); // one topic
        answer.string();
        answer.skip(4 + 4); // one partition, its index
        (answer.i16(), answer.i64())
    }

    /// Fetches from an offset, read uncommitted, without waiting.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Fetched {
        const MAX_BYTES: i32 = 64 << 20;
        let request = Bytes::new().i32(-1).i32(0).i32(0).i32(MAX_BYTES).i8(0);
        let request = request.i32(1).string(topic).i32(1).i32(partition).i64(offset).i32(MAX_BYTES);
        let answer = self.ask(FETCH, 4, &request.done()).expect("an answer");
        let mut answer = Parse(&answer);
        answer.skip(4 + 4); // throttle time, one topic
        answer.string();
        answer.skip(4 + 4); // one partition, its index
        let (error, high_watermark, last_stable_offset) = (answer.i16(), answer.i64(), answer.i64());
        for _ in 0..answer.i32() {
            answer.skip(8 + 8); // an aborted transaction: its producer, its first offset
        }
        Fetched { error, high_watermark, last_stable_offset, records: answer.bytes() }
    }

    /// All that a partition holds, as the offsets and values of its (uncompressed) records.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Vec<(i64, Vec<u8>)> {
        let mut rows = Vec::new();
        loop {
            let next = rows.last().map_or(0, |(offset, _)| offset + 1);
            let fetched = self.fetch(topic, partition, next);
            assert_eq!(fetched.error, NONE, "fetch of {topic}-{partition} at {next}");
            if next >= fetched.high_watermark {
                return rows;
            }
            let more = records_of(&fetched.records);
            assert!(
                !more.is_empty(),
                "no records at {next} below the high watermark {}",
                fetched.high_watermark
            );
            rows.extend(more.into_iter().filter(|(offset, _)| *offset >= next));
        }
    }
}

/// A TCP connection whose reads and writes fail at the deadline.
pub fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(ANSWER_DEADLINE)).unwrap();
    tcp.set_write_timeout(Some(ANSWER_DEADLINE)).unwrap();
    tcp
}

pub fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A message with its length in front.
pub fn frame(message: &[u8]) -> Vec<u8> {
    Bytes::new().i32(i32::try_from(message.len()).unwrap()).raw(message).done()
}

/// A request with header version 1.
pub fn request(api_key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    Bytes::new().i16(api_key).i16(version).i32(correlation).string("by hand").raw(body).done()
}

/// Produce version 3, acks=all, one partition.
pub fn produce_request(topic: &str, partition: i32, records: &[u8]) -> Vec<u8> {
    let request = Bytes::new().i16(-1).i16(-1).i32(30_000).i32(1).string(topic);
    request.i32(1).i32(partition).sized(records).done()
}

/// Builds bytes in the order in which they go over the wire.
#[derive(Default, Clone)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    pub fn new() -> Bytes {
        Bytes::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn i8(self, value: i8) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    pub fn i16(self, value: i16) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    pub fn i32(self, value: i32) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(self, value: i64) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    /// A string behind its 16-bit length.
    pub fn string(self, text: &str) -> Bytes {
        self.i16(i16::try_from(text.len()).unwrap()).raw(text.as_bytes())
    }

    /// Bytes behind their 32-bit length.
    pub fn sized(self, bytes: &[u8]) -> Bytes {
        self.i32(i32::try_from(bytes.len()).unwrap()).raw(bytes)
    }

    /// A zigzag variable-length integer.
    pub fn varint(mut self, value: i64) -> Bytes {
        let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
        while rest >= 0x80 {
            self.0.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        self.0.push(u8::try_from(rest).unwrap());
        self
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads an answer; a test that reads past its end fails.
pub struct Parse<'a>(pub &'a [u8]);

impl<'a> Parse<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    pub fn skip(&mut self, length: usize) {
        self.take(length);
    }

    pub fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.take(1).try_into().unwrap())
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub fn string(&mut self) -> &'a str {
        let length = usize::try_from(self.i16()).unwrap();
        std::str::from_utf8(self.take(length)).unwrap()
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.i32()).unwrap_or(0);
        self.take(length).to_vec()
    }

    pub fn varint(&mut self) -> i64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = u64::from(self.take(1)[0]);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
    }
}

/// A record batch (format version 2) in which every field can be a lie.
#[derive(Clone)]
pub struct Batch {
    pub magic: i8,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    /// The records as they stand in the batch, compressed if `attributes` says so.
    pub records: Vec<u8>,
}

impl Batch {
    /// An honest batch of uncompressed records without a producer id.
    pub fn of(values: &[&[u8]]) -> Batch {
        let count = i32::try_from(values.len()).unwrap();
        let records = (0..).zip(values).flat_map(|(delta, value)| record(delta, value)).collect();
        Batch {
            magic: 2,
            attributes: 0,
            last_offset_delta: count - 1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            records,
        }
    }

    /// The batch's bytes, with a length and a CRC-32C that are right for whatever the fields say.
    pub fn done(&self) -> Vec<u8> {
        const NOW: i64 = 1_700_000_000_000;
        let checked = Bytes::new().i16(self.attributes).i32(self.last_offset_delta).i64(NOW).i64(NOW);
        let checked = checked.i64(self.producer_id).i16(self.producer_epoch).i32(self.base_sequence);
        let checked = checked.i32(self.count).raw(&self.records).done();
        let crc = crc32c::crc32c(&checked).cast_signed();
        let rest = Bytes::new().i32(-1).i8(self.magic).i32(crc).raw(&checked).done();
        Bytes::new().i64(0).sized(&rest).done()
    }
}

/// One record of a batch: attributes, timestamp delta, offset delta, no key, the value, no headers.
pub fn record(offset_delta: i64, value: &[u8]) -> Vec<u8> {
    let length = i64::try_from(value.len()).unwrap();
    let body = Bytes::new()
        .i8(0)
        .varint(0)
        .varint(offset_delta)
        .varint(-1)
        .varint(length)
        .raw(value)
        .varint(0)
        .done();
    Bytes::new().varint(i64::try_from(body.len()).unwrap()).raw(&body).done()
}

/// Offsets and values of the records in a fetched record set; a last batch that is cut off is left out.
fn records_of(mut set: &[u8]) -> Vec<(i64, Vec<u8>)> {
    const HEADER: usize = 61;
    let mut rows = Vec::new();
    while set.len() >= HEADER {
        let mut head = Parse(set);
        let (base, length) = (head.i64(), usize::try_from(head.i32()).unwrap());
        if set.len() < 12 + length {
            break;
        }
        let (batch, rest) = set.split_at(12 + length);
        assert_eq!(crc32c::crc32c(&batch[21..]).to_be_bytes(), batch[17..21], "CRC of the batch at {base}");
        assert_eq!(batch[22] & 0b10_0111, 0, "an uncompressed batch that is no marker");
        let mut records = Parse(&batch[HEADER..]);
        while !records.0.is_empty() {
            records.varint(); // the record's length
            records.skip(1); // attributes
            records.varint(); // timestamp delta
            let offset = base + records.varint();
            let key_length = usize::try_from(records.varint()).unwrap_or(0);
            records.take(key_length);
            let length = usize::try_from(records.varint()).unwrap();
            rows.push((offset, records.take(length).to_vec()));
            assert_eq!(records.varint(), 0, "no headers");
        }
        set = rest;
    }
    rows
}
