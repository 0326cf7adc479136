//! The API's description as a page.

use askama::Template;
use serde_json::Value;

/// The page.
#[derive(Template)]
#[template(path = "docs.html")]
pub(super) struct Page {
    title: String,
    version: String,
    description: Vec<String>,
    chapters: Vec<Chapter>,
    shapes: Vec<Shape>,
}

/// Operations that belong together.
struct Chapter {
    name: String,
    description: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: Vec<String>,
    needs_token: bool,
    parameters: Vec<Member>,
    body: Vec<Name>,
    answers: Vec<Answer>,
}

/// A parameter or a member of a shape.
struct Member {
    name: String,
    place: String,
    required: bool,
    kind: Name,
    description: String,
}

struct Answer {
    status: String,
    description: String,
    shapes: Vec<Name>,
}

/// A type, with the shape that it is or has.
struct Name {
    text: String,
    shape: Option<String>,
}

/// A schema.
struct Shape {
    name: String,
    description: String,
    kind: String,
    members: Vec<Member>,
}

impl Page {
    /// That of an OpenAPI document.
    pub(super) fn of(document: &Value) -> Page {
        let mut chapters: Vec<Chapter> = members_of(&document["tags"], |_, tag| Chapter {
            name: text(&tag["name"]),
            description: text(&tag["description"]),
            operations: Vec::new(),
        });
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let chapter =
                    chapters.iter_mut().find(|chapter| operation["tags"][0] == chapter.name.as_str());
                if let Some(chapter) = chapter {
                    chapter.operations.push(operation_of(path, method, operation));
                }
            }
        }
        let info = &document["info"];
        let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
        Page {
            title: text(&info["title"]),
            version: text(&info["version"]),
            description: paragraphs(&info["description"]),
            chapters,
            shapes: schemas.map(|(name, schema)| shape_of(name, schema)).collect(),
        }
    }
}

fn operation_of(path: &str, method: &str, operation: &Value) -> Operation {
    let answers = operation["responses"].as_object().into_iter().flatten();
    Operation {
        id: text(&operation["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&operation["summary"]),
        description: paragraphs(&operation["description"]),
        needs_token: operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty()),
        parameters: members_of(&operation["parameters"], |_, parameter| Member {
            name: text(&parameter["name"]),
            place: text(&parameter["in"]),
            required: parameter["required"] == true,
            kind: name_of(&parameter["schema"]),
            description: text(&parameter["description"]),
        }),
        body: shapes_in(&operation["requestBody"]["content"]),
        answers: answers
            .map(|(status, answer)| Answer {
                status: status.clone(),
                description: text(&answer["description"]),
                shapes: shapes_in(&answer["content"]),
            })
            .collect(),
    }
}

fn shape_of(name: &str, schema: &Value) -> Shape {
    // What is flattened into a shape stands beside what is its own.
    let parts: Vec<&Value> = match schema["allOf"].as_array() {
        Some(parts) => parts.iter().collect(),
        None => vec![schema],
    };
    let own = |part: &&Value| {
        let required = part["required"].as_array().cloned().unwrap_or_default();
        let members = part["properties"].as_object().into_iter().flatten();
        let member = |(name, member): (&String, &Value)| Member {
            name: name.clone(),
            place: String::new(),
            required: required.contains(&Value::String(name.clone())),
            kind: name_of(member),
            description: text(&member["description"]),
        };
        members.map(member).collect::<Vec<_>>()
    };
    let of_others = parts.iter().filter(|part| part["$ref"].is_string()).map(|part| Member {
        name: "…".to_owned(),
        place: String::new(),
        required: true,
        kind: name_of(part),
        description: "and all of its members".to_owned(),
    });
    Shape {
        name: name.to_owned(),
        description: text(&schema["description"]),
        kind: if schema["properties"].is_object() || schema["allOf"].is_array() {
            String::new()
        } else {
            name_of(schema).text
        },
        members: of_others.chain(parts.iter().flat_map(own)).collect(),
    }
}

fn shapes_in(content: &Value) -> Vec<Name> {
    let media = content.as_object().into_iter().flatten();
    media.map(|(_, media)| name_of(&media["schema"])).filter(|name| !name.text.is_empty()).collect()
}

/// What a schema is called.
fn name_of(schema: &Value) -> Name {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return Name { text: name.to_owned(), shape: Some(name.to_owned()) };
    }
    let alternatives = ["oneOf", "anyOf"].iter().find_map(|kind| schema[kind].as_array());
    if let Some(alternatives) = alternatives {
        let names: Vec<_> = alternatives.iter().map(name_of).collect();
        let text = names.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(" or ");
        return Name { text, shape: names.into_iter().find_map(|name| name.shape) };
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().map(text).collect();
        return Name { text: words.join(" | "), shape: None };
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => text(kind),
    };
    if kind == "array" {
        let Name { text, shape } = name_of(&schema["items"]);
        return Name { text: format!("list of {text}"), shape };
    }
    let format = schema["format"].as_str().map(|format| format!(" ({format})")).unwrap_or_default();
    Name { text: format!("{kind}{format}"), shape: None }
}

fn members_of<T>(list: &Value, of: impl Fn(usize, &Value) -> T) -> Vec<T> {
    list.as_array().into_iter().flatten().enumerate().map(|(index, member)| of(index, member)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn paragraphs(value: &Value) -> Vec<String> {
    value.as_str().into_iter().flat_map(|text| text.split("\n\n")).map(str::to_owned).collect()
}
