//! What the room above shows to whoever looks with a browser, `curl` or a scraper.

use super::principal::Principal;
use super::service::Authority;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// The pages that are served over HTTPS, on the port of the Kafka protocol.
pub trait Pages: Send + Sync + 'static {
    /// Makes the page that is asked for, or one that says why not. Must not block.
    fn page(&self, asked: Asked) -> PendingPage;
}

/// A page that is being made.
pub type PendingPage = Pin<Box<dyn Future<Output = Page> + Send>>;

/// Somebody wants to see something.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The path, without a query.
    pub path: String,
    /// What the `Accept` header says.
    pub accept: Option<String>,
    /// Who asks.
    pub principal: Principal,
    /// What that principal may do.
    pub authority: Authority,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How it went.
    pub status: Status,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Page {
    /// A sentence.
    pub fn text(status: Status, sentence: impl Into<String>) -> Page {
        let mut body = sentence.into();
        body.push('\n');
        Page { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// The status codes that are used (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Here it is.
    Ok,
    /// The request is not one of HTTP/1.1, or has a body.
    BadRequest,
    /// Whoever asks may not see it.
    Forbidden,
    /// There is no such page.
    NotFound,
    /// Pages are looked at; nothing else.
    MethodNotAllowed,
    /// The head is too long.
    HeadTooLarge,
    /// Not now.
    Unavailable,
}

impl Status {
    /// Number and reason, as in a status line.
    pub(super) fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}
