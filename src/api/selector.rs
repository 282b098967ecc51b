//! Label and field selectors: parsed, matched, printed.
//!
//! Called by everything that picks objects: the store's reads and watches, controllers, Services. Values are plain data; a
//! selector that was made is valid, so matching cannot fail.
//!
//! **Source**: `k8s.io/apimachinery/pkg/{labels,fields}/selector.go`, `pkg/apis/meta/v1/helpers.go`, v1.37.

use super::{field::BadValue, names};
use crate::base::ordered::{Map, SortList as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use std::{borrow::Borrow, collections::BTreeMap, fmt};

/// Names with values: labels, or fields.
pub trait Named {
    /// The value of a name, if it has one.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Named for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<K: Borrow<str> + Ord> Named for Map<K, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// An object's selectable fields: path → value.
pub type Fields<'a> = Map<&'a str, String>;

/// Why a selector is not one. `Display` is Kubernetes' own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is one of the values.
    In,
    /// The label is not one of the values, or is absent.
    NotIn,
    /// `=`: the label has this value.
    Equals,
    /// `==`: the label has this value. Kept apart from `=` only because it prints as it was written.
    DoubleEquals,
    /// `!=`: the label has another value, or is absent.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a greater whole number.
    GreaterThan,
    /// The label is a lesser whole number.
    LessThan,
}

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

/// A label selector: all its requirements must hold. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    matches_nothing: bool,
}

impl Requirement {
    /// A requirement, if key, operator and values fit each other.
    ///
    /// Source: `NewRequirement`.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errs = Vec::new();
        errs.extend(key_error(key, "key"));
        let list = || BadValue::of(&values).0;
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => errs.push(format!(
                "values: Invalid value: {}: for 'in', 'notin' operators, values set can't be empty",
                list()
            )),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => errs.push(format!(
                "values: Invalid value: {}: exact-match compatibility requires one single value",
                list()
            )),
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => errs.push(format!(
                "values: Invalid value: {}: values set must be empty for exists and does not exist",
                list()
            )),
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    let why = "for 'Gt', 'Lt' operators, exactly one value is required";
                    errs.push(format!("values: Invalid value: {}: {why}", list()));
                }
                for (i, v) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errs.push(format!("values[{i}]: Invalid value: {v:?}: {why}"));
                }
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                errs.push(format!("values[{i}][{key}]: Invalid value: {value:?}: {}", wrong.join("; ")));
            }
        }
        match &errs[..] {
            [] => Ok(Self { key: key.to_owned(), operator, values }),
            [one] => Err(SelectorError(one.clone())),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    /// The label.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How the label relates to the values.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let listed = || label.is_some_and(|l| self.values.iter().any(|v| v == l));
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => listed(),
            Operator::NotIn | Operator::NotEquals => !listed(),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compared(label).is_some_and(|(l, v)| l > v),
            Operator::LessThan => self.compared(label).is_some_and(|(l, v)| l < v),
        }
    }

    fn compared(&self, label: Option<&str>) -> Option<(i64, i64)> {
        Some((label?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = || {
            let mut sorted: Vec<&str> = self.values.iter().map(String::as_str).collect();
            sorted.sort_list();
            sorted.join(",")
        };
        let key = &self.key;
        match self.operator {
            Operator::In => write!(f, "{key} in ({})", values()),
            Operator::NotIn => write!(f, "{key} notin ({})", values()),
            Operator::Equals => write!(f, "{key}={}", values()),
            Operator::DoubleEquals => write!(f, "{key}=={}", values()),
            Operator::NotEquals => write!(f, "{key}!={}", values()),
            Operator::GreaterThan => write!(f, "{key}>{}", values()),
            Operator::LessThan => write!(f, "{key}<{}", values()),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

impl LabelSelector {
    /// The selector that matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The selector that matches no object. It prints as nothing, like [`LabelSelector::everything`].
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), matches_nothing: true }
    }

    /// The selector with these requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_list_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, matches_nothing: false }
    }

    /// Reads query text, e.g. `a=b,c!=d,e in (x,y),f notin (z),g,!h`. Empty text is everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser::new(text).selector().map(Self::new)
    }

    /// Reads the selector of an API object. An empty one matches everything; where the API may leave a selector out, an absent
    /// one is [`LabelSelector::nothing`].
    pub fn from_api(selector: &ApiSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// The selector that wants each of these labels, as in a Service; an empty map matches everything.
    ///
    /// Values are not checked: what came from an object has been validated.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self { requirements: labels.iter().map(equals).collect(), matches_nothing: false }
    }

    /// Whether an object with these labels is picked.
    pub fn matches(&self, labels: &impl Named) -> bool {
        !self.matches_nothing && self.requirements.iter().all(|r| r.matches(labels.value(&r.key)))
    }

    /// Whether every object is picked.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.matches_nothing
    }

    /// What must hold, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.requirements)
    }
}

fn join(f: &mut fmt::Formatter<'_>, terms: &[impl fmt::Display]) -> fmt::Result {
    for (i, term) in terms.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        term.fmt(f)?;
    }
    Ok(())
}

fn key_error(key: &str, path: &str) -> Option<String> {
    let wrong = names::qualified_name(key);
    (!wrong.is_empty()).then(|| format!("{path}: Invalid value: {key:?}: {}", wrong.join("; ")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Open,
    Close,
    Comma,
    Bang,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Identifier,
    /// Symbols that are no operator.
    Unknown,
}

const SYMBOLS: &[u8] = b"=!(),<>";
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        "(" => Token::Open,
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Bang,
        "=" => Token::Equals,
        "==" => Token::DoubleEquals,
        "!=" => Token::NotEquals,
        ">" => Token::Greater,
        "<" => Token::Less,
        _ => return None,
    })
}

/// Cuts query text into tokens; the last one is [`Token::End`].
fn scan(text: &str) -> Vec<(Token, String)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(&first) = rest.as_bytes().first() else { break };
        let (token, len) = if SYMBOLS.contains(&first) {
            scan_symbol(rest)
        } else {
            let is_end = |c: char| c.is_ascii() && (SYMBOLS.contains(&(c as u8)) || " \t\r\n".contains(c));
            let len = rest.find(is_end).unwrap_or(rest.len());
            let token = match &rest[..len] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            (token, len)
        };
        let literal = match token {
            Token::Unknown => format!("error expected: keyword found '{}'", &rest[..len]),
            _ => rest[..len].to_owned(),
        };
        tokens.push((token, literal));
        rest = &rest[len..];
    }
    tokens.push((Token::End, String::new()));
    tokens
}

/// The longest operator that the text starts with.
fn scan_symbol(text: &str) -> (Token, usize) {
    let two = text.get(..2).and_then(symbol).map(|t| (t, 2));
    let one = || text.get(..1).and_then(symbol).map(|t| (t, 1));
    two.or_else(one).unwrap_or((Token::Unknown, 1))
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    fn new(text: &str) -> Self {
        Self { tokens: scan(text), at: 0 }
    }

    /// The next token where a key or value may stand: there `in` and `notin` are plain words. Past the end is the end.
    fn peek(&self) -> (Token, &str) {
        let (token, literal) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        let token = if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { *token };
        (token, literal)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, literal) = self.peek();
        let item = (token, literal.to_owned());
        self.at += 1;
        item
    }

    fn next_operator(&mut self) -> (Token, String) {
        let item = self.tokens[self.at.min(self.tokens.len() - 1)].clone();
        self.at += 1;
        item
    }

    fn selector(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Bang, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, found) => return unexpected(found, "!, identifier, or 'end of string'"),
            }
            let requirement =
                self.requirement().map_err(|err| SelectorError(format!("unable to parse requirement: {err}")))?;
            requirements.push(requirement);
            match self.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek() {
                    (Token::Identifier | Token::Bang, _) => {}
                    (_, found) => return unexpected(found, "identifier after ','"),
                },
                (_, found) => return unexpected(&found, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next();
        let is_negated = token == Token::Bang;
        if is_negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return unexpected(&key, "identifier");
        }
        // The parser of a query has no field path, and Kubernetes prints that as Go prints nothing.
        if let Some(err) = key_error(&key, "<nil>") {
            return Err(SelectorError(err));
        }
        if is_negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort_list();
        values.dedup();
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        Ok(match self.next_operator() {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return unexpected(&found, OPERATORS),
        })
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, value) => Ok(value),
            (_, found) => unexpected(&found, "identifier"),
        }
    }

    /// `(x,y)`. Nothing between commas or parentheses is the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            (Token::Open, _) => {}
            (_, found) => return Err(SelectorError(format!("found '{found}' expected: '('"))),
        }
        match self.peek() {
            (Token::Identifier | Token::Comma | Token::Close, _) => {}
            (_, found) => return unexpected(found, "',', ')' or identifier"),
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek() {
                (Token::Identifier, _) => self.next().1,
                (Token::Comma | Token::Close, _) => String::new(),
                (_, found) => return unexpected(found, "',', or identifier"),
            };
            values.push(value);
            match self.next() {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(values),
                (_, found) => return unexpected(&found, "',' or ')'"),
            }
        }
    }
}

fn unexpected<T>(found: &str, expected: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{found}', expected: {expected}")))
}

/// One condition of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    field: String,
    is_equal: bool,
    value: String,
}

/// A field selector: all its conditions must hold. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// The selector that matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The selector that wants one field to have one value.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self { terms: vec![FieldTerm { field: field.into(), is_equal: true, value: value.into() }] }
    }

    /// Reads query text, e.g. `a=b,c!=d`. In values, `\`, `,` and `=` are written after a `\`. Empty text is everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_list();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            let (field, is_equal, value) = split_term(part)
                .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            terms.push(FieldTerm { field: field.to_owned(), is_equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// Whether an object with these fields is picked. A field that the object does not have counts as empty.
    pub fn matches(&self, fields: &impl Named) -> bool {
        self.terms.iter().all(|t| {
            let value = fields.value(&t.field).unwrap_or_default();
            (value == t.value) == t.is_equal
        })
    }

    /// The fields that the selector names, each as often as it does.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|t| t.field.as_str())
    }

    /// The value that a field must have to be picked, if the selector demands one.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.is_equal && t.field == field).map(|t| t.value.as_str())
    }

    /// The same selector with fields called by other names: `name` gives a field's new name, or `None` to keep it.
    #[must_use]
    pub fn renamed<'a>(mut self, name: impl Fn(&str) -> Option<&'a str>) -> Self {
        for term in &mut self.terms {
            if let Some(new) = name(&term.field) {
                new.clone_into(&mut term.field);
            }
        }
        self
    }

    /// The selector that also wants one field to have one value.
    #[must_use]
    pub fn and_equals(mut self, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.terms.extend(Self::equals(field, value).terms);
        self
    }

    /// Refuses a selector that names other fields than `metadata.name`, `metadata.namespace` and the kind's own.
    pub fn check_supported(&self, own: &[&str]) -> Result<(), SelectorError> {
        let is_known = |f: &str| f == "metadata.name" || f == "metadata.namespace" || own.contains(&f);
        match self.fields().find(|f| !is_known(f)) {
            None => Ok(()),
            Some(field) if own.is_empty() => Err(SelectorError(format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ))),
            Some(field) => Err(SelectorError(format!("field label not supported: {field}"))),
        }
    }

    /// Whether every object is picked.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

impl fmt::Display for FieldTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        f.write_str(if self.is_equal { "=" } else { "!=" })?;
        for c in self.value.chars() {
            if matches!(c, '\\' | ',' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.terms)
    }
}

/// Cuts at the commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Cuts at the first operator: field, whether it must be equal, value.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(i, _)| {
        let rest = &term[i..];
        let (is_equal, value) = rest
            .strip_prefix("!=")
            .map(|v| (false, v))
            .or_else(|| rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).map(|v| (true, v)))?;
        Some((&term[..i], is_equal, value))
    })
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let bad_escape = |s: &str| SelectorError(format!("invalid field selector: invalid escape sequence: {s}"));
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                Some(c) => return Err(bad_escape(&format!("\\{c}"))),
                None => return Err(bad_escape("\\")),
            },
            ',' | '=' => {
                let code = u32::from(c);
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {code}")));
            }
            c => value.push(c),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[track_caller]
    fn parsed(text: &str) -> LabelSelector {
        LabelSelector::parse(text).expect(text)
    }

    #[test]
    fn selectors_print_in_canonical_form() {
        for (text, canonical) in [
            ("", ""),
            (" a = b , c!=d", "a=b,c!=d"),
            ("z,a", "a,z"),
            ("a==b", "a==b"),
            ("x in (c,a,b)", "x in (a,b,c)"),
            ("x notin ()", "x notin ()"),
            ("x in (foo,,baz)", "x in (,baz,foo)"),
            ("x in (,)", "x in ()"),
            ("!x,y>1,z<3", "!x,y>1,z<3"),
            ("a=", "a="),
            ("in in (in,notin)", "in in (in,notin)"),
            ("a=in", "a=in"),
            ("example.com/a=b", "example.com/a=b"),
        ] {
            assert_eq!(parsed(text).to_string(), canonical, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_in_kubernetes_words() {
        for (text, error) in [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an \
                 integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).expect_err(text).to_string(), error, "{text:?}");
        }
        let err = LabelSelector::parse("/a=b").expect_err("a bad key").to_string();
        assert_eq!(err, "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty");
        let err = LabelSelector::parse("a=b$").expect_err("a bad value").to_string();
        assert!(
            err.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"b$\": a valid label must")
        );
    }

    #[test]
    fn labels_match_as_in_kubernetes() {
        let have = labels(&[("a", "b"), ("n", "5"), ("e", "")]);
        for (text, wanted) in [
            ("", true),
            ("a", true),
            ("a=b", true),
            ("a=c", false),
            ("a!=c", true),
            ("x!=c", true),
            ("x=c", false),
            ("!x", true),
            ("!a", false),
            ("a in (b,c)", true),
            ("a notin (b,c)", false),
            ("x notin (b,c)", true),
            ("e=", true),
            ("x=", false),
            ("n>4", true),
            ("n>5", false),
            ("n<6", true),
            ("a>1", false),
            ("x<1", false),
            ("a=b,n=6", false),
        ] {
            assert_eq!(parsed(text).matches(&have), wanted, "{text:?}");
        }
        assert!(!LabelSelector::nothing().matches(&have));
        assert!(!LabelSelector::nothing().is_empty());
        assert!(LabelSelector::everything().is_empty());
        assert!(LabelSelector::from_map(&labels(&[("a", "b")])).matches(&have));
    }

    #[test]
    fn selectors_of_objects_are_read() {
        let mut api = ApiSelector { match_labels: Some(labels(&[("b", "1")])), ..Default::default() };
        let expression = |operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: "a".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
        };
        api.match_expressions = Some(vec![expression("NotIn", &["y", "x"]), expression("Exists", &[])]);
        assert_eq!(LabelSelector::from_api(&api).expect("it is right").to_string(), "a notin (x,y),a,b=1");
        for (wrong, error) in [
            (
                expression("In", &[]),
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                expression("Exists", &["x"]),
                "values: Invalid value: [\"x\"]: values set must be empty for exists and does not exist",
            ),
            (expression("Gt", &["1"]), "\"Gt\" is not a valid label selector operator"),
        ] {
            api.match_expressions = Some(vec![wrong]);
            assert_eq!(LabelSelector::from_api(&api).expect_err(error).to_string(), error);
        }
        assert!(LabelSelector::from_api(&ApiSelector::default()).expect("it is right").is_empty());
    }

    #[test]
    fn fields_match_as_in_kubernetes() {
        let fields = Fields::from([("metadata.name", "a,b".to_owned()), ("status.phase", "Running".to_owned())]);
        for (text, wanted) in [
            ("", true),
            ("metadata.name=a\\,b", true),
            ("status.phase!=Running", false),
            ("status.phase==Running,metadata.name!=x", true),
            ("spec.nodeName=", true),
            ("spec.nodeName=x", false),
        ] {
            assert_eq!(FieldSelector::parse(text).expect(text).matches(&fields), wanted, "{text:?}");
        }
    }

    #[test]
    fn field_selectors_are_refused_in_kubernetes_words() {
        for (text, error) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("b=c,a", "invalid selector: 'b=c,a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=\\", "invalid field selector: invalid escape sequence: \\"),
        ] {
            assert_eq!(FieldSelector::parse(text).expect_err(text).to_string(), error, "{text:?}");
        }
        let selector = FieldSelector::parse("foo=bar").expect("it is right");
        assert_eq!(
            selector.check_supported(&["status.phase"]).expect_err("an unknown field").to_string(),
            "field label not supported: foo"
        );
        assert_eq!(
            selector.check_supported(&[]).expect_err("an unknown field").to_string(),
            "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }

    proptest! {
        #[test]
        fn a_printed_label_selector_reads_back(text in "[ab!=,() ]{0,12}|[abc] (in|notin) \\([a,b]{0,5}\\),!x,y>1") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let printed = selector.to_string();
                prop_assert_eq!(LabelSelector::parse(&printed).expect("what is printed is right").to_string(), printed);
            }
        }

        #[test]
        fn any_field_value_survives_printing(value in "\\PC{0,12}") {
            let selector = FieldSelector::equals("metadata.name", value);
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).expect("what is printed is right"), selector);
        }
    }
}
