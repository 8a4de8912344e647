//! Certificates renewed without a restart.

use super::identity::{ClientCertificates, IdentityError, IdentityFiles};
use super::quic;
use super::server::{NetError, Shared};
use super::service::Service;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::pin::pin;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

/// Looks at the identity's files now and then, and on SIGHUP, and gives new connections the new ones. Connections that
/// exist go on with the old. Files that cannot be used leave the old ones in place.
pub(super) struct Reloader<V> {
    files: IdentityFiles,
    clients: ClientCertificates,
    shared: Arc<Shared<V>>,
    endpoint: quinn::Endpoint,
    hangup: Signal,
    seen: Stamp,
}

/// What tells whether a file is another one than before: device-free, because a rename changes the inode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp([Option<(u64, u64, i64, i64)>; 3]);

impl Stamp {
    fn of(files: &IdentityFiles) -> Stamp {
        Stamp([&files.certificate, &files.key, &files.client_ca].map(|path| {
            let status = fs::metadata(path).ok()?;
            Some((status.ino(), status.len(), status.mtime(), status.mtime_nsec()))
        }))
    }
}

impl<V: Service> Reloader<V> {
    pub(super) fn new(
        files: IdentityFiles,
        clients: ClientCertificates,
        shared: Arc<Shared<V>>,
        endpoint: quinn::Endpoint,
    ) -> Result<Reloader<V>, NetError> {
        let hangup = signal(SignalKind::hangup()).map_err(NetError::Signal)?;
        let seen = Stamp::of(&files);
        Ok(Reloader { files, clients, shared, endpoint, hangup, seen })
    }

    pub(super) async fn run(mut self) -> Result<(), NetError> {
        let mut stop = pin!(self.shared.stopping());
        let mut look = tokio::time::interval(self.shared.served.limits.identity_check);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = &mut stop => return Ok(()),
                _ = look.tick() => false,
                _ = self.hangup.recv() => true,
            };
            let files = self.files.clone();
            // Looked at before the files are read, so that a change in between is found at the next look.
            let Ok(stamp) = tokio::task::spawn_blocking(move || Stamp::of(&files)).await else { continue };
            if asked || stamp != self.seen {
                self.seen = stamp;
                self.reload().await;
            }
        }
    }

    async fn reload(&self) {
        let (files, clients) = (self.files.clone(), self.clients);
        let loaded = tokio::task::spawn_blocking(move || files.load(clients)).await;
        let certificate = self.files.certificate.display();
        match loaded {
            Ok(Ok(configs)) => match quic::server_config(&configs.quic, &self.shared.served.limits) {
                Ok(quic) => {
                    self.endpoint.set_server_config(Some(quic));
                    self.shared.tls.store(configs.tcp);
                    tracing::info!(%certificate, "certificates reloaded");
                }
                Err(error) => {
                    tracing::error!(%certificate, %error, "certificates not reloaded: the old stay")
                }
            },
            Ok(Err(error)) => self.refused(&error),
            Err(error) => tracing::error!(%certificate, %error, "certificates not reloaded: the old stay"),
        }
    }

    fn refused(&self, error: &IdentityError) {
        tracing::error!(certificate = %self.files.certificate.display(), %error,
            "the new certificates cannot be used: the old stay");
    }
}
