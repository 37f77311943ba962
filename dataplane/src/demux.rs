//! Which endpoint a datagram belongs to: by first byte (RFC 7983), ufrag, and verified address pair.

/// Digits of a worker's tag, one character each.
const TAGS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Most workers that one bridge can have: one tag character each.
pub const MAX_WORKERS: usize = TAGS.len();

/// First character of every local ICE ufrag of an endpoint that lives on `worker`.
///
/// Workers past [`MAX_WORKERS`] do not exist; asking for one wraps around.
pub fn ufrag_prefix(worker: usize) -> char {
    TAGS[worker % TAGS.len()] as char
}

/// The worker that owns the endpoint with this local ufrag.
pub fn worker_of_ufrag(ufrag: &str) -> Option<usize> {
    let tag = ufrag.as_bytes().first()?;
    TAGS.iter().position(|t| t == tag)
}
