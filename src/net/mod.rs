//! The network: everything between a socket and a frame.
//!
//! Comes in: TCP connections with TLS 1.3, and QUIC connections whose bidirectional streams ("lanes") are Kafka
//! connections each (`spec/transport-quic.md`). Goes out: frames, in order, to a [`Service`]; its replies, in frame
//! order, to the peer. A frame is a length of four bytes, big-endian, and as many bytes of body. TLS connections that ask
//! for HTTP (ALPN) are shown [`Pages`] instead.
//!
//! This room owns certificates, principals, limits and memory budgets. It reads nothing of a frame but its api key
//! (the first two bytes), to choose the budget that pays for it. It must never serve plaintext, never read a frame
//! whose bytes are not reserved, and never let one connection's wait hold up another.

mod alarm;
mod budget;
mod development;
mod frame;
mod http;
mod identity;
mod limits;
mod metrics;
mod noise;
mod pages;
mod principal;
mod quic;
mod reload;
mod reply;
mod seats;
mod server;
mod service;
mod session;
#[cfg(test)]
pub(crate) mod simulated;
mod tcp;
#[cfg(test)]
mod tests;
mod workers;

pub use budget::{Budget, Budgets, Permit, ReserveError};
pub use development::{DevelopmentFiles, librdkafka_configuration};
pub use identity::{ALPN, ClientCertificates, IdentityError, IdentityFiles};
pub use limits::{Limits, LimitsError};
pub use metrics::NetMetrics;
pub use pages::{Asked, Page, Pages, PendingPage, Status};
pub use principal::{Admins, Principal, PrincipalRule};
pub use server::{NetConfig, NetError, Server};
pub use service::{Authority, Connection, Refusal, Reply, Service, Session, Transport};
