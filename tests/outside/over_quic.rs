//! The same clients over QUIC: they speak TLS on TCP to a splice, which passes their bytes on over QUIC lanes. No client
//! but semel's own knows QUIC; this shows that the broker serves any client's requests over it.

use std::net::TcpListener;

use tokio::runtime::Runtime;

use crate::common::actor::{Access, Actor};
use crate::common::broker::Broker;
use crate::common::splice::Splice;

const ALPN: &[u8] = b"semel/1";

/// A broker whose clients are told to connect to the splice.
struct BehindSplice {
    splice: Splice,
    broker: Broker,
    _runtime: Runtime,
}

impl BehindSplice {
    fn start() -> BehindSplice {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let broker = Broker::start_with(&["--advertised", &address.to_string()]);
        let runtime = Runtime::new().unwrap();
        listener.set_nonblocking(true).unwrap();
        let splice = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            Splice::behind(listener, broker.address(), &broker.data_dir().join("tls"), ALPN).await.unwrap()
        });
        BehindSplice { splice, broker, _runtime: runtime }
    }

    fn access(&self) -> Access {
        Access { bootstrap: self.splice.address().to_string(), ..Access::from(&self.broker) }
    }

    fn tells_stories(&self, client: Option<Actor>) {
        let Some(client) = client else { return };
        super::every_story(&client, &super::ALL_CODECS);
        assert!(self.splice.lanes() > 0, "nothing went through QUIC");
    }
}

#[test]
fn librdkafka_over_quic() {
    if Broker::runs_semel() {
        let site = BehindSplice::start();
        site.tells_stories(Actor::librdkafka(site.access()));
    }
}

#[test]
fn java_over_quic() {
    if Broker::runs_semel() {
        let site = BehindSplice::start();
        site.tells_stories(Actor::java(site.access()));
    }
}

#[test]
fn aiokafka_over_quic() {
    if Broker::runs_semel() {
        let site = BehindSplice::start();
        site.tells_stories(Actor::aiokafka(site.access()));
    }
}
