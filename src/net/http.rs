//! HTTP/1.1 over the TLS connections that ask for it (ALPN `http/1.1`; Kafka clients offer no ALPN): pages to look at, and
//! nothing else. One request at a time, without a body; what is not understood is answered and ends the connection.

use super::pages::{Asked, Page, Status};
use super::server::Shared;
use super::service::Connection;
use bytes::{Buf, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The protocol's name in ALPN (RFC 7301 §6).
pub(super) const ALPN: &[u8] = b"http/1.1";

/// The longest request head, in bytes. Browsers send one or two KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most header fields in it.
const FIELDS_MAX: usize = 64;
/// How long the end of a connection may take to reach the peer.
const FINISH: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub(super) async fn run<V, S>(shared: Arc<Shared<V>>, connection: Connection, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let carried = shared.served.metrics.pages();
    let _open = carried.open_one();
    let ended = tokio::select! {
        ended = converse(&shared, &connection, &mut stream) => ended,
        _ = shared.stopping() => Ok(()),
    };
    let Connection { id, peer, principal, .. } = &connection;
    match ended {
        Ok(()) => tracing::debug!(%peer, connection = %id, %principal, "a reader of pages is done"),
        Err(error) => {
            tracing::debug!(%peer, connection = %id, %principal, %error, "a reader of pages is gone")
        }
    }
    // The peer may be gone: then there is nobody to finish for.
    let _ = tokio::time::timeout(FINISH, stream.shutdown()).await;
}

async fn converse<V, S>(shared: &Shared<V>, connection: &Connection, stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = BytesMut::new();
    // As long as the connection lives: one place for one reader.
    let seat = shared.page_readers.try_acquire();
    loop {
        let Some(head) = read_head(shared, stream, &mut received).await? else { return Ok(()) };
        let (page, then) = match (&seat, head) {
            (Err(_), _) => (
                Page::text(Status::Unavailable, "too many connections look at pages (limit: page_readers)"),
                Answer { body: true, go_on: false },
            ),
            (Ok(_), Ok(Head { path, accept, answer })) => {
                let (principal, authority) = (connection.principal.clone(), connection.authority);
                (shared.pages.page(Asked { path, accept, principal, authority }).await, answer)
            }
            (Ok(_), Err((status, reason))) => {
                (Page::text(status, reason), Answer { body: true, go_on: false })
            }
        };
        let sent = write_page(stream, &page, then);
        let sent = tokio::time::timeout(shared.served.limits.slow_reply, sent).await;
        shared.served.metrics.pages().sent.add(sent.map_err(|_| io::ErrorKind::TimedOut)?? as u64);
        if !then.go_on {
            return Ok(());
        }
    }
}

/// What is asked for, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    path: String,
    accept: Option<String>,
    answer: Answer,
}

/// How it is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// With the page's body; not for HEAD.
    body: bool,
    /// The connection stays open.
    go_on: bool,
}

type Bad = (Status, &'static str);

/// Reads the next request's head; none where the peer is done.
async fn read_head<V, S>(
    shared: &Shared<V>,
    stream: &mut S,
    received: &mut BytesMut,
) -> io::Result<Option<Result<Head, Bad>>>
where
    S: AsyncRead + Unpin,
{
    let limits = &shared.served.limits;
    let first = async {
        while received.is_empty() {
            if stream.read_buf(received).await? == 0 {
                return Ok(false);
            }
        }
        io::Result::Ok(true)
    };
    match tokio::time::timeout(limits.idle, first).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) | Err(_) => return Ok(None),
        Ok(Err(error)) => return Err(error),
    }
    let rest = async {
        loop {
            match parse(received) {
                Parsed::Whole(head, length) => {
                    shared.served.metrics.pages().received.add(length as u64);
                    received.advance(length);
                    return Ok(Some(head));
                }
                Parsed::Part if received.len() >= HEAD_BYTES_MAX => {
                    return Ok(Some(Err((Status::HeadTooLarge, "the request's head is too long"))));
                }
                Parsed::Part => {
                    if stream.read_buf(received).await? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    };
    match tokio::time::timeout(limits.slow_frame, rest).await {
        Ok(read) => read,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

enum Parsed {
    /// There is more to come.
    Part,
    /// A head, or why it is none, and how long it is.
    Whole(Result<Head, Bad>, usize),
}

fn parse(received: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(received) {
        Ok(httparse::Status::Partial) => Parsed::Part,
        Ok(httparse::Status::Complete(length)) => Parsed::Whole(understand(&request), length),
        Err(httparse::Error::TooManyHeaders) => Parsed::Whole(
            Err((Status::HeadTooLarge, "the request has too many header fields")),
            received.len(),
        ),
        Err(_) => {
            Parsed::Whole(Err((Status::BadRequest, "this is not a request of HTTP/1.1")), received.len())
        }
    }
}

fn understand(request: &httparse::Request<'_, '_>) -> Result<Head, Bad> {
    let body = match request.method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Err((Status::MethodNotAllowed, "pages can be looked at (GET, HEAD), nothing else")),
    };
    let fields = |name: &'static str| {
        let named = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| std::str::from_utf8(field.value).unwrap_or_default())
    };
    if fields("transfer-encoding").next().is_some() || fields("content-length").any(|length| length != "0") {
        return Err((Status::BadRequest, "a request to look at a page has no body"));
    }
    let newer = request.version == Some(1);
    // RFC 9112 §3.2.
    if newer && fields("host").count() != 1 {
        return Err((Status::BadRequest, "a request of HTTP/1.1 has one Host field"));
    }
    let path = request.path.filter(|path| path.starts_with('/'));
    let path = path.ok_or((Status::BadRequest, "the request's target is not a path"))?;
    let close = fields("connection").flat_map(|options| options.split(','));
    let close = close.map(str::trim).any(|option| option.eq_ignore_ascii_case("close"));
    Ok(Head {
        path: path.split(['?', '#']).next().unwrap_or_default().to_owned(),
        accept: fields("accept").next().map(str::to_owned),
        answer: Answer { body, go_on: newer && !close },
    })
}

/// Writes a page; says how many bytes that were.
async fn write_page<S: AsyncWrite + Unpin>(stream: &mut S, page: &Page, answer: Answer) -> io::Result<usize> {
    let Page { status, content_type, body } = page;
    let allow = if *status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let close = if answer.go_on { "" } else { "Connection: close\r\n" };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n{allow}{close}\r\n",
        status.line(),
        body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    let body: &[u8] = if answer.body { body } else { &[] };
    stream.write_all(body).await?;
    stream.flush().await?;
    Ok(head.len() + body.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Head, Status> {
        match parse(text.as_bytes()) {
            Parsed::Whole(head, length) => {
                assert_eq!(length, text.len());
                head.map_err(|(status, _)| status)
            }
            Parsed::Part => panic!("a whole head: {text:?}"),
        }
    }

    #[test]
    fn a_request_is_understood_as_far_as_it_matters() {
        let head = parsed("GET /metrics?a=b HTTP/1.1\r\nHost: a\r\nACCEPT: text/plain\r\n\r\n").unwrap();
        assert_eq!((head.path.as_str(), head.accept.as_deref()), ("/metrics", Some("text/plain")));
        assert_eq!(head.answer, Answer { body: true, go_on: true });
        let head = parsed("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").unwrap();
        assert_eq!(head.answer, Answer { body: false, go_on: false });
        assert!(!parsed("GET / HTTP/1.0\r\n\r\n").unwrap().answer.go_on);
    }

    #[test]
    fn what_is_not_a_look_at_a_page_is_refused() {
        for (text, status) in [
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Status::MethodNotAllowed),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/3.0\r\n\r\n", Status::BadRequest),
        ] {
            assert_eq!(parsed(text).unwrap_err(), status, "{text:?}");
        }
        let many: String = (0..=FIELDS_MAX).map(|number| format!("a{number}: b\r\n")).collect();
        assert_eq!(parsed(&format!("GET / HTTP/1.1\r\n{many}\r\n")).unwrap_err(), Status::HeadTooLarge);
        assert!(matches!(parse(b"GET / HT"), Parsed::Part));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
