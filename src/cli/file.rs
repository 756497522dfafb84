//! A declaration in a file: finding it, reading it, and pointing at the line that is wrong.
//!
//! Files are YAML or JSON and may hold several documents. Positions in messages are those in the file as its author
//! sees it.

use std::fmt;
use std::io::Read;
use std::path::Path;

use miette::{Diagnostic, IntoDiagnostic, NamedSource, Report, SourceSpan, WrapErr};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::{Location, Spanned};
use thiserror::Error;

use crate::violation::Violation;

const GROUP: &str = "pilotguard.dev/";

/// A file and the objects in it.
pub struct File {
    name: String,
    documents: Vec<Document>,
}

/// One document of a file.
pub struct Document {
    name: String,
    /// The whole file with all other documents blanked out, so that positions are those in the file.
    text: String,
    fields: Spanned<Node>,
}

/// One thing that is wrong with a file, and where.
#[derive(Debug, Error, Diagnostic)]
#[error("{message}")]
struct Problem {
    message: String,
    #[source_code]
    file: NamedSource<String>,
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

    /// The documents in `text`.
    pub fn parse(name: &str, text: &str) -> miette::Result<File> {
        let mut file = File { name: name.into(), documents: Vec::new() };
        for text in documents(text) {
            let fields: Spanned<Node> = serde_yaml::from_str(&text).map_err(|error| unreadable(name, &text, &error))?;
            if !matches!(fields.value, Node::Scalar(_)) {
                file.documents.push(Document { name: name.into(), text, fields });
            }
        }
        Ok(file)
    }

    /// The documents that hold an object of this kind of our own.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.is(kind, GROUP))
    }

    /// The documents that hold an object of this kind of Kubernetes' core.
    pub fn of_core_kind(&self, kind: &'static str) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.is(kind, "v1"))
    }

    /// What is said where no document is of this kind.
    pub fn lacks(&self, kind: &str) -> Report {
        let part = |found: Option<&str>, field| found.map_or(format!("no {field}"), Into::into);
        let others = self.documents.iter().map(|document| {
            let [version, kind] = ["apiVersion", "kind"].map(|field| document.fields.value.text_of(field));
            format!("{} ({})", part(kind, "kind"), part(version, "apiVersion"))
        });
        let others = others.collect::<Vec<_>>().join(", ");
        let found = if others.is_empty() { "no object".into() } else { others };
        miette::miette!(
            help = format!("the file must hold an object with kind {kind} and apiVersion {GROUP}v1alpha1"),
            "no {kind} in {}; it holds {found}",
            self.name
        )
    }
}

impl Document {
    fn is(&self, kind: &str, version: &str) -> bool {
        let [found_version, found_kind] = ["apiVersion", "kind"].map(|field| self.fields.value.text_of(field));
        found_kind == Some(kind) && found_version.is_some_and(|found| found.starts_with(version))
    }

    /// The document as an object; what does not fit is pointed at.
    pub fn parse<T: DeserializeOwned>(&self) -> miette::Result<T> {
        serde_yaml::from_str(&self.text).map_err(|error| unreadable(&self.name, &self.text, &error))
    }

    /// Fields that `schema` does not know, below `path`; without this a misspelt optional field would be ignored.
    pub fn unknown_fields(&self, path: &str, schema: &serde_json::Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        if let Some(node) = self.fields.value.at(path) {
            node.value.unknown_fields(path, schema, &mut violations);
        }
        violations
    }

    /// The violations, each with the line it is about.
    pub fn report(&self, violations: &[Violation]) -> Report {
        let problem = |violation: &Violation| Problem {
            message: format!("{}: {}", violation.path, violation.problem),
            file: NamedSource::new(&self.name, self.text.clone()),
            place: self.place(&violation.path),
            hint: Some(violation.hint.clone()),
        };
        let mut problems: Vec<Problem> = violations.iter().map(problem).collect();
        if problems.len() == 1 {
            return Report::new(problems.remove(0));
        }
        let name = self.name.clone();
        Report::new(Problems { name, problems })
    }

    /// Where a field stands, or, where it was not written, the closest field around it.
    fn place(&self, path: &str) -> Option<SourceSpan> {
        let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(end, _)| end);
        let around: Vec<usize> = ends.chain([path.len()]).collect();
        let node = around.iter().rev().find_map(|end| self.fields.value.at(&path[..*end]));
        span(&self.text, &node.unwrap_or(&self.fields).referenced)
    }
}

/// Each document of a stream as a text in which all others are blank.
fn documents(text: &str) -> Vec<String> {
    let starts_document = |line: &str| {
        line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let starts = (0..lines.len()).filter(|line| *line > 0 && starts_document(lines[*line]));
    let starts: Vec<usize> = [0].into_iter().chain(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    let blank = |line: &&str| -> String { line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect() };
    let ranges = starts.iter().copied().zip(ends);
    ranges
        .map(|(start, end)| {
            lines[..start].iter().map(blank).chain(lines[start..end].iter().map(ToString::to_string)).collect()
        })
        .collect()
}

fn unreadable(name: &str, text: &str, error: &serde_yaml::Error) -> Report {
    let error = error.without_snippet();
    let location = error.location();
    let message = error.to_string();
    // The place is shown beside the text already.
    let place = location.map(|at| format!(" at line {}, column {}", at.line(), at.column()));
    let message = place.and_then(|place| message.strip_suffix(&place)).unwrap_or(&message).to_owned();
    Report::new(Problem {
        message,
        file: NamedSource::new(name, text.to_owned()),
        place: location.and_then(|location| span(text, &location)),
        hint: None,
    })
}

/// The bytes of the value at a location; where its length is not known, the rest of the line.
fn span(text: &str, location: &Location) -> Option<SourceSpan> {
    // Lines and columns are always known, byte offsets are not.
    let line = usize::try_from(location.line().checked_sub(1)?).ok()?;
    let column = usize::try_from(location.column().checked_sub(1)?).ok()?;
    let start_of_line: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let written = text.get(start_of_line..)?.lines().next().unwrap_or_default().trim_end();
    let before: usize = written.chars().take(column).map(char::len_utf8).sum();
    let rest = written.len() - before;
    let length = location.span().byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let length = if length > 0 { length.min(rest) } else { rest };
    Some(SourceSpan::new((start_of_line + before).into(), length))
}

/// A document as it is written, with the place of each value.
#[derive(Debug)]
enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Scalar(String),
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
            Some(Node::Scalar(text)) => Some(text),
            _ => None,
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

    fn unknown_fields(&self, path: &str, schema: &serde_json::Value, violations: &mut Vec<Violation>) {
        match (self, schema["properties"].as_object()) {
            (Node::Map(fields), Some(known)) => {
                for (name, node) in fields {
                    let path = format!("{path}.{name}");
                    match known.get(name) {
                        Some(schema) => node.value.unknown_fields(&path, schema, violations),
                        None => violations.push(Violation::new(
                            path,
                            "there is no such field",
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
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(String::new()))
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
