//! Elements out of text, as far as the reader of a stream would let them through.

use tokio_xmpp::minidom::Element;

/// Elements within elements that the targets look at; the target of the stream's reader has no such bound.
const DEPTH: usize = 64;

/// An element; `None` for what is none, or is nested too deeply.
pub fn parse(text: &str) -> Option<Element> {
    let (mut depth, mut deepest) = (0usize, 0);
    for tag in text.split('<').skip(1) {
        match tag.as_bytes().first()? {
            b'/' => depth = depth.saturating_sub(1),
            b'?' | b'!' => {}
            _ => {
                depth += 1;
                deepest = deepest.max(depth);
                if tag.split('>').next().is_some_and(|tag| tag.ends_with('/')) {
                    depth -= 1;
                }
            }
        }
    }
    (deepest <= DEPTH).then(|| text.parse().ok())?
}
