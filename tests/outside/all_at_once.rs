//! Stories of groups that mostly wait: for sessions to end, for offsets to become old. So all are told at once, first.

use std::thread;

use crate::{groups, together};

#[test]
fn groups_of_many_makes_and_offsets_that_grow_old() {
    let stories: [(&str, fn()); 6] = [
        ("all makes", together::java_librdkafka_aiokafka_and_kafkajs_share_a_classic_group),
        ("both protocols", together::clients_without_the_consumer_protocol_stay_in_a_group_that_takes_it_up),
        ("consumer protocol", || together::java_and_librdkafka_share_a_group("consumer:uniform")),
        ("cooperatively", || together::java_and_librdkafka_share_a_group("cooperative-sticky")),
        ("kcat", together::kcat_shares_a_topic_with_java),
        ("old offsets", groups::offsets_that_nobody_has_used_for_long_are_forgotten),
    ];
    thread::scope(|scope| {
        let told = stories.map(|(name, story)| {
            let thread = thread::Builder::new().name(name.to_owned());
            (name, thread.spawn_scoped(scope, story).unwrap())
        });
        let failed = told.into_iter().filter_map(|(name, told)| told.join().is_err().then_some(name));
        assert_eq!(failed.collect::<Vec<_>>(), [""; 0], "what they said is above");
    });
}
