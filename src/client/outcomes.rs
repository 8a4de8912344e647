//! How transactions ended, as the broker remembers it (semel's own requests, `spec/protocol.md`).

use super::cluster::{Client, SHARED_OWNER};
use super::coordinator::Coordinated;
use super::error::ClientError;
use super::lane::Purpose;
use super::versions::ANY_VERSION;
use crate::types::{ProducerEpoch, ProducerId, Timestamp, TransactionalId};
use crate::wire::messages::{
    DescribeOutcomesRequest, DescribeOutcomesResponse, DescribedOutcome, EndTxnByOperatorRequest, absence,
    outcome_reason, outcome_state,
};

/// Which transactions of a transactional id are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeQuery {
    /// All that are remembered.
    All,
    /// The one of this number.
    Number(u64),
    /// Those that ran under this identity: one in version 2 of the transaction protocol, perhaps several in version 1.
    Of {
        /// The producer id.
        producer_id: ProducerId,
        /// The epoch.
        epoch: ProducerEpoch,
    },
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended.
    Open,
    /// It is prepared: its outcome is decided outside.
    Prepared,
    /// All of it is visible.
    Committed,
    /// Nothing of it is, or will be.
    Aborted,
}

impl Standing {
    /// A word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Prepared => "prepared",
            Standing::Committed => "committed",
            Standing::Aborted => "aborted",
        }
    }
}

/// A transaction as the broker remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// Which of its transactional id's transactions it is.
    pub number: u64,
    /// The producer id under which it ran.
    pub producer_id: ProducerId,
    /// The epoch under which it ran.
    pub epoch: ProducerEpoch,
    /// Where it stands.
    pub standing: Standing,
    /// Why it ended, in a word; none if it has not.
    pub reason: Option<&'static str>,
    /// Which operator ended it, and when, if one did.
    pub operator: Option<(String, Timestamp)>,
}

/// What the broker knows of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcomes {
    /// These transactions, newest first.
    Known(Vec<TransactionOutcome>),
    /// None has begun yet; one still may.
    NotBegun,
    /// None ever began, and none can any more.
    NeverBegun,
    /// There may have been one; it is not remembered any more.
    Forgotten,
}

impl Client {
    /// Asks how transactions of a transactional id ended. Only semel can be asked.
    pub async fn describe_outcomes(
        &self,
        transactional_id: &TransactionalId,
        query: OutcomeQuery,
    ) -> Result<Outcomes, ClientError> {
        let mut request = DescribeOutcomesRequest {
            transactional_id: transactional_id.as_str().to_owned(),
            ..DescribeOutcomesRequest::default()
        };
        match query {
            OutcomeQuery::All => {}
            OutcomeQuery::Number(number) => {
                request.transaction_number = i64::try_from(number).unwrap_or(i64::MAX);
            }
            OutcomeQuery::Of { producer_id, epoch } => {
                (request.producer_id, request.producer_epoch) = (producer_id.0, epoch.0);
            }
        }
        let (request, coordinated) = (&request, &Coordinated::Transactions(transactional_id.clone()));
        let timeout = self.config().request_timeout;
        let answer = self.retry("asking for outcomes", || async move {
            let connection = self.coordinator(coordinated, Purpose::Control, SHARED_OWNER).await?;
            let answer = connection.call_version(request, ANY_VERSION, timeout).await;
            let answer = answer.and_then(|answer| {
                let context = format!("outcomes of {transactional_id:?}");
                let detail = answer.error_message.clone();
                answer.error_code.ok().map_err(|code| ClientError::broker(context, code, detail))?;
                Ok(answer)
            });
            answer.inspect_err(|error| self.heed_coordinator_error(coordinated, error))
        });
        Ok(read(answer.await?))
    }

    /// Ends the open transaction of a transactional id in an operator's name: only a prepared one can be committed. With a
    /// number, only that one. Not repeated after a lost answer.
    pub async fn end_transaction(
        &self,
        transactional_id: &TransactionalId,
        number: Option<u64>,
        commit: bool,
    ) -> Result<(), ClientError> {
        let request = EndTxnByOperatorRequest {
            transactional_id: transactional_id.as_str().to_owned(),
            transaction_number: number.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX)),
            committed: commit,
        };
        let coordinated = Coordinated::Transactions(transactional_id.clone());
        let connection = self.coordinator(&coordinated, Purpose::Control, SHARED_OWNER).await?;
        let answer = connection.call(&request).await?;
        let context = format!("ending the transaction of {transactional_id:?}");
        answer.error_code.ok().map_err(|code| ClientError::broker(context, code, answer.error_message))
    }
}

fn read(answer: DescribeOutcomesResponse) -> Outcomes {
    match answer.absence {
        absence::NONE => Outcomes::Known(answer.transactions.into_iter().filter_map(outcome).collect()),
        absence::NOT_BEGUN => Outcomes::NotBegun,
        absence::NEVER_BEGUN => Outcomes::NeverBegun,
        _ => Outcomes::Forgotten,
    }
}

/// A state that this client does not know is left out: nothing can be concluded from it.
fn outcome(described: DescribedOutcome) -> Option<TransactionOutcome> {
    let standing = match described.state {
        outcome_state::OPEN => Standing::Open,
        outcome_state::PREPARED => Standing::Prepared,
        outcome_state::COMMITTED => Standing::Committed,
        outcome_state::ABORTED => Standing::Aborted,
        _ => return None,
    };
    let reason = match described.reason {
        outcome_reason::REQUESTED => Some("requested"),
        outcome_reason::EXPIRED => Some("timeout"),
        outcome_reason::FENCED => Some("fenced"),
        outcome_reason::OPERATOR => Some("operator"),
        outcome_reason::BUDGET => Some("lso budget"),
        outcome_reason::RESTORED => Some("restored"),
        _ => None,
    };
    Some(TransactionOutcome {
        number: u64::try_from(described.transaction_number).ok()?,
        producer_id: ProducerId(described.producer_id),
        epoch: ProducerEpoch(described.producer_epoch),
        standing,
        reason,
        operator: described.operator.map(|operator| (operator, Timestamp(described.decided_time_ms))),
    })
}
