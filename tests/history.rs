//! Many clients at once, over QUIC and TLS, while the broker is killed and stopped: what each of them saw goes into one
//! history, and the history is judged (`spec/history.md`). Holders fence one another, answers are lost, readers of both kinds
//! read along, and a group's offsets go with transactions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use common::broker::Broker;
use common::crowd::{Crowd, judge};
use semel::history::Property;

/// Crashes; `SEMEL_TEST_KILLS` says how many.
const CRASHES: usize = 6;
/// Transactions that end between two crashes, at least.
const BETWEEN_CRASHES: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_see_through_crashes_is_what_is_promised() {
    let mut broker = Broker::start();
    let crowd = Crowd::start(&broker).await;
    let crashes = std::env::var("SEMEL_TEST_KILLS").map_or(CRASHES, |number| number.parse().unwrap());
    for _ in 0..crashes {
        crowd.goes_on(BETWEEN_CRASHES, &broker).await;
        broker.kill();
        crowd.recorder.crashed();
        broker.restart();
    }
    let looked_at: Vec<_> = Property::ALL.into_iter().filter(|property| property.is_of_all()).collect();
    judge(&crowd.finish(&broker).await, &looked_at);
}
