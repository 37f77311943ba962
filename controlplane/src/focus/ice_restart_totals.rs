//! What became of ICE restarts.

/// What became of the requests of clients; the names are Jicofo's.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct IceRestarts {
    pub requested: u64,
    pub relayed: u64,
    /// Nothing is connected yet: the client keeps what it has.
    pub not_needed: u64,
    /// Refused, declined by the bridge, or not answered by it.
    pub failed: u64,
}

impl IceRestarts {
    /// For `/stats`.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::json!({
            "requested": self.requested,
            "relayed": self.relayed,
            "not_needed": self.not_needed,
            "failed": self.failed,
        })
    }
}
