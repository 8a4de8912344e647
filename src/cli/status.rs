//! `semel status`: is it serving, and what is wrong with it, on one screen.

use super::CliError;
use super::connect::ConnectArgs;
use super::output::{bytes_text, safe_text};
use crate::client::{Page, page};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::io::{self, IsTerminal as _, Write as _};

/// `semel status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to write it [default: text on a terminal, JSON in a pipe]
    #[arg(long, value_enum)]
    output: Option<Form>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How the status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines for people
    Text,
    /// One JSON object
    Json,
}

pub(super) async fn run(arguments: StatusArgs) -> Result<(), CliError> {
    let Page { status, body } = page(&arguments.connect.config()?, "/status").await?;
    let refused = |problem: String, advice: &str| CliError::Refused { problem, advice: advice.to_owned() };
    match status {
        200 => {}
        403 => {
            return Err(refused(
                safe_text(body.trim_end().as_bytes()),
                "use the certificate of an admin, or add the principal to the setting metrics-readers",
            ));
        }
        _ => {
            let said = safe_text(body.trim_end().as_bytes());
            return Err(refused(format!("the broker answered {status}: {said}"), "is it a semel broker?"));
        }
    }
    let mut out = io::stdout().lock();
    let form = arguments.output.unwrap_or(if out.is_terminal() { Form::Text } else { Form::Json });
    if form == Form::Json {
        return Ok(writeln!(out, "{}", body.trim_end())?);
    }
    let status: Value = serde_json::from_str(&body).map_err(|error| {
        refused(
            format!("the broker's status is no JSON: {error}"),
            "is it of another version than this command?",
        )
    })?;
    Ok(out.write_all(lines(&status).as_bytes())?)
}

/// The status as lines: what it is about, then what there is to say; trouble is marked.
fn lines(status: &Value) -> String {
    let mut lines = vec![serving(status)];
    lines.extend(trouble(status).into_iter().map(|trouble| format!("  ! {trouble}")));
    for (title, text) in [
        ("disk", disk(status)),
        ("log", log(status)),
        ("memory", memory(status)),
        ("clients", format!("{} connections", number(status, "/connections"))),
        (
            "topics",
            format!("{} with {} partitions", number(status, "/topics"), number(status, "/partitions")),
        ),
        ("transactions", transactions(status)),
        ("groups", groups(status)),
    ] {
        lines.push(format!("{title:<13} {text}"));
    }
    lines.extend(
        list(status, "/transactions/blockers").iter().map(|one| format!("  holds back    {}", blocker(one))),
    );
    lines.extend(list(status, "/transactions/in_doubt").iter().map(|one| {
        format!("  in doubt      {}, prepared, {}", text(one, "/transactional_id"), age(one, "/age_seconds"))
    }));
    lines.extend(
        list(status, "/groups/most_lagging")
            .iter()
            .filter(|one| number(one, "/lag") > 0)
            .map(|one| format!("  lags          {}", lagging(one))),
    );
    lines.extend(
        list(status, "/groups/last_rebalanced")
            .iter()
            .map(|one| format!("  rebalanced    {}", rebalanced(one))),
    );
    lines.join("\n") + "\n"
}

fn number(value: &Value, place: &str) -> u64 {
    value.pointer(place).and_then(Value::as_u64).unwrap_or(0)
}

fn real(value: &Value, place: &str) -> f64 {
    value.pointer(place).and_then(Value::as_f64).unwrap_or(0.0)
}

fn is_true(value: &Value, place: &str) -> bool {
    value.pointer(place).and_then(Value::as_bool).unwrap_or(false)
}

fn text(value: &Value, place: &str) -> String {
    safe_text(value.pointer(place).and_then(Value::as_str).unwrap_or_default().as_bytes())
}

fn list<'v>(value: &'v Value, place: &str) -> &'v [Value] {
    value.pointer(place).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn bytes(value: &Value, place: &str) -> String {
    bytes_text(real(value, place))
}

/// Seconds as a person says them.
fn age(value: &Value, place: &str) -> String {
    let seconds = real(value, place);
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

fn serving(status: &Value) -> String {
    let word = if is_true(status, "/serving") { "serving" } else { "NOT SERVING" };
    let (since, version) = (age(status, "/serving_for_seconds"), text(status, "/version"));
    format!("semel {version} is {word}, since {since}, with {} in RAM", bytes(status, "/resident_bytes"))
}

/// Blocks that may be decided and not durable in an ordinary moment: one that is written and one that is open.
const BLOCKS_BEHIND: u64 = 2;

/// What somebody should look at.
fn trouble(status: &Value) -> Vec<String> {
    let mut trouble = Vec::new();
    if !is_true(status, "/serving") {
        trouble.push(text(status, "/obstacle"));
    }
    if is_true(status, "/disk/short") {
        trouble.push("the disk's reserve is reached: nothing is produced until there is space".to_owned());
    }
    let behind = number(status, "/log/block_decided").saturating_sub(number(status, "/log/block_durable"));
    if behind > BLOCKS_BEHIND {
        trouble.push(format!("{behind} blocks are decided and not durable"));
    }
    let prepared = number(status, "/transactions/prepared");
    if prepared > 0 {
        trouble.push(format!(
            "{prepared} prepared transactions wait for their coordinator (semel txn prepared)"
        ));
    }
    if !is_true(status, "/complete") {
        trouble.push(
            "there are more rows than were looked at: numbers of transactions and groups are too low"
                .to_owned(),
        );
    }
    trouble
}

fn disk(status: &Value) -> String {
    let (free, reserve) = (bytes(status, "/disk/free_bytes"), bytes(status, "/disk/reserve_bytes"));
    format!("{free} free; below {reserve} producing is refused")
}

fn log(status: &Value) -> String {
    let block = |name: &str| number(status, &format!("/log/block_{name}"));
    let behind = block("durable").saturating_sub(block("applied"));
    let p99 = status.pointer("/log/write_seconds_p99_at_most").and_then(Value::as_f64);
    let p99 = p99
        .map_or(String::new(), |seconds| format!("; a write takes up to {:.1} ms (p99)", seconds * 1000.0));
    format!(
        "block {} durable, {behind} not in the rows yet; {}, {} of it dead{p99}",
        block("durable"),
        bytes(status, "/log/bytes"),
        bytes(status, "/log/dead_bytes"),
    )
}

fn memory(status: &Value) -> String {
    let one = |name: &str| {
        let (held, all) = (format!("/memory/{name}/reserved_bytes"), format!("/memory/{name}/budget_bytes"));
        format!("{name} {} of {}", bytes(status, &held), bytes(status, &all))
    };
    ["produce", "fetch", "control"].map(one).join(", ")
}

fn transactions(status: &Value) -> String {
    let place = |name: &str| format!("/transactions/{name}");
    let ongoing = number(status, &place("ongoing"));
    let oldest = match ongoing {
        0 => String::new(),
        _ => format!(" (the oldest {})", age(status, &place("ongoing_oldest_seconds"))),
    };
    format!(
        "{ongoing} ongoing{oldest}, {} prepared; they hold back {} partitions",
        number(status, &place("prepared")),
        number(status, &place("blocked_partitions")),
    )
}

fn blocker(one: &Value) -> String {
    let state = if is_true(one, "/prepared") { "prepared" } else { "ongoing" };
    format!(
        "{}-{} at {}: {} (producer id {}), {state}, {}",
        text(one, "/topic"),
        number(one, "/partition"),
        number(one, "/held_at"),
        text(one, "/transactional_id"),
        number(one, "/producer_id"),
        age(one, "/age_seconds"),
    )
}

fn groups(status: &Value) -> String {
    let states = status.pointer("/groups/states").and_then(Value::as_object);
    let states = states.into_iter().flatten().filter_map(|(state, count)| Some((state, count.as_u64()?)));
    let states: Vec<String> =
        states.filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {state}")).collect();
    let rebalancing = number(status, "/groups/rebalancing");
    let states = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
    format!("{states}; {rebalancing} rebalancing now")
}

fn lagging(one: &Value) -> String {
    let (group, lag, members) = (text(one, "/group"), number(one, "/lag"), number(one, "/members"));
    format!("{group} by {lag} records, with {members} members")
}

fn rebalanced(one: &Value) -> String {
    let (group, cause) = (text(one, "/group"), text(one, "/cause"));
    let times = number(one, "/times");
    format!("{group} {} ago: {cause} ({times} times in all)", age(one, "/age_seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trouble_comes_first_and_names_what_is_to_be_done() {
        let well = json!({ "serving": true, "complete": true, "version": "1" });
        assert_eq!(trouble(&well), Vec::<String>::new());
        let ill = json!({
            "serving": false, "obstacle": "the disk does not answer", "version": "1", "complete": true,
            "disk": { "short": true },
            "log": { "block_decided": 9, "block_durable": 5 },
            "transactions": {
                "prepared": 1,
                "blockers": [{ "topic": "t\u{1b}", "partition": 3, "held_at": 7, "transactional_id": "x",
                    "producer_id": 5, "prepared": true, "age_seconds": 7300.0 }],
            },
            "groups": {
                "states": { "Stable": 2, "Empty": 0 },
                "most_lagging": [{ "group": "g", "lag": 12, "members": 3 }],
                "last_rebalanced": [{ "group": "h", "cause": "member_left", "age_seconds": 5.1, "times": 4 }],
            },
        });
        let lines = lines(&ill);
        let first: Vec<&str> = lines.lines().take(5).collect();
        assert!(first[0].contains("NOT SERVING"), "{lines}");
        for (line, word) in
            first[1..].iter().zip(["does not answer", "reserve", "4 blocks", "semel txn prepared"])
        {
            assert!(line.starts_with("  ! ") && line.contains(word), "{lines}");
        }
        assert!(lines.contains("t\\u{1b}-3 at 7: x (producer id 5), prepared, 2 h"), "{lines}");
        assert!(lines.contains("2 Stable; 0 rebalancing"), "{lines}");
        assert!(lines.contains("g by 12 records, with 3 members"), "{lines}");
        assert!(lines.contains("h 5 s ago: member_left (4 times in all)"), "{lines}");
    }
}
