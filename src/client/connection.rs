//! One ordered Kafka connection: requests out, answers in, matched by order and correlation id.

use super::config::{ClientConfig, Endpoint};
use super::error::{ClientError, seconds};
use super::transport::{Duplex, FrameReader, FrameWriter, tls_problem};
use super::versions::{ANY_VERSION, Versions};
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{
    ApiKey, ErrorCode, Request, VersionRange, decode_response, encode_request, peek_correlation_id,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Takes the answer, or why there is none. Called once, on the connection's task: it must not block.
pub(super) type AnswerSink = Box<dyn FnOnce(Result<Bytes, ClientError>) + Send>;

struct Outgoing {
    frame: Vec<Bytes>,
    waiting: Waiting,
}

struct Waiting {
    correlation_id: i32,
    sink: AnswerSink,
    _seat: OwnedSemaphorePermit,
}

/// A connection whose versions are known. It ends when it is dropped, when the broker ends it, or with
/// [`Connection::kill`]; then every request without an answer gets an error.
pub struct Connection {
    endpoint: Endpoint,
    client_id: String,
    versions: Versions,
    outgoing: mpsc::Sender<Outgoing>,
    seats: Arc<Semaphore>,
    next_correlation_id: AtomicI32,
    request_timeout: Duration,
    ending: Arc<Ending>,
}

/// How a connection is told to end, and why it has ended.
#[derive(Default)]
struct Ending {
    reason: OnceLock<String>,
    asked: Notify,
}

impl Connection {
    /// Asks the broker for its versions and starts to carry requests.
    pub(super) async fn start(
        config: &ClientConfig,
        endpoint: &Endpoint,
        mut duplex: Duplex,
    ) -> Result<Connection, ClientError> {
        let announced = negotiate(config, endpoint, &mut duplex).await?;
        let (outgoing, incoming) = mpsc::channel(config.connection_requests_max);
        let ending = Arc::new(Ending::default());
        let task = carry(endpoint.clone(), duplex, incoming, Arc::clone(&ending));
        tokio::spawn(task);
        Ok(Connection {
            endpoint: endpoint.clone(),
            client_id: config.client_id.clone(),
            versions: Versions::new(endpoint.clone(), &announced),
            outgoing,
            seats: Arc::new(Semaphore::new(config.connection_requests_max)),
            next_correlation_id: AtomicI32::new(1),
            request_timeout: config.request_timeout,
            ending,
        })
    }

    /// What the broker speaks.
    pub(super) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Whether requests can still be sent on it.
    pub(super) fn is_open(&self) -> bool {
        self.ending.reason.get().is_none() && !self.outgoing.is_closed()
    }

    /// Ends it. Requests without an answer fail with `reason`.
    pub(super) fn kill(&self, reason: &str) {
        // The first reason counts.
        let _ = self.ending.reason.set(reason.to_owned());
        self.ending.asked.notify_one();
    }

    /// Sends a request in the highest common version, and waits for its answer as long as the client is configured to.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.call_within(request, self.request_timeout).await
    }

    /// The same for a request whose answer may take longer, or must not take as long.
    pub async fn call_within<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        self.call_version(request, ANY_VERSION, timeout).await
    }

    /// Sends a request in the highest common version among `wanted`, and waits for its answer. A connection whose
    /// answer is overdue is ended: answers come in order, so nothing would come after it either.
    pub(super) async fn call_version<R: Request>(
        &self,
        request: &R,
        wanted: VersionRange,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.versions.highest(R::API, wanted)?;
        let seat = self.seat().await?;
        let (sender, receiver) = oneshot::channel();
        let sink: AnswerSink = Box::new(move |answer| {
            // The caller may have stopped waiting.
            let _ = sender.send(answer);
        });
        self.submit(request, version, seat, sink);
        let answer = match tokio::time::timeout(timeout, receiver).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(self.ended())),
            Err(_) => {
                self.kill(&format!("{} got no answer within {}", R::API, seconds(timeout)));
                let what = format!("{} at {}", R::API, self.endpoint);
                Err(ClientError::Timeout { what, after: timeout, last: None })
            }
        };
        self.decode::<R>(version, answer?)
    }

    /// Reads an answer to an `R` of `version`.
    pub(super) fn decode<R: Request>(&self, version: i16, frame: Bytes) -> Result<R::Response, ClientError> {
        decode_answer::<R>(&self.endpoint, version, frame).inspect_err(|error| self.kill(&error.to_string()))
    }

    /// Waits until one more request may be sent.
    pub(super) async fn seat(&self) -> Result<OwnedSemaphorePermit, ClientError> {
        Arc::clone(&self.seats).acquire_owned().await.map_err(|_| self.ended())
    }

    /// The same, for somebody who knows that there is one.
    pub(super) fn try_seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// Sends a request in a version that was chosen before. Requests leave in the order of these calls; `sink` is called
    /// in any case.
    pub(super) fn submit<R: Request>(
        &self,
        request: &R,
        version: i16,
        seat: OwnedSemaphorePermit,
        sink: AnswerSink,
    ) {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let frame = match encode_request(request, version, correlation_id, Some(&self.client_id)) {
            Ok(frame) => frame,
            Err(error) => return sink(Err(error.into())),
        };
        let outgoing = Outgoing { frame, waiting: Waiting { correlation_id, sink, _seat: seat } };
        // Seats and queue are equally many: it is never full.
        if let Err(refused) = self.outgoing.try_send(outgoing) {
            let (mpsc::error::TrySendError::Full(unsent) | mpsc::error::TrySendError::Closed(unsent)) =
                refused;
            (unsent.waiting.sink)(Err(self.ended()));
        }
    }

    fn ended(&self) -> ClientError {
        self.ending.error(&self.endpoint)
    }
}

impl Ending {
    fn error(&self, endpoint: &Endpoint) -> ClientError {
        let reason = self.reason.get().map_or("it was closed", String::as_str).to_owned();
        ClientError::Disconnected { endpoint: endpoint.clone(), reason }
    }
}

fn decode_answer<R: Request>(
    endpoint: &Endpoint,
    version: i16,
    frame: Bytes,
) -> Result<R::Response, ClientError> {
    decode_response(frame, version)
        .map(|(_, answer)| answer)
        .map_err(|error| ClientError::malformed(endpoint, &error))
}

/// Asks which versions the broker speaks: in the newest that this client has, and if the broker does not have that one,
/// in the newest that it names in its refusal (KIP-511: refusals come in version 0).
async fn negotiate(
    config: &ClientConfig,
    endpoint: &Endpoint,
    duplex: &mut Duplex,
) -> Result<ApiVersionsResponse, ClientError> {
    let mut version = ApiKey::ApiVersions.versions().max;
    loop {
        let answer = ask_versions(config, endpoint, duplex, version).await?;
        match answer.error_code {
            ErrorCode::None => return Ok(answer),
            ErrorCode::UnsupportedVersion if version > 0 => {
                let listed = answer
                    .api_keys
                    .iter()
                    .find(|api| ApiKey::try_from(api.api_key) == Ok(ApiKey::ApiVersions));
                version = listed.map_or(0, |api| api.max_version).clamp(0, version - 1);
            }
            code => return Err(ClientError::broker(format!("version query at {endpoint}"), code, None)),
        }
    }
}

async fn ask_versions(
    config: &ClientConfig,
    endpoint: &Endpoint,
    duplex: &mut Duplex,
    version: i16,
) -> Result<ApiVersionsResponse, ClientError> {
    let request = ApiVersionsRequest {
        client_software_name: "semel".to_owned(),
        client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ApiVersionsRequest::default()
    };
    let frame = encode_request(&request, version, 0, Some(&config.client_id))?;
    // With TLS 1.3 a client learns only now that its certificate is not accepted.
    let failed = |error: io::Error| match tls_problem(&error) {
        Some(reason) => ClientError::Identity { endpoint: endpoint.clone(), reason },
        None => ClientError::Connect {
            endpoint: endpoint.clone(),
            reason: format!("it did not say which versions it speaks: {error}"),
        },
    };
    duplex.writer.write(frame).await.map_err(failed)?;
    duplex.writer.flush().await.map_err(failed)?;
    let frame = duplex.reader.next().await.map_err(failed)?;
    // The error code is the first field of every version.
    let refused = frame.get(4..6) == Some(&i16::from(ErrorCode::UnsupportedVersion).to_be_bytes()[..]);
    decode_answer::<ApiVersionsRequest>(endpoint, if refused { 0 } else { version }, frame)
}

/// Carries requests and answers until either side ends it.
async fn carry(
    endpoint: Endpoint,
    duplex: Duplex,
    mut requests: mpsc::Receiver<Outgoing>,
    ending: Arc<Ending>,
) {
    let Duplex { reader, writer } = duplex;
    let waiting = Mutex::new(VecDeque::new());
    let ended = tokio::select! {
        biased;
        () = ending.asked.notified() => Ok(()),
        ended = write_requests(writer, &mut requests, &waiting) => ended,
        ended = read_answers(reader, &waiting) => ended,
    };
    if let Err(error) = ended {
        let _ = ending.reason.set(error.to_string());
    }
    let _ = ending.reason.set("it was closed".to_owned());
    requests.close();
    let waiting = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    for waiting in waiting {
        (waiting.sink)(Err(ending.error(&endpoint)));
    }
    while let Some(unsent) = requests.recv().await {
        (unsent.waiting.sink)(Err(ending.error(&endpoint)));
    }
}

type WaitingQueue = Mutex<VecDeque<Waiting>>;

async fn write_requests(
    mut writer: FrameWriter,
    requests: &mut mpsc::Receiver<Outgoing>,
    waiting: &WaitingQueue,
) -> io::Result<()> {
    while let Some(first) = requests.recv().await {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(outgoing.waiting);
            writer.write(outgoing.frame).await?;
            next = requests.try_recv().ok();
        }
        writer.flush().await?;
    }
    Ok(())
}

async fn read_answers(mut reader: FrameReader, waiting: &WaitingQueue) -> io::Result<()> {
    loop {
        let frame = reader.next().await?;
        let correlation_id = peek_correlation_id(&frame).ok();
        let first = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match first {
            Some(waiting) if Some(waiting.correlation_id) == correlation_id => (waiting.sink)(Ok(frame)),
            other => {
                // Back into the queue, so that its caller hears of the end.
                waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(other);
                let problem = "an answer came that belongs to no request";
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
    }
}
