//! Which pages there are, and for whom.

use super::survey::Survey;
use super::{Console, VERSION};
use crate::metrics::{Exposition, Format};
use crate::net::{Asked, Authority, Page, Pages, PendingPage, Status};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

/// A block that is being written for longer than this means that the disk does not answer.
const WRITE_TOO_LONG: Duration = Duration::from_secs(10);

const LISTED: &str = "\
semel's console:
  /metrics   metrics, for admins and metrics-readers
  /status    the same in short, as JSON, for the same (semel status)
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
            "/metrics" | "/status" if !self.may_read(&asked) => refused(&asked),
            "/metrics" => return self.surveyed(asked, Console::metrics_page),
            "/status" => return self.surveyed(asked, Console::status_page),
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

    /// Why the broker does not serve, if it does not.
    pub(super) fn obstacle(&self) -> Option<String> {
        let shard = &self.0.shard;
        if shard.is_stopped() {
            return Some("the broker is stopping".to_owned());
        }
        let since = shard.metrics().writing_for().filter(|since| *since > WRITE_TOO_LONG)?.as_secs();
        Some(format!("one block of the log is being written for {since} s: the disk does not answer"))
    }

    fn readiness(&self) -> Page {
        match self.obstacle() {
            Some(obstacle) => Page::text(Status::Unavailable, obstacle),
            None if self.0.shard.space_is_short() => Page::text(
                Status::Ok,
                "ok; the disk's reserve is reached: nothing is produced until there is space",
            ),
            None => Page::text(Status::Ok, "ok"),
        }
    }

    /// A page for which the rows are looked at.
    fn surveyed(&self, asked: Asked, page: fn(&Console, &Asked, &Survey) -> Page) -> PendingPage {
        let console = self.clone();
        Box::pin(async move {
            let survey = console.survey().await.unwrap_or_else(|error| {
                // What is counted is told all the same: it is needed most when something is wrong.
                tracing::warn!(%error, "the rows cannot be looked at for the console");
                Arc::default()
            });
            page(&console, &asked, &survey)
        })
    }

    fn metrics_page(&self, asked: &Asked, survey: &Survey) -> Page {
        let format = Format::accepted(asked.accept.as_deref());
        let mut out = Exposition::new(format);
        self.write(&mut out, survey);
        Page { status: Status::Ok, content_type: format.content_type(), body: out.finish().into() }
    }

    fn status_page(&self, _asked: &Asked, survey: &Survey) -> Page {
        let body = format!("{}\n", self.status(survey)).into();
        Page { status: Status::Ok, content_type: "application/json", body }
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
