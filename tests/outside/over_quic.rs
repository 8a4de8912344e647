//! The same clients over QUIC: they speak TLS on TCP to a splice, which passes their bytes on over QUIC lanes. No client
//! but semel's own knows QUIC; this shows that the broker serves any client's requests over it.

use crate::common::actor::Actor;
use crate::common::behind_splice::BehindSplice;
use crate::common::broker::Broker;

fn tells_stories(site: &BehindSplice, client: Option<Actor>) {
    let Some(client) = client else { return };
    super::every_story(&client, &super::ALL_CODECS);
    assert!(site.lanes() > 0, "nothing went through QUIC");
}

#[test]
fn librdkafka_over_quic() {
    if Broker::runs_semel() {
        let site = BehindSplice::start_with(&[]);
        tells_stories(&site, Actor::librdkafka(site.access()));
    }
}

#[test]
fn java_over_quic() {
    if Broker::runs_semel() {
        let site = BehindSplice::start_with(&[]);
        tells_stories(&site, Actor::java(site.access()));
    }
}

#[test]
fn aiokafka_over_quic() {
    if Broker::runs_semel() {
        let site = BehindSplice::start_with(&[]);
        tells_stories(&site, Actor::aiokafka(site.access()));
    }
}
