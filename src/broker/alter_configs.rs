//! IncrementalAlterConfigs and AlterConfigs: the settings of topics change, each topic's all at once or not at all.

use super::authorise::Operation;
use super::describe_configs::resource;
use super::errors;
use super::failure::{Failure, expect};
use super::names::{self, Topic};
use super::service::reply_to;
use super::session::Context;
use super::topic_config::{self, InvalidSetting, Setting, ValueType};
use crate::core::{Command, ConfigChange, TopicConfig};
use crate::shard::Answer;
use crate::types::{HashSet, TopicName};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::collections::BTreeMap;
use std::future::Future;

/// Why a resource is not changed.
type Refused = (ErrorCode, String);

/// A resource by its type and name, and what has become of it.
type Asked = (i8, String, Result<Answer, Refused>);

/// What is to become of one setting, by Kafka's numbers (`AlterConfigOp.OpType`).
mod operation {
    pub(super) const SET: i8 = 0;
    pub(super) const DELETE: i8 = 1;
    pub(super) const APPEND: i8 = 2;
    pub(super) const SUBTRACT: i8 = 3;
}

pub(super) async fn accept_incremental(
    cx: Context,
    request: IncrementalAlterConfigsRequest,
) -> Result<impl Future<Output = Result<IncrementalAlterConfigsResponse, Failure>> + Send + 'static, Failure>
{
    cx.check_listed(request.resources.iter().map(|resource| 1 + resource.configs.len()).sum())?;
    let repeated = repeated(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let mut asked = Vec::with_capacity(request.resources.len());
    for AlterConfigsResource { resource_type, resource_name, configs } in request.resources {
        let topic = find(&cx, &repeated, resource_type, &resource_name)?;
        let change = topic.and_then(|topic| Ok((changes(&topic.row.config, &configs)?, topic)));
        let outcome = ask(&cx, change, request.validate_only).await?;
        asked.push((resource_type, resource_name, outcome));
    }
    Ok(async move {
        Ok(IncrementalAlterConfigsResponse { responses: settle(&cx, asked).await?, ..Default::default() })
    })
}

pub(super) async fn accept_replacement(
    cx: Context,
    request: AlterConfigsRequest,
) -> Result<impl Future<Output = Result<AlterConfigsResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.resources.iter().map(|resource| 1 + resource.configs.len()).sum())?;
    let repeated = repeated(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let mut asked = Vec::with_capacity(request.resources.len());
    for ReplaceConfigsResource { resource_type, resource_name, configs } in request.resources {
        let topic = find(&cx, &repeated, resource_type, &resource_name)?;
        let change = topic.and_then(|topic| Ok((replacement(&configs)?, topic)));
        let outcome = ask(&cx, change, request.validate_only).await?;
        asked.push((resource_type, resource_name, outcome));
    }
    Ok(async move { Ok(AlterConfigsResponse { responses: settle(&cx, asked).await?, ..Default::default() }) })
}

async fn ask(
    cx: &Context,
    change: Result<(ConfigChange, Topic), Refused>,
    validate_only: bool,
) -> Result<Result<Answer, Refused>, Failure> {
    Ok(match change {
        Err(refused) => Err(refused),
        Ok((change, topic)) => {
            Ok(cx.ask(Command::ConfigureTopic { topic: topic.id, change, validate_only }).await?)
        }
    })
}

async fn settle(cx: &Context, asked: Vec<Asked>) -> Result<Vec<AlterConfigsResourceResponse>, Failure> {
    let mut responses = Vec::with_capacity(asked.len());
    for (resource_type, resource_name, asked) in asked {
        let (error_code, error_message) = match asked {
            Err((code, message)) => (code, Some(message)),
            Ok(answer) => match expect::done(reply_to(answer).await?)? {
                Ok(()) => (ErrorCode::None, None),
                Err(refusal) => (errors::code(refusal, cx.api, cx.version)?, Some(refusal.to_string())),
            },
        };
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    Ok(responses)
}

/// The resources that come more than once.
fn repeated<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> HashSet<(i8, String)> {
    let mut seen = HashSet::default();
    let again = resources.filter(|resource| !seen.insert(*resource));
    again.map(|(kind, name)| (kind, name.to_owned())).collect()
}

/// The topic that a resource is, if it is one whose settings may be changed.
fn find(
    cx: &Context,
    repeated: &HashSet<(i8, String)>,
    resource_type: i8,
    name: &str,
) -> Result<Result<Topic, Refused>, Failure> {
    let refused = |code, message: &str| Ok(Err((code, message.to_owned())));
    if repeated.contains(&(resource_type, name.to_owned())) {
        return refused(ErrorCode::InvalidRequest, "the request names this resource more than once");
    }
    match resource_type {
        resource::TOPIC if name.is_empty() => {
            return refused(
                ErrorCode::InvalidRequest,
                "a topic needs a name: topics have no common settings",
            );
        }
        resource::TOPIC => {}
        resource::BROKER => {
            let message = "the broker's settings are in semel.toml, in its environment and its flags; \
                           `semel config` shows them. They change with a restart";
            return refused(ErrorCode::InvalidRequest, message);
        }
        _ => return refused(ErrorCode::InvalidRequest, "only topics (2) have settings that can be changed"),
    }
    if !cx.may(Operation::AlterTopics) {
        let message = "not allowed to change topics: the principal is not among the admins";
        return refused(ErrorCode::TopicAuthorizationFailed, message);
    }
    if let Err(error) = TopicName::new(name) {
        return refused(ErrorCode::InvalidTopicException, &error.to_string());
    }
    match names::by_name(&cx.view(), name)? {
        Some(topic) => Ok(Ok(topic)),
        None => refused(ErrorCode::UnknownTopicOrPartition, "no such topic"),
    }
}

/// What single changes come to, on top of what the topic has now.
fn changes(config: &TopicConfig, configs: &[AlterableConfig]) -> Result<ConfigChange, Refused> {
    let mut changed = BTreeMap::new();
    for AlterableConfig { name, config_operation, value } in configs {
        if changed.contains_key(name) {
            return Err((ErrorCode::InvalidRequest, format!("{name:.100} comes more than once")));
        }
        let value = match *config_operation {
            // What is not set, or not even known, has its default already.
            operation::DELETE => None,
            operation::SET | operation::APPEND | operation::SUBTRACT => {
                let setting = topic_config::find(name).map_err(|error| invalid(&error))?;
                let given = value.as_deref().ok_or_else(|| {
                    (ErrorCode::InvalidRequest, format!("{name} needs a value to be changed by"))
                })?;
                Some(
                    changed_value(setting, config, *config_operation, given)
                        .map_err(|error| invalid(&error))?,
                )
            }
            other => {
                return Err((ErrorCode::InvalidRequest, format!("{other} is no operation on a setting")));
            }
        };
        changed.insert(name.clone(), value);
    }
    let mut together = config.clone();
    for (name, value) in &changed {
        match value {
            Some(value) => together.insert(name.clone(), value.clone()),
            None => together.remove(name),
        };
    }
    topic_config::check_together(&together).map_err(|error| invalid(&error))?;
    Ok(ConfigChange::Some(changed))
}

fn invalid(error: &InvalidSetting) -> Refused {
    (ErrorCode::InvalidConfig, error.to_string())
}

/// A setting's value after an operation; lists can be appended to and subtracted from.
fn changed_value(
    setting: &Setting,
    config: &TopicConfig,
    kind: i8,
    given: &str,
) -> Result<String, InvalidSetting> {
    if kind == operation::SET {
        return setting.check(given.trim());
    }
    if setting.value_type != ValueType::List {
        return Err(InvalidSetting::NoList(setting.name));
    }
    let split = |list: &str| -> Vec<String> {
        list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let (mut items, given) = (split(setting.of(config).0), split(given));
    match kind {
        operation::APPEND => {
            for item in given {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        _ => items.retain(|item| !given.contains(item)),
    }
    setting.check(&items.join(","))
}

/// All settings anew.
fn replacement(configs: &[ReplacedConfig]) -> Result<ConfigChange, Refused> {
    let mut names = HashSet::default();
    if let Some(again) = configs.iter().find(|config| !names.insert(config.name.as_str())) {
        return Err((ErrorCode::InvalidRequest, format!("{:.100} comes more than once", again.name)));
    }
    if let Some(null) = configs.iter().find(|config| config.value.is_none()) {
        return Err((ErrorCode::InvalidRequest, format!("{:.100} needs a value", null.name)));
    }
    let settings = configs.iter().map(|config| (config.name.as_str(), config.value.as_deref()));
    topic_config::check(settings).map(ConfigChange::All).map_err(|error| invalid(&error))
}
