//! The same for the ends that its holder does not ask for: a timeout, the next holder, an operator, and the holder who takes
//! over what is prepared. What leads up to them is killed in the lives of `main.rs`; here it is the end itself.

use super::*;
use crate::common::broker::binary;
use crate::common::process::{Piped, pipe};
use semel::client::{CommitError, OutcomeQuery, Outcomes, Standing, TransactionOutcome};

const DEADLINE: Duration = Duration::from_secs(120);
/// For the timeout of a transaction that is to end by it: the first is soon over, the last one long enough for any machine.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(16);
/// For that of one that is to end otherwise.
const NEVER: Duration = Duration::from_secs(600);

/// Who ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Timeout,
    NextHolder,
    /// `semel txn abort` of what is prepared.
    OperatorsAbort,
    /// `semel txn commit` of what is prepared.
    OperatorsCommit,
    /// The next holder, who keeps what is prepared, and commits it.
    Takeover,
}

/// What a life came to.
#[derive(Debug, PartialEq)]
enum Lived {
    /// Nobody was killed.
    Unharmed,
    /// It was killed, or the transaction's time was over, before there was anything to end.
    Early,
    /// It was killed at a write of the end.
    Killed,
}

impl By {
    fn is_of_what_is_prepared(self) -> bool {
        !matches!(self, By::Timeout | By::NextHolder)
    }

    /// Writes that come before the end: of the identity, two appends with their enrolment, the offset; and that it is prepared.
    fn writes_before(self) -> usize {
        4 + usize::from(self.is_of_what_is_prepared())
    }

    fn commits(self) -> bool {
        matches!(self, By::OperatorsCommit | By::Takeover)
    }

    /// What the broker remembers as the reason.
    fn reason(self) -> &'static str {
        match self {
            By::Timeout => "timeout",
            By::NextHolder => "fenced",
            By::OperatorsAbort | By::OperatorsCommit => "operator",
            By::Takeover => "requested",
        }
    }

    async fn fills(self, transaction: &mut Transaction<'_>) -> Result<(), TransactionError> {
        fill(transaction, "first").await?;
        if self.is_of_what_is_prepared() { transaction.prepare(None).await } else { Ok(()) }
    }

    /// Ends it. Returns who holds the id from then on, if it is not who did.
    async fn ends(self, client: &Client, operator: &Operator) -> Option<TransactionalProducer> {
        match self {
            By::Timeout => {
                while outcome(client).await.standing == Standing::Open {
                    tokio::time::sleep(Duration::from_millis(1)).await; // between two looks
                }
                None
            }
            By::NextHolder => Some(holder(client).await),
            By::Takeover => Some(next_holder(client, End::Prepared).await),
            By::OperatorsAbort => {
                operator.insists("abort", client).await;
                None
            }
            By::OperatorsCommit => {
                operator.insists("commit", client).await;
                None
            }
        }
    }

    /// What its holder hears.
    async fn is_told(self, transaction: Transaction<'_>, case: &str) {
        match self {
            // It may learn of the raised epoch, and begin anew.
            By::Timeout => transaction.abort().await.unwrap(),
            // To its owner, it is a commit that was asked for again.
            By::OperatorsCommit => drop(transaction.commit().await.unwrap()),
            By::NextHolder | By::OperatorsAbort | By::Takeover => {
                let told = transaction.commit().await;
                assert!(matches!(told, Err(CommitError::Fenced(_))), "{case}: {told:?}");
            }
        }
    }
}

/// `semel txn` from a shell.
#[derive(Clone)]
struct Operator {
    bootstrap: String,
    data_dir: PathBuf,
}

impl Operator {
    fn of(site: &Site) -> Operator {
        let bootstrap = format!("tls://{}", site.broker.address());
        Operator { bootstrap, data_dir: site.broker.data_dir() }
    }

    async fn says(&self, verb: &'static str) -> Piped {
        let Operator { bootstrap, data_dir } = self.clone();
        let said = move || {
            let mut command = Command::new(binary());
            command.args(["txn", verb, "x", "--bootstrap", &bootstrap, "--data-dir"]).arg(data_dir);
            pipe("semel", command, b"", DEADLINE)
        };
        tokio::task::spawn_blocking(said).await.unwrap()
    }

    /// Who gets no answer looks whether it is done, and says it again if it is not.
    async fn insists(&self, verb: &'static str, client: &Client) {
        let mut told = self.says(verb).await;
        if !told.status.success() && outcome(client).await.standing == Standing::Prepared {
            told = self.says(verb).await;
            assert!(told.status.success(), "{}\n{}", told.lines.join("\n"), told.errors);
        }
    }
}

/// The first transaction, as the broker remembers it.
async fn outcome(client: &Client) -> TransactionOutcome {
    match client.describe_outcomes(&id(), OutcomeQuery::Number(1)).await.unwrap() {
        Outcomes::Known(known) => known.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Lives a life in which the broker is killed at one write.
async fn live(tracer: &Path, nth: usize, killed: Killed, by: By, timeout: Duration) -> Lived {
    let mut site = Site::prepare(tracer, nth, killed).await;
    let client = connect(&site.broker).await;
    let config = TransactionConfig { timeout, ..TransactionConfig::default() };
    let mut former = tokio::select! {
        biased;
        () = site.comes_back() => return Lived::Early,
        former = TransactionalProducer::init(&client, id(), config) => former.unwrap(),
    };
    let mut transaction = former.begin().await.unwrap();
    let filled = tokio::select! {
        biased;
        () = site.comes_back() => return Lived::Early,
        filled = by.fills(&mut transaction) => filled,
    };
    match filled {
        Ok(()) => {}
        Err(_) if by == By::Timeout => return Lived::Early,
        Err(error) => panic!("{error}"),
    }
    let operator = Operator::of(&site);
    let other = connect(&site.broker).await;
    let mut ending = Box::pin(by.ends(&other, &operator));
    tokio::select! {
        biased;
        () = site.comes_back() => {}
        _ = &mut ending => return Lived::Unharmed,
    }
    let next = ending.await;
    let case = format!("{by:?}, killed {killed:?} write {nth}");
    let ended = outcome(&other).await;
    let standing = if by.commits() { Standing::Committed } else { Standing::Aborted };
    assert_eq!((ended.standing, ended.reason), (standing, Some(by.reason())), "{case}");
    let on_record = matches!(by, By::OperatorsAbort | By::OperatorsCommit);
    assert_eq!(ended.operator.is_some(), on_record, "{case}: {:?}", ended.operator);
    let seen = read(&other).await;
    let values: &[&str] = if by.commits() { &["first"] } else { &[] };
    assert_eq!(seen, [values, values], "{case}");
    assert_eq!(has_its_offset(&other).await, by.commits(), "{case}: its offset");
    by.is_told(transaction, &case).await;
    let mut next = match (next, by) {
        (Some(next), _) => next,
        (None, By::OperatorsAbort) => holder(&other).await,
        (None, _) => former,
    };
    goes_on(&other, &mut next, seen, &case).await;
    Lived::Killed
}

/// Every write of the end, both ways.
async fn every_write(by: By) {
    let Some(tracer) = tracer().filter(|_| Broker::runs_semel()) else { return };
    let mut timeout = if by == By::Timeout { TIMEOUT_MIN } else { NEVER };
    for killed in [Killed::Before, Killed::After] {
        let (mut nth, mut shown) = (by.writes_before() + 1, 0);
        loop {
            match live(tracer, nth, killed, by, timeout).await {
                Lived::Unharmed => break,
                Lived::Early if timeout < TIMEOUT_MAX => timeout *= 2,
                Lived::Early => nth += 1,
                Lived::Killed => (nth, shown) = (nth + 1, shown + 1),
            }
            assert!(nth < WRITES_MAX, "an end has no end");
        }
        announce(&format!("{shown} writes of an end by {by:?}, killed {killed:?} each"));
        assert!(shown > 0, "{by:?}: killed {killed:?} none");
    }
}

#[tokio::test]
async fn a_timeout_comes_to_its_end() {
    every_write(By::Timeout).await;
}

#[tokio::test]
async fn the_next_holder_fences_the_former() {
    every_write(By::NextHolder).await;
}

#[tokio::test]
async fn an_operators_abort_is_done_or_not_and_on_record() {
    every_write(By::OperatorsAbort).await;
}

#[tokio::test]
async fn an_operators_commit_is_done_or_not_and_on_record() {
    every_write(By::OperatorsCommit).await;
}

#[tokio::test]
async fn what_is_prepared_is_taken_over() {
    every_write(By::Takeover).await;
}
