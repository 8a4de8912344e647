//! A disk as a power cut may leave it: what is durable, and what was done since and may or may not be there.
//! `spec/guarantees.md` ("The disk") says what is assumed, and this is that.

use super::recording::{Deed, Event, Recording};
use crate::shard::tests::cases::Dice;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

const PAGE: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const SECTORS: usize = PAGE / SECTOR;

/// A thing that was done to a file's content, its length, or to names, and that a power cut may undo.
pub(super) type Change = usize;

type NodeId = usize;
type Content = Arc<[u8; PAGE]>;

/// In which order names may become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Any of them without any other, until their directory is synced: what POSIX promises.
    Single,
    /// None without those before it, in the whole file system: what a journal of metadata does (ext4, XFS).
    InOrder,
}

#[derive(Clone, Debug)]
enum Node {
    Dir { now: BTreeMap<String, NodeId>, durable: BTreeMap<String, NodeId> },
    File(File),
}

#[derive(Clone, Debug, Default)]
struct File {
    pages: BTreeMap<u64, Page>,
    /// Durable length, and the lengths since.
    length: u64,
    lengths: Vec<(Change, u64)>,
}

/// A page of a file: what is durable of it, and what the page cache held since.
#[derive(Clone, Debug)]
struct Page {
    durable: Content,
    versions: Vec<Version>,
}

#[derive(Clone, Debug)]
struct Version {
    change: Change,
    /// Which sectors this change has touched, as bits.
    sectors: u8,
    content: Content,
}

/// Names that change together.
#[derive(Clone, Debug)]
struct NameChange {
    change: Change,
    dir: NodeId,
    names: Vec<(String, Option<NodeId>)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    names: Names,
    nodes: Vec<Node>,
    by_number: HashMap<u64, NodeId>,
    name_changes: Vec<NameChange>,
    /// When each change had ended; a sync that failed has forgotten it, so that no later sync speaks for it.
    ended: Vec<Option<u64>>,
}

const ROOT: NodeId = 0;

/// When something ends that has not ended when the power is cut.
const NEVER: u64 = u64::MAX;

impl Disk {
    /// A disk that durably holds what is in a directory.
    pub(super) fn of(dir: &Path, names: Names) -> Disk {
        let root = Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() };
        let mut disk =
            Disk { names, nodes: vec![root], by_number: HashMap::new(), name_changes: vec![], ended: vec![] };
        disk.load(dir, ROOT);
        disk
    }

    fn load(&mut self, path: &Path, dir: NodeId) {
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            let node = if entry.file_type().unwrap().is_dir() {
                let node = self.add(Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() });
                self.load(&entry.path(), node);
                node
            } else {
                let mut file = File { length: entry.metadata().unwrap().len(), ..File::default() };
                for (number, page) in pages_of(&entry.path()) {
                    file.pages.insert(number, Page { durable: page, versions: vec![] });
                }
                self.add(Node::File(file))
            };
            let Node::Dir { now, durable } = &mut self.nodes[dir] else { unreachable!() };
            let name = entry.file_name().into_string().unwrap();
            now.insert(name.clone(), node);
            durable.insert(name, node);
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// What a program does until the power is cut, at `cut` on the recording's clock. What had begun may be there.
    pub(super) fn play(&mut self, recording: &Recording, cut: u64) {
        let mut begun: Vec<&Event> = Vec::new();
        let shift = self.clock();
        // Another thread may open a file under a new name before the recorder has heard that it has got it.
        let mut too_early: Vec<&Event> = Vec::new();
        for event in recording.events.iter().filter(|event| event.begin <= cut) {
            if event.end > cut {
                begun.push(event);
                continue;
            }
            if self.knows(event) {
                self.apply(event, shift)
            } else {
                too_early.push(event)
            }
            for event in too_early.extract_if(.., |event| self.knows(event)).collect::<Vec<_>>() {
                self.apply(event, shift);
            }
        }
        begun.sort_by_key(|event| event.begin);
        for event in begun {
            let durable = matches!(event.deed, Deed::Synced { .. } | Deed::SyncedAll);
            if !durable && self.knows(event) {
                let mut event = event.clone();
                if let Deed::Written { durable, .. } = &mut event.deed {
                    *durable = false;
                }
                event.end = NEVER;
                self.apply(&event, shift);
            }
        }
    }

    /// Whether there is a file of the name by which an event opens one.
    fn knows(&self, event: &Event) -> bool {
        match &event.deed {
            Deed::Opened { path, created: false, .. } => self.find(path).is_some(),
            _ => true,
        }
    }

    /// The program was killed: what had begun is done.
    pub(super) fn finish(&mut self) {
        let now = self.clock();
        self.ended.iter_mut().flatten().filter(|end| **end == NEVER).for_each(|end| *end = now);
    }

    /// Later than anything that has ended.
    fn clock(&self) -> u64 {
        let ended = self.ended.iter().flatten().filter(|end| **end != NEVER);
        ended.max().map_or(0, |last| last + 1)
    }

    fn apply(&mut self, event: &Event, shift: u64) {
        let (begin, end) = (event.begin + shift, event.end.saturating_add(shift));
        match &event.deed {
            Deed::Opened { path, file, created, emptied } => {
                if *created {
                    let node = self.add(Node::File(File::default()));
                    self.set_names(path, Some(node), None, end);
                }
                let node = self.find(path).unwrap_or_else(|| panic!("{} is not known", path.display()));
                self.by_number.insert(*file, node);
                if *emptied && !*created {
                    self.cut(node, 0, end);
                }
            }
            Deed::MadeDir { path } => {
                let node = self.add(Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() });
                self.set_names(path, Some(node), None, end);
            }
            Deed::Written { file, position, data, durable, .. } => {
                let change = self.write(self.by_number[file], *position, data, end);
                if *durable {
                    let node = self.by_number[file];
                    self.settle(node, |done| done == change);
                }
            }
            Deed::Grown { file, length } => {
                let node = self.by_number[file];
                if *length > self.length(node) {
                    let change = self.change(end);
                    self.file(node).lengths.push((change, *length));
                }
            }
            Deed::Cut { file, length } => self.cut(self.by_number[file], *length, end),
            Deed::Synced { file } => self.sync(self.by_number[file], begin),
            Deed::SyncFailed { file } => self.forget(self.by_number[file], begin),
            Deed::Renamed { from, to } => {
                let node = self.find(from);
                self.set_names(to, node, Some(from), end);
            }
            Deed::Removed { path } => self.set_names(path, None, None, end),
            Deed::SyncedAll => (0..self.nodes.len()).for_each(|node| self.sync(node, begin)),
        }
    }

    fn change(&mut self, end: u64) -> Change {
        self.ended.push(Some(end));
        self.ended.len() - 1
    }

    fn file(&mut self, node: NodeId) -> &mut File {
        let Node::File(file) = &mut self.nodes[node] else { panic!("a directory is written to") };
        file
    }

    fn length(&mut self, node: NodeId) -> u64 {
        let file = self.file(node);
        file.lengths.last().map_or(file.length, |(_, length)| *length)
    }

    fn find(&self, path: &Path) -> Option<NodeId> {
        path.components().try_fold(ROOT, |dir, part| match &self.nodes[dir] {
            Node::Dir { now, .. } => now.get(name_of(part)).copied(),
            Node::File(_) => None,
        })
    }

    /// Lets a path lead to a node, and another in the same directory to nothing.
    fn set_names(&mut self, path: &Path, node: Option<NodeId>, gone: Option<&Path>, end: u64) {
        let (parent, change) = (path.parent().unwrap(), self.change(end));
        let dir = self.find(parent).unwrap_or_else(|| panic!("{} is not known", parent.display()));
        assert!(gone.is_none_or(|gone| gone.parent() == Some(parent)), "renamed into another directory");
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names = vec![(name(path), node)];
        names.extend(gone.map(|gone| (name(gone), None)));
        let Node::Dir { now, .. } = &mut self.nodes[dir] else { panic!("no directory") };
        set(now, &names);
        self.name_changes.push(NameChange { change, dir, names });
    }

    fn write(&mut self, node: NodeId, position: u64, data: &[u8], end: u64) -> Change {
        let change = self.change(end);
        let length = self.length(node);
        let file = self.file(node);
        let mut done = 0;
        while done < data.len() {
            let at = position + done as u64;
            let (number, inside) = (at / PAGE as u64, usize::try_from(at % PAGE as u64).unwrap());
            let part = (PAGE - inside).min(data.len() - done);
            file.patch(number, inside, change, &data[done..done + part]);
            done += part;
        }
        let reached = position + data.len() as u64;
        if reached > length {
            file.lengths.push((change, reached));
        }
        change
    }

    fn cut(&mut self, node: NodeId, length: u64, end: u64) {
        let change = self.change(end);
        let file = self.file(node);
        file.lengths.push((change, length));
        let first = length / PAGE as u64;
        let behind: Vec<u64> = file.pages.range(first..).map(|(number, _)| *number).collect();
        for number in behind {
            let inside = if number == first { usize::try_from(length % PAGE as u64).unwrap() } else { 0 };
            file.patch(number, inside, change, &vec![0; PAGE - inside]);
        }
    }

    /// A sync of a file or directory that began at `begin`: what had ended by then is durable.
    fn sync(&mut self, node: NodeId, begin: u64) {
        match &self.nodes[node] {
            Node::File(_) => {
                let ended = self.ended.clone();
                self.settle(node, |change| ended[change].is_some_and(|end| end < begin));
            }
            Node::Dir { .. } => self.sync_dir(node, begin),
        }
    }

    fn settle(&mut self, node: NodeId, is_durable: impl Fn(Change) -> bool) {
        let file = self.file(node);
        for page in file.pages.values_mut() {
            if let Some(last) = page.versions.iter().rposition(|version| is_durable(version.change)) {
                page.durable = Arc::clone(&page.versions[last].content);
                page.versions.drain(..=last);
            }
        }
        if let Some(last) = file.lengths.iter().rposition(|(change, _)| is_durable(*change)) {
            file.length = file.lengths[last].1;
            file.lengths.drain(..=last);
        }
    }

    /// A sync that failed: the system takes the pages for clean, and no later sync writes them.
    fn forget(&mut self, node: NodeId, begin: u64) {
        if let Node::File(file) = &self.nodes[node] {
            let changes = file.changes().collect::<Vec<_>>();
            for change in changes {
                if self.ended[change].is_some_and(|end| end < begin) {
                    self.ended[change] = None;
                }
            }
        }
    }

    fn sync_dir(&mut self, dir: NodeId, begin: u64) {
        let synced = |change: &NameChange| {
            change.dir == dir && self.ended[change.change].is_some_and(|end| end < begin)
        };
        let last = self.name_changes.iter().rposition(synced);
        let in_order = self.names == Names::InOrder;
        let settled: Vec<bool> = self
            .name_changes
            .iter()
            .enumerate()
            .map(|(at, change)| synced(change) || in_order && last.is_some_and(|last| at <= last))
            .collect();
        let mut settled = settled.into_iter();
        let (nodes, changes) = (&mut self.nodes, &mut self.name_changes);
        changes.retain(|change| {
            let settled = settled.next().unwrap_or(false);
            if settled && let Node::Dir { durable, .. } = &mut nodes[change.dir] {
                set(durable, &change.names);
            }
            !settled
        });
    }

    /// Everything that a power cut now may undo, oldest first.
    pub(super) fn pending(&self) -> Vec<Change> {
        let files = self.nodes.iter().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Dir { .. } => None,
        });
        let contents = files.flat_map(File::changes);
        let names = self.name_changes.iter().map(|change| change.change);
        let mut pending: Vec<Change> = contents.chain(names).collect();
        pending.sort_unstable();
        pending.dedup();
        pending
    }

    /// The state in which `kept` of what is pending has reached the disk. With `torn`, any sector may have or have not.
    pub(super) fn state(&self, kept: &HashSet<Change>, mut torn: Option<Dice>) -> State {
        let mut dirs: Vec<Option<BTreeMap<String, NodeId>>> = self
            .nodes
            .iter()
            .map(|node| match node {
                Node::Dir { durable, .. } => Some(durable.clone()),
                Node::File(_) => None,
            })
            .collect();
        for change in &self.name_changes {
            if kept.contains(&change.change) {
                set(dirs[change.dir].as_mut().unwrap(), &change.names);
            } else if self.names == Names::InOrder {
                break;
            }
        }
        let mut state = State::default();
        let mut reached = vec![(PathBuf::new(), ROOT)];
        while let Some((path, node)) = reached.pop() {
            match (&self.nodes[node], &dirs[node]) {
                (Node::File(file), _) => drop(state.files.insert(path, file.kept(kept, torn.as_mut()))),
                (Node::Dir { .. }, Some(names)) => {
                    reached.extend(names.iter().map(|(name, node)| (path.join(name), *node)));
                    state.dirs.push(path);
                }
                (Node::Dir { .. }, None) => unreachable!(),
            }
        }
        state.dirs.sort();
        state
    }
}

fn set(dir: &mut BTreeMap<String, NodeId>, names: &[(String, Option<NodeId>)]) {
    for (name, node) in names {
        match node {
            Some(node) => dir.insert(name.clone(), *node),
            None => dir.remove(name),
        };
    }
}

fn name_of(part: Component<'_>) -> &str {
    part.as_os_str().to_str().unwrap()
}

fn zeroes() -> Content {
    Arc::new([0; PAGE])
}

fn pages_of(path: &Path) -> Vec<(u64, Content)> {
    let bytes = std::fs::read(path).unwrap();
    let whole = bytes.chunks(PAGE).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    whole
        .map(|(number, bytes)| {
            let mut page = [0; PAGE];
            page[..bytes.len()].copy_from_slice(bytes);
            (number as u64, Arc::new(page))
        })
        .collect()
}

impl File {
    fn patch(&mut self, number: u64, inside: usize, change: Change, data: &[u8]) {
        let page = self.pages.entry(number).or_insert_with(|| Page { durable: zeroes(), versions: vec![] });
        let newest = page.versions.last().map_or(&page.durable, |version| &version.content);
        let mut content = **newest;
        content[inside..inside + data.len()].copy_from_slice(data);
        let touched = inside / SECTOR..(inside + data.len()).div_ceil(SECTOR);
        let sectors = touched.fold(0, |sectors, sector| sectors | 1 << sector);
        page.versions.push(Version { change, sectors, content: Arc::new(content) });
    }

    fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let pages = self.pages.values().flat_map(|page| page.versions.iter().map(|version| version.change));
        pages.chain(self.lengths.iter().map(|(change, _)| *change))
    }

    /// What is left of the file. A sector that was written holds what the page cache held then.
    fn kept(&self, kept: &HashSet<Change>, mut torn: Option<&mut Dice>) -> Left {
        let mut lengths = self.lengths.iter().filter(|(change, _)| kept.contains(change));
        let length = lengths.next_back().map_or(self.length, |(_, length)| *length);
        let mut pages = Vec::new();
        for (number, page) in &self.pages {
            let mut content = *page.durable;
            for version in &page.versions {
                for sector in (0..SECTORS).filter(|sector| version.sectors & 1 << sector != 0) {
                    let undone = torn.as_mut().is_some_and(|dice| dice.roll(4) == 0);
                    if kept.contains(&version.change) != undone {
                        let bytes = sector * SECTOR..(sector + 1) * SECTOR;
                        content[bytes.clone()].copy_from_slice(&version.content[bytes]);
                    }
                }
            }
            if content.iter().any(|byte| *byte != 0) {
                pages.push((*number, content));
            }
        }
        Left { length, pages }
    }
}

/// A file of a state.
#[derive(Debug, Hash)]
struct Left {
    length: u64,
    pages: Vec<(u64, [u8; PAGE])>,
}

/// What a power cut has left.
#[derive(Debug, Default)]
pub(super) struct State {
    dirs: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Left>,
}

impl State {
    /// Tells states apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.dirs, &self.files).hash(&mut hasher);
        hasher.finish()
    }

    /// Makes a directory of it.
    pub(super) fn write(&self, to: &Path) {
        for dir in &self.dirs {
            std::fs::create_dir_all(to.join(dir)).unwrap();
        }
        for (path, left) in &self.files {
            let file = std::fs::File::create(to.join(path)).unwrap();
            file.set_len(left.length).unwrap();
            for (number, page) in &left.pages {
                let at = number * PAGE as u64;
                let room = usize::try_from(left.length.saturating_sub(at)).unwrap().min(PAGE);
                file.write_all_at(&page[..room], at).unwrap();
            }
        }
    }
}
