//! Which pages there are, and for whom.

use super::{Console, VERSION};
use crate::metrics::Format;
use crate::net::{Asked, Authority, Page, Pages, PendingPage, Status};
use std::future::ready;
use std::time::Duration;

/// A block that is being written for longer than this means that the disk does not answer.
const WRITE_TOO_LONG: Duration = Duration::from_secs(10);

const LISTED: &str = "\
semel's console:
  /metrics   metrics, for admins and metrics-readers
  /livez     whether the process lives
  /readyz    whether it serves
  /version   what runs";

impl Pages for Console {
    fn page(&self, asked: Asked) -> PendingPage {
        let page = match asked.path.as_str() {
            "/" => Page::text(Status::Ok, LISTED),
            "/livez" => Page::text(Status::Ok, "ok"),
            "/readyz" => self.readiness(),
            "/version" => Page::text(Status::Ok, VERSION),
            "/metrics" if !self.may_read(&asked) => refused(&asked),
            "/metrics" => self.metrics_page(&asked),
            other => {
                Page::text(Status::NotFound, format!("there is no page {other:?}; / lists those there are"))
            }
        };
        Box::pin(ready(page))
    }
}

impl Console {
    /// Names of topics, groups and transactions are for admins, and for those whom they trust with them.
    fn may_read(&self, asked: &Asked) -> bool {
        asked.authority == Authority::Admin || self.0.readers.contains(&asked.principal)
    }

    fn readiness(&self) -> Page {
        let shard = &self.0.shard;
        if shard.is_stopped() {
            return Page::text(Status::Unavailable, "the broker is stopping");
        }
        if let Some(since) = shard.metrics().writing_for().filter(|since| *since > WRITE_TOO_LONG) {
            let since = since.as_secs();
            return Page::text(
                Status::Unavailable,
                format!("one block of the log is being written for {since} s: the disk does not answer"),
            );
        }
        let short = shard.space_is_short();
        Page::text(
            Status::Ok,
            if short {
                "ok; the disk's reserve is reached: nothing is produced until there is space"
            } else {
                "ok"
            },
        )
    }

    fn metrics_page(&self, asked: &Asked) -> Page {
        let format = Format::accepted(asked.accept.as_deref());
        let body = self.metrics(format).into();
        Page { status: Status::Ok, content_type: format.content_type(), body }
    }
}

fn refused(asked: &Asked) -> Page {
    let Asked { path, principal, .. } = asked;
    Page::text(
        Status::Forbidden,
        format!(
            "{principal} may not see {path}: it is for admins and for those in the setting metrics-readers"
        ),
    )
}
