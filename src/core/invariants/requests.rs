//! Of what is asked: whoever may not ask for it has no effect, and what is answered is so.

use super::step::{Step, Verdict, holds};
use crate::core::commands::{Command, Protocol, Reply, TransactionalProducer};
use crate::core::events::Event;
use crate::core::rows::*;

/// P7: a stale caller changes nothing.
pub(super) fn who_was_fenced_takes_nothing_over(step: &Step<'_>) -> Verdict {
    let Command::InitProducerId(init) = step.command else { return Ok(()) };
    let (Some((id, _)), Some(current)) = (&init.transactional_id, init.current) else { return Ok(()) };
    let row = step.before::<TransactionRow>(id).flatten();
    let may = row.is_none_or(|row| row.holder == current || row.recoverable == Some(current));
    holds(may || step.events().is_empty(), (init, row))
}

/// Who speaks as the producer of a transaction, and to which coordinator, where that counts (E10).
fn coordinated(command: &Command) -> Option<(&TransactionalProducer, CoordinatorKind)> {
    match command {
        Command::Enrol(enrol) => Some((&enrol.producer, CoordinatorKind::Transaction)),
        Command::EnrolGroup { producer, .. } => Some((producer, CoordinatorKind::Transaction)),
        Command::PrepareTxn(prepare) => Some((&prepare.producer, CoordinatorKind::Transaction)),
        Command::EndTxn(end) if end.protocol == Protocol::V1 => {
            Some((&end.producer, CoordinatorKind::Transaction))
        }
        Command::StageOffsets(stage) => Some((&stage.producer, CoordinatorKind::Group)),
        _ => None,
    }
}

/// E10.
pub(super) fn delayed_requests_have_no_effect(step: &Step<'_>) -> Verdict {
    let Some((producer, kind)) = coordinated(step.command) else { return Ok(()) };
    let key = CoordinatorKey { transactional_id: producer.transactional_id.clone(), kind };
    let row = step.before::<CoordinatorRow>(&key).flatten();
    let newest = row.is_none_or(|row| row.connection <= producer.connection.0);
    holds(newest || step.events().is_empty(), (producer, row))
}

/// O11.
pub(super) fn operators_end_what_they_name(step: &Step<'_>) -> Verdict {
    let Command::EndByOperator(by) = step.command else { return Ok(()) };
    step.events().iter().try_for_each(|event| match event {
        Event::TransactionEnded { number, .. } => {
            holds(by.number.is_none_or(|named| named == *number), (by, event))
        }
        _ => Ok(()),
    })
}

/// O4, O8.
pub(super) fn the_outcome_is_what_is_answered(step: &Step<'_>) -> Verdict {
    let (Command::EndTxn(end), Some(Reply::Identity(Ok(_)))) = (step.command, &step.decided.reply) else {
        return Ok(());
    };
    let row = step.after::<TransactionRow>(&end.producer.transactional_id).flatten();
    let so = row.is_some_and(|row| match &row.state {
        TransactionState::Complete(ended) => ended.outcome == end.outcome,
        _ => false,
    });
    holds(so, (end, row))
}
