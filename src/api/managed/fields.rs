//! Sets of fields, and their form in JSON: `{"f:spec":{"f:replicas":{},"k:{\"name\":\"web\"}":{".":{},"f:image":{}}}}`.
//!
//! **Source**: `sigs.k8s.io/structured-merge-diff/v6/fieldpath/{element,set,serialize,serialize-pe}.go`.

use crate::base::ordered::{self, CollectOrdered as _};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// One step to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// A field of an object, or a key of a map.
    Field(String),
    /// The item of a list that has these values in its key fields.
    Key(Map<String, Value>),
    /// The item of a set that is this value.
    Item(Value),
    /// The item at a place.
    Index(u64),
}

impl Element {
    /// The step as it stands in JSON.
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(key) => format!("k:{}", Value::Object(key.clone())),
            Self::Item(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (sort, rest) = text.split_once(':')?;
        Some(match sort {
            "f" => Self::Field(rest.to_owned()),
            "k" => Self::Key(serde_json::from_slice(rest.as_bytes()).ok()?),
            "v" => Self::Item(serde_json::from_slice(rest.as_bytes()).ok()?),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// The step as people read it: `.spec`, `[name="web"]`.
    fn shown(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Key(key) => {
                let parts: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", parts.join(","))
            }
            Self::Item(value) => format!("[={value}]"),
            Self::Index(index) => format!("[{index}]"),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    /// Any order will do, as long as it is one: lists of tens of thousands of items are looked up by it.
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |element: &Self| match element {
            Self::Field(_) => 0,
            Self::Index(_) => 1,
            Self::Key(_) => 2,
            Self::Item(_) => 3,
        };
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => order_of_keys(a, b),
            (Self::Item(a), Self::Item(b)) => order(a, b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

fn order_of_keys(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    let pairs = a.iter().zip(b).map(|((name_a, a), (name_b, b))| name_a.cmp(name_b).then_with(|| order(a, b)));
    pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(x), Value::Number(y)) if x.is_i64() && y.is_i64() => x.as_i64().cmp(&y.as_i64()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        // Rare enough to be compared as they are written.
        _ => a.to_string().cmp(&b.to_string()),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    is_member: bool,
    below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

/// A set of fields, as a tree of the steps to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(ordered::Map<Element, Node>);

impl FieldSet {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field of the top.
    pub(super) fn insert(&mut self, element: Element) {
        self.0.entry(element).or_default().is_member = true;
    }

    /// Adds what is below a field of the top; nothing, if that is empty.
    pub(super) fn insert_below(&mut self, element: Element, below: Self) {
        if !below.is_empty() {
            let node = self.0.entry(element).or_default();
            node.below = std::mem::take(&mut node.below).union(&below);
        }
    }

    /// What is below a field of the top.
    pub(super) fn child(&self, element: &Element) -> Option<&Self> {
        self.0.get(element).map(|node| &node.below)
    }

    pub(super) fn child_mut(&mut self, element: &Element) -> Option<&mut Self> {
        self.0.get_mut(element).map(|node| &mut node.below)
    }

    /// Whether a field of the top is in it.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.0.get(element).is_some_and(|node| node.is_member)
    }

    /// Whether a field of the top or something below it is in it.
    pub(super) fn touches(&self, element: &Element) -> bool {
        self.0.contains_key(element)
    }

    /// Takes a field of the top out, and all below it.
    pub(super) fn remove(&mut self, element: &Element) {
        self.0.remove(element);
    }

    /// Takes a field of the top out, and leaves what is below it.
    pub(super) fn disown(&mut self, element: &Element) {
        if let Some(node) = self.0.get_mut(element) {
            node.is_member = false;
            if node.is_empty() {
                self.0.remove(element);
            }
        }
    }

    /// Takes all out but these fields of the top, and what is below them.
    pub(super) fn keep_only(&mut self, kept: &[Element]) {
        self.0.retain(|at, _| kept.contains(at));
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (element, node) in &other.0 {
            let own = self.0.entry(element.clone()).or_default();
            own.is_member |= node.is_member;
            own.below = std::mem::take(&mut own.below).union(&node.below);
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(element, node)| {
            let theirs = other.0.get(element)?;
            let both =
                Node { is_member: node.is_member && theirs.is_member, below: node.below.intersection(&theirs.below) };
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self(both.collect())
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let left = self.0.iter().filter_map(|(element, node)| {
            let left = match other.0.get(element) {
                None => node.clone(),
                Some(theirs) => {
                    Node { is_member: node.is_member && !theirs.is_member, below: node.below.difference(&theirs.below) }
                }
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self(left.collect())
    }

    /// Every field in it, as people read it.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.add_paths("", &mut paths);
        paths
    }

    fn add_paths(&self, above: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.0 {
            let path = format!("{above}{}", element.shown());
            if node.is_member {
                paths.push(path.clone());
            }
            node.below.add_paths(&path, paths);
        }
    }

    /// The set in JSON.
    pub fn write(&self) -> Value {
        let entry = |(element, node): (&Element, &Node)| {
            let mut below = node.below.write();
            if node.is_member && !node.below.is_empty() {
                below["."] = json!({});
            }
            (element.text(), below)
        };
        Value::Object(self.0.iter().map(entry).collect_ordered())
    }

    /// Reads a set from JSON; `None`: it is none.
    pub fn read(json: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (text, below) in json.as_object()? {
            if text == "." {
                continue;
            }
            let below_set = Self::read(below)?;
            let is_member = below_set.is_empty() || below.get(".").is_some();
            set.0.insert(Element::read(text)?, Node { is_member, below: below_set });
        }
        Some(set)
    }
}
