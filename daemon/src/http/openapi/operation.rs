//! How one operation of the published contract is described.
//!
//! Owns the small language in which `operations` lists what each call takes and answers, and its translation into
//! OpenAPI. The schemas of bodies come from the wire types, the statuses and texts of problems from their codes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tenure_api::{Code, JSON, MAX_POLL_MS, PROBLEM_JSON, Problem, Retry, header};
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Header, HeaderBuilder, Ref, RefOr, Required, Response, ResponseBuilder};

use crate::http::connection::HEAD_BYTES;

/// A wire type.
pub(super) trait Wire: ToSchema + Serialize + DeserializeOwned {}

impl<T: ToSchema + Serialize + DeserializeOwned> Wire for T {}

/// The example of a name, as its wire type reads and writes it.
fn example_of<T: Wire>(name: &str) -> Value {
    static EXAMPLES: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("examples.json")).expect("the examples are JSON")
    });
    let example: T = serde_json::from_value(EXAMPLES[name].clone()).unwrap_or_else(|error| {
        panic!("the example {name} is not what it is an example of: {error}")
    });
    serde_json::to_value(example).expect("a wire type has a form in JSON")
}

/// What operations share, by name.
#[derive(Default)]
pub(super) struct Found {
    pub(super) schemas: BTreeMap<String, RefOr<Schema>>,
    pub(super) responses: BTreeMap<String, Response>,
}

/// An operation on its way into the document.
pub(super) struct Operation<'a> {
    found: &'a mut Found,
    builder: OperationBuilder,
    answers: BTreeMap<u16, Answer>,
    codes: Vec<Code>,
    replays: bool,
}

impl<'a> Operation<'a> {
    /// An operation that nobody has to say anything for who asks.
    pub(super) fn open(found: &'a mut Found, id: &str, tag: &str, summary: &str) -> Self {
        let mut operation = Operation::new(found, id, tag, summary);
        let is_of_callers = |code: &Code| {
            matches!(
                code,
                Code::Unauthenticated | Code::TooManyRequests | Code::NoLeader
            )
        };
        operation.codes.retain(|code| !is_of_callers(code));
        operation
    }

    /// An operation with what every call has: a request id, a cluster id, and the problems that anything can meet.
    pub(super) fn new(found: &'a mut Found, id: &str, tag: &str, summary: &str) -> Self {
        let mut builder = OperationBuilder::new()
            .operation_id(Some(id))
            .tag(tag)
            .summary(Some(summary));
        for (name, _) in common_parameters() {
            builder = builder.parameter_ref(Ref::new(format!("#/components/parameters/{name}")));
        }
        Operation {
            found,
            builder,
            answers: BTreeMap::new(),
            codes: vec![
                Code::InvalidRequest,
                Code::Unauthenticated,
                Code::Forbidden,
                // Failed proofs from one address, and the rate of one identity.
                Code::TooManyRequests,
                // Who asks is not known here, and no leader says who it is.
                Code::NoLeader,
                Code::WrongCluster,
                Code::ShuttingDown,
                // No room for its body, or for its answer.
                Code::Overloaded,
            ],
            replays: false,
        }
    }

    /// More about it.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.builder = self.builder.description(Some(text));
        self
    }

    /// What the path names.
    pub(super) fn in_path(self, name: &str, text: &str, schema: Schema) -> Self {
        self.parameter(ParameterIn::Path, name, text, schema, true)
    }

    /// A parameter that may be left out.
    pub(super) fn query(self, name: &str, text: &str, schema: Schema) -> Self {
        self.parameter(ParameterIn::Query, name, text, schema, false)
    }

    /// A parameter that must be given.
    pub(super) fn required(self, name: &str, text: &str, schema: Schema) -> Self {
        self.parameter(ParameterIn::Query, name, text, schema, true)
    }

    /// A header that may be left out.
    pub(super) fn header(self, name: &str, text: &str, schema: Schema) -> Self {
        self.parameter(ParameterIn::Header, name, text, schema, false)
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        name: &str,
        text: &str,
        schema: Schema,
        required: bool,
    ) -> Self {
        let required = if required {
            Required::True
        } else {
            Required::False
        };
        let parameter: Parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(text))
            .schema(Some(schema))
            .build();
        self.builder = self.builder.parameter(parameter);
        self
    }

    /// A JSON body, by its wire type, with an example of it.
    pub(super) fn takes<T: Wire>(mut self, example: &str) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(self.refer::<T>()))
            .example(Some(example_of::<T>(example)))
            .build();
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content(JSON, content)
            .build();
        self.builder = self.builder.request_body(Some(body));
        self.codes
            .extend([Code::UnsupportedMediaType, Code::TooLarge]);
        self
    }

    /// A body of any bytes.
    pub(super) fn takes_bytes(mut self, text: &str) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
            .build();
        let body = RequestBodyBuilder::new()
            .description(Some(text))
            .required(Some(Required::False))
            .content("application/octet-stream", content)
            .build();
        self.builder = self.builder.request_body(Some(body));
        self.codes.push(Code::TooLarge);
        self
    }

    /// An answer in JSON, by its wire type, with an example of it. Of several for one status, one is answered.
    pub(super) fn answers<T: Wire>(mut self, status: u16, text: &str, example: &str) -> Self {
        let schema = self.refer::<T>();
        self.codes.push(Code::NotAcceptable);
        let answer = self.answer(status, text);
        answer.json.push((
            T::name().into_owned(),
            schema,
            Some(example_of::<T>(example)),
        ));
        self
    }

    /// An answer of another media type than JSON.
    pub(super) fn answers_as(mut self, status: u16, text: &str, media_type: &'static str) -> Self {
        self.answer(status, text).others.push(media_type);
        self
    }

    /// An answer without a body.
    pub(super) fn answers_nothing(mut self, status: u16, text: &str) -> Self {
        self.answer(status, text);
        self
    }

    fn answer(&mut self, status: u16, text: &str) -> &mut Answer {
        let answer = self.answers.entry(status).or_default();
        if !answer.text.contains(text) && !text.is_empty() {
            let gap = if answer.text.is_empty() { "" } else { " " };
            answer.text = format!("{}{gap}{text}", answer.text);
        }
        answer
    }

    /// Headers of its own that the answer with this status has.
    pub(super) fn tells(mut self, status: u16, headers: &[&'static str]) -> Self {
        self.answer(status, "").headers.extend(headers);
        self
    }

    /// Problems that it can meet beside those of every call.
    pub(super) fn refuses(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// It reads the cluster: linearizable unless told otherwise.
    pub(super) fn reads(self) -> Self {
        self.query(
            "consistency",
            "`local`: this member answers from its own state, which may be old.",
            words(&["linearizable", "local"]),
        )
        .query(
            "min_revision",
            "Waits until this member has applied this revision, for `wait_ms` or else 5000 ms.",
            revision(),
        )
        .query(
            "wait_ms",
            "How long this request is held open, in milliseconds.",
            number(0, MAX_POLL_MS),
        )
        .refuses(&[Code::NoLeader, Code::Lagging, Code::TooManyWaiters])
        .tells(200, &["Tenure-Staleness-Ms"])
    }

    /// It writes through the leader.
    pub(super) fn writes(self) -> Self {
        self.refuses(&[Code::NoLeader, Code::OutcomeUnknown])
    }

    /// What it decides is recorded for repeats.
    pub(super) fn records(self) -> Self {
        self.header(
            header::IDEMPOTENCY_KEY,
            "The decision is recorded under it, and a repeat gets the same.",
            idempotency_key(),
        )
        .refuses(&[Code::IdempotencyMismatch, Code::QuotaExceeded])
        .replays()
    }

    /// What it answers may have been decided before.
    pub(super) fn replays(mut self) -> Self {
        self.replays = true;
        self
    }

    /// The whole, with its problems by status.
    pub(super) fn build(mut self) -> utoipa::openapi::path::Operation {
        if self.replays {
            for answer in self.answers.values_mut() {
                answer.headers.push("Idempotency-Replayed");
            }
        }
        self.codes.sort_by_key(|code| code.as_str());
        self.codes.dedup();
        let problem = self.refer::<Problem>();
        for code in std::mem::take(&mut self.codes) {
            let text = format!("`{}`: {}.", code.as_str(), code.title());
            let answer = self.answer(code.status(), &text);
            answer.problem = Some(problem.clone());
            answer.codes.push(code.as_str());
            if code.retry() == Retry::After && !answer.headers.contains(&"Retry-After") {
                answer.headers.push("Retry-After");
            }
            if code == Code::Unauthenticated {
                answer.headers.push("WWW-Authenticate");
            }
        }
        let too_long = format!(
            "The line and the headers of the request have more than {HEAD_BYTES} bytes. It was not looked at, and the answer has neither a body nor headers of ours."
        );
        self.answer(431, &too_long).bare = true;
        for (status, answer) in std::mem::take(&mut self.answers) {
            self.builder = match answer.shared_name(status) {
                // The same problems stand in many operations: they are written once.
                Some(name) => {
                    let place = Ref::from_response_name(&name);
                    self.found.responses.insert(name, answer.build().build());
                    self.builder.response(status.to_string(), place)
                }
                None => self.builder.response(status.to_string(), answer.build()),
            };
        }
        self.builder.build()
    }

    fn refer<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        self.found.schemas.extend(found);
        RefOr::Ref(Ref::from_schema_name(T::name()))
    }
}

fn of_answer(schema: Schema, text: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(text))
        .build()
}

/// The headers that some answers have, by their names.
pub(super) fn own_headers() -> [(&'static str, Header); 11] {
    let of = of_answer;
    let version = "The version of the key or thing that is shown, in quotes: its `mod_revision`.";
    [
        ("ETag", of(pattern("^\"[0-9]{1,16}\"$"), version)),
        (
            "Tenure-Create-Revision",
            of(revision(), "The revision that created the key."),
        ),
        (
            "Tenure-Mod-Revision",
            of(revision(), "The revision of the last put of the key."),
        ),
        (
            "Tenure-Version",
            of(
                number(1, u64::MAX),
                "How often the key was put since it was created.",
            ),
        ),
        (
            "Tenure-Lease",
            of(
                lease_id(),
                "The lease that the key hangs on, where it does.",
            ),
        ),
        (
            "Tenure-Staleness-Ms",
            of(
                number(0, u64::MAX),
                "With `consistency=local`, where known: how old the state may be, in milliseconds.",
            ),
        ),
        (
            "Idempotency-Replayed",
            of(
                words(&["true"]),
                "The decision was made before, for the same `Idempotency-Key`.",
            ),
        ),
        (
            "Retry-After",
            of(number(0, u64::MAX), "After how many seconds to ask again."),
        ),
        (
            "WWW-Authenticate",
            of(words(&["Bearer"]), "How to prove who asks."),
        ),
        (
            "X-Content-Type-Options",
            of(
                words(&["nosniff"]),
                "The value is not to be taken for another type.",
            ),
        ),
        (
            "Content-Security-Policy",
            of(
                text_of(1, 256),
                "A browser that opens the value runs nothing of it.",
            ),
        ),
    ]
}

/// The headers that every answer has, by their names.
pub(super) fn answer_headers() -> [(&'static str, Header); 6] {
    let of = of_answer;
    [
        (
            "Tenure-Revision",
            of(revision(), "The state that the answer reflects."),
        ),
        (
            "Tenure-Term",
            of(number(0, u64::MAX), "The term of Raft at this member."),
        ),
        (
            "Tenure-Leader",
            of(
                text_of(1, 2048),
                "The client URL of the leader, when known.",
            ),
        ),
        ("Tenure-Member", of(hex(16), "The member that answers.")),
        ("Tenure-Cluster", of(hex(32), "The cluster.")),
        (
            "Tenure-Request-Id",
            of(request_id(), "The id of the request."),
        ),
    ]
}

/// The headers that every call takes, by the names of their components.
pub(super) fn common_parameters() -> [(&'static str, Parameter); 2] {
    let of = |name: &str, text: &str, schema: Schema| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(text))
            .schema(Some(schema))
            .build()
    };
    [
        (
            "RequestId",
            of(
                header::REQUEST_ID,
                "Echoed; made where it is not given.",
                request_id(),
            ),
        ),
        (
            "Cluster",
            of(
                header::CLUSTER,
                "The cluster that is meant: another refuses.",
                hex(32),
            ),
        ),
    ]
}

/// What is answered with one status.
#[derive(Default)]
struct Answer {
    text: String,
    /// Shapes in JSON, with the names of their types and examples.
    json: Vec<(String, RefOr<Schema>, Option<Value>)>,
    others: Vec<&'static str>,
    /// Beside those that every answer has.
    headers: Vec<&'static str>,
    problem: Option<RefOr<Schema>>,
    /// Of the problem.
    codes: Vec<&'static str>,
    /// It comes from below, without the headers that every answer of ours has.
    bare: bool,
}

impl Answer {
    /// The name under which it is shared, where it is nothing but a problem.
    fn shared_name(&self, status: u16) -> Option<String> {
        if self.bare {
            return Some(status.to_string());
        }
        let only = self.json.is_empty() && self.others.is_empty() && !self.codes.is_empty();
        only.then(|| format!("{status}-{}", self.codes.join("-")))
    }

    /// With the headers that every answer has.
    fn build(self) -> ResponseBuilder {
        let mut response = ResponseBuilder::new().description(self.text);
        let common = answer_headers().map(|(name, _)| name);
        let common = common.iter().filter(|_| !self.bare);
        for name in common.chain(&self.headers) {
            let place = format!("#/components/headers/{name}");
            response = response.header_ref(*name, Ref::new(place));
        }
        if let Some(content) = json_content(self.json) {
            response = response.content(JSON, content);
        }
        for media_type in self.others {
            let schema = ObjectBuilder::new().schema_type(Type::String).build();
            response = response.content(
                media_type,
                ContentBuilder::new().schema(Some(schema)).build(),
            );
        }
        if let Some(problem) = self.problem {
            response = response.content(
                PROBLEM_JSON,
                ContentBuilder::new().schema(Some(problem)).build(),
            );
        }
        response
    }
}

fn json_content(
    mut shapes: Vec<(String, RefOr<Schema>, Option<Value>)>,
) -> Option<utoipa::openapi::Content> {
    if shapes.len() <= 1 {
        let (_, schema, example) = shapes.pop()?;
        return Some(
            ContentBuilder::new()
                .schema(Some(schema))
                .example(example)
                .build(),
        );
    }
    let mut any = AnyOfBuilder::new();
    let mut examples = Vec::new();
    for (name, schema, example) in shapes {
        any = any.item(schema);
        examples.push((name, ExampleBuilder::new().value(example).build()));
    }
    let schema: Schema = any.build().into();
    Some(
        ContentBuilder::new()
            .schema(Some(schema))
            .examples_from_iter(examples)
            .build(),
    )
}

/// Whole numbers of a range.
pub(super) fn number(least: u64, most: u64) -> Schema {
    let builder = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(least));
    match most {
        u64::MAX => builder.build().into(),
        most => builder.maximum(Some(most)).build().into(),
    }
}

/// A revision or a fence.
pub(super) fn revision() -> Schema {
    number(0, tenure_api::MAX_REVISION - 1)
}

/// Text of so many characters.
pub(super) fn text_of(least: usize, most: usize) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(least))
        .max_length(Some(most))
        .build()
        .into()
}

/// Text without control characters.
pub(super) const NO_CONTROLS: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// A name: UTF-8 without control characters. Its length is counted in bytes, so a name of the most characters may still
/// be too long.
pub(super) fn name() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(tenure_api::MAX_NAME_BYTES))
        .pattern(Some(NO_CONTROLS))
        .build()
        .into()
}

/// The name of a role or an identity.
pub(super) fn access_name() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(tenure_api::MAX_ACCESS_NAME_BYTES))
        .pattern(Some(NO_CONTROLS))
        .build()
        .into()
}

/// The beginning of names, or what to start after: may be empty.
pub(super) fn prefix() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(tenure_api::MAX_NAME_BYTES))
        .pattern(Some(NO_CONTROLS))
        .build()
        .into()
}

/// So many lower-case hex digits.
pub(super) fn hex(digits: usize) -> Schema {
    pattern(&format!("^[0-9a-f]{{{digits}}}$"))
}

/// The id of a lease: a positive 63-bit number, though the pattern takes 0.
pub(super) const LEASE_ID: &str = "^[0-7][0-9a-f]{15}$";

/// The id of a lease.
pub(super) fn lease_id() -> Schema {
    pattern(LEASE_ID)
}

/// Some words.
pub(super) fn words(words: &[&str]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()))
        .build()
        .into()
}

fn request_id() -> Schema {
    pattern("^[A-Za-z0-9._-]{1,64}$")
}

/// The key under which a decision is recorded.
pub(super) fn idempotency_key() -> Schema {
    pattern("^[ -~]{1,128}$")
}

/// A parameter that may be given many times.
pub(super) fn list_of(item: Schema) -> Schema {
    ArrayBuilder::new()
        .items(RefOr::T(item))
        .max_items(Some(1000))
        .build()
        .into()
}

/// Text of a pattern that is not easily guessed, with an example of it.
pub(super) fn pattern_as(pattern: &str, example: &str) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .pattern(Some(pattern))
        .examples([example])
        .build()
        .into()
}

/// Text of a pattern.
pub(super) fn pattern(pattern: &str) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .build()
        .into()
}
