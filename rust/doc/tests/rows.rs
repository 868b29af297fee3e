//! Generated rows: what comes out is the text that went in, typed readings agree with another reader of JSON, and
//! bytes that are not a record are never a panic.

mod generate;

use generate::{Member, Random};
use hevlayer_doc::json::Cursor;
use hevlayer_doc::record::{Projection, Record, View};
use hevlayer_doc::value::{ArrayRef, IdRef, ValueRef};
use hevlayer_doc::AttributeName;
use serde_json::Value;

const ROUNDS: u64 = 4000;
const VECTORS: [&str; 2] = ["vector", "v2"];

fn vectors() -> Vec<String> {
    VECTORS.map(str::to_owned).to_vec()
}

fn record(text: &str) -> Record {
    Record::read(&mut Cursor::new(text), text, &vectors()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn write(view: &View<'_>, projection: &Projection) -> String {
    let mut out = Vec::new();
    view.write(projection, None, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// The document that a reader of these members gets, put together from the members' own texts.
fn expected(id: &str, members: &[Member], wanted: impl Fn(&Member) -> bool) -> String {
    let texts: Vec<String> = members
        .iter()
        .filter(|member| member.value != "null" && wanted(member))
        .map(|member| format!("\"{}\":{}", member.key, member.value))
        .collect();
    let id = if id.starts_with('"') { id.to_owned() } else { format!("\"{id}\"") };
    format!("{{\"id\":{id},\"attributes\":{{{}}}}}", texts.join(","))
}

#[test]
fn a_row_comes_out_as_it_went_in() {
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let id = random.id();
        let members = random.members();
        let text = random.row(&id, &members);
        let record = record(&text);
        let view = record.view().expect("a record");
        let is_plain = |member: &Member| !member.is_vector(&VECTORS) && !member.name.starts_with("_hevlayer_");
        assert_eq!(write(&view, &Projection::Plain), expected(&id, &members, is_plain), "{text}");

        let named: Vec<String> =
            members.iter().filter(|_| random.chance(2)).map(|member| member.name.clone()).collect();
        let projection = Projection::Named(named.clone());
        let is_named = |member: &Member| named.contains(&member.name);
        assert_eq!(write(&view, &projection), expected(&id, &members, is_named), "{text}");

        let head = View::new(&record.head, None).expect("a head");
        let wants_vector = |member: &Member| is_named(member) && member.is_vector(&VECTORS) && member.value != "null";
        assert_eq!(head.needs_tail(&projection), members.iter().any(wants_vector), "{text}");
        if !head.needs_tail(&projection) {
            assert_eq!(write(&head, &projection), write(&view, &projection), "{text}");
        }
        let mut texts = Vec::new();
        assert!(view.texts(|key, value| texts.push((key.to_vec(), value.to_vec()))));
        let all: Vec<_> = members
            .iter()
            .filter(|member| member.value != "null")
            .map(|member| (member.key.clone().into_bytes(), member.value.clone().into_bytes()))
            .collect();
        assert_eq!(texts, all, "{text}");
        assert_eq!(view.id_text(), id.as_bytes(), "{text}");
    }
}

#[test]
fn typed_values_are_what_another_reader_reads() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let id = random.id();
        let members = random.members();
        let text = random.row(&id, &members);
        let record = record(&text);
        let view = record.view().expect("a record");
        match (view.id().expect("an id"), serde_json::from_str(&id).expect("an id")) {
            (IdRef::Uint(number), Value::Number(other)) => assert_eq!(Some(number), other.as_u64()),
            (IdRef::Str(text), Value::String(other)) => assert_eq!(text, other),
            (id, other) => panic!("{id:?} is not {other}"),
        }
        let mut place = 0;
        for member in &members {
            let value = view.attribute(&member.name);
            let other = serde_json::from_str::<Value>(&member.value);
            match value {
                None => assert_eq!(member.value, "null", "{text}"),
                Some(value) => {
                    seen.insert(agree(&value, other.ok().as_ref(), &member.value));
                }
            }
            let name = AttributeName::new(&member.name);
            assert_eq!(format!("{:?}", view.get_near(&name, &mut place)), format!("{value:?}"));
        }
        assert!(view.attribute("no such attribute").is_none());
        let names: Vec<_> = view.attributes().map(|(name, _)| name.to_owned()).collect();
        let all = members.iter().filter(|member| member.value != "null").map(|member| member.name.clone());
        assert!(all.eq(names), "{text}");
    }
    assert_eq!(seen.len(), 14, "every kind of value was generated: {seen:?}");
}

/// Fails when a value is not the other reader's; the name of its kind.
fn agree(value: &ValueRef<'_>, other: Option<&Value>, text: &str) -> &'static str {
    let Some(other) = other else {
        // Only numbers over the largest double are refused by the other reader.
        assert!(matches!(value, ValueRef::Json(raw) if *raw == text) || matches!(value, ValueRef::Vector(_)), "{text}");
        return "refused";
    };
    match (value, other) {
        (ValueRef::Bool(flag), Value::Bool(other)) => assert_eq!(flag, other),
        (ValueRef::Int(number), Value::Number(other)) => assert_eq!(Some(*number), other.as_i64(), "{text}"),
        (ValueRef::Uint(number), Value::Number(other)) => assert_eq!(Some(*number), other.as_u64(), "{text}"),
        (ValueRef::Float(number), Value::Number(other)) => {
            assert!(!other.is_i64() && !other.is_u64(), "{text}");
            assert_eq!(Some(number.to_bits()), other.as_f64().map(f64::to_bits), "{text}");
        }
        (ValueRef::Str(string), Value::String(other)) => assert_eq!(string, other),
        (ValueRef::Json(raw), Value::Array(_)) => assert_eq!(*raw, text),
        (ValueRef::Array(array), Value::Array(others)) => return agree_array(array, others, text),
        (ValueRef::Vector(vector), Value::Object(weights)) => {
            let Some(read) = vector.weights() else {
                return "text";
            };
            assert_eq!(read.len(), weights.len(), "{text}");
            for (dimension, weight) in read {
                let other = weights[&dimension.to_string()].as_f64();
                assert_eq!(other.map(single), Some(weight.to_bits()), "{text}");
            }
            return "sparse";
        }
        (ValueRef::Vector(vector), _) => {
            let flat = flatten(other);
            let read = vector.components();
            if let (Some(read), Some(flat)) = (&read, &flat) {
                let read: Vec<u32> = read.iter().map(|number| number.to_bits()).collect();
                assert_eq!(&read, flat, "{text}");
            }
            assert!(read.is_some() || flat.is_none(), "{text}");
            return if vector.rows > 0 { "multi" } else { "vector" };
        }
        (value, other) => panic!("{value:?} is not {other}"),
    }
    match value {
        ValueRef::Bool(_) => "bool",
        ValueRef::Int(_) => "int",
        ValueRef::Uint(_) => "uint",
        ValueRef::Float(_) => "float",
        ValueRef::Json(_) => "json",
        _ => "string",
    }
}

fn agree_array(array: &ArrayRef<'_>, others: &[Value], text: &str) -> &'static str {
    assert_eq!(array.len(), others.len(), "{text}");
    assert_eq!(array.iter().count(), others.len(), "{text}");
    let mut kind = "empty";
    for (item, other) in array.iter().zip(others) {
        kind = match (item, other) {
            // Next to a fraction an integer is a float too.
            (ValueRef::Float(number), other) => {
                assert_eq!(Some(number), other.as_f64(), "{text}");
                "floats"
            }
            (item, other) => {
                agree(&item, Some(other), text);
                "array"
            }
        };
    }
    kind
}

#[allow(clippy::cast_possible_truncation)]
fn single(number: f64) -> u32 {
    (number as f32).to_bits()
}

/// The bits of the numbers of an array, or of an array of arrays; None for anything else.
fn flatten(value: &Value) -> Option<Vec<u32>> {
    let mut flat = Vec::new();
    for item in value.as_array()? {
        match item {
            Value::Array(row) => {
                for number in row {
                    flat.push(single(number.as_f64()?));
                }
            }
            other => flat.push(single(other.as_f64()?)),
        }
    }
    Some(flat)
}

/// Reads everything that can be read of bytes that may be anything.
fn touch(head: &[u8], tail: Option<&[u8]>, names: &[String]) {
    let Ok(view) = View::new(head, tail) else {
        return;
    };
    let _ = view.id();
    for name in names {
        touch_value(view.attribute(name));
    }
    view.attributes().for_each(|(_, value)| touch_value(Some(value)));
    let mut out = Vec::new();
    view.write(&Projection::Plain, None, &mut out);
    let named = Projection::Named(names.to_vec());
    let _ = view.needs_tail(&named);
    view.write(&named, None, &mut out);
    let _ = view.texts(|_, _| {});
    let _ = view.id_text();
}

fn touch_value(value: Option<ValueRef<'_>>) {
    match value {
        Some(ValueRef::Array(array)) => array.iter().for_each(|item| touch_value(Some(item))),
        Some(ValueRef::Vector(vector)) => {
            let _ = vector.components();
            let _ = vector.weights();
        }
        _ => {}
    }
}

#[test]
fn broken_records_are_never_a_panic() {
    for seed in 0..ROUNDS / 10 {
        let mut random = Random::new(seed);
        let id = random.id();
        let members = random.members();
        let text = random.row(&id, &members);
        let Record { head, tail, .. } = record(&text);
        let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
        for cut in 0..head.len().min(200) {
            assert!(View::new(&head[..cut], None).is_err());
            // A head that says it is as long as it is, and is not whole.
            let mut short = head[..cut.max(8)].to_vec();
            let length = u32::try_from(short.len()).expect("short").to_le_bytes();
            short[4..8].copy_from_slice(&length);
            touch(&short, Some(&tail), &names);
        }
        for _ in 0..200 {
            let mut broken = (head.clone(), tail.clone());
            for _ in 0..=random.below(4) {
                let at = random.below(broken.0.len());
                // The version and the length are checked first; the rest is to be met.
                if !(4..8).contains(&at) && at != 0 {
                    broken.0[at] = random.byte();
                }
            }
            let cut = random.below(broken.1.len() + 1);
            touch(&broken.0, Some(&broken.1[..cut]), &names);
            touch(&broken.0, None, &names);
        }
    }
}

#[test]
fn other_versions_are_refused() {
    let record = record(r#"{"id":1,"a":2}"#);
    for version in (0..=255).filter(|version| *version != hevlayer_doc::layout::VERSION) {
        let mut head = record.head.clone();
        head[0] = version;
        assert!(View::new(&head, None).is_err());
    }
}

#[test]
fn long_names_and_large_heaps_are_found() {
    let long = "n".repeat(300);
    let large = "x".repeat(70_000);
    let text = format!(r#"{{"a":"{large}","{long}":1,"id":"i","caf\u00e9":2,"\"":3}}"#);
    let record = record(&text);
    let view = record.view().expect("a record");
    assert!(matches!(view.attribute(&long), Some(ValueRef::Int(1))));
    assert!(matches!(view.attribute("caf\u{e9}"), Some(ValueRef::Int(2))));
    assert!(matches!(view.attribute("\""), Some(ValueRef::Int(3))));
    let attributes = format!(r#"{{"a":"{large}","{long}":1,"caf\u00e9":2,"\"":3}}"#);
    assert_eq!(write(&view, &Projection::Plain), format!(r#"{{"id":"i","attributes":{attributes}}}"#));
}
