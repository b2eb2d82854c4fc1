//! Goal: what Go reads is read, what Go writes is written.
//! Method: the rules of Go's `encoding/json`, one claim each; random messages there and back.

use proptest::prelude::*;

use super::*;

fn property(content: &str) -> Property {
    Property { path: Bytes::new(), content: Bytes::copy_from_slice(content.as_bytes()) }
}

fn encode(hints: &FsmHints) -> Vec<u8> {
    let mut encoder = Encoder::begin(&hints.log, hints.live_nodes.len());
    for file in &hints.live_nodes {
        encoder.file(file);
    }
    encoder.end(hints)
}

#[test]
fn zeros_are_left_out_and_empty_arrays_are_null() {
    let mut hints = FsmHints::default();
    assert_eq!(encode(&hints), br#"{"live_nodes":null,"properties":null}"#);
    hints.live_nodes = vec![FnodeSegments::default()];
    hints.properties = vec![Property::default()];
    assert_eq!(encode(&hints), br#"{"live_nodes":[{"segments":null}],"properties":[{}]}"#);
}

#[test]
fn strings_are_escaped_as_go_does() {
    let mut out = Vec::new();
    put_string(b"a\"\\/\n\r\t\x08\x0c\x01\x7f<>&\xe2\x80\xa8\xe2\x80\xa9\xef\xbf\xbd\xe2\x82z\xff", &mut out);
    let expected = "\"a\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\x7f\\u003c\\u003e\\u0026\\u2028\\u2029\u{fffd}\
        \\ufffd\\ufffdz\\ufffd\"";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn keys_match_without_case_and_the_last_one_wins() {
    let json = "{\"LOG\":\"one\",\"Live_Nodes\":[{\"FNODE\":1}],\"unknown\":[{\"log\":1.5e3}],\
        \"live_node\u{17f}\":[{\"fnode\":2},null],\"log\":\"two\",\"log\":null,\"proPerties\":null}";
    let hints = decode(json.as_bytes()).unwrap();
    let file = |fnode| FnodeSegments { fnode, segments: Vec::new() };
    let expected = FsmHints { log: "two".into(), live_nodes: vec![file(2), file(0)], ..FsmHints::default() };
    assert_eq!(hints, expected);
}

#[test]
fn numbers_are_whole_and_in_range() {
    let read = |key: &str, number: &str| {
        let json = format!("{{\"live_nodes\":[{{\"segments\":[{{\"{key}\":{number}}}]}}]}}");
        decode(json.as_bytes()).ok()
    };
    for number in ["-9223372036854775808", "9223372036854775807", "null"] {
        assert!(read("first_seq_no", number).is_some(), "{number}");
    }
    for number in ["9223372036854775808", "-9223372036854775809", "1.0", "1e3", "\"1\"", "true", "[]", "01"] {
        assert!(read("first_seq_no", number).is_none(), "{number}");
    }
    assert!(read("author", "4294967295").is_some());
    assert!(read("author", "4294967296").is_none());
    assert!(read("author", "-1").is_none());
}

#[test]
fn bytes_that_are_no_text_are_read_as_replacement_characters() {
    let hints = decode(b"{\"properties\":[{\"content\":\"a\xffb\\u00e9\"}],\"\xff\":1}").unwrap();
    assert_eq!(hints.properties, [property("a\u{fffd}b\u{e9}")]);
}

#[test]
fn values_of_another_type_trailing_bytes_and_deep_nesting_are_refused() {
    let deep = format!("{{\"live_nodes\":{}", "[".repeat(100_000));
    for (json, expected) in [
        ("{", "EOF while parsing an object"),
        ("{}x", "trailing characters"),
        ("7", "expected an object"),
        ("{\"log\":1}", "expected a string"),
        ("{\"live_nodes\":{}}", "expected an array of objects"),
        ("{\"live_nodes\":[[]]}", "expected an object"),
        (&deep, "expected an object"),
    ] {
        let error = decode(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{json:.40}: {error}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(decode(deep.as_bytes()).is_ok(), "what is skipped may nest at will");
}

fn any_segment() -> impl Strategy<Value = Segment> {
    (any::<[i64; 4]>(), any::<[u32; 2]>(), any::<String>(), any::<Option<u32>>()).prop_map(
        |(numbers, words, log, end_checksum)| Segment {
            author: words[0],
            first_seq_no: numbers[0],
            first_offset: numbers[1],
            first_checksum: words[1],
            last_seq_no: numbers[2],
            last_offset: numbers[3],
            log,
            end_checksum,
        },
    )
}

fn any_hints() -> impl Strategy<Value = FsmHints> {
    let file = (any::<i64>(), prop::collection::vec(any_segment(), 0..3))
        .prop_map(|(fnode, segments)| FnodeSegments { fnode, segments });
    let text = any::<String>().prop_map(|text| property(&text));
    let as_of = any::<([i64; 3], [u32; 2])>().prop_map(|(numbers, words)| AsOf {
        offset: numbers[0],
        seq_no: numbers[1],
        checksum: words[0],
        author: words[1],
        unix_nanos: numbers[2],
    });
    let lists = (prop::collection::vec(file, 0..3), prop::collection::vec(text, 0..3));
    (any::<String>(), lists, prop::option::of(as_of)).prop_map(|(log, (live_nodes, properties), as_of)| {
        FsmHints { log, live_nodes, properties, as_of, crc32c: None }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(hints in any_hints()) {
        prop_assert_eq!(decode(&encode(&hints)).unwrap(), hints);
    }

    #[test]
    fn what_is_written_is_json(hints in any_hints()) {
        let value: serde_json::Value = serde_json::from_slice(&encode(&hints)).unwrap();
        prop_assert_eq!(value["log"].as_str().unwrap_or_default(), hints.log);
    }
}
