//! Every limit of the network, in one place, with its reason.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The shortest frame: every request starts with an api key, a version (2 bytes each) and a correlation id (4).
pub const FRAME_BYTES_MIN: usize = 8;

/// The limits of the network. `Default` is meant for a broker on a machine with a few GiB of memory; the sum of the
/// budgets and of `quic_receive_bytes` bounds what peers can make it hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that serve connections. As many as there are processors: they encrypt, check and decode.
    /// With 0 connections are served where the listeners run.
    pub threads: usize,
    /// The longest frame, in bytes. Kafka's default for `socket.request.max.bytes`: clients are configured against it.
    pub frame_bytes: usize,
    /// The longest frame that the control budget pays for, in bytes. A group's assignment with tens of thousands of
    /// partitions takes a few MiB; a quarter of the budget, so that no single peer can fill it.
    pub control_frame_bytes: usize,
    /// Requests of one connection that are read and not yet answered. Java keeps 5, librdkafka up to a million; past
    /// this, reading stops. Large enough to fill a block with small batches of one producer.
    pub requests_in_flight: usize,
    /// Connections in total: TCP connections, QUIC connections and QUIC lanes, each counted. At about 50 KiB each (TLS
    /// state and read buffers) this is half a GiB.
    pub connections: usize,
    /// The same per peer address (per /64 for IPv6): one machine must not take every seat.
    pub connections_per_address: usize,
    /// From accepting a connection to the end of its handshake. A handshake takes two round trips; this leaves room
    /// for lost packets.
    pub handshake: Duration,
    /// Without a request and with none in flight, a TCP connection or a lane is closed after this. Kafka's default for
    /// `connections.max.idle.ms`.
    pub idle: Duration,
    /// Between a frame's first byte and its last there may be this much, plus the time its bytes take at `rate_min`.
    pub slow_frame: Duration,
    /// The same for writing replies: a peer that does not read holds memory of the fetch budget.
    pub slow_reply: Duration,
    /// The slowest peer that is served, in bytes per second, once `slow_frame` or `slow_reply` is used up. With both
    /// defaults a full 1 MiB produce request passes at 55 KiB/s.
    pub rate_min: u64,
    /// Memory for produce requests from the reservation before their body is read until their reply is written.
    pub produce_bytes: usize,
    /// Memory for the answers to fetch requests, reserved by the broker.
    pub fetch_bytes: usize,
    /// Memory for all other requests: transactions, groups, administration; as much again for their large answers; and as much
    /// for fetch requests. Never shared with the two above, so that full produce memory cannot stop a commit.
    pub control_bytes: usize,
    /// Lanes (bidirectional streams) of one QUIC connection at a time. A client needs one per group of partitions it
    /// produces to and a few for fetches and transactions.
    pub quic_lanes: u32,
    /// Bytes a lane may have sent that are not read yet. Bandwidth × delay: 4 MiB is 1 Gbit/s at 32 ms.
    pub quic_lane_window: u32,
    /// The same for all lanes of a connection together, at most. What a connection really gets is a share of
    /// `quic_receive_bytes`.
    pub quic_connection_window: u32,
    /// Memory for bytes that QUIC peers have sent and that are not read yet, over all connections.
    pub quic_receive_bytes: usize,
    /// Reply bytes of a QUIC connection that are sent and not yet acknowledged, or waiting to be sent.
    pub quic_send_window: u64,
    /// A QUIC connection from which nothing is heard is closed after this (RFC 9308 §3.2 advises 30 s).
    pub quic_idle: Duration,
    /// An otherwise silent QUIC connection is pinged this often; well below `quic_idle` and below the 30 s after which
    /// address translators forget UDP flows.
    pub quic_keep_alive: Duration,
    /// Handshakes of QUIC peers that may be under way before further ones must prove their address first (Retry,
    /// RFC 9000 §8.1): forged source addresses must not take seats.
    pub quic_handshakes_unproved: usize,
    /// Connections that look at pages (HTTPS) at a time: a few scrapers and people.
    pub page_readers: usize,
    /// How often the certificate files are looked at for a change.
    pub identity_check: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            frame_bytes: 100 * MIB,
            control_frame_bytes: 16 * MIB,
            requests_in_flight: 64,
            connections: 10_000,
            connections_per_address: 2_500,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            slow_frame: Duration::from_secs(15),
            slow_reply: Duration::from_secs(30),
            rate_min: 256 * 1024,
            produce_bytes: 256 * MIB,
            fetch_bytes: 256 * MIB,
            control_bytes: 64 * MIB,
            quic_lanes: 64,
            quic_lane_window: 4 << 20,
            quic_connection_window: 16 << 20,
            quic_receive_bytes: 256 * MIB,
            quic_send_window: 8 << 20,
            quic_idle: Duration::from_secs(30),
            quic_keep_alive: Duration::from_secs(10),
            quic_handshakes_unproved: 64,
            page_readers: 32,
            identity_check: Duration::from_secs(2),
        }
    }
}

/// The receive window that every QUIC connection has, whatever the others hold. A few frames of a small client.
pub(super) const QUIC_WINDOW_MIN: u32 = 128 << 10;

/// Two limits contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{larger} ({larger_value}) must not be above {smaller} ({smaller_value}): lower the one or raise the other"
)]
pub struct LimitsError {
    larger: &'static str,
    larger_value: u64,
    smaller: &'static str,
    smaller_value: u64,
}

impl Limits {
    /// Checks that the limits fit one another: what may be asked must be possible.
    pub fn check(&self) -> Result<(), LimitsError> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let pairs = [
            ("frame_bytes", self.frame_bytes as u64, "2147483647", u64::from(u32::MAX >> 1)),
            ("8", FRAME_BYTES_MIN as u64, "frame_bytes", self.frame_bytes as u64),
            ("8", FRAME_BYTES_MIN as u64, "control_frame_bytes", self.control_frame_bytes as u64),
            ("frame_bytes", self.frame_bytes as u64, "produce_bytes", self.produce_bytes as u64),
            ("control_frame_bytes", self.control_frame_bytes as u64, "frame_bytes", self.frame_bytes as u64),
            (
                "control_frame_bytes",
                self.control_frame_bytes as u64,
                "control_bytes",
                self.control_bytes as u64,
            ),
            ("1", 1, "requests_in_flight", self.requests_in_flight as u64),
            ("1", 1, "connections", self.connections as u64),
            ("1", 1, "connections_per_address", self.connections_per_address as u64),
            ("1", 1, "rate_min", self.rate_min),
            ("1", 1, "quic_lanes", u64::from(self.quic_lanes)),
            (
                "131072",
                u64::from(QUIC_WINDOW_MIN),
                "quic_connection_window",
                self.quic_connection_window.into(),
            ),
            ("131072", u64::from(QUIC_WINDOW_MIN), "quic_receive_bytes", self.quic_receive_bytes as u64),
            ("quic_keep_alive", millis(self.quic_keep_alive), "quic_idle", millis(self.quic_idle)),
        ];
        for (larger, larger_value, smaller, smaller_value) in pairs {
            if larger_value > smaller_value {
                return Err(LimitsError { larger, larger_value, smaller, smaller_value });
            }
        }
        Ok(())
    }

    /// The KiB in a number of bytes, rounded up: the unit in which the shares of QUIC windows are counted.
    pub(super) fn kib(bytes: usize) -> usize {
        bytes.div_ceil(KIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_one_another() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn a_frame_that_no_budget_could_pay_for_is_named() {
        let limits = Limits { produce_bytes: MIB, ..Limits::default() };
        let message = limits.check().unwrap_err().to_string();
        assert!(message.contains("frame_bytes (104857600)"), "{message}");
        assert!(message.contains("produce_bytes (1048576)"), "{message}");
    }
}
