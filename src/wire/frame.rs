//! Frames: a header and a message.
//!
//! A request frame is read in two steps, because the header alone says which message follows and in which version, and
//! because the header must be answerable even where the version is unknown: [`RequestHeader::decode`], then
//! [`Message::decode`] on the rest.

use super::api::{ApiKey, VersionRange};
use super::primitives::{
    DecodeError, DecodeFault, Decoder, EncodeError, Encoder, ErrorCounts, Field, Shape, Structure,
};
use bytes::Bytes;

/// A declared request or response.
pub trait Message: Structure + Default {
    /// The name in the protocol, such as `ProduceRequest`.
    const NAME: &'static str;
    /// The api it belongs to, which has its versions.
    const API: ApiKey;

    /// Reads a body: everything after the header, to the last byte.
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        let read = |decoder: &mut Decoder| {
            let message = read_body(decoder, version)?;
            decoder.finish().map(|()| message)
        };
        read(&mut Decoder::new(body)).map_err(|error| error.in_message(Self::NAME))
    }

    /// Reads a body and ignores what follows it, as Kafka's brokers do: librdkafka leaves three bytes behind a Metadata
    /// request for all topics.
    fn decode_leading(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        read_body(&mut Decoder::new(body), version).map_err(|error| error.in_message(Self::NAME))
    }

    /// Writes the body.
    fn encode(&self, version: i16, to: &mut Encoder) -> Result<(), EncodeError> {
        let shape = shape(Self::API, version)
            .ok_or(EncodeError::UnsupportedVersion { message: Self::NAME, version })?;
        self.write_fields(to, shape)
    }
}

/// A message that a client sends.
pub trait Request: Message {
    /// What is answered.
    type Response: Response;
}

/// A message that answers a [`Request`].
pub trait Response: Message {}

fn read_body<M: Message>(decoder: &mut Decoder, version: i16) -> Result<M, DecodeError> {
    let shape =
        shape(M::API, version).ok_or_else(|| decoder.fault(DecodeFault::UnsupportedVersion(version)))?;
    M::read_fields(decoder, shape)
}

fn shape(api: ApiKey, version: i16) -> Option<Shape> {
    let known = api.versions().contains(version);
    known.then(|| Shape { version, flexible: api.is_flexible(version), nullable: false })
}

/// What leads a request whose api and version are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which api.
    pub api: ApiKey,
    /// Which version of it; one of [`ApiKey::versions`].
    pub version: i16,
    /// The client's number for this request, to be repeated in the answer.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<String>,
}

/// Why a frame cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are no header. There is nothing to answer: close the connection.
    #[error("not a request: {0}")]
    Malformed(#[from] DecodeError),
    /// An api that semel does not have. Kafka closes the connection.
    #[error("api key {api_key} is unknown (version {version}, correlation id {correlation_id})")]
    UnknownApi {
        /// The number.
        api_key: i16,
        /// The version asked for.
        version: i16,
        /// The request's correlation id.
        correlation_id: i32,
    },
    /// A known api in a version that is not served. ApiVersions is answered in version 0 with
    /// [`UnsupportedVersion`](super::ErrorCode::UnsupportedVersion); for the others Kafka closes the connection.
    #[error("{api} has versions {}, not {version} (correlation id {correlation_id})", api.versions())]
    UnsupportedVersion {
        /// The api.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// The request's correlation id.
        correlation_id: i32,
    },
}

impl RequestHeader {
    /// Reads the header of a frame (without its length prefix) and returns it with the body.
    pub fn decode(frame: Bytes) -> Result<(RequestHeader, Bytes), HeaderError> {
        let mut from = Decoder::new(frame);
        let header = RequestHeader::read(&mut from)?;
        Ok((header, from.rest()))
    }

    fn read(from: &mut Decoder) -> Result<RequestHeader, HeaderError> {
        let api_key = i16::read(from, PLAIN).map_err(|error| in_header(error, "api_key"))?;
        let version = i16::read(from, PLAIN).map_err(|error| in_header(error, "version"))?;
        let correlation_id = i32::read(from, PLAIN).map_err(|error| in_header(error, "correlation_id"))?;
        let Ok(api) = ApiKey::try_from(api_key) else {
            return Err(HeaderError::UnknownApi { api_key, version, correlation_id });
        };
        if !api.versions().contains(version) {
            return Err(HeaderError::UnsupportedVersion { api, version, correlation_id });
        }
        // The client id is never compact: brokers must read it before they know whether the rest is (KIP-482).
        let client_id = Option::read(from, PLAIN).map_err(|error| in_header(error, "client_id"))?;
        if api.request_header_version(version) >= 2 {
            from.tagged_fields(|_, _| Ok(false)).map_err(|error| in_header(error, "tagged_fields"))?;
        }
        Ok(RequestHeader { api, version, correlation_id, client_id })
    }

    fn write(&self, to: &mut Encoder) -> Result<(), EncodeError> {
        i16::from(self.api).write(to, PLAIN)?;
        self.version.write(to, PLAIN)?;
        self.correlation_id.write(to, PLAIN)?;
        self.client_id.write(to, PLAIN)?;
        if self.api.request_header_version(self.version) >= 2 {
            to.unsigned_varint(0);
        }
        Ok(())
    }
}

/// Headers have no compact fields.
const PLAIN: Shape = Shape { version: 0, flexible: false, nullable: true };

fn in_header(error: DecodeError, field: &'static str) -> DecodeError {
    error.in_field("RequestHeader", field).in_message("RequestHeader")
}

/// A request as a frame, its length prefix included. `client_id` is the client's name for itself.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Vec<Bytes>, EncodeError> {
    let client_id = client_id.map(str::to_owned);
    let mut frame = Encoder::frame(0);
    RequestHeader { api: R::API, version, correlation_id, client_id }.write(&mut frame)?;
    request.encode(version, &mut frame)?;
    frame.into_frame()
}

/// A response as a frame, its length prefix included; and the errors that it carries. About `buffered` of its bytes are neither in
/// large pieces that are shared nor few: there is room for them from the start.
pub fn encode_response<R: Response>(
    response: &R,
    version: i16,
    correlation_id: i32,
    buffered: usize,
) -> Result<(Vec<Bytes>, ErrorCounts), EncodeError> {
    let mut frame = Encoder::frame(buffered);
    correlation_id.write(&mut frame, PLAIN)?;
    if R::API.response_header_version(version) >= 1 {
        frame.unsigned_varint(0);
    }
    response.encode(version, &mut frame)?;
    let errors = frame.take_errors();
    Ok((frame.into_frame()?, errors))
}

/// The correlation id of a response frame (without its length prefix), which says what was asked. What follows it is
/// for [`decode_response`].
pub fn peek_correlation_id(frame: &Bytes) -> Result<i32, DecodeError> {
    i32::read(&mut Decoder::new(frame.clone()), PLAIN).map_err(in_response_header)
}

/// Reads the header of a response frame (without its length prefix): the correlation id and the body.
pub fn decode_response_header(frame: Bytes, api: ApiKey, version: i16) -> Result<(i32, Bytes), DecodeError> {
    let mut from = Decoder::new(frame);
    let correlation_id = i32::read(&mut from, PLAIN).map_err(in_response_header)?;
    if api.response_header_version(version) >= 1 {
        from.tagged_fields(|_, _| Ok(false)).map_err(in_response_header)?;
    }
    Ok((correlation_id, from.rest()))
}

/// Reads a whole response frame (without its length prefix).
pub fn decode_response<R: Response>(frame: Bytes, version: i16) -> Result<(i32, R), DecodeError> {
    let (correlation_id, body) = decode_response_header(frame, R::API, version)?;
    Ok((correlation_id, R::decode(body, version)?))
}

fn in_response_header(error: DecodeError) -> DecodeError {
    error.in_message("ResponseHeader")
}

/// The versions of a message's api.
#[must_use]
pub fn versions_of<M: Message>() -> VersionRange {
    M::API.versions()
}
