//! Values by topic filter, found by the names that the filters match.
//!
//! A radix trie over whole levels: a node is a run of levels in which no filter ends and no two filters part,
//! so that a filter adds at most two nodes however many levels it has, and a long common beginning such as
//! `cs/1/main/customer` is one comparison. Literal children of all nodes are in one hash table by (parent,
//! level), which makes a node with a million children as good as one with two. Nodes refer to each other by
//! number: nothing here recurses, neither in matching nor in dropping.
//!
//! Matching visits a node at most once, so a name costs at most the filters that are there, whatever mixture
//! of `+` and `#` a hostile client subscribes to.

use super::split_level;
use super::storage::{Arena, Tables};
use ahash::RandomState;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher};

const NONE: u32 = u32::MAX;

/// A map from topic filters to `V` that yields the values of all filters that match a name.
///
/// Filters are what [`parse_filter`](super::parse_filter) returned, without `$share`; they may be without
/// wildcards.
#[derive(Debug)]
pub struct WildcardTrie<V> {
    nodes: Arena<Node<V>>,
    root: u32,
    /// Literal children.
    edges: Tables<Edge>,
    hasher: RandomState,
    len: usize,
}

#[derive(Debug)]
struct Node<V> {
    /// One or more levels joined by `/`; `+` among them stands for any level. Empty at the root, where it does
    /// not count.
    label: Box<str>,
    /// No `+` in the label: it can be compared in one go.
    literal: bool,
    parent: u32,
    /// The child whose label starts with `+`.
    plus: u32,
    /// How many other children there are, and the exclusive or of their numbers: that is all it takes to
    /// know the last one when it is to be joined with this node.
    literals: u32,
    literals_xor: u32,
    /// The filter that ends with this node's label.
    here: Option<V>,
    /// The filter that ends with `/#` after it.
    below: Option<V>,
}

/// Kept with half of the hash, so that neither growing nor a collision needs to read the node's strings.
#[derive(Debug, Clone, Copy)]
struct Edge {
    hash: u32,
    child: u32,
}

impl Edge {
    fn table_hash(hash: u32) -> u64 {
        // Spreads 32 bits over 64: the table takes its tag from the top and its place from the bottom.
        u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what a hash table calls")]
    fn rehash(&self) -> u64 {
        Edge::table_hash(self.hash)
    }
}

/// The levels of a name or filter that are still to be followed; `None` at its end, since a level may be empty.
#[derive(Clone, Copy)]
struct Rest<'a>(Option<&'a str>);

#[derive(Clone, Copy)]
enum Slot {
    Here,
    Below,
}

impl<V> Node<V> {
    fn new(label: &str, parent: u32) -> Node<V> {
        Node {
            label: label.into(),
            literal: is_literal(label),
            parent,
            plus: NONE,
            literals: 0,
            literals_xor: 0,
            here: None,
            below: None,
        }
    }

    fn relabel(&mut self, label: Box<str>) {
        self.literal = is_literal(&label);
        self.label = label;
    }

    fn slot(&mut self, slot: Slot) -> &mut Option<V> {
        match slot {
            Slot::Here => &mut self.here,
            Slot::Below => &mut self.below,
        }
    }

    /// Whether `level` is the first of the label.
    fn starts_with(&self, level: &str) -> bool {
        self.label.strip_prefix(level).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Takes the levels that the label matches off a name. `None` when it does not match.
    #[inline]
    fn consume<'n>(&self, name: &'n str) -> Option<Rest<'n>> {
        if self.literal {
            return strip_levels(name, &self.label);
        }
        let mut rest = Some(name);
        for wanted in self.label.split('/') {
            let (given, after) = split_level(rest?);
            if wanted != "+" && wanted != given {
                return None;
            }
            rest = after;
        }
        Some(Rest(rest))
    }
}

impl<V> Default for WildcardTrie<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> WildcardTrie<V> {
    /// An empty trie; it allocates with its first filter.
    pub fn new() -> Self {
        WildcardTrie {
            nodes: Arena::new(),
            root: NONE,
            edges: Tables::new(),
            hasher: RandomState::new(),
            len: 0,
        }
    }

    /// How many filters have a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no filter has a value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `filter`, made by `value` when there is none.
    pub fn get_or_insert_with(&mut self, filter: &str, value: impl FnOnce() -> V) -> &mut V {
        let (prefix, slot) = split_filter(filter);
        if self.root == NONE {
            self.root = self.nodes.insert(Node::new("", NONE));
        }
        let (mut at, mut rest) = (self.root, prefix);
        while let Some(levels) = rest {
            (at, rest) = match self.child(at, split_level(levels).0) {
                None => (self.attach(at, levels), None),
                Some(child) => {
                    let (shared, after) = shared_levels(&self.node(child).label, levels);
                    (self.part(child, shared), after)
                }
            };
        }
        if self.node_mut(at).slot(slot).is_none() {
            self.len += 1;
        }
        self.node_mut(at).slot(slot).get_or_insert_with(value)
    }

    /// The value of exactly this filter.
    pub fn get(&self, filter: &str) -> Option<&V> {
        let (at, slot) = self.find(filter)?;
        match slot {
            Slot::Here => self.node(at).here.as_ref(),
            Slot::Below => self.node(at).below.as_ref(),
        }
    }

    /// The value of exactly this filter, to be changed.
    pub fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        let (at, slot) = self.find(filter)?;
        self.node_mut(at).slot(slot).as_mut()
    }

    /// Takes the value of exactly this filter out, and with it every node that only led to it.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        let (at, slot) = self.find(filter)?;
        let value = self.node_mut(at).slot(slot).take()?;
        self.len -= 1;
        if self.len == 0 {
            (self.nodes, self.root, self.edges) = (Arena::new(), NONE, Tables::new());
        } else {
            self.prune(at);
        }
        Some(value)
    }

    /// Calls `f` with the value of every filter that matches the topic `name`, each once. The order depends on
    /// the filters alone.
    #[inline]
    pub fn for_each_match<'a>(&'a self, name: &str, mut f: impl FnMut(&'a V)) {
        if self.root == NONE {
            return;
        }
        // Wildcards in the first level, which hang on the root, do not match `$` names [MQTT-4.7.2-1].
        let hidden = name.starts_with('$');
        // At most one `+` branch for each node on the way down.
        let mut branches: SmallVec<[(u32, &str); 16]> = SmallVec::new();
        let mut next = Some((self.root, Rest(Some(name))));
        while let Some((at, Rest(rest))) = next.take() {
            let node = self.node(at);
            let wild = !(hidden && at == self.root);
            if wild && let Some(value) = &node.below {
                f(value);
            }
            match rest {
                None => node.here.iter().for_each(&mut f),
                Some(rest) => {
                    if wild && node.plus != NONE {
                        branches.push((node.plus, rest));
                    }
                    if node.literals > 0
                        && let Some(child) = self.literal_child(at, split_level(rest).0)
                        && let Some(rest) = self.node(child).consume(rest)
                    {
                        next = Some((child, rest));
                    }
                }
            }
            while next.is_none()
                && let Some((plus, rest)) = branches.pop()
            {
                next = self.node(plus).consume(rest).map(|rest| (plus, rest));
            }
        }
    }

    #[inline]
    #[expect(clippy::expect_used, reason = "nodes name only nodes that are there; else this file is wrong")]
    fn node(&self, at: u32) -> &Node<V> {
        self.nodes.get(at).expect("a node that another one names")
    }

    #[expect(clippy::expect_used, reason = "as above")]
    fn node_mut(&mut self, at: u32) -> &mut Node<V> {
        self.nodes.get_mut(at).expect("a node that another one names")
    }

    fn edge_hash(&self, parent: u32, level: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(level.as_bytes());
        hasher.finish() as u32
    }

    #[inline]
    fn literal_child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = self.edge_hash(parent, level);
        let is_it = |edge: &Edge| {
            edge.hash == hash && {
                let child = self.node(edge.child);
                child.parent == parent && child.starts_with(level)
            }
        };
        self.edges.find(Edge::table_hash(hash), is_it).map(|edge| edge.child)
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        if level == "+" {
            let plus = self.node(parent).plus;
            (plus != NONE).then_some(plus)
        } else {
            self.literal_child(parent, level)
        }
    }

    fn find(&self, filter: &str) -> Option<(u32, Slot)> {
        let (mut rest, slot) = split_filter(filter);
        if self.root == NONE {
            return None;
        }
        let mut at = self.root;
        while let Some(levels) = rest {
            at = self.child(at, split_level(levels).0)?;
            Rest(rest) = strip_levels(levels, &self.node(at).label)?;
        }
        Some((at, slot))
    }

    /// A new leaf under `parent`.
    fn attach(&mut self, parent: u32, label: &str) -> u32 {
        let child = self.nodes.insert(Node::new(label, parent));
        self.link(child);
        child
    }

    /// The node that ends after the first `shared` bytes of the label of `child`: itself, or a new one above.
    fn part(&mut self, child: u32, shared: usize) -> u32 {
        let Some((upper, lower)) = split_at_separator(&self.node(child).label, shared) else { return child };
        let (upper, lower): (Box<str>, Box<str>) = (upper.into(), lower.into());
        self.unlink(child);
        let above = self.attach(self.node(child).parent, &upper);
        let node = self.node_mut(child);
        node.relabel(lower);
        node.parent = above;
        self.link(child);
        above
    }

    /// Removes nodes without a purpose, from `at` upwards.
    fn prune(&mut self, mut at: u32) {
        while at != self.root {
            let node = self.node(at);
            if node.here.is_some() || node.below.is_some() {
                return;
            }
            let parent = node.parent;
            match (node.literals, node.plus) {
                (0, NONE) => {
                    self.unlink(at);
                    self.nodes.remove(at);
                    at = parent;
                }
                (1, NONE) => return self.join(at, self.node(at).literals_xor),
                (0, plus) => return self.join(at, plus),
                _ => return,
            }
        }
    }

    /// Takes `at` out from between its parent and its only child, which gets its label.
    fn join(&mut self, at: u32, child: u32) {
        self.unlink(at);
        self.unlink(child);
        let Some(above) = self.nodes.remove(at) else { return };
        let node = self.node_mut(child);
        node.relabel([&*above.label, &*node.label].join("/").into());
        node.parent = above.parent;
        self.link(child);
    }

    /// Makes `child` known to its parent under the first level of its label.
    fn link(&mut self, child: u32) {
        let node = self.node(child);
        let (parent, level) = (node.parent, split_level(&node.label).0);
        if level == "+" {
            self.node_mut(parent).plus = child;
            return;
        }
        let hash = self.edge_hash(parent, level);
        let key = Edge::table_hash(hash);
        self.edges.table(key).insert_unique(key, Edge { hash, child }, Edge::rehash);
        let parent = self.node_mut(parent);
        parent.literals += 1;
        parent.literals_xor ^= child;
    }

    fn unlink(&mut self, child: u32) {
        let node = self.node(child);
        let (parent, level) = (node.parent, split_level(&node.label).0);
        if level == "+" {
            self.node_mut(parent).plus = NONE;
            return;
        }
        let key = Edge::table_hash(self.edge_hash(parent, level));
        if let Ok(edge) = self.edges.table(key).find_entry(key, |edge| edge.child == child) {
            edge.remove();
        }
        self.edges.shrink(key, Edge::rehash);
        let parent = self.node_mut(parent);
        parent.literals -= 1;
        parent.literals_xor ^= child;
    }
}

fn is_literal(label: &str) -> bool {
    !label.split('/').any(|level| level == "+")
}

/// The levels before a final `#`, and whether there is one.
fn split_filter(filter: &str) -> (Option<&str>, Slot) {
    match filter.strip_suffix('#') {
        Some("") => (None, Slot::Below),
        Some(prefix) => (Some(prefix.strip_suffix('/').unwrap_or(prefix)), Slot::Below),
        None => (Some(filter), Slot::Here),
    }
}

/// What follows `label` in `text`, when `text` starts with just these levels.
#[inline]
fn strip_levels<'a>(text: &'a str, label: &str) -> Option<Rest<'a>> {
    let rest = text.strip_prefix(label)?;
    if rest.is_empty() { Some(Rest(None)) } else { rest.strip_prefix('/').map(|rest| Rest(Some(rest))) }
}

/// How many bytes of `label` are levels that `levels` starts with too, and what follows them there.
fn shared_levels<'a>(label: &str, levels: &'a str) -> (usize, Option<&'a str>) {
    let mut shared = None;
    let (mut mine, mut theirs) = (Some(label), Some(levels));
    while let (Some(a), Some(b)) = (mine, theirs) {
        let ((a, mine_rest), (b, theirs_rest)) = (split_level(a), split_level(b));
        if a != b {
            break;
        }
        shared = Some(shared.map_or(0, |bytes| bytes + 1) + a.len());
        (mine, theirs) = (mine_rest, theirs_rest);
    }
    (shared.unwrap_or(0), theirs)
}

/// The label before and after the separator at `at`; `None` when it ends there.
fn split_at_separator(label: &str, at: usize) -> Option<(&str, &str)> {
    let (upper, lower) = label.split_at_checked(at)?;
    Some((upper, lower.strip_prefix('/')?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::matching::{arbitrary, naive};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    impl<V> WildcardTrie<V> {
        /// Everything that the comments on the fields promise, and that no node is without a purpose.
        fn check(&self) {
            if self.root == NONE {
                assert_eq!((self.nodes.len(), self.edges.len(), self.len), (0, 0, 0));
                return;
            }
            let (mut values, mut literals, mut branches) = (0, 0, 0);
            for (at, node) in self.nodes.iter() {
                values += usize::from(node.here.is_some()) + usize::from(node.below.is_some());
                let children: Vec<_> =
                    self.nodes.iter().filter(|(_, child)| child.parent == at).map(|(at, _)| at).collect();
                let plus: Vec<_> =
                    children.iter().filter(|&&child| split_level(&self.node(child).label).0 == "+").collect();
                assert_eq!(node.plus, plus.first().map_or(NONE, |&&child| child));
                assert!(plus.len() <= 1);
                assert_eq!(node.literals as usize, children.len() - plus.len());
                let xor =
                    children.iter().filter(|&&child| child != node.plus).fold(0, |xor, child| xor ^ child);
                assert_eq!(node.literals_xor, xor);
                literals += node.literals as usize;
                branches += children.len();
                if at == self.root {
                    assert_eq!((node.parent, &*node.label), (NONE, ""));
                    continue;
                }
                assert_eq!(node.literal, is_literal(&node.label));
                assert_eq!(self.child(node.parent, split_level(&node.label).0), Some(at));
                assert!(
                    node.here.is_some() || node.below.is_some() || children.len() > 1,
                    "node {:?} has no purpose",
                    node.label
                );
            }
            assert_eq!(values, self.len);
            assert_eq!(literals, self.edges.len());
            assert_eq!(branches + 1, self.nodes.len());
            assert!(self.nodes.len() <= 2 * self.len + 1, "at most two nodes a filter");
        }

        fn matched(&self, name: &str) -> Vec<&V> {
            let mut found = Vec::new();
            self.for_each_match(name, |value| found.push(value));
            found
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Insert(String),
        Remove(String),
        Match(String),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => arbitrary::filter().prop_map(Act::Insert),
            2 => arbitrary::filter().prop_map(Act::Remove),
            3 => arbitrary::name().prop_map(Act::Match),
        ]
    }

    proptest! {
        #[test]
        fn as_a_set_of_filters_would(acts in prop::collection::vec(act(), 1..120)) {
            let mut trie = WildcardTrie::new();
            let mut set: BTreeMap<String, usize> = BTreeMap::new();
            for (value, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Insert(filter) => {
                        let known = set.get(&filter).copied();
                        prop_assert_eq!(trie.get_mut(&filter).copied(), known);
                        prop_assert_eq!(*trie.get_or_insert_with(&filter, || value), known.unwrap_or(value));
                        prop_assert_eq!(trie.get(&filter).copied(), Some(known.unwrap_or(value)));
                        set.entry(filter).or_insert(value);
                    }
                    Act::Remove(filter) => prop_assert_eq!(trie.remove(&filter), set.remove(&filter)),
                    Act::Match(name) => {
                        let found = trie.matched(&name);
                        let once: BTreeSet<_> = found.iter().copied().copied().collect();
                        prop_assert_eq!(found.len(), once.len(), "each once");
                        let wanted = set.iter().filter(|(filter, _)| naive::matches(filter, &name));
                        prop_assert_eq!(once, wanted.map(|(_, &value)| value).collect(), "{}", name);
                    }
                }
                prop_assert_eq!(trie.len(), set.len());
                trie.check();
            }
            for (filter, value) in set {
                prop_assert_eq!(trie.remove(&filter), Some(value));
                trie.check();
            }
            prop_assert!(trie.is_empty() && trie.root == NONE);
        }
    }

    #[test]
    fn a_filter_as_deep_as_the_wire_allows() {
        let name = "/".repeat(65_535);
        let mut trie = WildcardTrie::new();
        for filter in [name.clone(), "+/#".to_owned(), "+/".repeat(32_767) + "+", "/".repeat(40_000)] {
            trie.get_or_insert_with(&filter, || filter.len());
        }
        trie.check();
        assert_eq!(trie.matched(&name).len(), 2);
        assert_eq!(trie.matched(&"/".repeat(32_767)), [&3, &65_535]);
        for filter in ["/".repeat(40_000), "+/#".into(), name, "+/".repeat(32_767) + "+"] {
            assert!(trie.remove(&filter).is_some());
            trie.check();
        }
        assert!(trie.is_empty());
    }
}
