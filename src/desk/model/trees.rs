//! A tree of the file as nodes to walk.

use super::MAX_DEPTH;
use super::flaw::{ModelError, ModelFlaw};
use super::place::{Object, Place};

/// A node in 8 bytes.
///
/// `link`: the index of the left child among the nodes of all trees (20 bits; the right one comes next), the feature
/// (6 bits), whether a missing value goes left, whether the node is a split. A leaf has itself as its left child.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    /// A smaller value goes left. A leaf's value.
    number: f32,
    link: u32,
}

const FEATURE: u32 = 20;
const MISSING_LEFT: u32 = 26;
const SPLIT: u32 = 27;

/// Trees that are walked at the same time.
const LANES: usize = 8;

/// Some trees in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// Where they begin. What is over repeats the first.
    pub roots: [u32; LANES],
    pub trees: u32,
    /// Of the deepest; a root alone has depth 0.
    pub depth: u32,
}

impl Group {
    /// The most nodes that a walk through it looks at.
    pub(super) fn cost(&self) -> u32 {
        LANES as u32 * (self.depth + 1)
    }
}

// What a node has room for.
const _: () =
    assert!(super::MAX_NODES <= 1 << FEATURE && super::MAX_FEATURES <= 1 << (MISSING_LEFT - FEATURE));

impl Node {
    /// A leaf that adds nothing.
    pub(super) const NOTHING: Self = Self { number: 0.0, link: 0 };

    fn leaf(at: usize, value: f32) -> Self {
        Self { number: value, link: at as u32 }
    }

    fn split(left: usize, feature: u32, missing_left: bool, condition: f32) -> Self {
        let link = left as u32 | feature << FEATURE | u32::from(missing_left) << MISSING_LEFT | 1 << SPLIT;
        Self { number: condition, link }
    }

    pub(super) fn number(self) -> f32 {
        self.number
    }

    pub(super) fn feature(self) -> usize {
        (self.link >> FEATURE & ((1 << (MISSING_LEFT - FEATURE)) - 1)) as usize
    }

    /// Where a value of the node's feature leads; from a leaf to itself. There is no branch to guess wrong.
    pub(super) fn next(self, value: f32) -> u32 {
        // A value that is missing is neither less nor more.
        let right =
            u32::from(value >= self.number) | (u32::from(value.is_nan()) & !(self.link >> MISSING_LEFT));
        (self.link & ((1 << FEATURE) - 1)) + (right & self.link >> SPLIT & 1)
    }
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    root: u32,
    depth: u32,
}

/// The trees that have been read.
#[derive(Debug, Default)]
pub(super) struct Forest {
    pub nodes: Vec<Node>,
    trees: Vec<Tree>,
    /// What the leaves can add up to.
    pub most: f64,
    /// The nodes that the file has, the deleted ones among them.
    told: usize,
}

/// The lists of a tree that say what its nodes are, each with an element for each node.
struct Lists<'j> {
    nodes: usize,
    left: (Place<'j>, Vec<i32>),
    right: (Place<'j>, Vec<i32>),
    feature: (Place<'j>, Vec<u32>),
    number: (Place<'j>, Vec<f32>),
    missing_left: (Place<'j>, Vec<u8>),
    kind: (Place<'j>, Vec<u8>),
}

impl Forest {
    pub(super) fn groups(&self) -> Vec<Group> {
        let group = |trees: &[Tree]| {
            let mut roots = [trees.first().map_or(0, |tree| tree.root); LANES];
            roots.iter_mut().zip(trees).for_each(|(root, tree)| *root = tree.root);
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            Group { roots, trees: trees.len() as u32, depth }
        };
        self.trees.chunks(LANES).map(group).collect()
    }

    /// Reads a tree. `weight` is what its leaves are multiplied by.
    pub(super) fn add(&mut self, tree: &Object<'_>, features: usize, weight: f32) -> Result<(), ModelError> {
        let lists = Lists::read(tree, super::MAX_NODES - self.told)?;
        self.told += lists.nodes;
        let begin = self.nodes.len();
        let mut highest: f32 = 0.0;
        // The nodes in the order in which they are to lie, level by level and a node's children side by side. Nodes that
        // pruning has cut off stay in the file: only what hangs together with the root is looked at.
        let mut order = vec![(0, 0)];
        let mut seen = vec![false; lists.nodes];
        let mut at = 0;
        while let Some(&(node, depth)) = order.get(at) {
            let here = begin + at;
            at += 1;
            let Some((left, right)) = lists.children(node)? else {
                let value = lists.finite(node)? * weight;
                highest = highest.max(value.abs());
                self.nodes.push(Node::leaf(here, value));
                continue;
            };
            if depth == MAX_DEPTH {
                let (found, most) = (depth as usize + 1, MAX_DEPTH as usize);
                let wrong = ModelFlaw::TooMany { what: "levels", found, most };
                return Err(lists.left.0.wrong_at(node, wrong));
            }
            lists.hang(node, left, right, &mut seen)?;
            let (feature, missing_left) = lists.split(node, features)?;
            let condition = lists.finite(node)?;
            self.nodes.push(Node::split(begin + order.len(), feature, missing_left, condition));
            order.extend([(left, depth + 1), (right, depth + 1)]);
        }
        self.most += f64::from(highest);
        // Level by level, the last is the deepest.
        let depth = order.last().map_or(0, |&(_, depth)| depth);
        self.trees.push(Tree { root: begin as u32, depth });
        Ok(())
    }
}

impl<'j> Lists<'j> {
    fn read(tree: &Object<'j>, most: usize) -> Result<Self, ModelError> {
        let parameters = tree.get("tree_param")?.object()?;
        if let Some(size) = parameters.find("size_leaf_vector") {
            let outputs = size.count()?;
            if outputs > 1 {
                return Err(size.wrong(ModelFlaw::Outputs(outputs)));
            }
        }
        let count = parameters.get("num_nodes")?;
        let nodes = count.count()? as usize;
        if nodes == 0 {
            return Err(count.wrong(ModelFlaw::Kind("at least 1")));
        }
        if nodes > most {
            // Of all trees up to here.
            let found = super::MAX_NODES - most + nodes;
            let many = ModelFlaw::TooMany { what: "nodes in all", found, most: super::MAX_NODES };
            return Err(count.wrong(many));
        }
        let list = |name| tree.get(name);
        let whole = "a whole number of 32 bits";
        let flag = "0 or 1";
        let (left, right) = (list("left_children")?, list("right_children")?);
        let (feature, number) = (list("split_indices")?, list("split_conditions")?);
        let (missing_left, kind) = (list("default_left")?, list("split_type")?);
        Ok(Self {
            nodes,
            left: (read(left, whole, nodes)?),
            right: (read(right, whole, nodes)?),
            feature: read(feature, "the index of a feature", nodes)?,
            number: read(number, "a finite number of 32 bits", nodes)?,
            missing_left: read(missing_left, flag, nodes)?,
            kind: read(kind, flag, nodes)?,
        })
    }

    /// Both children; `None` of a leaf.
    fn children(&self, node: usize) -> Result<Option<(usize, usize)>, ModelError> {
        let child = |(place, children): &(Place<'_>, Vec<i32>)| {
            let child = children.get(node).copied().unwrap_or(-1);
            match usize::try_from(child) {
                Ok(index) if index < self.nodes => Ok(Some(index)),
                Err(_) if child == -1 => Ok(None),
                _ => Err(place.wrong_at(node, ModelFlaw::NoNode { child, nodes: self.nodes })),
            }
        };
        match (child(&self.left)?, child(&self.right)?) {
            (Some(left), Some(right)) => Ok(Some((left, right))),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err(self.left.0.wrong_at(node, ModelFlaw::NoNode { child: -1, nodes: self.nodes }))
            }
            (Some(_), None) => {
                Err(self.right.0.wrong_at(node, ModelFlaw::NoNode { child: -1, nodes: self.nodes }))
            }
        }
    }

    /// Notes that both children have a parent now. One that has two, or the root, would be a circle or no tree.
    fn hang(&self, node: usize, left: usize, right: usize, seen: &mut [bool]) -> Result<(), ModelError> {
        for (child, place) in [(left, &self.left.0), (right, &self.right.0)] {
            match seen.get_mut(child) {
                Some(seen) if !*seen && child != 0 => *seen = true,
                _ => return Err(place.wrong_at(node, ModelFlaw::Shared(child))),
            }
        }
        Ok(())
    }

    /// The feature that a node looks at, and whether a missing value goes left.
    fn split(&self, node: usize, features: usize) -> Result<(u32, bool), ModelError> {
        let flag = |(place, flags): &(Place<'_>, Vec<u8>)| match flags.get(node) {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(place.wrong_at(node, ModelFlaw::Kind("0 or 1"))),
        };
        if flag(&self.kind)? {
            return Err(self.kind.0.wrong_at(node, ModelFlaw::Categorical));
        }
        let feature = self.feature.1.get(node).copied().unwrap_or(u32::MAX);
        if feature as usize >= features {
            return Err(self.feature.0.wrong_at(node, ModelFlaw::NoFeature { feature, features }));
        }
        Ok((feature, flag(&self.missing_left)?))
    }

    /// A split's condition or a leaf's value.
    fn finite(&self, node: usize) -> Result<f32, ModelError> {
        let number = self.number.1.get(node).copied().filter(|number| number.is_finite());
        number.ok_or_else(|| self.number.0.wrong_at(node, ModelFlaw::Kind("a finite number of 32 bits")))
    }
}

fn read<'j, T: serde::Deserialize<'j>>(
    place: Place<'j>,
    must_be: &'static str,
    nodes: usize,
) -> Result<(Place<'j>, Vec<T>), ModelError> {
    let list = place.one_for_each(must_be, nodes, "nodes")?;
    Ok((place, list))
}
