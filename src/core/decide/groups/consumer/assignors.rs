//! The assignors (`spec/groups.md`, T3 and T4): who reads what. Pure, and the same for the same members and topics.

use crate::core::rows::Assignor;
use crate::types::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A member, as far as an assignor is concerned.
pub(super) struct Reader {
    /// The topics it subscribes to.
    pub(super) topics: BTreeSet<TopicId>,
    /// What it was to have so far.
    pub(super) target: BTreeSet<PartitionId>,
}

/// What each of `readers` is to have, in their order. `topics` are those of all subscriptions, with their numbers of
/// partitions.
pub(super) fn assign(
    assignor: Assignor,
    topics: &BTreeMap<TopicId, u32>,
    readers: &[Reader],
) -> Vec<BTreeSet<PartitionId>> {
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (number, reader) in readers.iter().enumerate() {
        for topic in &reader.topics {
            subscribers.entry(*topic).or_default().push(number);
        }
    }
    let subscribed = subscribers.into_iter().filter_map(|(topic, subscribers)| {
        topics.get(&topic).map(|partitions| Subscribed { topic, partitions: *partitions, subscribers })
    });
    let subscribed: Vec<Subscribed> = subscribed.collect();
    match assignor {
        Assignor::Range => range(&subscribed, readers.len()),
        Assignor::Uniform => Uniform::new(&subscribed, readers).assign(&subscribed),
    }
}

/// A topic that somebody subscribes to.
struct Subscribed {
    topic: TopicId,
    partitions: u32,
    /// By their numbers.
    subscribers: Vec<usize>,
}

impl Subscribed {
    fn all(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let topic = self.topic;
        (0..self.partitions).filter_map(move |index| Some(PartitionId::new(topic, index_of(index)?)))
    }
}

fn index_of(index: u32) -> Option<PartitionIndex> {
    i32::try_from(index).ok().map(PartitionIndex)
}

/// T4: consecutive partitions; the first members get one more where it does not come out even.
fn range(subscribed: &[Subscribed], readers: usize) -> Vec<BTreeSet<PartitionId>> {
    let mut given = vec![BTreeSet::new(); readers];
    for topic in subscribed {
        let mut partitions = topic.all();
        let (count, total) = (topic.subscribers.len(), topic.partitions as usize);
        for (place, number) in topic.subscribers.iter().enumerate() {
            let share = total / count + usize::from(place < total % count);
            if let Some(given) = given.get_mut(*number) {
                given.extend(partitions.by_ref().take(share));
            }
        }
    }
    given
}

/// T3: what is being distributed evenly.
struct Uniform {
    given: Vec<BTreeSet<PartitionId>>,
}

impl Uniform {
    /// Everybody keeps what they may.
    fn new(subscribed: &[Subscribed], readers: &[Reader]) -> Uniform {
        let partitions: BTreeMap<TopicId, u32> =
            subscribed.iter().map(|topic| (topic.topic, topic.partitions)).collect();
        let exists = |partition: &PartitionId| {
            let count = partitions.get(&partition.topic).copied().unwrap_or(0);
            u32::try_from(partition.index.0).is_ok_and(|index| index < count)
        };
        let mut taken = BTreeSet::new();
        let given = readers.iter().map(|reader| {
            let kept = reader.target.iter().filter(|partition| reader.topics.contains(&partition.topic));
            kept.filter(|partition| exists(partition) && taken.insert(**partition)).copied().collect()
        });
        Uniform { given: given.collect() }
    }

    fn assign(mut self, subscribed: &[Subscribed]) -> Vec<BTreeSet<PartitionId>> {
        let mut taken: BTreeSet<PartitionId> = self.given.iter().flatten().copied().collect();
        // What few can read first: who else can read those has other things to choose from.
        let mut by_choice: Vec<&Subscribed> = subscribed.iter().collect();
        by_choice.sort_by_key(|topic| (topic.subscribers.len(), topic.topic));
        for topic in &by_choice {
            self.give_out(topic, &mut taken);
        }
        // Each move brings two members nearer to one another, so this ends.
        while by_choice.iter().map(|topic| self.balance(topic)).fold(false, |moved, now| moved | now) {}
        self.given
    }

    fn load(&self, number: usize) -> usize {
        self.given.get(number).map_or(0, BTreeSet::len)
    }

    /// Gives what nobody has of a topic to those who have least.
    fn give_out(&mut self, topic: &Subscribed, taken: &mut BTreeSet<PartitionId>) {
        let mut least: Option<BinaryHeap<Reverse<(usize, usize)>>> = None;
        for partition in topic.all().filter(|partition| taken.insert(*partition)) {
            let least = least.get_or_insert_with(|| {
                topic.subscribers.iter().map(|number| Reverse((self.load(*number), *number))).collect()
            });
            let Some(Reverse((load, number))) = least.pop() else { return };
            if let Some(given) = self.given.get_mut(number) {
                given.insert(partition);
            }
            least.push(Reverse((load + 1, number)));
        }
    }

    /// Moves partitions of a topic from those who have most to those who have least, while they are two or more apart.
    fn balance(&mut self, topic: &Subscribed) -> bool {
        let mut moved = false;
        loop {
            let loads = || topic.subscribers.iter().map(|number| (self.load(*number), *number));
            let Some((least, to)) = loads().min() else { return moved };
            let last_of = |number: usize| {
                let first = PartitionId::new(topic.topic, PartitionIndex(0));
                let last = PartitionId::new(topic.topic, PartitionIndex(i32::MAX));
                self.given.get(number)?.range(first..=last).next_back().copied()
            };
            let movable = loads().filter(|(load, _)| *load >= least + 2);
            let movable = movable.filter_map(|(load, number)| Some((load, number, last_of(number)?)));
            let Some((_, from, partition)) = movable.max() else { return moved };
            if let Some(given) = self.given.get_mut(from) {
                given.remove(&partition);
            }
            if let Some(given) = self.given.get_mut(to) {
                given.insert(partition);
            }
            moved = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn topic(number: usize) -> TopicId {
        TopicId(Uuid::from_u128(number as u128))
    }

    fn readers(subscriptions: &[BTreeSet<usize>], targets: Vec<BTreeSet<PartitionId>>) -> Vec<Reader> {
        let topics = subscriptions.iter().map(|topics| topics.iter().map(|one| topic(*one)).collect());
        topics.zip(targets).map(|(topics, target)| Reader { topics, target }).collect()
    }

    fn nothing(readers: usize) -> Vec<BTreeSet<PartitionId>> {
        vec![BTreeSet::new(); readers]
    }

    fn topics(partitions: &[u32]) -> BTreeMap<TopicId, u32> {
        partitions.iter().enumerate().map(|(number, count)| (topic(number), *count)).collect()
    }

    /// Each partition that somebody can read is given to one who can, and to no other.
    fn is_whole(partitions: &[u32], readers: &[Reader], given: &[BTreeSet<PartitionId>]) -> bool {
        let wanted =
            (0..partitions.len()).filter(|one| readers.iter().any(|r| r.topics.contains(&topic(*one))));
        let wanted: BTreeSet<PartitionId> = wanted
            .flat_map(|one| (0..partitions[one]).map(move |index| (one, index)))
            .map(|(one, index)| PartitionId::new(topic(one), index_of(index).unwrap()))
            .collect();
        let all: Vec<PartitionId> = given.iter().flatten().copied().collect();
        let readable = readers
            .iter()
            .zip(given)
            .all(|(reader, given)| given.iter().all(|partition| reader.topics.contains(&partition.topic)));
        readable && all.len() == wanted.len() && all.into_iter().collect::<BTreeSet<_>>() == wanted
    }

    fn is_balanced(readers: &[Reader], given: &[BTreeSet<PartitionId>]) -> bool {
        given.iter().all(|more| {
            readers.iter().zip(given).all(|(reader, fewer)| {
                let could_take = more.iter().any(|partition| reader.topics.contains(&partition.topic));
                !could_take || more.len() < fewer.len() + 2
            })
        })
    }

    fn subscriptions() -> impl Strategy<Value = (Vec<u32>, Vec<BTreeSet<usize>>)> {
        let partitions = proptest::collection::vec(1u32..9, 1..5);
        partitions.prop_flat_map(|partitions| {
            let some = proptest::collection::btree_set(0..partitions.len(), 0..=partitions.len());
            (Just(partitions), proptest::collection::vec(some, 1..7))
        })
    }

    proptest! {
        #[test]
        fn every_partition_is_given_to_one_who_can_read_it((partitions, subscribed) in subscriptions()) {
            let readers = readers(&subscribed, nothing(subscribed.len()));
            for assignor in Assignor::ALL {
                let given = assign(assignor, &topics(&partitions), &readers);
                prop_assert!(is_whole(&partitions, &readers, &given), "{assignor:?}: {given:?}");
            }
        }

        /// T4: consecutive partitions, as many for each, and one more for the first ones where it does not come out even.
        #[test]
        fn range_gives_everybody_a_stretch_of_the_same_length((partitions, subscribed) in subscriptions()) {
            let readers = readers(&subscribed, nothing(subscribed.len()));
            let given = assign(Assignor::Range, &topics(&partitions), &readers);
            for (number, count) in partitions.iter().enumerate() {
                let of_topic = readers.iter().zip(&given).filter(|(reader, _)| reader.topics.contains(&topic(number)));
                let stretches: Vec<Vec<i32>> = of_topic
                    .map(|(_, given)| given.iter().filter(|p| p.topic == topic(number)).map(|p| p.index.0).collect())
                    .collect();
                let lengths: Vec<usize> = stretches.iter().map(Vec::len).collect();
                let (longest, shortest) = (lengths.iter().max().copied(), lengths.iter().min().copied());
                prop_assert!(longest <= shortest.map(|shortest| shortest + 1), "{stretches:?}");
                prop_assert!(lengths.is_sorted_by(|before, after| before >= after), "{stretches:?}");
                let all: Vec<i32> = stretches.concat();
                let expected = if stretches.is_empty() { 0 } else { *count };
                prop_assert_eq!(all, (0..expected.cast_signed()).collect::<Vec<i32>>());
            }
        }

        /// Of topics and partitions that are no more, and of what two had, too.
        #[test]
        fn uniform_is_whole_and_even_whatever_was_said_to_be_there_before(
            (partitions, subscribed) in subscriptions(),
            had in proptest::collection::vec(proptest::collection::btree_set((0usize..6, 0i32..12), 0..12), 7),
        ) {
            let had = had.iter().map(|some| {
                some.iter().map(|(one, index)| PartitionId::new(topic(*one), PartitionIndex(*index))).collect()
            });
            let readers = readers(&subscribed, had.collect());
            let given = assign(Assignor::Uniform, &topics(&partitions), &readers);
            prop_assert!(is_whole(&partitions, &readers, &given) && is_balanced(&readers, &given), "{given:?}");
        }

        #[test]
        fn uniform_is_even_whatever_was_there_before(
            (partitions, before) in subscriptions(),
            now in proptest::collection::vec(proptest::collection::btree_set(0usize..5, 0..5), 7),
        ) {
            let all = topics(&partitions);
            let first = readers(&before, nothing(before.len()));
            let given = assign(Assignor::Uniform, &all, &first);
            prop_assert!(is_balanced(&first, &given), "{given:?}");
            let again = assign(Assignor::Uniform, &all, &readers(&before, given.clone()));
            prop_assert_eq!(&again, &given, "nothing moves without a reason");
            let mut later = given;
            later.truncate(now.len());
            later.resize(now.len(), BTreeSet::new());
            let now: Vec<BTreeSet<usize>> = now.iter()
                .map(|some| some.iter().copied().filter(|one| *one < partitions.len()).collect())
                .collect();
            let second = readers(&now, later);
            let given = assign(Assignor::Uniform, &all, &second);
            prop_assert!(is_whole(&partitions, &second, &given) && is_balanced(&second, &given), "{given:?}");
        }
    }

    #[test]
    fn a_newcomer_takes_its_share_and_nothing_else_moves() {
        let (partitions, one) = (topics(&[12]), BTreeSet::from([0]));
        let three = vec![one.clone(); 3];
        let before = assign(Assignor::Uniform, &partitions, &readers(&three, nothing(3)));
        let mut targets = before.clone();
        targets.push(BTreeSet::new());
        let after = assign(Assignor::Uniform, &partitions, &readers(&vec![one; 4], targets));
        assert!(after.iter().all(|given| given.len() == 3));
        assert!(before.iter().zip(&after).all(|(before, after)| after.is_subset(before)));
    }

    #[test]
    fn range_cuts_topics_of_equal_length_at_the_same_places() {
        let both = vec![BTreeSet::from([0, 1]); 2];
        let given = assign(Assignor::Range, &topics(&[5, 5]), &readers(&both, nothing(2)));
        let indexes = |given: &BTreeSet<PartitionId>, one| -> Vec<i32> {
            given.iter().filter(|p| p.topic == topic(one)).map(|p| p.index.0).collect()
        };
        assert_eq!(indexes(&given[0], 0), [0, 1, 2]);
        assert_eq!(indexes(&given[0], 1), [0, 1, 2]);
        assert_eq!(indexes(&given[1], 0), [3, 4]);
    }

    #[test]
    fn ten_thousand_partitions_over_a_thousand_members_are_no_work() {
        let one = vec![BTreeSet::from([0]); 1_000];
        let partitions = topics(&[10_000]);
        let given = assign(Assignor::Uniform, &partitions, &readers(&one, nothing(1_000)));
        assert!(given.iter().all(|given| given.len() == 10));
        let mut fewer = given.clone();
        fewer.truncate(999);
        let given = assign(Assignor::Uniform, &partitions, &readers(&one[..999], fewer));
        assert!(given.iter().all(|given| (10..=11).contains(&given.len())));
    }
}
