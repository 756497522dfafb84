//! Objects in a file: finding them, reading them, and pointing at the line that is wrong.
//!
//! Files are YAML or JSON and may hold several documents, and lists as `kubectl get -o yaml` prints them. Each document
//! is parsed once, from its own part of the text. Positions in messages are those in the file.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use miette::{Diagnostic, IntoDiagnostic, NamedSource, Report, SourceSpan, WrapErr};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_yaml::{Location, Spanned};
use thiserror::Error;

use crate::violation::Violation;

const GROUP: &str = "pilotguard.dev/";

/// A file and the objects in it.
pub struct File {
    name: String,
    objects: Vec<Object>,
}

/// One object of a file: a document, or an item of a list.
pub struct Object {
    source: Source,
    fields: Spanned<Node>,
}

/// One document of a file, in the text that all documents share.
#[derive(Clone)]
struct Source {
    file: NamedSource<Arc<str>>,
    /// First byte of the document; locations in it count from here.
    start: usize,
}

/// One thing that is wrong with a file, and where.
#[derive(Debug, Error, Diagnostic)]
#[error("{message}")]
struct Problem {
    message: String,
    #[source_code]
    file: NamedSource<Arc<str>>,
    #[label("here")]
    place: Option<SourceSpan>,
    #[help]
    hint: Option<String>,
}

/// Several things that are wrong with a file.
#[derive(Debug, Error, Diagnostic)]
#[error("{name} has {} problems", problems.len())]
struct Problems {
    name: String,
    #[related]
    problems: Vec<Problem>,
}

impl File {
    /// Reads a file; `-` is the standard input.
    pub fn read(path: &Path) -> miette::Result<File> {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).into_diagnostic().wrap_err("cannot read the standard input")?;
            return File::parse("standard input", &text);
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).into_diagnostic().wrap_err_with(|| format!("cannot read {name}"))?;
        File::parse(&name, &text)
    }

    /// The objects in `text`.
    pub fn parse(name: &str, text: &str) -> miette::Result<File> {
        let shared = NamedSource::new(name, Arc::<str>::from(text));
        let mut file = File { name: name.into(), objects: Vec::new() };
        for range in documents(text) {
            let source = Source { file: shared.clone(), start: range.start };
            let found = objects(source.parse(&text[range])?);
            file.objects.extend(found.into_iter().map(|fields| Object { source: source.clone(), fields }));
        }
        Ok(file)
    }

    /// Objects of this kind of our own.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.is(kind, GROUP))
    }

    /// Objects of this kind of Kubernetes' core.
    pub fn of_core_kind(&self, kind: &'static str) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.is(kind, "v1"))
    }

    /// The error for a file that holds no object of this kind.
    pub fn lacks(&self, kind: &str) -> Report {
        let part = |found: Option<&str>, field| found.map_or(format!("no {field}"), Into::into);
        let others = self.objects.iter().map(|object| {
            let [version, kind] = ["apiVersion", "kind"].map(|field| object.fields.value.text_of(field));
            format!("{} ({})", part(kind, "kind"), part(version, "apiVersion"))
        });
        let mut others: Vec<String> = others.collect();
        others.dedup();
        let others = others.join(", ");
        let found = if others.is_empty() { "no object".into() } else { others };
        miette::miette!(
            help = format!("the file must hold an object with kind {kind} and apiVersion {GROUP}v1alpha1"),
            "no {kind} in {}; it holds {found}",
            self.name
        )
    }
}

impl Object {
    fn is(&self, kind: &str, version: &str) -> bool {
        let [found_version, found_kind] = ["apiVersion", "kind"].map(|field| self.fields.value.text_of(field));
        found_kind == Some(kind) && found_version.is_some_and(|found| found.starts_with(version))
    }

    /// Deserializes the object; an error points at the value that does not fit.
    pub fn parse<T: DeserializeOwned>(&self) -> miette::Result<T> {
        serde_path_to_error::deserialize(self.fields.value.to_json()).map_err(|error| {
            let path = error.path().to_string();
            let problem = error.inner();
            let message = if path == "." { problem.to_string() } else { format!("{path}: {problem}") };
            Report::new(self.source.problem(message, self.place(&path), None))
        })
    }

    /// Fields that `schema` does not know, below `path`; without this a misspelt optional field would be ignored.
    pub fn unknown_fields(&self, path: &str, schema: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        if let Some(node) = self.fields.value.at(path) {
            node.value.unknown_fields(path, schema, &mut violations);
        }
        violations
    }

    /// The violations, each with the line it is about.
    pub fn report(&self, violations: &[Violation]) -> Report {
        let problem = |violation: &Violation| {
            let message = format!("{}: {}", violation.path, violation.problem);
            self.source.problem(message, self.place(&violation.path), Some(violation.hint.clone()))
        };
        let mut problems: Vec<Problem> = violations.iter().map(problem).collect();
        if problems.len() == 1 {
            return Report::new(problems.remove(0));
        }
        Report::new(Problems { name: self.source.file.name().to_owned(), problems })
    }

    /// Where a field stands, or, where it was not written, the closest field around it.
    fn place(&self, path: &str) -> Option<SourceSpan> {
        let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(end, _)| end);
        let around: Vec<usize> = ends.chain([path.len()]).collect();
        let node = around.iter().rev().find_map(|end| self.fields.value.at(&path[..*end]));
        self.source.span(&node.unwrap_or(&self.fields).referenced)
    }
}

impl Source {
    fn parse(&self, document: &str) -> miette::Result<Spanned<Node>> {
        // Every node takes a byte, so a file of any size may be read; what aliases repeat stays limited.
        let size = document.len().saturating_mul(4).max(1_000_000);
        let budget = serde_yaml::budget! { max_nodes: size, max_events: size, max_total_scalar_bytes: size };
        let options = serde_yaml::options! { budget: budget };
        serde_yaml::from_str_with_options(document, options).map_err(|error| self.unreadable(error.without_snippet()))
    }

    fn unreadable(&self, error: &serde_yaml::Error) -> Report {
        let location = error.location();
        let (message, hint) = match error {
            serde_yaml::Error::DuplicateMappingKey { key: Some(key), .. } => {
                (format!("the field `{key}` is written twice"), Some("remove one of the two".to_owned()))
            }
            _ => (error.render_with_formatter(&serde_yaml::UserMessageFormatter), None),
        };
        // The place is shown beside the text already.
        let place = location.map(|at| format!(" at line {}, column {}", at.line(), at.column()));
        let message = place.and_then(|place| message.strip_suffix(&place)).unwrap_or(&message).to_owned();
        Report::new(self.problem(message, location.and_then(|location| self.span(&location)), hint))
    }

    fn problem(&self, message: String, place: Option<SourceSpan>, hint: Option<String>) -> Problem {
        Problem { message, file: self.file.clone(), place, hint }
    }

    /// The bytes of the value at a location; where its length is not known, the rest of the line.
    fn span(&self, location: &Location) -> Option<SourceSpan> {
        // Lines and columns are always known, byte offsets are not.
        let line = usize::try_from(location.line().checked_sub(1)?).ok()?;
        let column = usize::try_from(location.column().checked_sub(1)?).ok()?;
        let document = self.file.inner().get(self.start..)?;
        let start_of_line: usize = document.split_inclusive('\n').take(line).map(str::len).sum();
        let written = document.get(start_of_line..)?.lines().next().unwrap_or_default().trim_end();
        let before: usize = written.chars().take(column).map(char::len_utf8).sum();
        let rest = written.len() - before;
        let length = location.span().byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let length = if length > 0 { length.min(rest) } else { rest };
        Some(SourceSpan::new((self.start + start_of_line + before).into(), length))
    }
}

/// The documents of a stream, which together are the whole text.
fn documents(text: &str) -> Vec<Range<usize>> {
    let starts_document = |line: &str| {
        line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let mut starts = vec![0];
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if offset > 0 && starts_document(line) {
            starts.push(offset);
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// The objects of a document: itself, the items of a list, or none where it is empty.
fn objects(document: Spanned<Node>) -> Vec<Spanned<Node>> {
    let is_list = document.value.text_of("kind").is_some_and(|kind| kind.ends_with("List"));
    match document.value {
        Node::Scalar(_) => Vec::new(),
        Node::Map(fields) if is_list && fields.iter().any(|(name, _)| name == "items") => {
            let items = fields.into_iter().find(|(name, _)| name == "items").map(|(_, items)| items.value);
            if let Some(Node::List(items)) = items { items } else { Vec::new() }
        }
        value => vec![Spanned { value, ..document }],
    }
}

/// A document as it is written, with the place of each value.
#[derive(Debug)]
enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    /// A text, a number, a boolean or null.
    Scalar(Value),
}

impl Node {
    fn get(&self, field: &str) -> Option<&Spanned<Node>> {
        match self {
            Node::Map(fields) => fields.iter().find(|(name, _)| name == field).map(|(_, node)| node),
            Node::List(_) | Node::Scalar(_) => None,
        }
    }

    fn text_of(&self, field: &str) -> Option<&str> {
        match self.get(field).map(|node| &node.value) {
            Some(Node::Scalar(Value::String(text))) => Some(text),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Node::Map(fields) => fields.iter().map(|(name, node)| (name.clone(), node.value.to_json())).collect(),
            Node::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Node::Scalar(value) => value.clone(),
        }
    }

    /// The node at a path such as `spec.windows[name=nightly].cron` or `spec.windows[1]`.
    fn at(&self, path: &str) -> Option<&Spanned<Node>> {
        let mut segments = path.split(['.', '[']).map(|segment| segment.trim_end_matches(']'));
        let first = self.get(segments.next()?)?;
        segments.try_fold(first, |node, segment| match &node.value {
            Node::List(items) => match segment.split_once('=') {
                Some((key, name)) => items.iter().find(|item| item.value.text_of(key) == Some(name)),
                None => items.get(segment.parse::<usize>().ok()?),
            },
            other => other.get(segment),
        })
    }

    fn unknown_fields(&self, path: &str, schema: &Value, violations: &mut Vec<Violation>) {
        match (self, schema["properties"].as_object()) {
            (Node::Map(fields), Some(known)) => {
                for (name, node) in fields {
                    let path = format!("{path}.{name}");
                    match known.get(name) {
                        Some(schema) => node.value.unknown_fields(&path, schema, violations),
                        None => violations.push(Violation::new(
                            path,
                            "unknown field",
                            format!("the fields here are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
                        )),
                    }
                }
            }
            (Node::List(items), None) if schema.get("items").is_some() => {
                for (index, item) in items.iter().enumerate() {
                    let key = item.value.text_of("name").map_or(index.to_string(), |name| format!("name={name}"));
                    item.value.unknown_fields(&format!("{path}[{key}]"), &schema["items"], violations);
                }
            }
            _ => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_share_the_text_and_are_parsed_once_each() {
        let parsed = |count: usize| {
            let text = "kind: ConfigMap\n---\n".repeat(count);
            documents(&text).into_iter().map(|range| range.len()).sum::<usize>() / text.len()
        };
        assert_eq!((parsed(500), parsed(2_000)), (1, 1));
        let file = File::parse("many.yaml", &"kind: ConfigMap\n---\n".repeat(500)).unwrap();
        let first = file.objects[0].source.file.inner();
        assert!(file.objects.len() == 500 && file.objects.iter().all(|it| Arc::ptr_eq(it.source.file.inner(), first)));
    }

    #[test]
    fn lists_are_read_whatever_their_size() {
        // More values than the YAML library reads by default.
        let item = format!("- {{apiVersion: v1, kind: Namespace, of: [{}]}}\n", "a, ".repeat(1_000));
        let list = format!("apiVersion: v1\nkind: List\nitems:\n{}", item.repeat(300));
        let file = File::parse("list.yaml", &list).unwrap();
        assert_eq!(file.of_core_kind("Namespace").count(), 300);
    }
}
