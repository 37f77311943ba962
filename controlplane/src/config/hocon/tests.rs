use proptest::prelude::*;

use super::*;

fn with(text: &str, files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Value, HoconError> {
    let mut include = |asked: &Include| {
        let found = files.iter().find(|(name, _)| *name == asked.name);
        Ok(found.map(|(name, text)| Included { name: (*name).to_owned(), text: (*text).to_owned() }))
    };
    read(text, &mut include, &|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

/// A value as JSON, every leaf as a text: short enough to be compared in one line.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

fn good(text: &str) -> String {
    match with(text, &[], &[("HOME", "/home/me"), ("EMPTY", ""), ("LIST_0", "a"), ("LIST_1", "b")]) {
        Ok(value) => json(&value).to_string().replace('"', "'"),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn bad(text: &str) -> String {
    with(text, &[], &[]).expect_err(text).to_string()
}

#[test]
fn texts_keep_their_spelling() {
    for (text, expected) in [
        ("a = 10.10.20.30", "{'a':'10.10.20.30'}"),
        ("a = 203.0.113.50", "{'a':'203.0.113.50'}"),
        (
            "a = 0012345, b = 1.10, c = 1e3, d = -0, e = 0x10, f = 1.0.0-rc1",
            "{'a':'0012345','b':'1.10','c':'1e3','d':'-0','e':'0x10','f':'1.0.0-rc1'}",
        ),
        ("a = [ 10.10.20.30, 1.10 ]", "{'a':['10.10.20.30','1.10']}"),
        (
            "a = true, b = yes, c = on, d = null, e = nullable",
            "{'a':'true','b':'yes','c':'on','d':null,'e':'nullable'}",
        ),
        ("a = 1 day", "{'a':'1 day'}"),
        ("a =   two   words   \nb = x # y\nc = x // y\nd = x/y", "{'a':'two   words','b':'x','c':'x','d':'x/y'}"),
        ("a = \"x\" y \"z\"", "{'a':'x y z'}"),
        ("a = \" kept \"", "{'a':' kept '}"),
        ("a = 10.0.0.5\"=\"198.51.100.7", "{'a':'10.0.0.5=198.51.100.7'}"),
    ] {
        assert_eq!(good(text), expected, "{text}");
    }
}

#[test]
fn keys_are_paths() {
    for (text, expected) in [
        ("a.b.c = 1", "{'a':{'b':{'c':'1'}}}"),
        ("a.b = 1, a.c = 2", "{'a':{'b':'1','c':'2'}}"),
        ("\"a.b\".c = 1", "{'a.b':{'c':'1'}}"),
        ("a b c = 1", "{'a b c':'1'}"),
        ("10.0foo = 1", "{'10':{'0foo':'1'}}"),
        ("3.14 : 42", "{'3':{'14':'42'}}"),
        ("\"\" = 1, a.\"\".b = 2", "{'':'1','a':{'':{'b':'2'}}}"),
        ("true = 1, null = 2, includes = 3", "{'includes':'3','null':'2','true':'1'}"),
        ("a { b : 1 }", "{'a':{'b':'1'}}"),
        ("a = { b = 1 }, a = { c = 2 }", "{'a':{'b':'1','c':'2'}}"),
        ("a = { b = 1 }, a = null, a = { c = 2 }", "{'a':{'c':'2'}}"),
        ("a = 1, a = 2", "{'a':'2'}"),
        ("a = { b = 1 } { c = 2 }", "{'a':{'b':'1','c':'2'}}"),
        ("{ \"json\" : [ 1, {\"x\" : \"y\"} ] }", "{'json':['1',{'x':'y'}]}"),
        ("\u{feff}a = 1\r\nb = 2\r\n", "{'a':'1','b':'2'}"),
        ("", "{}"),
        ("# nothing\n// at all", "{}"),
    ] {
        assert_eq!(good(text), expected, "{text}");
    }
}

#[test]
fn commas_are_optional_and_one_may_be_left_over() {
    for text in ["a = [1,2,3,]", "a = [\n1\n2\n3\n]", "a = [1,2,3\n,]", "a = [ 1 # one\n, 2, // two\n 3 ]"] {
        assert_eq!(good(text), "{'a':['1','2','3']}", "{text}");
    }
    assert_eq!(good("a = 1,\nb = 2,\n"), "{'a':'1','b':'2'}");
    assert_eq!(good("a = [1] [2]\nb = [ [1] [2], {x=1} {y=2} ]"), "{'a':['1','2'],'b':[['1','2'],{'x':'1','y':'2'}]}");
    for text in ["a = [1,,2]", "a = [,1]", ",a = 1", "a = 1,,b = 2", "a = [1,2,,]"] {
        assert!(bad(text).contains("comma has nothing before it"), "{text}");
    }
}

#[test]
fn quotes() {
    for (text, expected) in [
        (r#"a = "\u00e4\n\t\\ \/ \ud83d\ude00""#, "{'a':'ä\\n\\t\\\\ / 😀'}"),
        ("a = \"\"\"x\ny \\n \"z\" \"\"\"", "{'a':'x\\ny \\\\n \\'z\\' '}"),
        ("a = \"\"\"\"x\"\"\"\"", "{'a':'\\'x\\''}"),
        ("a = \"\"", "{'a':''}"),
        ("a = \"${b}\"", "{'a':'${b}'}"),
    ] {
        assert_eq!(good(text), expected, "{text}");
    }
}

#[test]
fn substitutions_find_what_is_last() {
    for (text, expected) in [
        ("a = ${b}, b = 1, b = 2", "{'a':'2','b':'2'}"),
        ("a = x${b}y ${b}, b = 1.10", "{'a':'x1.10y 1.10','b':'1.10'}"),
        ("a = ${HOME}/x", "{'a':'/home/me/x'}"),
        ("a = \"${HOME}\"${HOME}", "{'a':'${HOME}/home/me'}"),
        ("a = ${EMPTY}", "{'a':''}"),
        ("a = ${b.c}, b { c = { d = 1 } }", "{'a':{'d':'1'},'b':{'c':{'d':'1'}}}"),
        ("a = ${b} { y = 2 }, b { x = 1, y = 1 }", "{'a':{'x':'1','y':'2'},'b':{'x':'1','y':'1'}}"),
        ("a = ${b} [3], b = [1, 2]", "{'a':['1','2','3'],'b':['1','2']}"),
        ("a = ${b} [3], b { \"1\" = y, \"0\" = x }", "{'a':['x','y','3'],'b':{'0':'x','1':'y'}}"),
        ("a = ${LIST[]}", "{'a':['a','b']}"),
        ("a = ${ b }, b = 1", "{'a':'1','b':'1'}"),
        ("a = ${\"b.c\"}, \"b.c\" = 1", "{'a':'1','b.c':'1'}"),
        // An object that refers to its own fields.
        ("a { x = ${a.y}, y = 1 }", "{'a':{'x':'1','y':'1'}}"),
        ("a = ${base}, a { x = ${a.y} }, base { y = 2 }", "{'a':{'x':'2','y':'2'},'base':{'y':'2'}}"),
        ("bar : { foo : 42, baz : ${bar.foo} }, bar : { foo : 43 }", "{'bar':{'baz':'43','foo':'43'}}"),
    ] {
        assert_eq!(good(text), expected, "{text}");
    }
}

/// The specification's own examples of values that refer to themselves.
#[test]
fn a_value_may_build_on_what_it_was() {
    for (text, expected) in [
        ("path = \"a:b\", path = ${path}\":c\"", "{'path':'a:b:c'}"),
        ("path = [ /etc ], path = ${path} [ /usr ]", "{'path':['/etc','/usr']}"),
        ("path += x, path += y", "{'path':['x','y']}"),
        ("a { b = [1], b += 2 }", "{'a':{'b':['1','2']}}"),
        ("HOME = ${HOME}/more", "{'HOME':'/home/me/more'}"),
        ("a = ${?a}foo", "{'a':'foo'}"),
        ("foo : { a : { c : 1 } }, foo : ${foo.a}, foo : { a : 2 }", "{'foo':{'a':'2','c':'1'}}"),
        ("a : { b : 1 }, a : { b : ${a.b}2 }", "{'a':{'b':'12'}}"),
        (
            "bar : { a : ${foo.d}, b : 1 }, bar.b = 3, foo : { c : ${bar.b}, d : 2 }, foo.d = 4",
            "{'bar':{'a':'4','b':'3'},'foo':{'c':'3','d':'4'}}",
        ),
    ] {
        assert_eq!(good(text), expected, "{text}");
    }
    for text in ["a = ${a}", "a = ${b}, b = ${a}", "a = [ ${a} ]", "a { b = ${a} }", "a = ${b}, b = ${c}, c = ${a}"] {
        assert!(bad(text).contains("neither a key"), "{text}");
    }
}

#[test]
fn an_optional_substitution_that_finds_nothing_changes_nothing() {
    for (text, expected) in [
        ("a = ${?NONE}", "{}"),
        ("a { b { c = ${?NONE}, d = 1 } }", "{'a':{'b':{'d':'1'}}}"),
        ("a = [ 1, ${?NONE}, { b = ${?NONE} } ]", "{'a':['1',{}]}"),
        ("a = [ { local = ${?NONE}, public = ${?NONE} } ]", "{'a':[{}]}"),
        ("a += ${?NONE}", "{'a':[]}"),
        ("a = 1, a = ${?NONE}", "{'a':'1'}"),
        ("a = [ { x = 1 } ], a = ${?NONE}", "{'a':[{'x':'1'}]}"),
        ("a { b = 1 }, a = ${?NONE}", "{'a':{'b':'1'}}"),
        ("a = x${?NONE}y", "{'a':'xy'}"),
        ("a = ${?NONE}${?NEITHER}", "{}"),
        ("a = ${?NONE} { b = 1 }", "{'a':{'b':'1'}}"),
        ("a = 1, a = ${?HOME}", "{'a':'/home/me'}"),
    ] {
        assert_eq!(good(text), expected, "{text}");
    }
    assert_eq!(
        bad("a = 1\nb = ${NONE.x}"),
        "line 2: ${NONE.x} is neither a key of the file nor an environment variable; set it, or write ${?NONE.x}"
    );
}

#[test]
fn includes() {
    let files = [
        ("part.conf", "x = 1, y = ${x}${z}, list = [a]"),
        ("outer.conf", "inner { include \"part.conf\" }"),
        ("itself.conf", "include \"itself.conf\""),
        ("broken.conf", "\n\na = [1"),
    ];
    let read = |text: &str| with(text, &files, &[]).map(|value| json(&value).to_string().replace('"', "'"));
    let same = |text, expected: &str| assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
    same("include \"part.conf\"\nz = 2", "{'list':['a'],'x':'1','y':'12','z':'2'}");
    same("x = 0\ninclude \"part.conf\"\nx = 5, z = 2", "{'list':['a'],'x':'5','y':'52','z':'2'}");
    // Below a key, the file's own paths are meant first, then those from the root.
    same("z = 3, a { include file(\"part.conf\") }", "{'a':{'list':['a'],'x':'1','y':'13'},'z':'3'}");
    same("z = 3, a { include \"outer.conf\" }", "{'a':{'inner':{'list':['a'],'x':'1','y':'13'}},'z':'3'}");
    same("include \"absent.conf\"\ninclude file(\"absent\")\na = 1", "{'a':'1'}");
    same("include required(file(\"part.conf\")), z = 1", "{'list':['a'],'x':'1','y':'11','z':'1'}");
    same("include required( \"part.conf\" )\nz = 1", "{'list':['a'],'x':'1','y':'11','z':'1'}");
    same(
        "a { list = [b]\n include \"part.conf\"\n list += c }, z = 1",
        "{'a':{'list':['a','c'],'x':'1','y':'11'},'z':'1'}",
    );
    let fails = |text, expected: &str| {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    fails(
        "a = 1\ninclude required(\"absent.conf\")",
        "line 2: include required(\"absent.conf\"): there is no such file",
    );
    fails("include \"itself.conf\"", "deeper than 16");
    fails("include \"broken.conf\"", "broken.conf: line 3: the \"]\"");
    fails("include \"part.conf\"", "part.conf: line 1: ${z} is neither");
    fails("include required(part.conf)", "in double quotes");
}

#[test]
fn errors_name_the_line_and_never_a_value() {
    for (text, expected) in [
        ("a = 1\nb {\n  c = wss://secret.example/x\n}\n", "line 3: ':' cannot stand in a value"),
        ("a = 1\n PASSWORD = sEcReT@77\n", "line 2: '@' cannot stand in a value"),
        ("p = secret&more", "'&' cannot stand"),
        ("p = pa$secret", "'$' cannot stand"),
        ("a { b = 1 }\n}\nc = 3\n", "line 2: a bracket is closed that was not opened"),
        ("a {\n  b = [1, 2]\n", "line 1: the \"}\" to a \"{\" of this line is missing"),
        ("a = [1, 2\n", "line 1: the \"]\""),
        ("a = 1\njust secret words\nb = 2", "line 2: a key needs"),
        ("v {\n  a = \"secret\" b = 1\n}\n", "line 2: '=' cannot stand in a value"),
        ("a = \"secret\nb = 2", "line 1: a text in double quotes does not end on its line"),
        ("a = \"secret", "line 1: a text in double quotes does not end"),
        ("a = \"\"\"secret\n\n", "line 1: a text in triple quotes"),
        ("a = \"\\q\"", "line 1: a backslash"),
        ("a = \"\\ud800x\"", "half of a character"),
        ("a =\n", "a key has no value"),
        ("a = # 1", "a key has no value"),
        (".a = 1", "a dot with nothing before it"),
        ("a..b = 1", "a dot with nothing before it"),
        ("a. = 1", "ends with a dot"),
        ("= 1", "a key is missing"),
        ("a = ${b", "has no } on its line"),
        ("a = ${}", "is missing"),
        ("a = [1] secret", "a list and a text stand side by side"),
        ("a = {b = 1} [2]", "an object and a list stand side by side"),
        ("a = [1}", "closes a \"[\""),
        ("[1, 2]", "an object, not a list"),
        ("a = ${b} x, b = [1]", "cannot be joined"),
        ("a@b = 1", "'@' cannot stand in a key"),
    ] {
        let error = bad(text);
        assert!(
            error.contains(expected) && !error.contains("secret") && !error.contains("sEcReT"),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn nothing_grows_without_a_bound() {
    for deep in [
        "x = ".to_owned() + &"[".repeat(5_000),
        "{ a = ".repeat(5_000),
        "a {".repeat(100_000),
        "x = ".to_owned() + &"[{ a = ".repeat(5_000),
    ] {
        let error = bad(&deep);
        assert!(error.contains("nested deeper"), "{error}");
    }
    let doubling = |first: &str| {
        (1..60).fold(format!("a0 = {first}"), |text, n| format!("{text}\na{n} = ${{a{}}}${{a{}}}", n - 1, n - 1))
    };
    assert!(bad(&doubling("x")).contains("make too much"));
    assert!(bad(&doubling(&"x".repeat(100_000))).contains("make too much"));
    assert!(bad(&doubling("[1]")).contains("make too much"));
    let chain = (1..1_000).fold("a0 = 1".to_owned(), |text, n| format!("{text}\na{n} = ${{a{}}}", n - 1));
    assert!(bad(&chain).contains("make too much"));
    // Long keys are paths of many elements.
    let long = vec!["a"; 10_000].join(".");
    assert!(bad(&format!("{long} = 1")).contains("more than"));
}

#[test]
fn lists_by_number() {
    let value = with("a { \"10\" = c, \"2\" = b, \"0\" = a }, b = [x], c { x = 1 }, d = 1", &[], &[]).unwrap();
    let fields = value.fields().unwrap();
    let items = |key: &str| fields[key].items().map(|items| items.into_iter().map(json).collect::<Vec<_>>());
    assert_eq!(items("a").unwrap(), ["a", "b", "c"]);
    assert_eq!(items("b").unwrap(), ["x"]);
    assert_eq!((items("c"), items("d")), (None, None));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,80}") {
        let _ = with(&text, &[], &[]);
    }

    #[test]
    fn pieces_of_the_language_are_read_or_refused(parts in proptest::collection::vec(prop_oneof![
        Just("a"), Just("b"), Just("."), Just(" = "), Just(" : "), Just(" += "), Just("{"), Just("}"), Just("["), Just("]"),
        Just(","), Just("\n"), Just("${a}"), Just("${?b}"), Just("${a.b}"), Just("\"q\""), Just("\"\"\""), Just("1.10"), Just(" "),
        Just("include \"x\""), Just("null"), Just("#"), Just("//"),
    ], 0..30)) {
        let _ = with(&parts.concat(), &[("x", "a = ${b}, b { c = 1 }")], &[]);
    }

    #[test]
    fn what_serde_writes_as_json_is_read(keys in proptest::collection::vec("[a-zA-Z\"\\\\.\u{e4}\n ]{0,8}", 0..6), text in any::<String>()) {
        let object: serde_json::Map<String, serde_json::Value> =
            keys.iter().map(|key| (key.clone(), serde_json::json!([text, {key: text}]))).collect();
        let value = serde_json::Value::Object(object);
        prop_assert_eq!(json(&with(&value.to_string(), &[], &[]).unwrap()), value);
    }
}
