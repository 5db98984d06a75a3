use serde_json::json;

use super::*;

#[test]
fn a_value_comes_back_as_it_was() {
    for value in [
        json!(null),
        json!([]),
        json!({"a": [1, -1, u64::MAX, 1.5, true, null, "é", [[]], {}], "b": {"c": {"d": "x"}}}),
        json!((0..100).map(|n| (format!("n{n}"), json!(n))).collect::<JsonMap<_, _>>()),
    ] {
        let document = Document::from_json(&value);
        assert_eq!(document.view("").root().to_json(), value);
    }
}

#[test]
fn a_name_is_found_in_small_and_in_large_maps() {
    for count in [0, 1, 31, 32, 33, 1_000] {
        let value: JsonMap<_, _> = (0..count).map(|n| (format!("name{n}"), json!([n, {"x": n}]))).collect();
        let document = Document::from_json(&Value::Object(value));
        let view = document.view("");
        let NodeData::Map(map) = view.root().data() else { panic!("a map") };
        assert_eq!(map.len(), count);
        for n in 0..count {
            let found = map.get(&FieldName::new(&format!("name{n}"))).unwrap();
            assert_eq!(found.to_json(), json!([n, {"x": n}]));
            assert_eq!(map.get_text(&format!("name{n}")).unwrap().to_json(), found.to_json());
        }
        assert!(map.get(&FieldName::new("name")).is_none() && map.get(&FieldName::new("")).is_none());
    }
}

#[test]
fn an_element_is_found_by_its_index() {
    let document = Document::from_json(&json!({"flat": [1, 2, 3], "deep": [[1], {"a": 2}, 3]}));
    let view = document.view("");
    let NodeData::Map(map) = view.root().data() else { panic!("a map") };
    for name in ["flat", "deep"] {
        let Some(NodeData::List(list)) = map.get_text(name).map(|it| it.data()) else { panic!("a list") };
        assert_eq!((list.len(), list.items().count()), (3, 3));
        assert_eq!(list.get(2).unwrap().to_json(), json!(3));
        assert!(list.get(3).is_none());
    }
}

#[test]
fn a_large_record_does_not_keep_its_buffers() {
    let mut document = Document::from_json(&json!((0..1_000_000).collect::<Vec<_>>()));
    document.build().null();
    assert!(document.entries.capacity() <= KEPT);
}
