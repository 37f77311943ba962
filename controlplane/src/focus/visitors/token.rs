//! Who a client says it is, in the token of its request for a conference. The signature is not looked at: it is when the client
//! logs in, and what depends on it here is only to which server the client is sent.

use serde::Deserialize;

use crate::focus::limits::{MAX_NAME, MAX_TOKEN};

/// What a token says of who bears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Bearer {
    /// Id of the user.
    pub user: Option<String>,
    /// Id of the group.
    pub group: Option<String>,
}

#[derive(Deserialize, Default)]
struct Claims {
    #[serde(default)]
    context: Context,
}

#[derive(Deserialize, Default)]
struct Context {
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    group: Option<String>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    id: Option<String>,
}

impl Bearer {
    /// Reads a token (RFC 7519); nobody where it is none.
    pub fn read(token: &str) -> Self {
        let claims = Self::claims(token).unwrap_or_default();
        let short = |text: Option<String>| text.filter(|text| text.len() <= MAX_NAME);
        Self { user: short(claims.context.user.and_then(|user| user.id)), group: short(claims.context.group) }
    }

    fn claims(token: &str) -> Option<Claims> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let mut parts = token.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        serde_json::from_slice(&base64url(claims)?).ok()
    }
}

/// RFC 4648 section 5, with or without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in claims.as_bytes().chunks(3) {
            let number = chunk.iter().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                text.push(char::from(LETTERS[(number >> (18 - 6 * place)) as usize & 63]));
            }
        }
        format!("e30.{text}.c2ln")
    }

    #[test]
    fn base64_as_the_rfc_has_it() {
        for (text, plain) in
            [("", ""), ("Zg", "f"), ("Zg==", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64url(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(base64url("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        for bad in ["Z g", "Zm9v.", "\u{e4}", "=Zg"] {
            assert_eq!(base64url(bad), None, "{bad}");
        }
    }

    #[test]
    fn user_and_group() {
        let of = |claims: &str| Bearer::read(&token(claims));
        let bearer = of(r#"{"iss":"x","context":{"user":{"id":"u1","name":"Ann"},"group":"g","features":{}}}"#);
        assert_eq!(bearer, Bearer { user: Some("u1".into()), group: Some("g".into()) });
        for nobody in
            ["{}", r#"{"context":{}}"#, r#"{"context":{"user":{"name":"a"}}}"#, r#"{"context":5}"#, "[]", "nope"]
        {
            assert_eq!(of(nobody), Bearer::default(), "{nobody}");
        }
        let long = format!(r#"{{"context":{{"group":"{}"}}}}"#, "x".repeat(MAX_NAME + 1));
        assert_eq!(of(&long), Bearer::default());
    }

    #[test]
    fn what_is_no_token_is_nobody() {
        let good = token(r#"{"context":{"group":"g"}}"#);
        assert!(Bearer::read(&good).group.is_some());
        for bad in ["", ".", "..", "a.b", &format!("{good}.x"), &good.replace("e30.", ""), &"a".repeat(MAX_TOKEN + 1)] {
            assert_eq!(Bearer::read(bad), Bearer::default(), "{bad}");
        }
    }
}
