//! Jitsi Videobridge's static mappings (`ice4j.harvest.mapping.static-mappings`) as `bridge.public-addresses`.

use std::collections::BTreeMap;

use strsim::osa_distance;

use super::hocon::Value;

/// The fields of a mapping; with words joined as in the names of early 2021.
const FIELDS: [(&str, &str); 5] = [
    ("local-address", "localAddress"),
    ("public-address", "publicAddress"),
    ("local-port", "localPort"),
    ("public-port", "publicPort"),
    ("name", "name"),
];

/// What cannot be used: where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What follows the path of the mappings.
    pub key: String,
    pub value: String,
    pub hint: String,
}

/// The mappings in our form, `local=public#port`, and how many have no address at all: what fills them in found nothing.
pub(super) fn read(tree: &Value) -> Result<(Vec<String>, usize), Wrong> {
    let wrong = |key: &str, value: String, hint: &str| Wrong { key: key.to_owned(), value, hint: hint.to_owned() };
    let items = match tree {
        Value::Null => Vec::new(),
        Value::Object(fields) if fields.is_empty() => Vec::new(),
        // One mapping without its list.
        Value::Object(fields) if fields.keys().any(|key| FIELDS.iter().any(|(a, b)| key == a || key == b)) => {
            vec![tree]
        }
        other => match other.items() {
            Some(items) => items,
            None => {
                let value = tree.text().unwrap_or_else(|| "an object".to_owned());
                return Err(wrong(
                    "",
                    value,
                    "use a list: [ { local-address = \"10.0.0.5\", public-address = \"198.51.100.7\" } ]",
                ));
            }
        },
    };
    let (mut mappings, mut left_out) = (Vec::new(), 0);
    for (index, item) in items.into_iter().enumerate() {
        let Some(fields) = item.fields() else {
            let value = item.text().unwrap_or_default();
            return Err(wrong(
                &format!("[{index}]"),
                value,
                "a mapping is { local-address = ..., public-address = ... }",
            ));
        };
        match mapping(fields).map_err(|error| Wrong { key: format!("[{index}].{}", error.key), ..error })? {
            Some(mapping) => mappings.push(mapping),
            None => left_out += 1,
        }
    }
    Ok((mappings, left_out))
}

fn mapping(fields: &BTreeMap<String, Value>) -> Result<Option<String>, Wrong> {
    for (name, value) in fields {
        if !FIELDS.iter().any(|(ours, older)| name == ours || name == older) {
            let near = FIELDS.iter().map(|(field, _)| *field).min_by_key(|field| osa_distance(field, name));
            let hint = format!("did you mean {:?}?", near.unwrap_or("public-address"));
            return Err(Wrong { key: name.clone(), value: value.text().unwrap_or_default(), hint });
        }
    }
    let field = |wanted: &str| {
        let (ours, older) = FIELDS.into_iter().find(|(field, _)| *field == wanted)?;
        fields.get(ours).or_else(|| fields.get(older)).and_then(Value::text).filter(|text| !text.is_empty())
    };
    let (local, public) = (field("local-address"), field("public-address"));
    let Some(public) = public else {
        return match local {
            None => Ok(None),
            Some(local) => Err(Wrong {
                key: "local-address".to_owned(),
                value: local,
                hint: "add the public-address that it is reached by".to_owned(),
            }),
        };
    };
    let local = local.map(|local| format!("{local}=")).unwrap_or_default();
    let port = field("public-port").map(|port| format!("#{port}")).unwrap_or_default();
    Ok(Some(format!("{local}{public}{port}")))
}

#[cfg(test)]
mod tests {
    use super::super::hocon;
    use super::*;

    fn of(text: &str) -> Result<(Vec<String>, usize), String> {
        let tree = hocon::read(text, &mut |_| Ok(None), &|_| None).expect("HOCON");
        read(&tree.fields().expect("an object")["m"]).map_err(|wrong| format!("{}: {}", wrong.key, wrong.hint))
    }

    #[test]
    fn every_way_to_write_them() {
        let one = vec!["10.0.0.5=198.51.100.7".to_owned()];
        for text in [
            "m = [ { local-address = 10.0.0.5, public-address = 198.51.100.7, name = ip-0 } ]",
            "m = [ { localAddress = \"10.0.0.5\", publicAddress = \"198.51.100.7\" }, ]",
            "m { local-address = 10.0.0.5, public-address = 198.51.100.7 }",
            "m { \"0\" { local-address = 10.0.0.5, public-address = 198.51.100.7 } }",
            "m.1 = { local-address = 10.0.0.5, publicAddress = 198.51.100.7 }",
            "m = [], m += { local-address = 10.0.0.5, public-address = 198.51.100.7 }",
        ] {
            assert_eq!(of(text), Ok((one.clone(), 0)), "{text}");
        }
        assert_eq!(
            of(
                "m { \"10\" { public-address = 203.0.113.9 }, \"9\" { public-address = 198.51.100.7, public-port = 443, local-port = 10000 } }"
            ),
            Ok((vec!["198.51.100.7#443".to_owned(), "203.0.113.9".to_owned()], 0))
        );
        for text in ["m = []", "m {}", "m = null"] {
            assert_eq!(of(text), Ok((Vec::new(), 0)), "{text}");
        }
        assert_eq!(
            of("m = [ { local-address = ${?NONE}, public-address = ${?NONE} }, { local-address = \"\" } ]"),
            Ok((Vec::new(), 2))
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, expected) in [
            (
                "m = [ { local-address = 10.0.0.5, public-adress = 198.51.100.7 } ]",
                "[0].public-adress: did you mean \"public-address\"?",
            ),
            (
                "m = [ { public-address = a }, { local-address = 10.0.0.5 } ]",
                "[1].local-address: add the public-address",
            ),
            ("m = [ 198.51.100.7 ]", "[0]: a mapping is"),
            ("m = 198.51.100.7", ": use a list"),
            ("m { first { public-address = 198.51.100.7 } }", ": use a list"),
            ("m { pubic-address = 198.51.100.7 }", ": use a list"),
        ] {
            let error = of(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
