//! A broker whose clients are told to connect to a splice, so that whatever they ask comes over QUIC.

use std::net::TcpListener;

use tokio::runtime::Runtime;

use super::actor::Access;
use super::broker::Broker;
use super::splice::Splice;

const ALPN: &[u8] = b"semel/1";

pub struct BehindSplice {
    splice: Splice,
    broker: Broker,
    _runtime: Runtime,
}

impl BehindSplice {
    pub fn start_with(options: &[&str]) -> BehindSplice {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = Broker::start_with(&[options, &["--advertised", &address]].concat());
        let runtime = Runtime::new().unwrap();
        listener.set_nonblocking(true).unwrap();
        let splice = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            Splice::behind(listener, broker.address(), &broker.data_dir().join("tls"), ALPN).await.unwrap()
        });
        BehindSplice { splice, broker, _runtime: runtime }
    }

    pub fn access(&self) -> Access {
        Access { bootstrap: self.splice.address().to_string(), ..Access::from(&self.broker) }
    }

    /// How many lanes have been opened: what shows that a client really went through QUIC.
    pub fn lanes(&self) -> usize {
        self.splice.lanes()
    }
}
