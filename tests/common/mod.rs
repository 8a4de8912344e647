//! What the black-box tests share: the release binary as a process, third-party clients as actors that obey lines of
//! JSON, and raw frames over TLS. Everything here runs outside of semel and knows nothing of its insides.

#![allow(dead_code, reason = "each test binary uses its own part")]

/// A test over both transports.
#[allow(unused_macros, reason = "not every test has both")]
macro_rules! over_both {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn quic() {
                super::$name("quic").await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn tls() {
                super::$name("tls").await;
            }
        }
    )*};
}

pub mod actor;
pub mod behind_splice;
pub mod broker;
pub mod clock;
pub mod crowd;
pub mod disk;
pub mod frames;
pub mod process;
pub mod splice;
pub mod tools;
