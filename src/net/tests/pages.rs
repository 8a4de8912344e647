//! HTTP on the TLS port.

use super::*;
use peers::{own_config, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

impl Pages for Toy {
    fn page(&self, asked: Asked) -> PendingPage {
        let Asked { path, principal, authority, .. } = asked;
        let page = match path.as_str() {
            "/who" => Page::text(Status::Ok, format!("{principal} {authority:?}")),
            _ => Page::text(Status::NotFound, "no such page"),
        };
        Box::pin(std::future::ready(page))
    }
}

/// All that a peer is answered who sends `text` and then only listens.
async fn answered(world: &World, text: &str) -> String {
    let mut config = own_config(&world.files);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut stream = tls(world.address, config).await.unwrap();
    soon("the request to leave", stream.write_all(text.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    // Closed is closed, however.
    let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

const HOST: &str = "HTTP/1.1\r\nHost: localhost\r\n";

#[tokio::test]
async fn one_connection_shows_several_pages_to_whom_its_certificate_names() {
    let world = World::configured(Limits::default(), |config| {
        config.admins = ["User:semel-client".parse().unwrap()].into_iter().collect();
    })
    .await;
    let text = format!("GET /who?x {HOST}\r\nHEAD /who {HOST}\r\nGET /other {HOST}Connection: close\r\n\r\n");
    let answer = answered(&world, &text).await;
    let parts: Vec<&str> = answer.split("HTTP/1.1 ").collect();
    assert_eq!(parts.len(), 4, "{answer}");
    assert!(
        parts[1].starts_with("200 OK\r\n") && parts[1].ends_with("\r\n\r\nUser:semel-client Admin\n"),
        "{answer}"
    );
    assert!(
        parts[2].starts_with("200 OK\r\n") && parts[2].ends_with("\r\n\r\n"),
        "HEAD has no body: {answer}"
    );
    assert!(parts[2].contains("Content-Length: 24\r\n"), "{answer}");
    assert!(
        parts[3].starts_with("404 Not Found\r\n") && parts[3].contains("Connection: close\r\n"),
        "{answer}"
    );
    world.still_serves().await;
}

#[tokio::test]
async fn what_is_no_look_at_a_page_is_answered_and_ends_the_connection() {
    let world = World::new().await;
    let long = format!("GET / {HOST}Cookie: {}\r\n\r\n", "a".repeat(17 << 10));
    for (text, status) in [
        (format!("DELETE /who {HOST}\r\n"), "405 Method Not Allowed\r\n"),
        (format!("POST /who {HOST}Content-Length: 1\r\n\r\na"), "405 Method Not Allowed\r\n"),
        ("\0\0\0\u{8}nonsense\r\n\r\n".to_owned(), "400 Bad Request\r\n"),
        (long, "431 Request Header Fields Too Large\r\n"),
    ] {
        let answer = answered(&world, &text).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{text:.40}: {answer}");
    }
    world.still_serves().await;
}

#[tokio::test]
async fn pages_have_few_readers_at_a_time() {
    let world = World::with(Limits { page_readers: 0, ..Limits::default() }).await;
    let answer = answered(&world, &format!("GET /who {HOST}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    world.still_serves().await;
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_refused() {
    let world = World::new().await;
    let mut config = own_config(&world.files);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let refused = tls(world.address, config).await;
    assert!(refused.is_err(), "a client that speaks only HTTP/2");
    world.log.line(&["connection refused", "handshake"]).await;
    world.still_serves().await;
}
