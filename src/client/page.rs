//! A page of a semel broker's console, over HTTPS on the port of the Kafka protocol (`spec/metrics.md`).

use super::config::{ClientConfig, Endpoint};
use super::error::ClientError;
use super::transport::Dialer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest page that is read, in bytes, with its head: metrics of a large broker are a tenth of it.
const PAGE_BYTES_MAX: u64 = 16 << 20;
/// The most header fields of an answer.
const FIELDS_MAX: usize = 64;

/// What a broker answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status code, 200 where all went well.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks the first broker of `config` that can be reached for a page, such as `/status`.
pub async fn page(config: &ClientConfig, path: &str) -> Result<Page, ClientError> {
    config.check()?;
    let dialer = Dialer::new(config)?;
    let mut last = None;
    for endpoint in &config.bootstrap {
        let asked = tokio::time::timeout(config.call_timeout, ask(&dialer, endpoint, path)).await;
        let what = format!("{path} of {endpoint}");
        let late = || ClientError::Timeout { what, after: config.call_timeout, last: None };
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(page) => return Ok(page),
            Err(error) => last = Some(error),
        }
    }
    // There is at least one endpoint.
    Err(last.unwrap_or_else(|| ClientError::Config("no bootstrap endpoint".to_owned())))
}

async fn ask(dialer: &Dialer, endpoint: &Endpoint, path: &str) -> Result<Page, ClientError> {
    let broken = |reason: String| ClientError::Disconnected { endpoint: endpoint.clone(), reason };
    let mut stream = dialer.open_https(endpoint).await?;
    let host =
        if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\n\r\n", endpoint.port);
    let mut answer = Vec::new();
    let read = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        (&mut stream).take(PAGE_BYTES_MAX).read_to_end(&mut answer).await
    };
    read.await.map_err(|error| broken(error.to_string()))?;
    parse(&answer).ok_or_else(|| broken("the answer is not one of HTTP/1.1, or not whole".to_owned()))
}

fn parse(answer: &[u8]) -> Option<Page> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = response.parse(answer) else { return None };
    let announced =
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
    let announced: usize = std::str::from_utf8(announced.value).ok()?.trim().parse().ok()?;
    let body = answer.get(length..).filter(|body| body.len() == announced)?;
    Some(Page { status: response.code?, body: String::from_utf8_lossy(body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_whole_or_it_is_none() {
        let whole = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n";
        assert_eq!(parse(whole), Some(Page { status: 403, body: "no\n".to_owned() }));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(parse(b"\0\0\0\x04oops"), None);
    }
}
